"""The table of a study: hand-checked rows, and what holds for any runs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from fer_models.counts import Counts
from fer_models.metrics import summarise
from simulations.study.table import OVERALL, beats, table, verdict, worst_group_accuracy

CLASSES = ("neutral", "happiness")


def facts(accuracy, worst=0.5, gap=0.2, low=0.1, epsilon=None):
    """What a run's summary says, as far as a study looks at it."""
    groups = {"old": {"accuracy": accuracy, "compared": True}, "young": {"accuracy": 0.9, "compared": True}}
    groups["undisclosed"] = {"accuracy": 0.0, "compared": False}
    parity = {"accuracy_gap": gap, "accuracy_gap_interval": None if gap is None else [low, 1.0]}
    parity |= {"demographic_parity_difference": 0.1, "equalized_odds_difference": 0.3, "groups": groups}
    shares = {"accuracy": accuracy, "balanced_accuracy": accuracy, "worst_recall": worst}
    costs = {"epsilon": epsilon, "cpu_seconds": 2.0, "bytes_up": 10, "visits": 100}
    return shares | costs | {"recall": {"neutral": worst, "happiness": 0.9}, "parity": {"age": parity}}


def test_a_row_by_hand():
    plain = [facts(0.6, gap=0.2), facts(0.7, gap=0.3), facts(0.8, gap=0.1, low=0.0)]
    ours = [facts(0.61, gap=0.1, low=0.0), facts(0.73, gap=0.15), facts(0.82, gap=0.05, low=0.0)]
    made = table({"none": plain, "ours": ours})
    first, second = made["systems"]["none"], made["systems"]["ours"]
    assert first["accuracy"] == pytest.approx(0.7)
    assert first["accuracy_seeds"] == [0.6, 0.7, 0.8]
    # The deviation is .1 and t(.975, 2) is 4.3027, so half of the interval is .1 x 4.3027 / sqrt(3).
    assert first["accuracy_interval"] == pytest.approx((0.7 - 0.24841, 0.7 + 0.24841), abs=1e-4)
    assert "accuracy_change" not in first
    assert second["accuracy_change"] == pytest.approx(0.02)
    assert second["accuracy_change_interval"] == pytest.approx((0.02 - 0.024841, 0.02 + 0.024841), abs=1e-5)
    age = second["parity"]["age"]
    assert age["accuracy_gap"] == pytest.approx(0.1)
    assert age["accuracy_gap_cut"] == pytest.approx(0.5)
    assert (first["parity"]["age"]["accuracy_gap_shown"], age["accuracy_gap_shown"]) == (2, 1)
    assert age["worst_group_accuracy_seeds"] == [0.61, 0.73, 0.82]
    assert second["recall"] == {"neutral": 0.5, "happiness": 0.9}
    assert made["reference"] is None
    assert "worst_recall_recovered" not in second


def test_a_private_study_tells_what_comes_back_of_the_worst_recall():
    plain, ours = [facts(0.6, worst=0.1, epsilon=7.9)] * 2, [facts(0.6, worst=0.4, epsilon=8.0)] * 2
    made = table({"none": plain, "ours": ours}, [facts(0.7, worst=0.5)] * 2)
    assert made["systems"]["ours"]["worst_recall_recovered"] == pytest.approx(0.75)
    assert made["systems"]["ours"]["epsilon"] == 8.0
    assert made["reference"]["worst_recall_change"] == pytest.approx(0.4)
    took_none = table({"none": plain, "ours": ours}, [facts(0.7, worst=0.1)] * 2)
    assert took_none["systems"]["ours"]["worst_recall_recovered"] is None


def test_one_seed_has_figures_and_no_interval():
    found = table({"none": [facts(0.6)], "ours": [facts(0.7)]})["systems"]["ours"]
    assert found["accuracy_change"] == pytest.approx(0.1)
    assert found["accuracy_interval"] is found["accuracy_change_interval"] is None
    assert verdict(found, OVERALL[0]) == ""


