"""Confidence intervals of proportions, of their differences, ratios and means, and of gaps between groups.

All but one are closed forms built on Wilson's interval by the method of variance estimates recovery
(MOVER): they hold at 0 of n and n of n, where the bootstrap gives an interval of no width. A percentile
bootstrap of max - min never covers 0 when there is no gap, so gaps use pairwise intervals instead.

References
----------
Brown, Cai and DasGupta, "Interval estimation for a binomial proportion", Statistical Science 16, 2001.
Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927.
Newcombe, "Interval estimation for the difference between independent proportions: comparison of eleven
methods", Statistics in Medicine 17, 1998.
Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial",
Biometrika 26, 1934.
Newcombe, "Confidence intervals for an effect size measure based on the Mann-Whitney statistic. Part 2:
asymptotic methods and evaluation", Statistics in Medicine 25, 2006.
Student, "The probable error of a mean", Biometrika 6, 1908.
Zou and Donner, "Construction of confidence limits about effect measures: a general approach", Statistics in
Medicine 27, 2008.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv, stdtrit

Interval = tuple[float, float]
"""Lower and upper limit."""

USUAL = 0.95 + 1e-9
"""Up to here Wilson's limits hold for rare events, too."""


def critical(level: float) -> float:
    """Return z with P(\\|Z\\| <= z) = ``level`` for a standard normal Z; 1.96 for .95."""
    if not 0 < level < 1:
        raise ValueError(f"a level lies between 0 and 1, not at {level}")
    return NormalDist().inv_cdf(1 - (1 - level) / 2)


def corrected(level: float, comparisons: int) -> float:
    """Return the level of each of several intervals that all hold at ``level`` (Bonferroni)."""
    return 1 - (1 - level) / max(comparisons, 1)


def wilson(successes: ArrayLike, n: ArrayLike, level: float = 0.95) -> NDArray[np.float64]:
    """Return Wilson's score interval of a proportion.

    Parameters
    ----------
    successes, n : counts of any matching shapes, 0 <= successes <= n; need not be whole.

    Returns
    -------
    float64 (..., 2), low and high in [0, 1]; (0, 1) where n is 0.
    """
    x, total = np.broadcast_arrays(np.asarray(successes, np.float64), np.asarray(n, np.float64))
    if np.any(x < 0) or np.any(x > total):
        raise ValueError("successes lie between 0 and n")
    z2 = critical(level) ** 2
    safe = np.where(total > 0, total, 1)
    p = x / safe
    centre = (p + z2 / (2 * safe)) / (1 + z2 / safe)
    half = np.sqrt(z2 * (p * (1 - p) / safe + z2 / (4 * safe**2))) / (1 + z2 / safe)
    low = np.where(x == 0, 0.0, centre - half)
    high = np.where(x == total, 1.0, centre + half)
    return np.stack([low, high], -1)


def proportion_interval(successes: ArrayLike, n: ArrayLike, level: float = 0.95) -> NDArray[np.float64]:
    """Return the interval of a proportion at any level: Wilson's up to 95 %, beyond it none narrower.

    Intervals that hold together have limits far out in the tails, where Wilson's are too narrow for rare events: at
    a level of .999 its lower limit for 3 of 100 is .0056, where three or more happen with 1.9 % instead of .05 %.
    Beyond 95 % the limits are the wider of Wilson's and those of the beta distribution with Jeffreys's prior (Brown,
    Cai and DasGupta 2001). Parameters and return value as for :func:`wilson`.
    """
    limits = wilson(successes, n, level)
    if level <= USUAL:
        return limits
    x, total = np.broadcast_arrays(np.asarray(successes, np.float64), np.asarray(n, np.float64))
    a, b, tail = x + 0.5, total - x + 0.5, (1 - level) / 2
    low = np.minimum(limits[..., 0], betaincinv(a, b, tail))
    high = np.maximum(limits[..., 1], betaincinv(a, b, 1 - tail))
    return np.stack([np.where(x == 0, 0.0, low), np.where(x == total, 1.0, high)], -1)


