"""``fedfer audit compare=[A,B]``: files joined by id, models on one data set, runs of paired seeds, and refusals."""

import csv
import io
import json
import re
import shutil

import numpy as np
import pytest
import torch

from fer_models.checkpoints import load_model, save_model
from fer_models.counts import Counts
from fer_models.errors import ConfigError, DataError
from fer_models.intervals import student_interval
from fer_models.seed_changes import seed_changes
from simulations.versus.table import changes_csv

CLASSES = ("happiness", "sadness")


def written(path, rows, header="face,true,predicted,gender,who"):
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def answers(rng, true, right):
    return np.where(rng.random(len(true)) < right, true, 1 - true)


@pytest.fixture
def files(tmp_path):
    """Two systems; the second is better for women who are sad, and its rows stand in another order."""
    rng = np.random.default_rng(0)
    true, gender = rng.integers(0, 2, 1200), rng.integers(0, 2, 1200)
    first = answers(rng, true, 0.6)
    second = np.where((true == 1) & (gender == 1) & (first != true) & (rng.random(1200) < 0.8), true, first)
    who = rng.integers(0, 300, 1200)
    facts = [
        (f"face {i}", CLASSES[true[i]], CLASSES[first[i]], ("man", "woman")[gender[i]], f"p{who[i]}")
        for i in range(1200)
    ]
    other = [(facts[i][0], facts[i][1], CLASSES[second[i]]) for i in rng.permutation(1200)]
    paths = written(tmp_path / "a.csv", facts), written(tmp_path / "b.csv", other, "face,true,predicted")
    return *paths, (true, first, second, gender)


@pytest.fixture
def found_in(fedfer, tmp_path):
    def run(paths, *words):
        file = tmp_path / "found.json"
        names = ",".join(map(str, paths))
        code, out, err = fedfer("audit", f"compare=[{names}]", *words, "--json", str(file))
        assert (code, err) == (0, "")
        return out, json.loads(file.read_text())

    return run


def test_files_are_joined_by_id_and_say_for_whom_it_got_better(files, found_in):
    *paths, (true, first, second, gender) = files
    out, found = found_in(paths, "id=face", "ignore=[who]")
    assert found["source"]["kind"] == "predictions"
    assert (found["source"]["rows"], found["source"]["people"]) == (1200, None)
    (pair,) = found["comparisons"]
    assert (pair["first"], pair["second"]) == ("a.csv", "b.csv")
    cell = pair["overall"]["accuracy"]
    assert (cell["first"], cell["second"]) == (np.mean(first == true), np.mean(second == true))
    whom = [(each["attribute"], each["group"], each["class"]) for each in pair["better"]]
    assert whom[0] == ("gender", "woman", "sadness")
    sad = (true == 1) & (gender == 1)
    assert pair["better"][0]["change"] == pytest.approx(np.mean(second[sad] == 1) - np.mean(first[sad] == 1))
    assert ("gender", "man", "") not in whom
    assert pair["worse"] == []
    assert "b.csv is surely better for gender, woman, sadness by" in out
    assert "b.csv is surely worse for nobody." in out


def test_persons_make_intervals_wider_where_they_are_named(files, found_in):
    *paths, _ = files
    rows = found_in(paths, "id=face", "ignore=[who]")[1]["comparisons"][0]
    found = found_in(paths, "id=face", "subject=who")[1]
    people = found["comparisons"][0]
    assert (
        found["source"]["people"]
        == people["overall"]["accuracy"]["people"]
        == len({line.split(",")[4] for line in paths[0].read_text().splitlines()[1:]})
    )
    for label in CLASSES:
        alone, both = rows["recall"][label]["interval"], people["recall"][label]["interval"]
        assert both[0] <= alone[0] < alone[1] <= both[1]


def test_the_folder_has_a_record_a_csv_and_a_page(files, fedfer, tmp_path):
    *paths, _ = files
    words = [f"compare=[{paths[0]},{paths[1]}]", "id=face", "ignore=[who]", "--out", str(tmp_path / "out")]
    assert fedfer("audit", *words)[0] == 0
    assert {each.name for each in (tmp_path / "out").iterdir()} == {
        "comparison.json",
        "changes.csv",
        "comparison.html",
    }
    record = json.loads((tmp_path / "out" / "comparison.json").read_text())
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "changes.csv").read_text())))
    assert changes_csv(record) == (tmp_path / "out" / "changes.csv").read_text()
    own = next(row for row in rows if (row["group"], row["class"]) == ("woman", "sadness"))
    cell = record["comparisons"][0]["groups"]["gender"]["woman"]["recall"]["sadness"]
    assert (float(own["change"]), float(own["low"]), own["sure"]) == (
        cell["change"],
        cell["interval"][0],
        "better",
    )
    assert fedfer("audit", *words)[0] == 0, "a comparison is written over"