def test_a_figure_that_one_seed_lacks_is_not_known():
    made = table({"none": [facts(0.6), facts(0.6)], "ours": [facts(0.7, gap=None), facts(0.7)]})["systems"]
    age = made["ours"]["parity"]["age"]
    assert age["accuracy_gap"] is age["accuracy_gap_change"] is age["accuracy_gap_cut"] is None
    assert age["accuracy_gap_seeds"] == [None, 0.2]
    assert age["accuracy_gap_shown"] == 1


def test_groups_that_are_not_compared_are_not_the_worst():
    assert worst_group_accuracy(facts(0.6)["parity"]["age"]) == 0.6
    alone = {"groups": {"old": {"accuracy": 0.3, "compared": True}}}
    assert worst_group_accuracy(alone) is None


def test_it_reads_what_summaries_hold():
    rng = np.random.default_rng(0)
    true, group = rng.integers(0, 2, 400), rng.choice(["old", "young"], 400)
    runs = []
    for _ in range(2):
        counts = Counts.of(true, np.where(rng.random(400) < 0.8, true, 1 - true), CLASSES, {"age": group})
        runs.append(summarise(counts) | {"epsilon": None, "cpu_seconds": 1.0, "bytes_up": 0, "visits": 0})
    found = table({"none": runs})["systems"]["none"]
    by_group = [run["parity"]["age"]["groups"] for run in runs]
    worst = [min(each["old"]["accuracy"], each["young"]["accuracy"]) for each in by_group]
    assert found["parity"]["age"]["worst_group_accuracy_seeds"] == worst
    assert found["parity"]["age"]["accuracy_gap"] > 0


def test_methods_that_none_beats():
    runs = {
        "none": facts(0.8, 0.2),
        "middle": facts(0.7, 0.4),
        "worse": facts(0.6, 0.3),
        "same": facts(0.7, 0.4),
    }
    made = table({name: [each] for name, each in runs.items()})["pareto"]
    assert made[0] == {"attribute": None, "figure": "worst_recall", "best": ["none", "middle", "same"]}
    assert [(each["attribute"], each["figure"]) for each in made[1:]] == [
        ("age", "accuracy_gap"),
        ("age", "demographic_parity_difference"),
    ]


def test_less_of_a_gap_is_better():
    runs = {
        "none": [facts(0.8, gap=0.3)] * 2,
        "ours": [facts(0.7, gap=0.1)] * 2,
        "bad": [facts(0.7, gap=0.2)] * 2,
    }
    assert table(runs)["pareto"][1]["best"] == ["none", "ours"]


shares = st.floats(0.3, 0.7)
seeds = st.lists(st.tuples(shares, shares), min_size=2, max_size=6)


@given(seeds, st.lists(st.floats(0, 0.2), min_size=6, max_size=6))
def test_what_a_seed_adds_to_both_methods_cancels(pairs, added):
    def change(shift):
        both = [[facts(pair[i] + s) for pair, s in zip(pairs, shift, strict=False)] for i in (0, 1)]
        found = table({"none": both[0], "ours": both[1]})["systems"]["ours"]
        return [found["accuracy_change"], *found["accuracy_change_interval"]]

    assert change(added) == pytest.approx(change([0.0] * 6), abs=1e-9)


@given(seeds)
def test_a_verdict_is_that_of_a_paired_t_test(pairs):
    plain, ours = np.array(pairs).T
    found = table({"none": list(map(facts, plain)), "ours": list(map(facts, ours))})["systems"]["ours"]
    said = verdict(found, OVERALL[0])
    if np.ptp(ours - plain) < 1e-9:  # no spread, where the test has no p
        assert said == ("" if abs(np.mean(ours - plain)) < 1e-6 else said)
        return
    p = ttest_rel(ours, plain).pvalue
    if abs(p - 0.05) > 1e-6:
        assert (said != "") == (p < 0.05)
        assert said in ("", "better" if np.mean(ours - plain) > 0 else "worse")


@given(st.lists(st.tuples(shares, shares), min_size=1, max_size=8))
def test_the_best_are_beaten_by_none_and_beat_the_rest(places):
    runs = {str(i): [facts(accuracy, worst)] for i, (accuracy, worst) in enumerate(places)}
    best = [places[int(name)] for name in table(runs)["pareto"][0]["best"]]
    assert best
    for place in places:
        assert (place in best) != any(beats(other, place) for other in best)
