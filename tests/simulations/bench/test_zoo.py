"""The benchmark of all nets on a drawn miniature, and what it is asked."""

import json
import time
from xml.etree import ElementTree

import pytest

from fer_models.checkpoints import load_model
from fer_models.errors import ConfigError
from simulations.bench import zoo_training
from simulations.bench.run import run
from simulations.bench.zoo import asked
from simulations.bench.zoo_training import PEAK, Recipe, one_cycle


def test_every_net_gets_its_minutes_and_goes_on_from_what_is_done(miniature, tmp_path):
    found, kept = tmp_path / "found.json", tmp_path / "kept"
    words = ["minutes=0.005", "--data", str(miniature), f"hydra.run.dir='{kept}'"]
    assert run(["zoo", *words, "nets=cnn_tiny,hog_linear,pca_tree", "--json", str(found)]) == 0
    figures = json.loads(found.read_text())["figures"]
    for net in ("cnn_tiny", "hog_linear", "pca_tree"):
        for kind in ("votes", "original"):
            if net != "pca_tree":
                assert 0.3 <= figures[f"{net}_{kind}_cpu_seconds"] < 1.5
            for key in ("accuracy", "balanced_accuracy", "worst_recall"):
                low, high = (figures[f"{net}_{kind}_{key}_{end}"] for end in ("low", "high"))
                assert 0 <= low <= figures[f"{net}_{kind}_{key}"] <= high <= 1
    assert len(list(kept.iterdir())) == 6
    _, spec, labels = load_model(kept / "cnn_tiny-original-0.005-rate=0.005" / "model")
    assert (spec.name, len(labels)) == ("cnn_tiny", 7)

    records = {file: file.stat().st_mtime_ns for file in kept.rglob("*")}
    assert run(["zoo", *words, "nets=cnn_tiny,hog_linear,pca_tree", "--json", str(found)]) == 0
    assert json.loads(found.read_text())["figures"] == figures
    assert {file: file.stat().st_mtime_ns for file in kept.rglob("*")} == records


def test_a_training_that_was_killed_goes_on_where_it_was(miniature, tmp_path, monkeypatch):
    kept, made = tmp_path / "kept", []
    words = ["nets=cnn_tiny", "targets=original", "minutes=0.02", "--data", str(miniature)]
    words += [f"hydra.run.dir='{kept}'", "--json", str(tmp_path / "found.json")]
    own = zoo_training._descend

    def killed(*given):
        made.append(time.process_time())
        if made[-1] - made[0] > 0.8:
            raise KeyboardInterrupt
        own(*given)

    monkeypatch.setattr(zoo_training, "KEEP", 0.2)
    monkeypatch.setattr(zoo_training, "_descend", killed)
    with pytest.raises(KeyboardInterrupt):
        run(["zoo", *words])
    assert [each.name for each in kept.rglob("*") if each.is_file()] == ["state.safetensors"]

    again = []
    monkeypatch.setattr(
        zoo_training, "_descend", lambda *given: (again.append(time.process_time()), own(*given))
    )
    assert run(["zoo", *words]) == 0
    figures = json.loads((tmp_path / "found.json").read_text())["figures"]
    assert 1.2 <= figures["cnn_tiny_original_cpu_seconds"] < 1.7
    assert again[-1] - again[0] < 0.9  # and not all of the 1.2 seconds again
    assert len(again) < figures["cnn_tiny_original_steps"] < len(again) + len(made)
    assert not list(kept.rglob("state.safetensors"))


def test_what_is_tried_out_is_judged_on_training_pictures_and_kept_apart(miniature, tmp_path):
    found, kept = tmp_path / "found.json", tmp_path / "kept"
    words = ["nets=cnn_tiny", "targets=original", "minutes=0.005", "norm=none", "rate=0.001", "mixup=0.2"]
    words += ["precision=bfloat16", "smoothing=0.1", "part=validation", "--data", str(miniature)]
    assert run(["zoo", *words, f"hydra.run.dir='{kept}'", "--json", str(found)]) == 0
    figures = json.loads(found.read_text())["figures"]
    assert figures["cnn_tiny_original_test_rows"] < 0.2 * 0.85 * 160
    assert figures["cnn_tiny_original_rate"] == 0.001
    name = next(kept.iterdir()).name
    assert name.endswith("validation")
    assert "norm=none" in name


