"""``fedfer audit ... --out DIR``: the record, and what is made of it."""

import csv
import json
from pathlib import Path

import pytest

from fer_models.counts import Counts
from fer_models.errors import ConfigError
from fer_models.intervals import wilson
from simulations.audit import record
from simulations.audit_table import COLUMNS, rows

CELLS = [("happy", "happy", "f", 40), ("sad", "sad", "f", 30), ("sad", "happy", "f", 10)]
CELLS += [
    ("happy", "happy", "m", 35),
    ("sad", "sad", "m", 5),
    ("sad", "happy", "m", 25),
    ("sad", "sad", "x", 4),
]


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "predictions.csv"
    lines = [f"{true},{guess},{gender}\n" for true, guess, gender, times in CELLS for _ in range(times)]
    path.write_text("true,predicted,gender\n" + "".join(lines))
    return path


@pytest.fixture
def folder(fedfer, table, tmp_path):
    code, out, err = fedfer(
        "audit", f"predictions={table}", "--out", str(tmp_path / "audit"), f"--json={tmp_path}/one"
    )
    assert (code, err) == (0, "")
    assert str(tmp_path / "audit") in out
    return tmp_path / "audit"


def test_the_folder_holds_the_tolditself(folder, tmp_path):
    assert (folder / "audit.json").read_text() == (tmp_path / "one").read_text()
    found = json.loads((folder / "audit.json").read_text())
    assert found["version"] == 1
    assert Counts.from_json(found["counts"]).rows == 149


def flat(found, path=""):
    """Return path -> value of a decoded JSON text."""
    if not isinstance(found, dict | list) or not found:
        return {path: found}
    pairs = found.items() if isinstance(found, dict) else enumerate(found)
    return {place: value for key, each in pairs for place, value in flat(each, f"{path}/{key}").items()}


def test_the_record_of_a_known_table_is_the_one_that_was_looked_at(folder, table):
    """Against ``golden_audit.json``: whoever changes a figure, a key or its place has to say so there."""
    wanted = flat(json.loads((Path(__file__).parent / "golden_audit.json").read_text()))
    told = json.loads((folder / "audit.json").read_text())
    assert told["source"].pop("predictions") == str(table)
    assert told.pop("config")["words"] == [f"predictions={table}"]
    found = flat(told)
    assert list(found) == list(wanted)
    for place, value in wanted.items():
        assert found[place] == (
            pytest.approx(value, rel=1e-9, abs=1e-12) if type(value) is float else value
        ), place


