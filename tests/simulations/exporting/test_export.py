"""A run's net becomes a graph that is audited again, or is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
from omegaconf import OmegaConf
from rich.console import Console

from fer_models import errors
from fer_models.checkpoints import load_model, save_model
from fer_models.edge.files import FILES, load_exported
from fer_models.edge.folding import folded
from fer_models.metrics import summarise
from fer_models.zoo import ModelSpec, build, parameter_count
from simulations.compose import composed
from simulations.exporting.asked import Export
from simulations.exporting.command import Source
from simulations.exporting.gate import Bench, gate, people_of
from simulations.exporting.pictures import shown
from simulations.exporting.shrink import shrunk
from simulations.prepare import audited, load, split

WORDS = ["data=faces", "data.options.count=700", "data.options.pictures_per_person=2", "seed=3"]


@pytest.fixture(scope="module")
def bench():
    settings, _ = composed(WORDS)
    samples = split(load(settings.data, settings.seed), settings.data, settings.seed)
    return Bench(samples, samples.rows("test"), audited(samples, []))


@pytest.fixture(scope="module")
def run(tmp_path_factory, bench):
    """What a run leaves that an export reads: its settings and its net."""
    folder = tmp_path_factory.mktemp("run")
    settings, _ = composed(WORDS)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.structured(settings)))
    spec = ModelSpec("cnn_tiny", classes=7)
    save_model(folder / "model", build(spec, 0), spec, labels=bench.samples.labels, facts={})
    return folder


def test_a_run_is_exported_and_audited_again(run, bench, fedfer, tmp_path):
    out = tmp_path / "box"
    words = ["format=int8", "tolerance=0.5", "--out", str(out)]
    code, told, err = fedfer("export", str(run), *words)
    assert (code, err) == (0, "")
    assert "logits differ by" in told
    made, config = load_exported(out)
    assert config.kind == "int8"
    own = summarise(bench.counts(bench.judge(load_model(run / "model")[0])))
    figures = json.loads((out / "audit" / "audit.json").read_text())["figures"]
    assert figures["support"] == own["support"]
    assert abs(figures["accuracy"] - own["accuracy"]) < 0.1
    assert config.made["onnx_difference"] < 1e-4
    assert "training part" in config.made["ranges"]
    card = (out / "README.md").read_text()
    assert f"made of weights with SHA-256 | {config.source['sha256']}" in card
    assert made(np.zeros((3, 1, config.size, config.size), np.float32)).shape == (3, len(config.labels))
    assert (out / "comparison" / "comparison.html").is_file()
    assert {path.name for path in out.iterdir()} == {
        *FILES["int8"],
        "README.md",
        "audit",
        "comparison",
        "config.json",
    }


def test_a_broken_limit_leaves_no_model(run, fedfer, refused, tmp_path):
    out, limits = tmp_path / "box", tmp_path / "limits.yaml"
    limits.write_text("rules:\n  - {metric: accuracy, limit: 0.999}\n")
    (out / "comparison").mkdir(parents=True)
    for left in ("comparison/comparison.json", "config.json", "model.onnx", "model.xml"):  # an earlier export
        (out / left).touch()
    found = fedfer("export", str(run), "--out", str(out), f"tolerance={limits}")
    assert refused(found, errors.ToleranceError, "1 of 1 limits is broken")
    assert {path.name for path in out.iterdir()} == {"audit", "comparison"}


def test_a_net_is_pruned_and_taught_again_before_it_is_exported(run, bench):
    net, spec, labels = load_model(run / "model")
    source, said = Source(net, spec, labels, "", {}), []
    how = Export(prune=0.5, activation="relu", norms="fixed", finetune=0.1, pictures="faces", count=16)
    small, made = shrunk(folded(net), source, how, bench.samples, private=True, say=said.append)
    assert (
        parameter_count(small) == made["parameters_after"] < made["parameters_before"] == parameter_count(net)
    )
    assert "drawn faces" in made["finetuned"]
    _, plain = shrunk(
        folded(net), source, Export(norms="fixed"), bench.samples, private=False, say=said.append
    )
    assert "of 256 pictures of the training part" in plain["norms"]  # as many as are looked at
    assert said[0].startswith("pruned: ")
    with pytest.raises(errors.PrivacyError):
        shrunk(
            folded(net), source, replace(how, pictures="train"), bench.samples, private=True, say=said.append
        )


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        (["a", "prune=1"], errors.ConfigError, "Give 0 to 0.9"),
        (["a", "norms=gone"], errors.ConfigError, "Use keep or fixed"),
        (["a", "finetune=2"], errors.ConfigError, "nothing to win back"),
        ([], errors.ConfigError, "export takes one model, not 0"),
        (["a", "b"], errors.ConfigError, "export takes one model, not 2"),
        (["a", "format=onx"], errors.ConfigError, "Did you mean onnx?"),
        (["a", "count=1"], errors.ConfigError, "Give 16 to 100000"),
        (["a", "tolerance=2"], errors.ConfigError, "a tolerance of 2"),
        (["a", "data=faces", "server.rounds=2"], errors.ConfigError, "export takes no 'server.rounds=2'"),
        (["a"], errors.ConfigError, "nothing says on which pictures"),
        (["a", "data=faces"], errors.ModelError, "holds no complete model"),
    ],
)
def test_mistakes(fedfer, refused, tmp_path, monkeypatch, words, kind, said):
    monkeypatch.chdir(tmp_path)
    assert refused(fedfer("export", *words, "--out", "box"), kind, said)
    assert not (tmp_path / "box").exists()


def test_a_folder_is_needed_and_nobody_else_s_is_taken(run, fedfer, refused, tmp_path):
    assert refused(fedfer("export", str(run)), errors.ConfigError, "without a folder")
    (tmp_path / "mine.txt").write_text("mine")
    found = fedfer("export", str(run), "--out", str(tmp_path))
    assert refused(found, errors.ConfigError, "Give --out a folder of its own")


# The gate


def judged(bench, folder, spoil, **how):
    before = bench.samples.label[bench.rows].astype(np.int64)
    options = Export(format="int8", **how)
    source = {"door": "model", "model": "", "data": ""}
    return gate(bench, before, spoil(before.copy()), options, source, folder, Console(quiet=True))


def of_group(bench, attribute):
    column = bench.samples.groups[attribute][bench.rows]
    return column == np.unique(column)[0]


def test_the_same_answers_pass(bench, tmp_path):
    assert judged(bench, tmp_path, lambda said: said, tolerance="0")["accuracy"] == 1


def test_a_group_that_is_told_worse_is_enough(bench, tmp_path):
    def spoil(said):
        own = np.flatnonzero(of_group(bench, "gender"))[::4]
        said[own] = (said[own] + 1) % len(bench.samples.labels)
        return said

    with pytest.raises(errors.ToleranceError, match=r"the int8 model is worse: .*gap by gender"):
        judged(bench, tmp_path, spoil, tolerance="0.1")
    assert "worse" in (tmp_path / "comparison" / "changes.csv").read_text()


def test_a_rarest_class_that_is_lost_is_refused(bench, tmp_path):
    rare = summarise(bench.counts(bench.samples.label[bench.rows].astype(np.int64)))["minority_classes"]
    index = bench.samples.labels.index(rare[0])

    def spoil(said):
        return np.where(said == index, (said + 1) % len(bench.samples.labels), said)

    with pytest.raises(errors.ToleranceError, match="minority recall by"):
        judged(bench, tmp_path, spoil, tolerance="0.05")


def test_few_pictures_decide_nothing(bench, tmp_path):
    few = Bench(bench.samples, bench.rows[:8], bench.attributes)
    with pytest.raises(errors.EvidenceError, match="too few test pictures of the rarest class"):
        judged(few, tmp_path, lambda said: said)


def test_only_people_are_counted_as_people(bench):
    people = len(np.unique(bench.samples.subject[bench.rows]))
    assert people_of(bench) == people > 1
    assert people_of(replace(bench, samples=replace(bench.samples, subject_is="clip"))) is None


# What ranges are observed on


def test_a_guarantee_is_not_spent_on_ranges(bench):
    with pytest.raises(errors.PrivacyError, match="its guarantee does not hold"):
        shown(Export(pictures="train"), bench.samples, 48, 1, private=True)
    assert "drawn faces" in shown(Export(count=16), bench.samples, 48, 1, private=True).what
    assert "training part" in shown(Export(count=16), bench.samples, 48, 1, private=False).what


def test_pictures_of_a_folder(bench, tmp_path):
    from PIL import Image

    for i in range(3):
        Image.fromarray(bench.samples.pictures[i]).save(tmp_path / f"{i}.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    how = Export(pictures=str(tmp_path))
    found = shown(how, bench.samples, 48, 1, private=True)
    assert np.array_equal(found.pictures, bench.samples.pictures[:3])
    assert found.what == "3 pictures of a folder that was given, 1 unreadable"
    with pytest.raises(errors.DataError, match="no such folder"):
        shown(replace(how, pictures=str(tmp_path / "none")), bench.samples, 48, 1, private=False)
    for i in range(40):  # of many, some from everywhere: the first ones may all show one class
        kept = tmp_path / "many" / f"class-{i // 20}" / f"{i:02}.png"
        kept.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (48, 48), i).save(kept)
    found = shown(replace(how, pictures=str(tmp_path / "many"), count=16), bench.samples, 48, 1, private=True)
    assert [int(each[0, 0]) for each in found.pictures] == np.linspace(0, 39, 16).astype(int).tolist()
    (tmp_path / "empty").mkdir()
    with pytest.raises(errors.DataError, match="no picture can be read"):
        shown(replace(how, pictures=str(tmp_path / "empty")), bench.samples, 48, 1, private=False)