def test_rows_of_several_runs_stand_in_one_file_and_its_page_and_are_not_trained_again(miniature, tmp_path):
    rows, words = tmp_path / "results" / "zoo.json", ["--data", str(miniature), "targets=original"]
    first = [*words, "minutes=0.003", "nets=cnn_tiny,pca_tree", "--run-dir", str(tmp_path / "one")]
    assert run(["zoo", *first]) == 0
    assert run(["zoo", "train=false", f"rows={rows}", "--run-dir", str(tmp_path / "one")]) == 0
    held = json.loads(rows.read_text())["rows"]
    assert [(row["system"], row["minutes"]) for row in held] == [("cnn_tiny", 0.003), ("pca_tree", None)]
    assert held[0]["recipe"]["rate"] == PEAK
    assert "minutes=0.003 rate=0.005 --data DIR" in held[0]["command"]
    assert held[0]["processor"]
    assert {"fedfer", "torch"} <= held[0]["versions"].keys()

    held[0]["processor"] = "another machine"
    rows.write_text(json.dumps({"rows": held}))
    more = ["minutes=0.005", "nets=cnn_tiny,pca_tree", f"rows={rows}", "--run-dir", str(tmp_path / "two")]
    assert run(["zoo", *words, *more]) == 0
    assert [each.name for each in (tmp_path / "two").iterdir()] == ["cnn_tiny-original-0.005-rate=0.005"]
    assert run(["zoo", *words, *more, "minutes=0.003", f"rows={rows}"]) == 0  # nothing is left to train
    assert len(list((tmp_path / "two").iterdir())) == 1
    held = json.loads(rows.read_text())["rows"]
    assert [(row["system"], row["minutes"]) for row in held] == [
        ("cnn_tiny", 0.003),
        ("cnn_tiny", 0.005),
        ("pca_tree", None),
    ]
    page = rows.with_suffix(".md").read_text()
    lines = [line.split("|")[1:3] for line in page.splitlines() if line.startswith("| `")]
    assert sorted([name.strip(" `"), minutes.strip()] for name, minutes in lines) == [
        ["cnn_tiny", "0.003"],
        ["cnn_tiny", "0.005"],
        ["pca_tree", "–"],
    ]
    assert "1 of 3 rows: another machine" in page
    picture = ElementTree.fromstring(rows.with_name("zoo-original.svg").read_text())
    marks = [each for each in picture.iter("{http://www.w3.org/2000/svg}path") if each.get("transform")]
    assert len(marks) == 2 + 3  # parameters of the nets, seconds of all
    curves = [each for each in picture.iter("{http://www.w3.org/2000/svg}path") if "L" in each.get("d")]
    assert [each.get("class") for each in curves if not each.get("transform")] == [
        "curve"
    ]  # one net, two budgets


def test_another_rate_of_a_net_is_another_training(monkeypatch):
    name = asked(["nets=patt_lite"]).key("patt_lite", "votes")
    monkeypatch.setitem(zoo_training.RATES, "patt_lite", 2e-3)
    assert asked(["nets=patt_lite"]).key("patt_lite", "votes") != name


@pytest.mark.parametrize("text", ["no json", "[]", '{"rows": [{"system": "fer_nano"}]}'])
def test_a_file_without_rows_is_left_alone(tmp_path, text):
    path = tmp_path / "rows.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="rows"):
        asked([f"rows={path}"])
    assert path.read_text() == text


def test_the_learning_rate_goes_up_and_comes_down():
    rates = [one_cycle(share / 100, PEAK) for share in range(101)]
    assert max(rates) == pytest.approx(PEAK)
    assert rates[0] == pytest.approx(PEAK / 25)
    assert rates[-1] == pytest.approx(0, abs=1e-9)
    assert rates[:21] == sorted(rates[:21])
    assert rates[20:] == sorted(rates[20:], reverse=True)


def test_a_net_that_needs_it_has_a_rate_of_its_own():
    assert Recipe().peak("patt_lite") < Recipe().peak("fer_small") == PEAK
    assert Recipe(rate=0.02).peak("patt_lite") == 0.02


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("nets=fer_nao", "fer_nano"),
        ("nets=hog_swm", "hog_svm"),
        ("targets=vote", "votes"),
        ("minutes=none", "minutes=10"),
        ("minutes=-1", "minutes=10"),
        ("minute=1", "minutes"),
        ("part=tests", "test"),
        ("part=validation,test", "validation"),
        ("norm=batch", "bn"),
        ("precision=bfloat", "bfloat16"),
        ("rate=fast", "number"),
        ("dropout=1", "0.9"),
        ("train=no", "false"),
        ("rows=zoo.csv", "zoo.json"),
    ],
)
def test_mistakes_are_told(word, said):
    with pytest.raises(ConfigError) as error:
        asked([word])
    assert said in error.value.cure
