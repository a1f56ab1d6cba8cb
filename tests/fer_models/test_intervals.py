import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from fer_models.intervals import (
    auc_interval,
    clopper_pearson,
    corrected,
    critical,
    difference_interval,
    gap_interval,
    group_ratio_interval,
    mean_interval,
    multinomial_correlation,
    newcombe_difference,
    proportion_interval,
    ratio_interval,
    student_interval,
    wilson,
)


def test_critical_values_of_the_normal_distribution():
    assert critical(0.95) == pytest.approx(1.959964, abs=1e-6)
    assert critical(0.99) == pytest.approx(2.575829, abs=1e-6)
    assert corrected(0.95, 10) == pytest.approx(0.995)
    assert corrected(0.95, 0) == 0.95
    with pytest.raises(ValueError, match="level"):
        critical(1)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_limits_printed_by_newcombe_1998(successes, n, low, high):
    """Table I of "Two-sided confidence intervals for the single proportion", method 3."""
    assert wilson(successes, n).round(4).tolist() == [low, high]


def test_wilson_is_vectorised_and_says_nothing_without_rows():
    limits = wilson([[0, 5], [5, 0]], [[0, 5], [5, 5]])
    assert limits.shape == (2, 2, 2)
    assert limits[0, 0].tolist() == [0, 1]
    assert limits[0, 1, 1] == 1.0
    assert limits[1, 1, 0] == 0.0
    for bad in (-1, 6):
        with pytest.raises(ValueError, match="between 0 and n"):
            wilson(bad, 5)


@pytest.mark.parametrize(
    ("a", "n_a", "b", "n_b", "low", "high"),
    [
        (56, 70, 48, 80, 0.0524, 0.3339),
        (9, 10, 3, 10, 0.1705, 0.8090),
        (5, 56, 0, 29, -0.0381, 0.1926),
        (0, 10, 0, 20, -0.1611, 0.2775),
        (10, 10, 0, 20, 0.6791, 1.0000),
        (10, 10, 0, 10, 0.6075, 1.0000),
    ],
)
def test_differences_printed_by_newcombe_1998(a, n_a, b, n_b, low, high):
    """Table II, method 10, examples (a), (c), (e), (f), (g) and (h)."""
    assert newcombe_difference(a, n_a, b, n_b) == pytest.approx((low, high), abs=5.1e-5)


def test_the_gap_of_two_groups_is_newcombes_difference():
    low, high = newcombe_difference(56, 70, 48, 80)
    assert gap_interval([56, 48], [70, 80]) == pytest.approx((low, high))
    assert gap_interval([48, 56], [80, 70]) == pytest.approx((low, high))


def test_the_gap_of_three_groups_by_hand():
    level = corrected(0.95, 3)
    pairs = [newcombe_difference(*a, *b, level) for a, b in [((90, 100), (50, 100)), ((90, 100), (70, 100))]]
    low, high = gap_interval([90, 50, 70], [100, 100, 100])
    assert (low, high) == pytest.approx(pairs[0])
    assert low > pairs[1][0]


def test_a_gap_needs_two_groups_with_rows():
    assert gap_interval([5, 0], [10, 0]) == (0, 1)
    assert gap_interval([], []) == (0, 1)
    assert group_ratio_interval([5, 0], [10, 0]) == (0, 1)
    assert gap_interval([5, 5], [10, 10])[0] == 0


def test_the_mean_of_two_figures_by_hand():
    low, high = mean_interval([0.5, 0.7], [[0.2, 0.9], [0.3, 1.0]])
    assert (low, high) == pytest.approx((0.6 - 0.5 / 2, 0.6 + 0.5 / 2))


def test_a_ratio_by_hand_and_its_reciprocal():
    low, high = ratio_interval(0.5, (0.25, 1.0), 0.5, (0.25, 1.0))
    assert (low, high) == pytest.approx((2 ** -(2**0.5), 2 ** (2**0.5)))
    back = ratio_interval(0.2, (0.1, 0.3), 0.6, (0.4, 0.9))
    there = ratio_interval(0.6, (0.4, 0.9), 0.2, (0.1, 0.3))
    assert back == pytest.approx((1 / there[1], 1 / there[0]))


