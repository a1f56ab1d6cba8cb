"""How much one round's update of a site says for each canary that it was in: a log likelihood ratio.

A private step releases the sum of the clipped gradients of those who joined, and Gaussian noise. The auditor stands
for the strongest adversary of differential privacy: it knows the weights, the plan, every other record, and every
canary's picture; it does not know who joined the batch, the noise, and the coins. In the model

    x = sum_i z_i g_i + N(0, s^2),

with clipped gradients g_i and numbers of visits z_i of known mean and variance, the best linear estimate of each z_i
takes what the others may have added off. From it follows the likelihood of the canary having been in, at the
subsampled mechanism's own odds, over that of having been out.

Any score gives a valid bound: one that fits the training badly gives a weak one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.special import logsumexp
from scipy.stats import binom

from client.plan import Plan

MOST_VISITS = 24
"""Visits of one canary in one round beyond which likelihoods are not told apart."""

NEARLY_NONE = 0.01
"""Noise, in gradients, below which none is assumed, because the model of a round is not exact."""

RIDGE = 1e-6
"""Of the sum of all squared norms: what is added to each, because gradients may be alike."""

STRANGE = 6.0
"""Deviations from which on an update is taken as one without a clip, if that fits better."""

LEAST = 1e-6
"""Smallest variance of a number of visits, where everybody is in every batch."""


@dataclass(frozen=True)
class Round:
    """The claimed mechanism of one round.

    Attributes
    ----------
    steps, rate : each unit joins each step with this probability.
    clip : largest norm of a unit's gradient.
    noise : deviation of the noise on the sum over the steps.
    factor : the sum over the steps is the update times this; None where the plan does not tell.
    """

    steps: int
    rate: float
    clip: float
    noise: float
    factor: float | None


def round_of(plan: Plan) -> Round:
    """Return the mechanism that a private plan claims.

    With distributed noise it is that of the mean update over all sites, which alone is released.
    """
    work, privacy = plan.local, plan.privacy
    assert privacy is not None
    noise = privacy.noise_multiplier * privacy.clip * math.sqrt(work.amount)
    divisor = work.rate * privacy.nominal_units * privacy.threshold
    factor = -divisor / _pace(plan, work.amount) if work.optimizer == "sgd" else None
    return Round(work.amount, work.rate, privacy.clip, noise, factor)


def _pace(plan: Plan, steps: int) -> float:
    """Return the mean share of a step's gradient in the update: the rate, more with momentum."""
    momentum = plan.local.momentum
    reach = [sum(momentum**later for later in range(steps - step)) for step in range(steps)]
    return plan.local.learning_rate * sum(reach) / steps


@dataclass(frozen=True)
class Products:
    """Inner products of the gradients of n units, before the clip; canaries come first.

    Attributes
    ----------
    gram : float64 (n, n), with each other.
    along : float64 (n,), with the update.
    rest : float64 (n,), with what units that are not among the n are expected to add to the sum.
    energy : squared norm of the update.
    size : T, numbers of the update.
    """

    gram: NDArray[np.float64]
    along: NDArray[np.float64]
    rest: NDArray[np.float64]
    energy: float
    size: int

    def clipped(self, clip: float) -> Products:
        """Return the same of gradients that are shortened to a norm of ``clip``."""
        shrink = np.minimum(1.0, clip / np.sqrt(np.maximum(np.diag(self.gram), 1e-24)))
        gram = self.gram * shrink[:, None] * shrink
        return replace(self, gram=gram, along=self.along * shrink, rest=self.rest * shrink)


def log_odds(products: Products, canaries: int, mechanism: Round) -> NDArray[np.float64]:
    """Return for each canary the log likelihood of a round's update if it was in, over that if it was out.

    The auditor does not take the claim's word: where the update does not look clipped at all it is taken as that, and
    the noise is measured where the update is wide enough to tell.

    Parameters
    ----------
    products : of all units that are told apart.
    canaries : how many of them are canaries.

    Returns
    -------
    float64 (canaries,)
    """
    visits = mechanism.steps * mechanism.rate
    mean = np.full(len(products.along), visits)
    spread = np.full(len(mean), visits * (1 - mechanism.rate))
    mean[:canaries] /= 2
    spread[:canaries] = spread[:canaries] / 2 + visits**2 / 4
    spread = np.maximum(spread, LEAST)
    held, free = products.clipped(mechanism.clip), products
    factor = _factor(held, mean, mechanism)
    if _strangeness(held, factor, mean, spread, mechanism) > STRANGE:
        strangeness = [_strangeness(each, factor, mean, spread, mechanism) for each in (held, free)]
        held = (held, free)[int(np.argmin(strangeness))]
    noise = _noise(held, factor, mechanism)
    known = cho_factor(held.gram + np.diag(noise**2 / spread), lower=True)
    sides = np.column_stack([factor * held.along - held.rest - held.gram @ mean, np.eye(len(mean), canaries)])
    solved = cho_solve(known, sides)
    left = noise**2 * np.diagonal(solved[:canaries, 1:])  # what stays unknown of each canary's visits
    sharp = np.maximum(1 / left - 1 / spread[:canaries], 0.0)
    return _mixture(solved[:canaries, 0] / left + sharp * mean[:canaries], sharp, mechanism)


def _factor(held: Products, mean: NDArray[np.float64], mechanism: Round) -> float:
    """Return the factor of the update; where the plan does not tell it, the update is fitted to the expected sum."""
    if mechanism.factor is not None:
        return mechanism.factor
    seen = float(held.along @ mean)
    return float(mean @ held.gram @ mean) / seen if seen else -1.0


def _strangeness(
    held: Products,
    factor: float,
    mean: NDArray[np.float64],
    spread: NDArray[np.float64],
    mechanism: Round,
) -> float:
    """Return by how many deviations the update's length along the expected sum is not what the claim makes it."""
    toward = held.gram @ mean
    wide = math.sqrt(float(spread @ toward**2 + mechanism.noise**2 * (mean @ toward)))
    return abs(float((factor * held.along - held.rest - toward) @ mean)) / max(wide, 1e-12)


def _noise(held: Products, factor: float, mechanism: Round) -> float:
    """Return the deviation of what in the update is no sum of known gradients, or the claimed one.

    Least squares leave size - n of the update's numbers to the noise alone.
    """
    n, gram = len(held.along), held.gram
    scale = float(np.diag(gram).mean())
    least = NEARLY_NONE * math.sqrt(scale)
    if held.size < 2 * n:
        return max(mechanism.noise, least)
    explained = held.along @ cho_solve(cho_factor(gram + RIDGE * n * scale * np.eye(n)), held.along)
    left = max(0.0, held.energy - float(explained)) / (held.size - n)
    return max(abs(factor) * math.sqrt(left), least)


def _mixture(
    evidence: NDArray[np.float64], sharp: NDArray[np.float64], mechanism: Round
) -> NDArray[np.float64]:
    """Return ``log sum_k P(k visits) exp(k evidence - k^2 sharp / 2)`` with binomial visits."""
    k = np.arange(min(mechanism.steps, MOST_VISITS) + 1)
    odds = binom.logpmf(k, mechanism.steps, mechanism.rate)
    return np.asarray(logsumexp(odds + np.outer(evidence, k) - np.outer(sharp, k**2) / 2, axis=1))
