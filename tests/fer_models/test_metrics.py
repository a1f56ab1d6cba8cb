"""Figures by hand, and parity against Fairlearn on rows."""

import json
from typing import Any

import fairlearn.metrics as fair
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, precision_recall_fscore_support

from fer_models import metrics
from fer_models.counts import Counts
from fer_models.intervals import corrected, gap_interval, newcombe_difference, proportion_interval, wilson
from fer_models.parity import SMALLEST, occurring, one_vs_rest, parity

LABELS = ("neutral", "happiness", "fear")


def by_hand():
    """100 rows: neutral 60 (54 right), happiness 30 (24 right), fear 10 (2 right)."""
    overall = np.array([[54, 6, 0], [6, 24, 0], [5, 3, 2]])
    old = np.array([[20, 5, 0], [5, 8, 0], [2, 0, 0]])
    groups = {"age": ("old", "young", "undisclosed")}
    young = np.array([[30, 1, 0], [1, 16, 0], [1, 2, 1]])
    return Counts(LABELS, groups, overall, {"age": np.stack([old, young, overall - old - young])})


def test_figures_by_hand():
    counts = by_hand()
    assert metrics.accuracy(counts) == pytest.approx(0.80)
    assert metrics.recall(counts) == pytest.approx({"neutral": 0.9, "happiness": 0.8, "fear": 0.2})
    assert metrics.precision(counts) == pytest.approx({"neutral": 54 / 65, "happiness": 24 / 33, "fear": 1})
    assert metrics.f1(counts) == pytest.approx({"neutral": 108 / 125, "happiness": 48 / 63, "fear": 4 / 12})
    assert metrics.balanced_accuracy(counts) == pytest.approx(1.9 / 3)
    assert metrics.worst_recall(counts) == (pytest.approx(0.2), "fear")
    assert metrics.support(counts) == {"neutral": 60, "happiness": 30, "fear": 10}
    assert metrics.minority_classes(counts) == ("fear",)
    assert metrics.minority_recall(counts) == pytest.approx(0.2)


def test_minority_classes_are_below_half_the_uniform_share_or_the_rarest():
    def of(*support):
        return Counts(tuple("abcd"), {}, np.diag(support), {})

    assert metrics.minority_classes(of(80, 9, 10, 1)) == ("b", "c", "d")
    assert metrics.minority_classes(of(40, 20, 20, 20)) == ("b", "c", "d")
    assert metrics.minority_classes(of(40, 30, 20, 10)) == ("d",)
    assert metrics.minority_classes(of(88, 12, 0, 0)) == ("b",)
    assert metrics.minority_classes(of(0, 0, 0, 0)) == ()


def test_classes_that_do_not_occur_have_no_recall_and_enter_no_mean():
    counts = Counts.of([0, 0, 1], [0, 1, 1], LABELS)
    assert metrics.recall(counts) == {"neutral": 0.5, "happiness": 1.0, "fear": None}
    assert metrics.balanced_accuracy(counts) == 0.75
    summary = metrics.summarise(counts)
    assert summary["recall_interval"]["fear"] is summary["f1"]["fear"] is summary["precision"]["fear"] is None


def test_intervals_by_hand():
    summary = metrics.summarise(by_hand())
    assert summary["accuracy_interval"] == wilson(80, 100).tolist()
    assert summary["recall_interval"]["fear"] == wilson(2, 10).tolist()
    assert summary["precision_interval"]["neutral"] == wilson(54, 65).tolist()
    together = proportion_interval([54, 24, 2], [60, 30, 10], corrected(0.95, 3))
    assert summary["worst_recall_interval"] == together[2].tolist()
    assert summary["minority_recall_interval"] == pytest.approx(wilson(2, 10).tolist())
    low, high = wilson(24, 39)
    assert summary["f1_interval"]["happiness"] == pytest.approx([2 * low / (1 + low), 2 * high / (1 + high)])
    low, high = summary["macro_f1_interval"]
    assert low < summary["macro_f1"] < high
    assert metrics.summarise(by_hand(), level=0.5)["accuracy_interval"] == wilson(80, 100, 0.5).tolist()