@pytest.mark.parametrize(
    ("change", "words", "kind", "said"),
    [
        (lambda lines: lines[:-1], ["id=face"], DataError, "has no row in"),
        (lambda lines: [*lines, "face x,sadness,sadness"], ["id=face"], DataError, "b.csv:1202, column face"),
        (lambda lines: [*lines, lines[-1]], ["id=face"], DataError, "occurs twice"),
        (
            lambda lines: [line.replace("happiness,", "sadness,", 1) for line in lines],
            ["id=face"],
            DataError,
            "Compare systems by the same labels",
        ),
        (lambda lines: lines, [], ConfigError, "Write id=COL"),
        (lambda lines: lines, ["id=face", "system=x"], ConfigError, "takes no 'system=x'"),
    ],
)
def test_files_that_do_not_go_together_are_refused(files, fedfer, refused, change, words, kind, said):
    first, second, _ = files
    second.write_text("\n".join(change(second.read_text().splitlines())) + "\n")
    found = fedfer("audit", f"compare=[{first},{second}]", "ignore=[who]", *words)
    assert refused(found, kind, said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["compare=[A]"], "needs two or more"),
        (["compare=[A,A]"], "named twice"),
        (["compare=[A,none.csv]"], "nothing that can be compared"),
        (["compare=[A,RUN]", "id=face"], "not all others are"),
        (["compare=[A,B]", "compare=[A,B]"], "given twice"),
        (["compare=[RUN,RUN]"], "named twice"),
    ],
)
def test_what_is_no_comparison_is_refused(files, compared, fedfer, refused, words, said):
    first, second, _ = files
    told = [
        word.replace("RUN", str(compared)).replace("A", str(first)).replace("B", str(second))
        for word in words
    ]
    assert refused(fedfer("audit", *told), ConfigError, said)


# Models


