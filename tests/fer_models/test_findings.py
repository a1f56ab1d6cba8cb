"""For whom a model fails most: pairs of groups whose intervals hold together."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fer_models.counts import Counts
from fer_models.findings import against_reference, findings, questions, reference_of
from fer_models.intervals import corrected, newcombe_difference, wilson


def counted(cells, labels=("a", "b")):
    """Counts of group -> (true, predicted) -> rows, of one attribute ``g``."""
    tables = {name: np.zeros((len(labels), len(labels)), np.int64) for name in cells}
    for name, rows in cells.items():
        for (true, guess), n in rows.items():
            tables[name][labels.index(true), labels.index(guess)] = n
    by_group = np.stack(list(tables.values()))
    return Counts(labels, {"g": tuple(cells)}, by_group.sum(0), {"g": by_group})


# f: accuracy 70/80, recall of b 30/40. m: 40/65 and 5/30. x: too few rows.
COUNTS = counted(
    {
        "f": {("a", "a"): 40, ("b", "b"): 30, ("b", "a"): 10},
        "m": {("a", "a"): 35, ("b", "b"): 5, ("b", "a"): 25},
        "x": {("a", "b"): 9},
        "undisclosed": {("a", "b"): 50},
    }
)


def test_the_surest_difference_comes_first():
    found = findings(COUNTS)
    assert found["comparisons"] == 3  # accuracy, recall of a and of b: one pair each
    first, second, third = found["gaps"]
    strict = corrected(0.95, 2 * 2)  # half of the errors are for accuracy, half for the two classes
    assert (first["attribute"], first["class"], first["group"], first["against"]) == ("g", "b", "m", "f")
    assert first["difference"] == pytest.approx(30 / 40 - 5 / 30)
    assert first["difference_interval"] == pytest.approx(newcombe_difference(30, 40, 5, 30, strict))
    assert (first["rate"], first["n"], first["against_n"]) == (5 / 30, 30, 40)
    assert first["rate_interval"] == pytest.approx(wilson(5, 30).tolist())
    assert first["at_most"] == first["difference_interval"][1]
    assert (first["sure"], second["class"], second["sure"]) == (True, None, True)
    assert (third["class"], third["difference"], third["sure"]) == ("a", 0.0, False)


def test_the_chance_of_error_is_shared_out_by_attributes_and_questions():
    """Two groups of ``g``, four of ``h``: each attribute has a quarter for accuracy, however many pairs it has."""
    rng = np.random.default_rng(0)
    true = rng.integers(0, 2, 400)
    columns = {"g": np.arange(400) % 2 * 1, "h": np.arange(400) // 100}
    names = {name: np.array(["k", "l", "m", "n"])[column] for name, column in columns.items()}
    found = findings(Counts.of(true, true, ("a", "b"), names))
    assert found["comparisons"] == 3 * (1 + 6)
    level = {("g", None): 2 * 2, ("h", None): 2 * 2 * 6, ("g", "a"): 2 * 4, ("h", "b"): 2 * 4 * 6}
    told = {(gap["attribute"], gap["class"]): gap for gap in found["gaps"]}
    for key, comparisons in level.items():
        gap = told[key]
        expected = newcombe_difference(
            gap["against_n"], gap["against_n"], gap["n"], gap["n"], corrected(0.95, comparisons)
        )
        assert gap["difference_interval"] == pytest.approx(expected)


def test_nothing_is_sure_of_a_few_people():
    found = findings(COUNTS, {"g": {"m": 9, "f": 40}})
    assert not any(gap["sure"] for gap in found["gaps"])
    assert all(gap["sure"] for gap in findings(COUNTS, {"g": {"m": 10, "f": 40}})["gaps"][:2])


def test_a_sure_pair_is_told_before_a_wider_one_by_chance():
    few = {("a", "a"): 3, ("a", "b"): 9}  # 25 % of 12
    some = {("a", "a"): 500, ("a", "b"): 500}
    many = {("a", "a"): 650, ("a", "b"): 350}
    gap = findings(counted({"few": few, "some": some, "many": many}))["gaps"][0]
    assert (gap["group"], gap["against"], gap["sure"]) == ("some", "many", True)
    assert gap["at_most"] > 0.5


def test_with_one_group_there_is_nothing_to_find():
    found = findings(counted({"only": {("a", "a"): 30}, "undisclosed": {("b", "a"): 30}}))
    assert (found["comparisons"], found["gaps"]) == (0, [])
    assert findings(Counts.of([0, 1], [0, 1], ("a", "b")))["gaps"] == []


tables = st.lists(st.lists(st.integers(0, 60), min_size=4, max_size=4), min_size=2, max_size=4)


@settings(max_examples=40, deadline=None)
@given(tables)
def test_what_is_sure_excludes_nothing_else(rows):
    cells = {
        str(i): dict(zip([("a", "a"), ("a", "b"), ("b", "a"), ("b", "b")], row, strict=True))
        for i, row in enumerate(rows)
    }
    found = findings(counted(cells))
    for gap in found["gaps"]:
        low, high = gap["difference_interval"]
        assert gap["sure"] == (low > 0)
        assert low <= gap["difference"] <= high <= gap["at_most"] + 1e-12
        assert gap["difference"] >= 0
        assert min(gap["n"], gap["against_n"]) >= 10
    assert sorted((gap["sure"] for gap in found["gaps"]), reverse=True) == [g["sure"] for g in found["gaps"]]


def test_sure_findings_are_rare_where_groups_are_alike():
    """400 audits of groups of 50, 35, 12 and 3 % without a difference: at most 5 % find one."""
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(400):
        group = rng.choice(["p", "q", "r", "s"], 1000, p=[0.5, 0.35, 0.12, 0.03])
        true = rng.choice(4, 1000, p=[0.5, 0.3, 0.15, 0.05])
        guess = np.where(rng.random(1000) < 0.7, true, rng.choice(4, 1000))
        counts = Counts.of(true, guess, ("a", "b", "c", "d"), {"g": group})
        alarms += any(gap["sure"] for gap in findings(counts)["gaps"])
    assert alarms <= 20


def test_groups_stand_against_the_reference():
    assert reference_of(COUNTS, "g") == "f"
    found = against_reference(COUNTS, "g", "m")
    assert (found["reference"], found["comparisons"], list(found["groups"])) == ("m", 3, ["f"])
    cell = found["groups"]["f"]["recall"]["b"]
    assert cell["difference"] == pytest.approx(30 / 40 - 5 / 30)
    assert cell["difference_interval"] == pytest.approx(
        newcombe_difference(30, 40, 5, 30, corrected(0.95, 3))
    )
    assert found["groups"]["f"]["accuracy"]["difference"] == pytest.approx(70 / 80 - 40 / 65)
    assert against_reference(COUNTS, "g", "x") is None


def test_a_cell_with_few_rows_is_not_held_against_the_reference():
    counts = counted(
        {"f": {("a", "a"): 40, ("b", "b"): 40}, "m": {("a", "a"): 40, ("b", "b"): 9}, "n": {("b", "b"): 9}}
    )
    found = against_reference(counts, "g", "f")
    assert found["groups"]["m"]["recall"]["b"] is None
    assert found["groups"]["m"]["recall"]["a"]["difference"] == 0
    assert list(found["groups"]) == ["m"]


def test_questions_are_accuracy_and_the_classes_that_occur():
    counts = counted({"f": {("a", "b"): 40}, "m": {("a", "a"): 40}})
    assert [(q.label, q.hits.tolist(), q.n.tolist()) for q in questions(counts)] == [
        (None, [0, 40], [40, 40]),
        ("a", [0, 40], [40, 40]),
    ]