def test_demographic_parity_by_hand():
    """Old: 27, 13, 0 of 40 are called neutral, happiness, fear. Young: 32, 19, 1 of 52."""
    age = parity(by_hand(), "age")
    neutral = age["per_class"]["neutral"]
    assert neutral["demographic_parity_difference"] == pytest.approx(27 / 40 - 32 / 52)
    assert neutral["demographic_parity_difference_interval"] == pytest.approx(
        gap_interval([27, 32], [40, 52])
    )
    assert age["per_class"]["fear"]["demographic_parity_ratio"] == 0
    gaps = [27 / 40 - 32 / 52, 19 / 52 - 13 / 40, 1 / 52]
    assert age["demographic_parity_difference"] == pytest.approx(np.mean(gaps))
    assert age["demographic_parity_difference_worst"] == pytest.approx(27 / 40 - 32 / 52)
    assert age["demographic_parity_difference_worst_class"] == "neutral"
    assert age["demographic_parity_ratio_worst"] == 0
    assert age["demographic_parity_ratio_worst_class"] == "fear"
    strict = [gap_interval(x, [40, 52], corrected(0.95, 3)) for x in ([27, 32], [13, 19], [0, 1])]
    assert age["demographic_parity_difference_interval"] == pytest.approx(np.mean(strict, 0))
    assert age["demographic_parity_difference_worst_interval"] == pytest.approx(np.max(strict, 0))


def test_odds_and_accuracy_gap_by_hand():
    age = parity(by_hand(), "age")
    neutral, happiness, fear = (age["per_class"][name] for name in LABELS)
    assert neutral["equal_opportunity_difference"] == pytest.approx(30 / 31 - 20 / 25)
    assert neutral["equalized_odds_difference"] == pytest.approx(7 / 15 - 2 / 21)
    assert happiness["equal_opportunity_difference"] == pytest.approx(16 / 17 - 8 / 13)
    assert fear["equalized_odds_difference"] is fear["equal_opportunity_difference_interval"] is None
    assert age["equalized_odds_difference"] == pytest.approx(np.mean([7 / 15 - 2 / 21, 16 / 17 - 8 / 13]))
    assert age["accuracy_gap"] == pytest.approx(47 / 52 - 28 / 40)
    assert age["accuracy_gap_interval"] == pytest.approx(newcombe_difference(47, 52, 28, 40))


def test_parity_of_the_labels_by_hand():
    """Labels of the old: 25, 13, 2 of 40. Of the young: 31, 17, 4 of 52."""
    labels = parity(by_hand(), "age")["labels"]
    assert labels["demographic_parity_difference"] == pytest.approx(
        np.mean([25 / 40 - 31 / 52, 17 / 52 - 13 / 40, 4 / 52 - 2 / 40])
    )
    assert labels["per_class"]["fear"]["demographic_parity_ratio"] == pytest.approx((2 / 40) / (4 / 52))


def test_groups_that_are_left_out_are_named_and_small_ones_marked():
    age = parity(by_hand(), "age")
    hidden = age["groups"]["undisclosed"]
    assert (hidden["n"], hidden["accuracy"], hidden["suppressed"], hidden["compared"]) == (
        8,
        None,
        True,
        False,
    )
    assert set(hidden["recall"].values()) == set(hidden["selection_rate_interval"].values()) == {None}
    old = age["groups"]["old"]
    assert (old["n"], old["weak"], old["suppressed"], old["compared"]) == (40, False, False, True)
    assert old["accuracy"] == pytest.approx(28 / 40)
    assert old["recall"] == {"neutral": 20 / 25, "happiness": pytest.approx(8 / 13), "fear": None}
    assert old["label_rate"]["fear"] == pytest.approx(2 / 40)
    left_out = {(row["group"], row["class"], row["n"], row["reason"]) for row in age["excluded"]}
    assert left_out == {
        ("undisclosed", None, 8, "fewer than 10 pictures"),
        ("old", "fear", 2, "fewer than 10 pictures of the class"),
        ("young", "fear", 4, "fewer than 10 pictures of the class"),
    }


def grouped(tables):
    """Counts of one attribute from a table a group."""
    stack = np.array(list(tables.values()))
    return Counts(("no", "yes"), {"group": tuple(tables)}, stack.sum(0), {"group": stack})


def test_undisclosed_is_shown_and_compared_only_on_request():
    counts = grouped({"a": [[20, 0], [0, 20]], "b": [[20, 0], [0, 20]], "undisclosed": [[0, 20], [20, 0]]})
    default, with_them = parity(counts, "group"), parity(counts, "group", undisclosed=True)
    assert default["accuracy_gap"] == 0
    assert with_them["accuracy_gap"] == 1
    assert default["groups"]["undisclosed"]["accuracy"] == 0
    assert default["excluded"][0]["reason"] == "not disclosed, shown but not compared"
    assert with_them["excluded"] == []
    assert metrics.headline(counts, undisclosed=True)["parity"]["group"] == 0


def test_reasons_of_exclusion():
    counts = grouped(
        {
            "even": [[20, 0], [0, 20]],
            "all no": [[20, 0], [0, 0]],
            "mostly yes": [[3, 0], [0, 20]],
            "tiny": [[5, 0], [0, 4]],
            "empty": [[0, 0], [0, 0]],
        }
    )
    assert [(row["group"], row["class"], row["reason"]) for row in parity(counts, "group")["excluded"]] == [
        ("all no", "no", "no pictures of other classes"),
        ("all no", "yes", "no pictures of the class"),
        ("mostly yes", "no", "fewer than 10 pictures of the class"),
        ("mostly yes", "yes", "fewer than 10 pictures of other classes"),
        ("tiny", None, "fewer than 10 pictures"),
        ("empty", None, "no pictures"),
    ]