def read(folder):
    with (folder / "figures.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    keyed = {(row["attribute"], row["group"], row["class"], row["metric"]): row for row in table}
    assert len(keyed) == len(table)
    assert list(table[0]) == list(COLUMNS)
    return keyed


def numbers(row):
    return [float(row[key]) if row[key] else None for key in ("value", "low", "high", "n")]


def test_figures_stand_one_a_row(folder):
    table = read(folder)
    assert numbers(table["", "", "", "accuracy"]) == pytest.approx([114 / 149, *wilson(114, 149), 149])
    assert numbers(table["", "", "sadness", "recall"]) == pytest.approx([39 / 74, *wilson(39, 74), 74])
    assert numbers(table["gender", "m", "sadness", "recall"]) == pytest.approx([5 / 30, *wilson(5, 30), 30])
    assert numbers(table["gender", "m", "sadness", "selection_rate"])[0] == pytest.approx(5 / 65)
    assert numbers(table["gender", "", "sadness", "equal_opportunity_difference"])[0] == pytest.approx(
        0.75 - 1 / 6
    )
    assert numbers(table["gender", "", "", "accuracy_gap"])[0] == pytest.approx(70 / 80 - 40 / 65)
    assert numbers(table["gender", "", "sadness", "labels.demographic_parity_difference"])[
        0
    ] == pytest.approx(40 / 80 - 30 / 65)
    assert ("", "", "sadness", "worst_recall") in table
    assert ("gender", "", "sadness", "equal_opportunity_difference_worst") in table


def test_groups_below_ten_pictures_have_no_figures(folder):
    assert numbers(read(folder)["gender", "x", "", "accuracy"]) == [None, None, None, 4]


def test_every_interval_of_the_record_is_in_the_table(folder):
    found = json.loads((folder / "audit.json").read_text())

    def pairs(facts):
        for key, value in facts.items():
            if key.endswith("_interval") and isinstance(value, dict):
                yield from value.values()
            elif key.endswith("_interval"):
                yield value
            elif isinstance(value, dict):
                yield from pairs(value)

    told = sorted([row.low, row.high] for row in rows(found) if row.low is not None)
    gaps = [gap["difference_interval"] for gap in found["findings"]["gaps"]]
    assert len(gaps) > 2
    assert told == sorted([*gaps, *filter(None, pairs(found["figures"])), *pairs(found["bias"])])


def test_bias_findings_and_other_systems_have_their_rows(folder):
    keyed = read(folder)
    gap = keyed["gender", "m", "sadness", "below.f"]
    assert numbers(gap)[0] == pytest.approx(30 / 40 - 5 / 30)
    assert numbers(gap)[3] == 30
    assert numbers(keyed["gender", "", "", "bias.imbalance_ratio"])[0] == pytest.approx(80 / 65)
    assert numbers(keyed["", "", "", "bias.evenness"])[0] > 0.99
    found = json.loads((folder / "audit.json").read_text())
    found["systems"] = {"pooled": {"accuracy": 0.5, "accuracy_interval": [0.4, 0.6], "parity": {}}}
    [row] = [row for row in rows(found) if row.attribute == "system"]
    assert row[1:7] == ("pooled", "", "accuracy", 0.5, 0.4, 0.6)


def test_calibration_has_its_row():
    counts = Counts.of([0] * 20 + [1] * 20, [0] * 40, ("a", "b"), {"g": ["x", "y"] * 20})
    found = record({"calibration_error": {"g": {"x": 0.25, "y": None}}}, counts)
    told = {row.group: row for row in rows(found) if row.metric == "calibration_error"}
    assert (told["x"].value, told["x"].n, told["y"].value) == (0.25, 20, None)


def test_sites_have_their_rows():
    counts = Counts.of([0] * 10, [0] * 7 + [1] * 3, ("a", "b"))
    sites = {
        "sites": 2,
        "accuracy": {"minimum": 0.6, "mean": 0.7, "deviation": 0.1, "gini": 0.07, "worst_site": 1},
    }
    each = [{"site": "one", "accuracy": 0.8, "test": 5}, {"site": "two", "accuracy": 0.6, "test": 5}]
    found = record({"door": "run"}, counts) | {"sites": sites, "per_site": each}
    told = {(row.group, row.metric): row for row in rows(found) if row.attribute == "site"}
    assert (told["two", "accuracy"].value, told["two", "accuracy"].n) == (0.6, 5)
    assert told["", "accuracy.gini"].value == 0.07
    assert len(told) == 6


def test_an_earlier_audit_is_written_over(fedfer, table, folder):
    (folder / "figures.csv").write_text("old")
    assert fedfer("audit", f"predictions={table}", f"--out={folder}")[0] == 0
    assert (folder / "figures.csv").read_text().startswith("attribute,group,class,metric")


def test_folders_of_others_are_left_alone(fedfer, refused, table, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    for words in (["--out", str(tmp_path / "mine")], [f"--out={table}"]):
        assert refused(fedfer("audit", f"predictions={table}", *words), ConfigError, "a folder of its own")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    for words in (["--out"], ["--out", "--force"]):
        assert refused(fedfer("audit", f"predictions={table}", *words), ConfigError, "Write --out DIR")


def test_findings_and_disparities_are_in_the_record(folder):
    found = json.loads((folder / "audit.json").read_text())
    first = found["findings"]["gaps"][0]
    assert (first["attribute"], first["class"], first["group"], first["sure"]) == (
        "gender",
        "sadness",
        "m",
        True,
    )
    assert found["disparities"]["gender"]["reference"] == "f"


def test_the_reference_is_that_of_the_tolerance_file(fedfer, table, tmp_path):
    rule = "{metric: accuracy_gap, attribute: gender, limit: 0.9, reference: m, groups: [f, m]}"
    (tmp_path / "tolerance.yaml").write_text(f"rules:\n- {rule}\n")
    words = [f"tolerance={tmp_path}/tolerance.yaml", f"--json={tmp_path}/one"]
    assert fedfer("audit", f"predictions={table}", *words)[0] == 0
    found = json.loads((tmp_path / "one").read_text())
    assert found["disparities"]["gender"]["reference"] == "m"
    assert list(found["disparities"]["gender"]["groups"]) == ["f"]
