"""Lower bounds of epsilon from what an attack got right: pure statistics over counts.

Steinke, Nasr and Jagielski, "Privacy auditing with one (1) training run", NeurIPS 2023 (arXiv:2305.08846). Of m
canaries each is in the data by the toss of a fair coin. From what was released, an attack guesses some coins and
abstains from the others. If the release is (epsilon, delta)-DP with regard to one canary, it is hardly right more
often than randomized response would be.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import binom

from fer_models.intervals import clopper_pearson

FEW_GUESSES = 100
"""Guesses that gave the best bound for honest noise at epsilon 3 to 8, whatever the number of canaries."""

SURE = 0.7
"""Share of the canaries that are expected to be in and to join a batch, of which "in" is said: most, not all."""

WAYS = 4
"""Numbers of guesses that are tried: among them the chance of error is divided (Bonferroni)."""

MOST_CANARIES = 1 << 17
"""Canaries beyond which more are not asked for."""

PRECISION = 1e-6
"""Width at which the search for epsilon ends."""


def p_value(canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """Return how likely at least ``correct`` right guesses are, at most, if the release is (epsilon, delta)-DP.

    Theorem 5.2 of Steinke et al. (2023), for 0 <= correct <= guesses <= canaries. With W binomial over ``guesses``
    trials of probability e^epsilon / (1 + e^epsilon), it is

        P(W >= correct) + 2 canaries delta max_i P(correct > W >= correct - i) / i.

    Wrong guesses are counted instead of right ones, so that nothing is lost where that probability is nearly 1.
    """
    if not 0 <= correct <= guesses <= canaries:
        raise ValueError(f"{correct} of {guesses} guesses on {canaries} canaries")
    wrong = guesses - correct
    slip = float(expit(-epsilon))
    found = float(binom.cdf(wrong, guesses, slip))
    if delta > 0 and correct > 0:
        further = np.cumsum(binom.pmf(np.arange(wrong + 1, guesses + 1), guesses, slip))
        found += 2 * canaries * delta * float((further / np.arange(1, correct + 1)).max())
    return min(1.0, found)


def epsilon_lower_bound(canaries: int, guesses: int, correct: int, delta: float, error: float) -> float:
    """Return an epsilon that is rejected at the level ``error``, the largest up to :data:`PRECISION`; 0 for none.

    What is returned was itself rejected: the search holds a rejected epsilon below one that is not.
    """

    def rejected(epsilon: float) -> bool:
        return p_value(canaries, guesses, correct, epsilon, delta) <= error

    if not guesses or not rejected(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while rejected(high):
        low, high = high, 2 * high
    while high - low > PRECISION:
        middle = (low + high) / 2
        low, high = (middle, high) if rejected(middle) else (low, middle)
    return low


def most_provable(canaries: int, delta: float, error: float) -> float:
    """Return the largest bound that :func:`guessed` can give for so many canaries: all of them guessed right."""
    return epsilon_lower_bound(canaries, canaries, canaries, delta, error / WAYS)


def canaries_needed(epsilon: float, delta: float, error: float) -> int | None:
    """Return how many canaries it takes before right guesses alone can prove more than ``epsilon``; None if none do.

    As canaries get more, delta weighs more: about 2 delta e^epsilon of the error goes to it, however many there are.

    Parameters
    ----------
    error : chance that any bound of :func:`guessed` is above the truth.
    """

    def enough(count: int) -> bool:
        return p_value(count, count, count, epsilon, delta) <= error / WAYS

    high = 2
    while not enough(high):
        high *= 2
        if high > MOST_CANARIES:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def ways_to_guess(canaries: int, joining: float) -> tuple[tuple[int, int], ...]:
    """Return the :data:`WAYS` numbers (of "in", of "out") that are guessed, all fixed before looking.

    Few guesses are best against honest noise; few that all say "in" find faults that push only some canaries. Where
    nothing hides them, the canaries that joined a batch stand out, and saying "in" of most of those proves most; all
    canaries guessed prove most where a fault lays everything open.

    Parameters
    ----------
    joining : chance that a canary that is in joins a batch at all, from public constants.
    """
    few, half = min(FEW_GUESSES, canaries) // 2, canaries // 2
    return (few, few), (few, 0), (max(1, round(SURE * joining * half)), 0), (half, half)


@dataclass(frozen=True)
class Guesses:
    """What one way to guess came to.

    Attributes
    ----------
    said_in, said_out : how many canaries were said to be in, and to be out; the attack abstained from the others.
    correct : how many of these guesses were right.
    epsilon : the bound that follows.
    """

    said_in: int
    said_out: int
    correct: int
    epsilon: float


def guessed(
    scores: NDArray[np.float64], included: NDArray[np.bool_], delta: float, error: float, joining: float = 1.0
) -> list[Guesses]:
    """Guess the highest scores "in" and the lowest "out", in each of :func:`ways_to_guess`.

    Parameters
    ----------
    scores : (m,), higher for canaries that seem to be in; ties are broken by their order, which no coin knows.
    included : (m,), the coins.
    error : chance that any of the bounds is above the truth; divided among them.
    joining : see :func:`ways_to_guess`.
    """
    count, ways = len(scores), ways_to_guess(len(scores), joining)
    order = np.argsort(-scores, kind="stable")
    found = []
    for above, below in ways:
        correct = int(included[order[:above]].sum() + (~included[order[count - below :]]).sum())
        bound = epsilon_lower_bound(count, above + below, correct, delta, error / WAYS)
        found.append(Guesses(above, below, correct, bound))
    return found


def rates_bound(
    caught: int, members: int, alarms: int, others: int, *, delta: float, confidence: float
) -> float:
    """Return a lower bound of epsilon from an attack's true and false positives.

    (epsilon, delta)-DP keeps TPR <= e^epsilon FPR + delta and 1 - FPR <= e^epsilon (1 - TPR) + delta (Kairouz et al.
    2015). Both rates are taken at one limit of Clopper and Pearson's intervals, each with half of the error, as in
    Jagielski et al. (2020) and Nasr et al. (2021). It holds where records are independent trials.

    Parameters
    ----------
    caught, members : members that the attack calls so, of all members.
    alarms, others : the same of those that were not trained on.
    """
    if not members or not others:
        return 0.0
    tpr, _ = clopper_pearson(caught, members, confidence)
    _, fpr = clopper_pearson(alarms, others, confidence)
    return max(0.0, _log_ratio(tpr - delta, fpr), _log_ratio(1 - fpr - delta, 1 - tpr))


def _log_ratio(above: float, below: float) -> float:
    return math.log(above / below) if above > 0 and below > 0 else 0.0


def largest(bounds: Sequence[Guesses]) -> float:
    """Return the largest of several bounds that hold together, 0 without any."""
    return max((each.epsilon for each in bounds), default=0.0)