def test_a_group_without_a_class_is_no_gap_of_one():
    """On rows Fairlearn gives it a true positive rate of 0."""
    true, sex = np.repeat([1, 0, 0], 20), np.repeat(["a", "a", "b"], 20)
    assert fair.equalized_odds_difference(true, true, sensitive_features=sex) == 1.0
    figures = parity(Counts.of(true, true, ("no", "yes"), {"sex": sex}), "sex")
    assert figures["equalized_odds_difference"] is None
    assert figures["demographic_parity_difference"] == pytest.approx(0.5)


def test_ratios_of_zero_by_zero_are_one_and_of_zero_by_more_zero():
    counts = Counts.of(
        np.tile([0, 1, 2], 20),
        np.r_[np.zeros(55, int), np.ones(5, int)],
        LABELS,
        {"sex": np.repeat(["a", "b"], 30)},
    )
    per_class = parity(counts, "sex")["per_class"]
    assert per_class["fear"]["demographic_parity_ratio"] == 1.0
    assert per_class["fear"]["demographic_parity_difference"] == 0.0
    assert per_class["happiness"]["demographic_parity_ratio"] == 0.0


@pytest.mark.parametrize("groups", [{}, {"age": ("old", "undisclosed")}])
def test_no_rows_and_one_group_give_none_not_a_crash(groups):
    empty = metrics.summarise(Counts.zero(LABELS, groups))
    assert empty["accuracy"] is empty["accuracy_interval"] is empty["macro_f1_interval"] is None
    assert empty["worst_class"] is empty["minority_recall"] is None
    for figures in empty["parity"].values():
        assert figures["demographic_parity_difference"] is figures["accuracy_gap"] is None
    json.dumps(empty, allow_nan=False)


def test_figures_of_one_group_are_not_enough_data():
    figures = parity(Counts.of([0, 1] * 20, [0, 1] * 20, LABELS, {"sex": np.full(40, "a")}), "sex")
    assert figures["demographic_parity_ratio"] is figures["equalized_odds_difference_worst_class"] is None
    assert figures["labels"]["demographic_parity_difference"] is None
    assert figures["groups"]["a"]["accuracy"] == 1


