"""Verdicts: by intervals, together at their level, and never a pass for a group that nobody saw."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fer_models.counts import Counts
from fer_models.errors import ConfigError
from fer_models.intervals import corrected, newcombe_difference, proportion_interval, wilson
from fer_models.noisy_intervals import Noise
from fer_models.parity import parity
from fer_models.verdicts import METRICS, Rule, judge

LABELS = ("neutral", "fear")


def counts_of(**groups):
    """Counts of attribute ``race`` from one 2 x 2 list a group."""
    tables = np.array(list(groups.values()), np.int64)
    return Counts(LABELS, {"race": tuple(groups)}, tables.sum(0), {"race": tables})


COUNTS = counts_of(a=[[900, 100], [100, 900]], b=[[900, 100], [500, 500]])


def verdict_of(counts, *rule, **more):
    (found,) = judge(counts, [Rule(*rule, **more)])
    return found


@pytest.mark.parametrize(("limit", "expected"), [(0.75, "pass"), (0.8, "not enough data"), (0.85, "fail")])
def test_a_rate_is_limited_from_below_by_its_interval(limit, expected):
    found = verdict_of(COUNTS, "accuracy", limit)
    assert found.verdict == expected
    assert found.figure == 3200 / 4000
    assert found.interval == pytest.approx(wilson(3200, 4000))


@pytest.mark.parametrize(("limit", "expected"), [(0.3, "fail"), (0.4, "not enough data"), (0.5, "pass")])
def test_a_gap_is_limited_from_above_by_its_interval(limit, expected):
    rule = ("equal_opportunity_difference", limit, "race", "fear")
    found = verdict_of(COUNTS, *rule)
    assert found.verdict == expected
    assert found.figure == pytest.approx(0.4)
    assert found.interval == pytest.approx(newcombe_difference(900, 1000, 500, 1000))
    to_b = verdict_of(COUNTS, *rule, reference="b")
    assert (to_b.group, to_b.verdict, to_b.interval) == ("a, b", expected, found.interval)


def test_a_ratio_is_limited_from_below():
    assert verdict_of(COUNTS, "demographic_parity_ratio", 0.9, "race", "fear").verdict == "fail"
    assert verdict_of(COUNTS, "demographic_parity_ratio", 0.5, "race", "fear").verdict == "pass"


def test_every_group_is_held_to_a_limit_of_recall():
    found = judge(COUNTS, [Rule("recall", 0.7, "race", "fear")])
    assert [(each.group, each.verdict) for each in found] == [("a", "pass"), ("b", "fail")]
    assert found[0].interval == pytest.approx(proportion_interval(900, 1000, corrected(0.95, 2)))


def test_a_reference_group_gives_a_verdict_for_every_other():
    counts = counts_of(
        a=[[90, 10], [10, 90]], b=[[90, 10], [60, 40]], undisclosed=[[0, 50], [50, 0]], c=[[9] * 2] * 2
    )
    found = judge(counts, [Rule("equal_opportunity_difference", 0.2, "race", "fear", reference="a")])
    assert [each.group for each in found] == ["b, a", "c, a"]
    assert [each.verdict for each in found] == ["fail", "not enough data"]
    assert found[0].interval == pytest.approx(newcombe_difference(90, 100, 40, 100, corrected(0.95, 2)))


def test_a_group_that_is_too_small_lets_no_gap_pass():
    counts = counts_of(a=[[900, 100], [100, 900]], b=[[900, 100], [100, 900]], c=[[2, 1], [1, 2]])
    rule = ("demographic_parity_difference_worst", 0.2, "race")
    found = verdict_of(counts, *rule)
    assert (found.verdict, found.reason) == ("not enough data", "left out: c: fewer than 10 pictures")
    assert verdict_of(counts, *rule, groups=("a", "b")).verdict == "pass"
    broken = counts_of(a=[[900, 100], [100, 900]], b=[[900, 100], [900, 100]], c=[[2, 1], [1, 2]])
    assert verdict_of(broken, *rule).verdict == "fail"


def test_a_class_that_a_group_hardly_has_lets_no_recall_gap_of_it_pass():
    counts = counts_of(a=[[900, 100], [100, 900]], b=[[900, 100], [1, 4]])
    found = verdict_of(counts, "equal_opportunity_difference", 1.0, "race", "fear")
    assert (found.verdict, found.figure) == ("not enough data", None)
    assert found.reason == "left out: b: fewer than 10 pictures of the class"
    assert verdict_of(counts, "demographic_parity_difference", 1.0, "race", "fear").verdict == "pass"


def test_all_verdicts_hold_together():
    rules = [Rule("accuracy", 0.5), Rule("macro_f1", 0.5), Rule("recall", 0.5, label="fear")]
    assert judge(COUNTS, rules)[0].interval == pytest.approx(
        proportion_interval(3200, 4000, corrected(0.95, 3))
    )


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 60), min_size=8, max_size=8), st.sampled_from(METRICS), st.floats(0, 1))
def test_a_verdict_says_what_its_interval_says(cells, metric, limit):
    tables = np.array(cells).reshape(2, 2, 2)
    counts = counts_of(a=tables[0], b=tables[1])
    gap = metric.endswith(("gap", "difference", "ratio", "worst"))
    label = "fear" if metric in ("recall", "precision", "f1") else ""
    for found in judge(counts, [Rule(metric, limit, "race" if gap else "", label)]):
        if found.verdict == "not enough data":
            assert found.reason
            continue
        low, high = found.interval
        kept = low >= limit if found.rule.bound == "at least" else high <= limit
        assert kept == (found.verdict == "pass")
        assert kept or (high < limit if found.rule.bound == "at least" else low > limit)
        if gap:
            assert found.figure == parity(counts, "race")[metric]


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (Rule("acuracy", 0.5), "unknown 'acuracy'"),
        (Rule("accuracy", 1.5), "no share"),
        (Rule("accuracy", 0.5, "sex"), "unknown 'sex'"),
        (Rule("accuracy", 0.5, "race", "fear"), "takes no class"),
        (Rule("recall", 0.5), "needs a class"),
        (Rule("recall", 0.5, label="joy"), "unknown 'joy'"),
        (Rule("f1", 0.5, "race", "fear"), "not known by group"),
        (Rule("accuracy_gap", 0.5), "needs an attribute"),
        (Rule("accuracy_gap", 0.5, "race", reference="z"), "unknown 'z'"),
        (Rule("accuracy_gap", 0.5, "race", reference="a", groups=("b",)), "leaves its reference out"),
        (Rule("accuracy_gap", 0.5, "race", groups=("b", "b")), "twice"),
        (Rule("accuracy", 0.5, "race", reference="a"), "takes no reference"),
        (Rule("accuracy", 0.5, groups=("a",)), "unknown 'a'"),
    ],
)
def test_rules_that_do_not_fit_are_refused(rule, said):
    with pytest.raises(ConfigError, match=said) as caught:
        judge(COUNTS, [Rule("accuracy", 0.5), rule])
    assert caught.value.where.startswith("rules[1]")
    assert caught.value.cure


def test_nothing_is_decided_on_a_few_people_however_many_rows_they_have():
    rules = [Rule("recall", 0.7, "race", "fear"), Rule("accuracy_gap", 0.01, "race"), Rule("accuracy", 0.5)]
    found = judge(COUNTS, rules, people={"race": {"a": 10, "b": 9}})
    assert [each.verdict for each in found] == ["pass", "not enough data", "not enough data", "pass"]
    assert found[1].reason == found[2].reason == "too few people: b: 9"
    assert [each.figure for each in found] == [each.figure for each in judge(COUNTS, rules)]
    assert [each.verdict for each in judge(COUNTS, rules)] == ["pass", "fail", "fail", "pass"]


def test_noise_widens_what_verdicts_go_by_and_turns_none_around():
    """Whatever the metric, over all, by group, with a reference or between all: hardly any noise changes nothing."""
    rules = [Rule("accuracy", limit) for limit in (0.77, 0.8, 0.85)]
    rules += [Rule("accuracy", 0.7, "race"), Rule("recall", 0.45, "race", "fear"), Rule("macro_f1", 0.7)]
    for gap in ("accuracy_gap", "equal_opportunity_difference", "demographic_parity_difference_worst"):
        label = "fear" if gap == "equal_opportunity_difference" else ""
        rules += [Rule(gap, limit, "race", label) for limit in (0.05, 0.3, 0.6)]
        rules += [Rule(gap, 0.25, "race", label, reference="a")]
    plain = judge(COUNTS, rules)
    for deviation in (1e-9, 8.0, 300.0):
        noisy = judge(COUNTS, rules, noise=Noise(deviation, deviation))
        changed = sum(after.verdict != before.verdict for before, after in zip(plain, noisy, strict=True))
        assert changed == 0 if deviation < 1e-6 else changed > 0
        for before, after in zip(plain, noisy, strict=True):
            assert after.figure == before.figure
            assert after.verdict in (before.verdict, "not enough data")
            assert before.interval is not None and after.interval is not None
            assert after.interval[0] <= before.interval[0] + 1e-9
            assert after.interval[1] >= before.interval[1] - 1e-9
    assert {after.verdict for after in noisy} == {"not enough data"}