def clopper_pearson(successes: int, n: int, level: float = 0.95) -> Interval:
    """Return the exact interval of a proportion, which covers it at least with probability ``level``.

    Wider than Wilson's: for claims that must not be made too often. (0, 1) where n is 0.
    """
    if not 0 <= successes <= n:
        raise ValueError("successes lie between 0 and n")
    tail = (1 - level) / 2
    low = float(betaincinv(successes, n - successes + 1, tail)) if successes else 0.0
    high = float(betaincinv(successes + 1, n - successes, 1 - tail)) if successes < n else 1.0
    return low, high


def auc_interval(auc: float, positives: int, negatives: int, level: float = 0.95) -> Interval:
    """Return the interval of the area under an ROC curve: Newcombe (2006), method 5.

    The limits are the areas from which ``auc`` lies z deviations away, a deviation being that of Hanley and McNeil
    (1982) with both sample sizes set to their mean. (0, 1) without positives or negatives.
    """
    if not positives or not negatives:
        return 0.0, 1.0
    z2, share = critical(level) ** 2, (positives + negatives) / 2 - 1

    def outside(area: float) -> bool:
        spread = 1 + share * ((1 - area) / (2 - area) + area / (1 + area))
        return (auc - area) ** 2 > z2 * area * (1 - area) * spread / (positives * negatives)

    def limit(far: float) -> float:
        near = auc
        if not outside(far):
            return far
        for _ in range(60):
            middle = (near + far) / 2
            near, far = (near, middle) if outside(middle) else (middle, far)
        return near

    return limit(0.0), limit(1.0)


def difference_interval(a: float, limits_a: Interval, b: float, limits_b: Interval) -> Interval:
    """Return the interval of a - b from independent figures and their own intervals (MOVER).

    For proportions with Wilson's intervals this is method 10 of Newcombe (1998).
    """
    low = a - b - float(np.hypot(a - limits_a[0], limits_b[1] - b))
    high = a - b + float(np.hypot(limits_a[1] - a, b - limits_b[0]))
    return low, high


def ratio_interval(a: float, limits_a: Interval, b: float, limits_b: Interval) -> Interval:
    """Return the interval of a / b from independent figures >= 0 and their intervals (MOVER of the logs).

    Where a or b is 0 its logarithm does not exist, and the limits are those of the two intervals taken
    together: wider, never narrower. The upper limit is infinite where b may be 0.
    """
    if a <= 0 or b <= 0 or limits_a[0] <= 0 or limits_b[0] <= 0:
        high = limits_a[1] / limits_b[0] if limits_b[0] > 0 else float("inf")
        return limits_a[0] / limits_b[1] if limits_b[1] > 0 else 0.0, high
    log_a, log_b = np.log([a, *limits_a]), np.log([b, *limits_b])
    low, high = difference_interval(log_a[0], (log_a[1], log_a[2]), log_b[0], (log_b[1], log_b[2]))
    return float(np.exp(low)), float(np.exp(high))


def mean_interval(figures: ArrayLike, limits: ArrayLike, correlation: ArrayLike | None = None) -> Interval:
    """Return the interval of the mean of K figures (K,) with intervals (K, 2) (MOVER).

    Parameters
    ----------
    correlation : of the figures (K, K); by default they are independent.
    """
    figure, limit = np.asarray(figures, np.float64), np.asarray(limits, np.float64)
    mean, k = float(figure.mean()), len(figure)
    together = np.eye(k) if correlation is None else np.asarray(correlation, np.float64)
    below, above = figure - limit[:, 0], limit[:, 1] - figure
    low, high = (float(np.sqrt(max(side @ together @ side, 0.0))) / k for side in (below, above))
    return mean - low, mean + high


def student_interval(figures: ArrayLike, level: float = 0.95) -> Interval:
    """Return Student's t interval of the mean that K >= 2 independent figures (K,) are drawn around.

    For what differs from run to run, such as the differences of two methods over paired seeds.
    """
    drawn = np.asarray(figures, np.float64)
    k = len(drawn)
    if k < 2:
        raise ValueError("one figure says nothing about how figures differ")
    half = float(stdtrit(k - 1, 1 - (1 - level) / 2) * drawn.std(ddof=1) / np.sqrt(k))
    return float(drawn.mean()) - half, float(drawn.mean()) + half