@st.composite
def random_rows(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    classes, groups, n = draw(st.integers(2, 6)), draw(st.integers(2, 4)), draw(st.integers(60, 400))
    prior = rng.dirichlet(np.full(classes, 0.7))
    true = rng.choice(classes, n, p=prior)
    predicted = np.where(rng.random(n) < rng.random(), true, rng.choice(classes, n, p=prior))
    group = rng.choice(groups, n, p=rng.dirichlet(np.full(groups, 2.0)))
    return true, predicted, np.array([f"group {i}" for i in group]), tuple("abcdef"[:classes])


def fairlearn_on_rows(name, true, predicted, group, label):
    """One Fairlearn figure of a binarised class, on rows of the groups that the rules admit."""
    y, p, kept = true == label, predicted == label, []
    for value in np.unique(group):
        own = y[group == value]
        enough = min(own.sum(), (~own).sum()) >= SMALLEST if name.startswith("equal") else True
        kept += [value] if len(own) >= SMALLEST and enough else []
    if len(kept) < 2:
        return None
    rows = np.isin(group, kept)
    if name.endswith("ratio") and not p[rows].any():
        return 1.0
    return getattr(fair, name)(y[rows].astype(int), p[rows].astype(int), sensitive_features=group[rows])


def assert_equal_trees(found, expected):
    assert type(found) is type(expected)
    if isinstance(found, dict):
        assert list(found) == list(expected)
        for key, value in found.items():
            assert_equal_trees(value, expected[key])
    else:
        assert found == (pytest.approx(expected, abs=1e-12) if isinstance(found, float) else expected)


@settings(deadline=None, max_examples=10)
@given(random_rows())
def test_parity_from_counts_equals_fairlearn_on_rows(rows):
    true, predicted, group, labels = rows
    counts = Counts.of(true, predicted, labels, {"group": group})
    summary = metrics.summarise(counts)
    figures = summary["parity"]["group"]
    for name in (
        "demographic_parity_difference",
        "demographic_parity_ratio",
        "equalized_odds_difference",
        "equal_opportunity_difference",
    ):
        per_class = {
            labels[c]: fairlearn_on_rows(name, true, predicted, group, c)
            for c in np.union1d(true, predicted).tolist()
        }
        assert {k: v[name] for k, v in figures["per_class"].items()} == pytest.approx(per_class, abs=1e-12)
        known = [value for value in per_class.values() if value is not None]
        worst = min if name.endswith("ratio") else max
        assert figures[name] == pytest.approx(np.mean(known) if known else None, abs=1e-12)
        assert figures[f"{name}_worst"] == pytest.approx(worst(known, default=None), abs=1e-12)
    closed = metrics.summarise(counts, fairlearn=False)["parity"]["group"]
    assert_equal_trees(closed, figures)
    live = metrics.headline(counts)
    assert live["parity"]["group"] == pytest.approx(figures["demographic_parity_difference"], abs=1e-12)
    json.dumps(summary, allow_nan=False)


@settings(deadline=None, max_examples=6)
@given(random_rows())
def test_label_parity_equals_fairlearn_on_the_labels(rows):
    true, predicted, group, labels = rows
    figures = parity(Counts.of(true, predicted, labels, {"group": group}), "group")["labels"]["per_class"]
    for c in np.unique(true).tolist():
        for name in ("demographic_parity_difference", "demographic_parity_ratio"):
            rows_figure = fairlearn_on_rows(name, true, true, group, c)
            assert figures[labels[c]][name] == pytest.approx(rows_figure, abs=1e-12)


@settings(deadline=None, max_examples=20)
@given(random_rows())
def test_overall_figures_equal_scikit_learn(rows):
    true, predicted, _, labels = rows
    counts, present = Counts.of(true, predicted, labels), np.unique(true)
    named = {labels[c]: c for c in present.tolist()}
    options: dict[str, Any] = {"labels": list(named.values()), "average": None, "zero_division": np.nan}
    theirs = precision_recall_fscore_support(true, predicted, **options)
    for ours, scores in zip((metrics.precision, metrics.recall, metrics.f1), theirs[:3], strict=True):
        figures = ours(counts)
        known = [None if np.isnan(score) else score for score in np.asarray(scores).tolist()]
        expected = dict(zip(named, known, strict=True))
        assert {name: figures[name] for name in named} == pytest.approx(expected, abs=1e-12)
    if len(present) > 1 and set(predicted) <= set(true):
        assert metrics.balanced_accuracy(counts) == pytest.approx(balanced_accuracy_score(true, predicted))


@settings(deadline=None, max_examples=6)
@given(random_rows())
def test_every_interval_contains_its_figure(rows):
    true, predicted, group, labels = rows

    def check(tree):
        for key, value in tree.items():
            if isinstance(value, dict) and f"{key}_interval" in tree:
                check(value | {f"{name}_interval": pair for name, pair in tree[f"{key}_interval"].items()})
            elif isinstance(value, dict) and not key.endswith("_interval"):
                check(value)
            elif f"{key}_interval" in tree:
                limits = tree[f"{key}_interval"]
                assert (value is None) == (limits is None), key
                assert value is None or limits[0] - 1e-12 <= value <= limits[1] + 1e-12, key

    check(metrics.summarise(Counts.of(true, predicted, labels, {"group": group}), level=0.8))


def test_one_vs_rest_keeps_every_row():
    table = by_hand().by_group["age"]
    binary = one_vs_rest(table, 1)
    assert binary[0].tolist() == [[22, 5], [5, 8]]
    assert binary[0, 1].tolist() == [5, 8]
    assert binary.sum((1, 2)).tolist() == table.sum((1, 2)).tolist()
    assert occurring(by_hand()) == [0, 1, 2]


def test_the_spread_over_sites_by_hand():
    def site(right, rows):
        return Counts.of(np.zeros(rows, int), np.r_[np.zeros(right, int), np.ones(rows - right, int)], LABELS)

    spread = metrics.across_sites([site(9, 10), site(0, 0), site(3, 10), site(6, 10)])
    assert spread["sites"] == 3
    assert spread["accuracy"] == pytest.approx(
        {
            "minimum": 0.3,
            "mean": 0.6,
            "deviation": 0.06**0.5,
            "gini": (2 * 0.3 * 2 + 2 * 0.6) / (2 * 9 * 0.6),
            "worst_site": 2,
        }
    )
    assert spread["balanced_accuracy"] == spread["accuracy"]
    assert metrics.across_sites([site(0, 4)])["accuracy"]["gini"] is None
    assert metrics.across_sites([])["accuracy"]["minimum"] is None


def test_a_picture_judged_by_four_models_counts_once_in_intervals():
    once, sum_of_four = by_hand(), by_hand() + by_hand() + by_hand() + by_hand()
    assert metrics.summarise(sum_of_four, repeats=4) == metrics.summarise(once)
    narrow, wide = (metrics.summarise(sum_of_four, repeats=n)["accuracy_interval"] for n in (1, 4))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