def test_ratios_with_a_zero_are_wide_and_never_fail():
    assert ratio_interval(0.0, (0.0, 0.2), 0.5, (0.4, 0.6)) == pytest.approx((0, 0.5))
    assert ratio_interval(0.5, (0.4, 0.6), 0.0, (0.0, 0.2)) == (pytest.approx(2), float("inf"))
    assert ratio_interval(0.0, (0.0, 0.0), 0.0, (0.0, 0.0)) == (0, float("inf"))


proportions = st.lists(
    st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), min_size=2, max_size=5
)


@settings(deadline=None, max_examples=30)
@given(proportions)
def test_intervals_contain_their_figures_and_grow_with_the_level(table):
    x, n = np.array(table).T
    p = x / n
    for interval, figure in (
        (gap_interval, np.ptp(p)),
        (group_ratio_interval, p.min() / p.max() if p.any() else 1),
    ):
        low, high = interval(x, n, 0.9)
        assert 0 <= low <= figure + 1e-12
        assert figure - 1e-12 <= high <= 1 + 1e-12
        wider = interval(x, n, 0.99)
        assert wider[0] <= low <= high <= wider[1]
        order = np.random.default_rng(0).permutation(len(x))
        assert interval(x[order], n[order], 0.9) == pytest.approx((low, high))
    low, high = mean_interval(p, wilson(x, n))
    assert -1e-12 <= low <= p.mean() <= high <= 1 + 1e-12


def test_difference_interval_with_given_limits():
    assert difference_interval(0.5, (0.1, 0.8), 0.2, (0.1, 0.5)) == pytest.approx((-0.2, 0.3 + 0.1**0.5))


def test_intervals_of_gap_and_mean_cover_the_truth():
    """500 samples of four groups, without and with a gap: nominal 95 %, standard error 1 %."""
    rng, n = np.random.default_rng(3), np.array([400, 250, 90, 35])
    for p in (np.full(4, 0.8), np.array([0.9, 0.85, 0.8, 0.6])):
        x = rng.binomial(n, p, (500, 4))
        gaps = np.array([gap_interval(row, n) for row in x])
        ratios = np.array([group_ratio_interval(row, n) for row in x])
        means = np.array([mean_interval(row / n, wilson(row, n)) for row in x])
        for limits, truth in ((gaps, np.ptp(p)), (ratios, p.min() / p.max()), (means, p.mean())):
            assert ((limits[:, 0] <= truth) & (truth <= limits[:, 1])).mean() >= 0.93


