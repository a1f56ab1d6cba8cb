"""The public grid on which distributed noise is added: how sums become whole numbers, and what that costs.

*Rounding.* A step is C / r wide, C the clip and r the plan's ``resolution``. The coordinate x of a sum is rounded
to floor(x r / C + v) with v uniform in (0, 1) from a keyed stream of its own (dither), so that the mean is x r / C, and
then cut to [-bound, bound].

*Sensitivity.* Take two sums that differ by one record's gradient, of norm C at most, and the same dither, which does
not depend on the records: given the dither, the rounded sum is a function of the records. For every coordinate
|floor(a + v) - floor(b + v)| < |a - b| + 1, and cutting brings numbers no further apart. By the triangle inequality
the rounded sums differ by less than r + sqrt(P) in 2-norm. (Averaging over the dither instead gives sharper bounds that
hold with high probability: Kairouz, Liu and Steinke 2021, Proposition 26. On a fine grid sqrt(P) is small beside r, and
nothing is left to chance.) Sums are floats: a record that joins also moves the rounding errors of all others. For that
r is taken 2^-10 larger, some hundred times what is measured (tests/client/test_distributed.py):

    D = r (1 + 2^-10) + sqrt(P).

*Parts.* A vector may be made of parts that are clipped apart, part j to C_j, and written in steps of its own width
w_j. A record moves part j by C_j / w_j steps at most, so all of them together by r ``stretch`` at most, where
r stretch is the root of the sum of (C_j / w_j)^2: for a net in steps of C / r and k parts in steps of rho C_j / r it is
r sqrt(1 + k / rho^2). (That every part reaches its bound is possible: the clips do not know of each other.) What a
gradient is multiplied by after the clip is 1 at most, and changes nothing. Rounding is as above, over the P coordinates
of all parts, whence

    D = r (1 + 2^-10) stretch + sqrt(P).

Noise of sigma D on every coordinate then is one mechanism of multiplier sigma, and the net's own noise is ``stretch``
times what it would be alone: that is the price of the other parts.

*Overflow.* Sums of all sites are to fit in 32 bits, as in secure aggregation. A share is no longer than bound plus the
reach of the noise, and ``bound`` fills what that leaves of (2^31 - 1) / n, n the most sites that a sum can be over. A
plan that leaves less than rate * nominal_units * r, which an average site reaches when all its records pull one
coordinate alone, is refused.

*Survivors.* The noise is divided among m = threshold - colluders sites, threshold the fewest that a sum can be over:
secure aggregation loses a round of fewer (:class:`client.secagg.terms.Secure`). Of s >= threshold survivors
s - colluders or more keep their noise secret. Take m of them; by the theorem of :mod:`client.discrete_accounting` the
sum of all survivors' rounded sums and of these m shares has the guarantee, for adding a record moves the sum of the
survivors by D at most, or not at all when its site did not survive. The shares of the others are independent of the
records and are added afterwards, which costs nothing: more survivors only add noise, s / m times the variance. Nothing
of this asks who survived or why, as long as the choice does not look at the noise: the coordinator sees masked vectors
alone until the survivors are fixed, and a site answers a round once. The mean divides by the survivors, whom everybody
may count: a public number again.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client.discrete import MOST, discrete_gaussian
from client.discrete_accounting import MOST_DRAWS, slack
from client.mechanisms import Mechanism
from client.plan import Plan, Privacy
from client.randomness import KeyedStream
from fer_models.errors import PrivacyError

MARGIN = 2.0**-10
"""Share of the clip that is left for rounding errors of float sums."""

LARGEST = 2**31 - 1
"""Largest number in a sum over all sites."""

FINEST = 2**20
"""Finest resolution that is chosen by itself."""

MOST_SLACK = 1e-3
"""Epsilon that the grid of one step may cost at most."""


@dataclass(frozen=True)
class Grid:
    """The public numbers of a distributed round.

    Attributes
    ----------
    parameters : P, coordinates that learn and get noise.
    width : of a step, in units of the gradient.
    sensitivity : D, in steps.
    share : deviation of one site's noise, in steps.
    bound : largest coordinate of a site's sum before noise, in steps.
    slack : epsilon of a round beyond that of the Gaussian mechanism.
    """

    parameters: int
    width: float
    sensitivity: float
    share: float
    bound: int
    slack: float


@functools.lru_cache(maxsize=8)
def grid_of(privacy: Privacy, rate: float, most: int = 0, stretch: float = 1.0) -> Grid:
    """Return the grid of a round with distributed noise and Poisson sampling at ``rate``.

    Parameters
    ----------
    most : sites that a sum can be over, as many as the noise is divided among when 0.
    stretch : length of what one record adds to all parts together, in clips; 1 for one part.

    Raises
    ------
    PrivacyError : a stretch below 1, sums would overflow, or the grid is so coarse that it costs epsilon.
    """
    shares, where, parameters = (
        privacy.threshold - privacy.colluders,
        "privacy.resolution",
        privacy.parameters,
    )
    if not 1 <= stretch < math.inf:
        raise PrivacyError(
            f"a record that adds {stretch} clips where its net alone may add one",
            where="stretch",
            cure="Give the root of the sum of the parts' squared lengths, 1 at least.",
        )
    sensitivity = privacy.resolution * (1 + MARGIN) * stretch + math.sqrt(parameters)
    share = privacy.noise_multiplier * sensitivity / math.sqrt(shares)
    most = most or privacy.threshold
    if parameters * most > MOST_DRAWS:
        raise PrivacyError(
            f"{parameters} parameters at {most} sites take more noise than is accounted for",
            where="partition.sites",
            cure="Train fewer parameters, or fewer sites a round (server.participation).",
        )
    finer = "Give a finer grid, such as privacy.resolution=65536, or null."
    if share < 1 or (lost := slack(parameters, share, shares)) > MOST_SLACK:
        raise PrivacyError(
            f"a grid of {privacy.resolution} steps a clip is too coarse for this noise",
            where=where,
            cure=finer,
        )
    wanted = math.ceil(rate * privacy.nominal_units * privacy.resolution)
    reach = discrete_gaussian(share).largest if share <= MOST else LARGEST
    bound = LARGEST // most - reach
    if bound < wanted:
        raise PrivacyError(
            f"sums of {most} sites at {privacy.resolution} steps a clip may leave 32 bits",
            where=where,
            cure="Give a coarser grid, or null, which takes the finest that fits.",
        )
    return Grid(parameters, privacy.clip / privacy.resolution, sensitivity, share, bound, lost)


def finest(privacy: Privacy, rate: float, most: int = 0, stretch: float = 1.0) -> int:
    """Return the finest resolution, a power of two up to :data:`FINEST`, at which sums fit in 32 bits; at least 1.

    ``most`` and ``stretch`` as in :func:`grid_of`.
    """
    shares = privacy.threshold - privacy.colluders
    resolution = FINEST
    while resolution > 1:
        sensitivity = resolution * (1 + MARGIN) * stretch + math.sqrt(privacy.parameters)
        deviation = privacy.noise_multiplier * sensitivity
        # 14 deviations are more than the reach of the noise.
        room = LARGEST / (most or privacy.threshold) - 14 * deviation / math.sqrt(shares)
        if room >= rate * privacy.nominal_units * resolution + 2:
            break
        resolution //= 2
    return resolution


def encode(sums: NDArray[np.floating], grid: Grid, dither: KeyedStream) -> NDArray[np.int64]:
    """Return a finite sum of clipped gradients (P,) in steps of the grid, without noise."""
    steps = np.floor(sums.astype(np.float64) / grid.width + dither.uniform(len(sums)))
    return np.clip(steps, -grid.bound, grid.bound).astype(np.int64)


def decode(total: NDArray[np.int64], plan: Plan, sites: int) -> NDArray[np.float64]:
    """Return the mean gradient (P,) of a sum of the shares of ``sites`` sites, divided by public numbers alone."""
    privacy = plan.privacy
    assert privacy is not None
    divisor = plan.local.rate * privacy.nominal_units * sites
    return total.astype(np.float64) * (privacy.clip / privacy.resolution / divisor)


def plan_grid(plan: Plan) -> Grid:
    """Return the grid of a plan with distributed noise; raises as :func:`grid_of`."""
    assert plan.privacy is not None
    return grid_of(plan.privacy, plan.local.rate, plan.most_sites, plan.stretch)


def mechanism_of(plan: Plan) -> Mechanism:
    """Return what one round of a private plan costs a record of a site that takes part.

    Raises
    ------
    PrivacyError : the plan's grid does not hold.
    """
    privacy, work = plan.privacy, plan.local
    assert privacy is not None
    sigma, unit = privacy.noise_multiplier, privacy.unit
    if privacy.noise == "site":
        return Mechanism("gaussian", sigma, work.rate, work.amount, unit)
    lost = plan_grid(plan).slack
    return Mechanism("discrete_gaussian", sigma, work.rate, work.amount, unit, lost)
