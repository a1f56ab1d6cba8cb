"""The table of the ladder on numbers made by hand: every change is from the rung before."""

import pytest

from simulations.ladder.page import lost
from simulations.ladder.table import is_sure, ladder_table, lost_most


def facts(accuracy, joy=0.9, fear=0.5, old=0.8, cpu=10.0, epsilon=None):
    groups = {"old": {"accuracy": old, "compared": True}, "young": {"accuracy": 0.9, "compared": True}}
    gaps = dict.fromkeys(("demographic_parity_difference", "equalized_odds_difference"), 0.1)
    gaps |= {"accuracy_gap": 0.9 - old, "accuracy_gap_interval": None}
    return {
        **{"accuracy": accuracy, "balanced_accuracy": accuracy, "worst_recall": min(joy, fear)},
        **{"recall": {"joy": joy, "fear": fear}, "epsilon": epsilon},
        **{"cpu_seconds": cpu, "bytes_up": 0, "visits": 5},
        "parity": {"age": {"groups": groups, **gaps}},
    }


@pytest.fixture
def found():
    runs = {
        "pooled": [facts(0.80), facts(0.90)],
        "fedavg": [facts(0.70, fear=0.3, old=0.7, cpu=4.0), facts(0.84, fear=0.1, old=0.9, cpu=6.0)],
        "noise": [
            facts(0.60, joy=0.8, fear=0.3, old=0.7, epsilon=3.0),
            facts(0.60, fear=0.1, old=0.9, epsilon=2.0),
        ],
    }
    return ladder_table(runs)["systems"]


def test_each_rung_is_held_against_the_one_before_seed_by_seed(found):
    assert "accuracy_change" not in found["pooled"]
    assert found["pooled"]["changes"] == []
    assert found["fedavg"]["accuracy_change"] == pytest.approx(-0.08)
    half = 12.7062 * 0.02  # t(.975, 1) times the deviation .0283, over the root of 2
    assert found["fedavg"]["accuracy_change_interval"] == pytest.approx(
        (-0.08 - half, -0.08 + half), abs=1e-4
    )
    assert found["noise"]["accuracy_change"] == pytest.approx(-0.17)


def test_costs_have_intervals_that_no_share_cuts(found):
    assert found["fedavg"]["cpu_seconds"] == 5.0
    assert found["fedavg"]["cpu_seconds_change"] == -5.0
    assert found["fedavg"]["cpu_seconds_change_interval"] == pytest.approx(
        (-5 - 12.7062, -5 + 12.7062), abs=1e-4
    )
    assert found["noise"]["epsilon"] == 3.0  # the largest, and no mean
    assert found["noise"]["epsilon_interval"][1] > 1
    assert found["fedavg"]["epsilon"] is found["fedavg"]["epsilon_change"] is None


def test_who_lost_most(found):
    changes = {each["name"]: each["change"] for each in found["fedavg"]["changes"]}
    assert changes == pytest.approx({"fear": -0.3, "joy": 0.0, "old": 0.0, "young": 0.0})
    assert next(iter(changes)) == "fear"
    worst = lost_most(found["fedavg"]["changes"], "class")
    assert (worst["name"], is_sure(worst)) == ("fear", False)
    assert lost_most(found["fedavg"]["changes"], "group") is None
    assert [text.replace("\N{NARROW NO-BREAK SPACE}", " ") for text in lost(found["fedavg"])] == [
        "class fear \N{MINUS SIGN}30.0 points (may be chance)"
    ]
    assert lost_most(found["noise"]["changes"], "class")["name"] == "joy"


def test_a_loss_in_every_seed_is_told_from_chance():
    runs = {
        "a": [facts(0.8, fear=0.5), facts(0.8, fear=0.6)],
        "b": [facts(0.8, fear=0.300), facts(0.8, fear=0.401)],
    }
    worst = ladder_table(runs)["systems"]["b"]["changes"][0]
    assert worst["name"] == "fear"
    assert is_sure(worst)


def test_one_seed_has_changes_and_no_interval():
    worst = ladder_table({"a": [facts(0.8)], "b": [facts(0.7, fear=0.4)]})["systems"]["b"]["changes"][0]
    assert (worst["interval"], is_sure(worst)) == (None, False)
    assert worst["change"] == pytest.approx(-0.1)