def newcombe_difference(
    successes_a: float, n_a: float, successes_b: float, n_b: float, level: float = 0.95
) -> Interval:
    """Return the interval of p_a - p_b for independent proportions: Newcombe (1998), method 10.

    Both n are at least 1. Beyond 95 % with :func:`proportion_interval` in the place of Wilson's.
    """
    limits = proportion_interval([successes_a, successes_b], [n_a, n_b], level)
    (low_a, high_a), (low_b, high_b) = limits.tolist()
    return difference_interval(successes_a / n_a, (low_a, high_a), successes_b / n_b, (low_b, high_b))


def gap_interval(successes: ArrayLike, n: ArrayLike, level: float = 0.95) -> Interval:
    """Return the interval of max - min over G groups' proportions.

    Newcombe's intervals of all pairs of groups hold together at ``level`` (Bonferroni). The gap is at least
    the largest difference that they prove, and at most the largest that they allow.

    Parameters
    ----------
    successes, n : counts (G,). Groups with n = 0 are left out; with fewer than two groups nothing is known
        and the interval is (0, 1).
    """
    x, total = np.asarray(successes, np.float64), np.asarray(n, np.float64)
    x, total = x[total > 0], total[total > 0]
    pairs = np.array(list(combinations(range(len(total)), 2)), int).reshape(-1, 2)
    if not len(pairs):
        return 0.0, 1.0
    limits, p = proportion_interval(x, total, corrected(level, len(pairs))), x / total
    (i, j), low, high = pairs.T, limits[:, 0], limits[:, 1]
    below = p[i] - p[j] - np.hypot(p[i] - low[i], high[j] - p[j])
    above = p[i] - p[j] + np.hypot(high[i] - p[i], p[j] - low[j])
    return max(0.0, float(np.maximum(below, -above).max())), float(np.maximum(-below, above).max())


def group_ratio_interval(successes: ArrayLike, n: ArrayLike, level: float = 0.95) -> Interval:
    """Return the interval of min / max over G groups' proportions, in [0, 1].

    As :func:`gap_interval`, with the ratios of all pairs by :func:`ratio_interval`.
    """
    x, total = np.asarray(successes, np.float64), np.asarray(n, np.float64)
    x, total = x[total > 0], total[total > 0]
    pairs = list(combinations(range(len(total)), 2))
    limits = proportion_interval(x, total, corrected(level, len(pairs))).tolist()
    p = (x / total).tolist()
    low, high = 0.0 if not pairs else 1.0, 1.0
    for i, j in pairs:
        for a, b in ((i, j), (j, i)):
            below, above = ratio_interval(p[a], tuple(limits[a]), p[b], tuple(limits[b]))
            low, high = min(low, below), min(high, above)
    return low, high


def multinomial_correlation(
    counts: ArrayLike,
    statistics: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    draws: int = 1000,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Return how K smooth figures of the same counts vary together, over multinomial draws of the cells.

    For :func:`mean_interval` of figures that share rows, such as the F1 of all classes.

    Parameters
    ----------
    counts : counts of any shape with a sum above 0.
    statistics : maps float64 (draws, \\*shape) to float64 (draws, K); NaN where a draw has no figure.
    seed : of the draws; equal seeds give equal correlations.

    Returns
    -------
    float64 (K, K), ones on the diagonal; 0 for a figure that does not vary.
    """
    cells = np.asarray(counts, np.float64)
    total = cells.sum()
    drawn = np.random.default_rng(seed).multinomial(round(total), cells.ravel() / total, draws)
    figures = np.ma.masked_invalid(statistics(drawn.reshape(draws, *cells.shape).astype(np.float64)))
    apart = (figures - figures.mean(0)).filled(0.0)
    spread = np.sqrt((apart**2).sum(0))
    spread[spread < 1e-12] = np.inf
    correlation = (apart.T @ apart) / np.outer(spread, spread)
    np.fill_diagonal(correlation, 1.0)
    return correlation