def test_multinomial_draws_tell_how_figures_vary_together():
    """Two shares of the same rows, p and 1 - p, are opposite; a constant goes with nothing."""
    counts = np.array([60, 40])

    def figures(drawn):
        share = drawn[:, 0] / 100
        return np.stack([share, 1 - share, np.full(len(share), 0.3), np.full(len(share), np.nan)], 1)

    found = multinomial_correlation(counts, figures, seed=1)
    assert found == pytest.approx(np.array([[1, -1, 0, 0], [-1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    halves = np.array([300, 100, 100, 500])

    def classes(drawn):
        return np.stack([drawn[:, 0] / (drawn[:, 0] + drawn[:, 1]), drawn[:, 3] / drawn[:, 2:].sum(1)], 1)

    once = multinomial_correlation(halves, classes, seed=1)
    assert abs(once[0, 1]) < 0.1
    assert np.array_equal(once, multinomial_correlation(halves, classes, seed=1))
    assert not np.array_equal(once, multinomial_correlation(halves, classes, seed=2))


def test_the_mean_of_figures_that_go_together_by_hand():
    """Widths of .1 and .2: apart sqrt(.01 + .04) / 2, together .3 / 2, opposite .1 / 2."""
    figures, limits = [0.5, 0.6], [[0.4, 0.6], [0.4, 0.8]]
    for shared, half in ((0.0, 0.05**0.5 / 2), (1.0, 0.15), (-1.0, 0.05)):
        found = mean_interval(figures, limits, [[1, shared], [shared, 1]])
        assert found == pytest.approx((0.55 - half, 0.55 + half))
    assert mean_interval(figures, limits) == pytest.approx((0.55 - 0.05**0.5 / 2, 0.55 + 0.05**0.5 / 2))


def test_up_to_95_percent_limits_are_wilsons():
    x, n = [0, 3, 100], [100, 100, 100]
    assert proportion_interval(x, n, 0.95).tolist() == wilson(x, n).tolist()
    assert proportion_interval(x, n, 0.5).tolist() == wilson(x, n, 0.5).tolist()


@pytest.mark.parametrize("x", [1, 2, 3, 5, 20, 60, 99])
def test_limits_far_out_are_none_narrower_and_hold_where_wilsons_do_not(x):
    """The chance of x or more at the lower limit should be .0005."""
    (low, high), (loose, tight) = (each(x, 100, 0.999).tolist() for each in (proportion_interval, wilson))
    assert low <= loose < x / 100 < tight <= high
    assert binom.sf(x - 1, 100, low) < max(0.0014, binom.sf(x - 1, 100, loose) / 8)


def test_limits_far_out_know_certainty_and_ignorance():
    assert proportion_interval([0, 5, 0], [5, 5, 0], 0.999)[[0, 1, 2, 2], [0, 1, 0, 1]].tolist() == [
        0,
        1,
        0,
        1,
    ]


def test_wilson_says_too_much_at_strict_levels_as_the_documentation_has_it():
    low = wilson(3, 100, 0.999)[0]
    assert low == pytest.approx(0.0056, abs=5e-5)
    assert binom.sf(2, 100, low) == pytest.approx(0.019, abs=0.001)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2527, 0.3676), (15, 148, 0.0578, 0.1617), (0, 20, 0.0, 0.1684), (1, 29, 0.0009, 0.1776)],
)
def test_exact_limits_printed_by_newcombe_1998(successes, n, low, high):
    """Table I of "Two-sided confidence intervals for the single proportion", method 5."""
    assert np.round(clopper_pearson(successes, n), 4).tolist() == [low, high]


def test_exact_limits_turn_with_the_proportion_and_refuse_impossible_counts():
    low, high = clopper_pearson(3, 10, 0.9)
    assert clopper_pearson(7, 10, 0.9) == pytest.approx((1 - high, 1 - low))
    assert clopper_pearson(0, 0) == (0.0, 1.0)
    assert clopper_pearson(10, 10)[1] == 1.0
    with pytest.raises(ValueError, match="between 0 and n"):
        clopper_pearson(4, 3)


@given(st.floats(0, 1), st.integers(1, 400), st.integers(1, 400))
def test_the_interval_of_an_area_holds_it_and_turns_with_it(auc, positives, negatives):
    low, high = auc_interval(auc, positives, negatives)
    assert 0 <= low <= auc <= high <= 1
    assert auc_interval(1 - auc, positives, negatives) == pytest.approx((1 - high, 1 - low), abs=1e-9)


def test_the_limits_of_an_area_solve_newcombe_s_equation():
    """At a limit t, |auc - t| is z times the deviation of Hanley and McNeil with the mean sample size."""
    auc, m, n = 0.8, 30, 50
    for t in auc_interval(auc, m, n):
        star = (m + n) / 2 - 1
        variance = t * (1 - t) * (1 + star * (1 - t) / (2 - t) + star * t / (1 + t)) / (m * n)
        assert abs(auc - t) == pytest.approx(critical(0.95) * variance**0.5, rel=1e-6)
    assert auc_interval(0.5, 0, 9) == (0.0, 1.0)
    assert np.ptp(auc_interval(0.8, 3000, 5000)) < 0.1 * np.ptp(auc_interval(0.8, 20, 30))


def test_students_interval_of_the_mean():
    """Three figures with deviation 1: t(.975, 2) = 4.3027 (Student's table), over the root of 3."""
    assert student_interval([1, 2, 3]) == pytest.approx((2 - 2.48414, 2 + 2.48414), abs=1e-5)
    assert student_interval([0.5, 0.5]) == (0.5, 0.5)
    with pytest.raises(ValueError, match="one figure"):
        student_interval([0.5])


@pytest.mark.parametrize("k", [2, 5])
def test_students_interval_covers_what_it_says(k):
    drawn = np.random.default_rng(k).normal(3, 2, (4000, k))
    covered = [low <= 3 <= high for low, high in map(student_interval, drawn)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.012)
