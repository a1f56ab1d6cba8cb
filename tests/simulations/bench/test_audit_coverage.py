from functools import partial

import numpy as np
import pytest

from fer_models.counts import Counts
from fer_models.errors import ConfigError
from fer_models.labels import EXPRESSIONS
from fer_models.metrics import summarise
from fer_models.verdicts import PASS, judge
from simulations.bench import audit_coverage
from simulations.bench.audit import bench
from simulations.bench.audit_coverage import GROUPS, SHARES, Tally, chances, compare, limits_at, study
from simulations.bench.audit_noise import study_noise
from simulations.bench.audit_people import ALL_ALIKE, UNEQUAL, drawn, rows_of, study_people
from simulations.bench.run import Options


@pytest.mark.parametrize("gap", [False, True])
def test_the_chances_are_those_that_are_named(gap):
    truth = chances(gap)
    assert truth.sum() == pytest.approx(1)
    assert truth.sum((1, 2)) == pytest.approx(SHARES)
    recall = np.diagonal(truth, axis1=1, axis2=2) / truth.sum(2)
    assert recall[0, :3] == pytest.approx([0.90, 0.92, 0.75])
    assert recall[3, :3] == pytest.approx(np.array([0.90, 0.92, 0.75]) * (0.8 if gap else 1))
    assert np.ptp(truth.sum(2)[:, 0] / truth.sum((1, 2))) == pytest.approx(0.6 * 0.34 if gap else 0)


@pytest.mark.parametrize("gap", [False, True])
def test_limits_at_the_truth_are_the_figures_of_an_endless_test_set(gap):
    truth = chances(gap)
    table = np.rint(truth * 1e12).astype(np.int64)
    counts = Counts(EXPRESSIONS, {"group": GROUPS}, table.sum(0), {"group": table})
    for rule, verdict in zip(limits_at(truth), judge(counts, limits_at(truth)), strict=True):
        assert verdict.figure == pytest.approx(rule.limit, abs=1e-6)


def test_a_tally_by_hand():
    tally = Tally(test_set="few")
    tally.add("gap", "", 0.0, (0.0, 0.1), nothing=0.0)
    tally.add("gap", "", 0.0, (0.01, 0.1), nothing=0.0)
    tally.add("gap", "", 0.2, (0.3, 0.4), nothing=0.0)
    tally.add("gap", "", 0.2, None, nothing=0.0)
    tally.judged({PASS})
    assert tally.held == {("gap", "", "few"): [1, 3]}
    assert tally.alarms == {("gap", "", "few"): [1, 2]}
    assert tally.verdicts == {("fail", "", "few"): [0, 1], ("pass", "", "few"): [1, 1]}


def test_every_figure_of_an_endless_test_set_is_held():
    """So the true figures are those that the audit is about, and none is compared with another's."""
    truth = chances(gap=True)
    tally, table = Tally(), np.rint(truth * 1e12).astype(np.int64)
    counts = Counts(EXPRESSIONS, {"group": GROUPS}, table.sum(0), {"group": table})
    compare(tally, truth, counts, limits_at(truth))
    assert {held for held, _ in tally.held.values()} == {1}
    assert len({kind for kind, *_ in tally.held}) == 25


def test_intervals_hold_and_alarms_are_rare_in_a_small_study():
    """One draw more or less changes the smallest kinds by .0125; the benchmark has the figures."""
    found = study(draws=20)
    assert found["coverage"] >= 0.91
    assert found["false_alarm"] <= 0.1
    assert found["false_fail"] + found["false_pass"] <= 0.1
    assert found["coverage_single"] < found["coverage"]


def test_the_study_tells_of_intervals_that_are_too_narrow(monkeypatch):
    monkeypatch.setattr(audit_coverage, "summarise", partial(summarise, level=0.5))
    found = study(draws=5)
    assert 0.4 < found["coverage.group recall"] < 0.7
    assert found["false_alarm"] > 0.2


def test_people_are_drawn_around_the_chances():
    rng, truth = np.random.default_rng(0), chances(gap=True)
    sets = [drawn(rng, truth) for _ in range(40)]
    mean = sum(each.overall for each in sets) / sum(each.rows for each in sets)
    assert mean == pytest.approx(truth.sum(0), abs=0.01)
    shares = [each.effect().share("accuracy")[0, 0] for each in sets]
    assert 0.1 < np.mean(shares) < 0.5


def test_people_have_as_many_rows_as_their_kind_says():
    rng, truth = np.random.default_rng(1), chances(gap=False)
    many, few = (np.bincount(rows_of(rng, truth, kind).person) for kind in (ALL_ALIKE, UNEQUAL))
    assert (len(many), set(many.tolist())) == (90, {34})
    assert (len(few), few.min()) == (300, 1)
    assert few.mean() == pytest.approx(10, abs=2)
    assert few.std() > 5


def test_intervals_over_people_hold_in_a_small_study():
    found = study_people(draws=10)
    assert found["people.coverage"] >= 0.88
    assert found["people.false_alarm"] <= 0.1
    assert found["people.coverage_row_wise"] < 0.85
    assert 0.95 < found["people.width_over_bootstrap"] < 1.15, (
        "the closed form is what a bootstrap of people comes to"
    )
    assert 0.8 < found["people.bootstrap_coverage"] <= 1
    assert found["people.bootstrap_false_alarm"] == 1, "its percentiles of max - min never hold 0"


def test_intervals_of_noisy_counts_hold_in_a_small_study(monkeypatch):
    found = study_noise(draws=20)
    assert found["noise.coverage"] >= 0.91
    assert found["noise.false_alarm"] <= 0.1
    assert found["noise.false_fail"] + found["noise.false_pass"] <= 0.1
    for kind in ("", " mean", " worst"):
        assert found[f"noise.coverage.demographic_parity_ratio{kind}"] >= 0.95, "they are cautious"
        assert found[f"noise.false_alarm.demographic_parity_ratio{kind}"] <= 0.1
    monkeypatch.setattr(audit_coverage, "figures_with_noise", lambda figures, counts, noise: figures)
    assert study_noise(draws=5)["noise.coverage"] < 0.8


def test_one_part_is_measured_alone():
    found = bench(Options(overrides=["draws=2", "part=people"]))
    assert found.keys() == study_people(2).keys()


@pytest.mark.parametrize("word", ["draws=0", "draws=some", "rows=5", "part=all", "part="])
def test_the_benchmark_takes_draws_only(word):
    with pytest.raises(ConfigError, match="bench audit takes no"):
        bench(Options(overrides=[word]))