def test_models_are_judged_on_the_test_part_that_their_runs_share(compared, found_in, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(compared, other, ignore=shutil.ignore_patterns("model"))
    module, spec, labels = load_model(compared / "model")
    for parameter in module.parameters():
        torch.nn.init.zeros_(parameter)
    save_model(other / "model", module, spec, labels=labels, facts={})
    _, found = found_in([compared, other])
    (pair,) = found["comparisons"]
    summary = json.loads((compared / "summary.json").read_text())["systems"]["federated"]
    assert found["source"]["rows"] == sum(summary["support"].values())
    assert pair["overall"]["accuracy"]["first"] == summary["accuracy"]
    assert {name: cell["first"] for name, cell in pair["recall"].items() if cell["n"] >= 10} == {
        name: summary["recall"][name] for name, n in summary["support"].items() if n >= 10
    }
    assert pair["overall"]["accuracy"]["people"] < found["source"]["rows"]


def test_models_can_be_judged_on_other_data(compared, found_in, words, tmp_path):
    shutil.copytree(compared / "model", tmp_path / "saved")
    data = [word for word in words if word.startswith(("data.", "seed"))]
    _, found = found_in([compared, tmp_path / "saved"], "data=faces", *data, "data.groups=[gender*age]")
    (pair,) = found["comparisons"]
    assert list(pair["groups"]) == ["gender*age"]
    assert pair["overall"]["accuracy"]["change"] == 0
    assert pair["better"] == pair["worse"] == []


def test_runs_on_different_pictures_are_refused(compared, fedfer, refused, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(compared, other)
    config = other / "config.yaml"
    config.write_text(config.read_text().replace("seed: 3", "seed: 4", 1))
    found = fedfer("audit", f"compare=[{compared},{other}]")
    assert refused(found, ConfigError, "were judged on different pictures")


# Seeds


@pytest.fixture
def methods(compared, tmp_path):
    """Folders of two methods with runs of seeds; the second method's accuracy is higher, seed by seed."""

    def run(place, seed, better):
        place.mkdir(parents=True)
        plan = json.loads((compared / "plan.json").read_text()) | {"seed": seed}
        (place / "plan.json").write_text(json.dumps(plan))
        summary = json.loads((compared / "summary.json").read_text())
        counts = summary["systems"]["federated"]["counts"]
        rng = np.random.default_rng([seed, 1])
        true = rng.integers(0, 7, 600)
        said = np.where(rng.random(600) < 0.5 + better, true, (true + 1) % 7)
        columns = {name: rng.choice(values, 600) for name, values in counts["groups"].items()}
        found = Counts.of(true, said, counts["labels"], columns, counts["groups"])
        summary["systems"]["federated"]["counts"] = found.to_json()
        (place / "summary.json").write_text(json.dumps(summary))

    for seed in range(4):
        run(tmp_path / "one" / str(seed), seed, 0.0)
        run(tmp_path / "two" / f"job-{9 - seed}", seed, 0.2)
    run(tmp_path / "two" / "alone", 17, 0.2)
    return tmp_path / "one", tmp_path / "two"


def test_runs_are_paired_by_their_seeds(methods, found_in):
    _, found = found_in(methods)
    assert found["source"]["seeds"] == [0, 1, 2, 3]
    (pair,) = found["comparisons"]
    cell = pair["overall"]["accuracy"]
    assert cell["change"] == pytest.approx(0.2, abs=0.05)
    assert cell["interval"][0] > 0.1
    assert pair["gaps"]["gender"]["accuracy_gap"] is not None


def test_the_interval_over_seeds_is_student_s():
    """Of two classes with 20 rows each: accuracies .5, .6, .7 against .6, .6, .8."""

    def counts(right):
        return Counts.of([0] * 20 + [1] * 20, [0] * right + [1] * (40 - right), ("p", "q"))

    first = [counts(n) for n in (0, 4, 8)]
    second = [counts(n) for n in (4, 4, 12)]
    found = seed_changes(first, second)["overall"]["accuracy"]
    assert (found["first"], found["second"]) == (pytest.approx(0.6), pytest.approx(2 / 3))
    assert found["interval"] == pytest.approx(student_interval([0.1, 0.0, 0.1]))
    same = seed_changes(first, [counts(n + 4) for n in (0, 4, 8)])
    assert same["overall"]["accuracy"]["sure"] == "", "differences that are all alike show no spread"


def test_other_systems_of_the_runs_can_be_compared(methods, fedfer, refused):
    names = f"compare=[{methods[0]},{methods[1]}]"
    assert fedfer("audit", names, "system=pooled")[0] == 0
    assert refused(fedfer("audit", names, "system=local_only"), ConfigError, "an audit judges one")
    assert refused(fedfer("audit", names, "id=face"), ConfigError, "takes no 'id=face'")


def test_seeds_that_do_not_pair_are_refused(methods, fedfer, refused):
    names = f"compare=[{methods[0]},{methods[1]}]"
    for seed in "12":
        shutil.rmtree(methods[0] / seed)
    shutil.rmtree(methods[0] / "3")
    assert refused(fedfer("audit", names), ConfigError, "1 seeds in common")
    shutil.copytree(methods[0] / "0", methods[0] / "00")
    assert refused(fedfer("audit", names), ConfigError, "0 and 00 have the same seed")


# The page


@pytest.fixture
def page(files, methods, fedfer, tmp_path):
    *paths, _ = files
    words = [f"compare=[{paths[0]},{paths[1]}]", "id=face", "subject=who", "--out", str(tmp_path / "files")]
    assert fedfer("audit", *words)[0] == 0
    words = [f"compare=[{methods[0]},{methods[1]}]", "--out", str(tmp_path / "seeds")]
    assert fedfer("audit", *words)[0] == 0
    return [tmp_path / name / "comparison.html" for name in ("files", "seeds")]


def test_the_page_says_who_gains_in_its_first_lines(page):
    text = page[0].read_text()
    assert re.search(r"<h1>The accuracy of b.csv is \S+\spoints higher than that of a.csv", text)
    assert text.index("sadness, gender, woman") < text.index("<main>")
    assert "Nowhere for sure." in text
    assert "1,200 pictures of 2" in text
    assert "(0, 1, 2, 3)" in page[1].read_text()


@pytest.mark.browser
def test_the_page_fits_a_phone_and_hinders_nobody(page, in_frames, hindrances, axe, tmp_path):
    measure = "const sizes = f => [f.clientWidth, f.contentDocument.documentElement.scrollWidth];"
    for number, each in enumerate(page):
        folder = tmp_path / f"browser-{number}"
        folder.mkdir()
        assert hindrances(folder, each) == []
        assert axe(folder, each) == []
        for asked, width in in_frames(folder, each, measure, "sizes(frame)", (360, 1280)):
            assert width <= asked
