"""The figures of a comparison: who got better and worse, held together, and cautious where figures are extremes."""

import json

import numpy as np
import pytest

from fer_models.changes import changes
from fer_models.labels import UNDISCLOSED
from fer_models.paired import Rows


def drawn(seed, n=4000, better=0.0, whom=2, person=None):
    """Rows of three classes and three groups; the second system is better for group ``whom`` of class 1."""
    rng = np.random.default_rng(seed)
    true, group = rng.integers(0, 3, n), rng.integers(0, 3, n)
    ease = rng.random(n)
    first = np.where(ease < 0.6, true, (true + 1) % 3)
    more = np.where((group == whom) & (true == 1), better, 0.0)
    flips = rng.random(n) < 0.1
    second = np.where((ease < 0.6 + more) ^ flips, true, (true + 1) % 3)
    first = np.where(rng.random(n) < 0.1, np.where(first == true, (true + 1) % 3, true), first)
    values = {"age": ("old", "young", UNDISCLOSED)}
    who = None if person is None else rng.integers(0, person, n)
    return Rows(true, first, second, ("a", "b", "c"), {"age": group}, values, who)


def test_a_change_for_one_group_and_class_is_found_and_named():
    found = changes(drawn(0, better=0.3, whom=1))
    first = found["better"][0]
    assert (first["attribute"], first["group"], first["class"]) == ("age", "young", "b")
    assert first["change"] == pytest.approx(0.24, abs=0.1)
    assert first["interval"][0] > 0
    assert not found["worse"]
    assert found["cells"] == 1 + 3 + 3 + 9


def test_nothing_is_called_better_or_worse_where_nothing_changes():
    """Statements of a whole comparison hold together: of 200 comparisons at most 5 % say anything."""
    found = [changes(drawn(seed, 600)) for seed in range(200)]
    alarms = sum(bool(each["better"] or each["worse"]) for each in found)
    assert alarms <= 17  # a chance of 1 in 50 above this at 5 %


def test_with_persons_nothing_is_called_better_either():
    found = [changes(drawn(seed, 600, person=40)) for seed in range(60)]
    assert sum(bool(each["better"] or each["worse"]) for each in found) <= 7
    assert found[0]["overall"]["accuracy"]["people"] == 40


@pytest.mark.parametrize(
    ("figure", "least"), [("accuracy", 0.92), ("balanced_accuracy", 0.92), ("worst_recall", 0.97)]
)
def test_intervals_of_overall_figures_cover_no_change(figure, least):
    found = [changes(drawn(seed, 500))["overall"][figure]["interval"] for seed in range(300)]
    assert np.mean([low <= 0 <= high for low, high in found]) >= least


def test_the_change_of_a_gap_covers_what_is_planted():
    """Class b of the young rises by .24, less flips, and so their accuracy by .08: a gap where there was none."""
    found = [
        changes(drawn(seed, 3000, better=0.3, whom=1))["gaps"]["age"]["accuracy_gap"] for seed in range(60)
    ]
    assert np.mean([low <= 0.08 <= high for low, high in (each["interval"] for each in found)]) >= 0.95
    assert np.mean([each["change"] for each in found]) == pytest.approx(0.08, abs=0.04)


def test_small_cells_have_no_figures_and_weak_ones_are_marked():
    rows = drawn(1, 100)
    few = Rows(
        rows.true, rows.first, rows.second, rows.labels, {"age": (np.arange(100) < 9) * 1}, rows.values
    )
    cell = changes(few)["groups"]["age"]["young"]["accuracy"]
    assert (cell["n"], cell["change"], cell["interval"], cell["sure"]) == (9, None, None, "")
    assert cell["weak"]
    assert not changes(few)["groups"]["age"]["old"]["accuracy"]["weak"]
    assert changes(few)["gaps"]["age"]["accuracy_gap"] is None, "one group to compare"


def test_persons_hold_for_the_worst_class_and_for_gaps_too():
    """Twelve persons of 50 rows, each all right or all wrong: 0 to 5 are right first, 3 to 8 then; others always."""
    person = np.repeat(np.arange(24), 50)
    group, true = (person >= 12) * 1, np.zeros(1200, np.int64)
    first = np.where((person < 6) | (group == 1), 0, 1)
    second = np.where(((person >= 3) & (person < 9)) | (group == 1), 0, 1)
    values = {"age": ("old", "young")}
    found = changes(Rows(true, first, second, ("a", "b"), {"age": group}, values, person))
    old = found["groups"]["age"]["old"]["accuracy"]["interval"]
    assert old[1] > 0.4, "t of 11 times sqrt(12 / 11 6) / 12"
    gap, worst = found["gaps"]["age"]["accuracy_gap"], found["overall"]["worst_recall"]
    assert gap["change"] == 0
    assert gap["interval"][1] >= old[1]
    assert worst["interval"] == found["recall"]["a"]["interval"], "it is the only class"


def test_few_persons_decide_nothing():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, 900)
    rows = Rows(true, (true + 1) % 3, true, ("a", "b", "c"), {}, {}, rng.integers(0, 9, 900))
    found = changes(rows)
    assert (found["better"], found["overall"]["accuracy"]["change"]) == ([], 1.0)
    assert changes(Rows(true, (true + 1) % 3, true, ("a", "b", "c"), {}, {}))["better"]


def test_a_comparison_is_plain_json():
    assert json.loads(json.dumps(changes(drawn(2, person=50)), allow_nan=False))["level"] == 0.95
