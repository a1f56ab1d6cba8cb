"""Discrete Gaussian noise from a keyed stream.

The discrete Gaussian of deviation s has the whole number x with probability proportional to exp(-x^2 / 2 s^2)
(Canonne, Kamath and Steinke 2020). Being whole numbers, noise and sum are added exactly, so the mechanism of the
proof is the one that runs. It is drawn from tables, which is several times as fast as rejection in numpy, and is
within :data:`TOTAL_VARIATION` of the exact distribution:

*One table.* A draw below deviation :data:`SINGLE` inverts the cumulative distribution over [-m, m], m = ceil(12 s),
whose values are known to 128 bits. A word of 64 random bits decides unless it equals the upper half of such a value;
only then are 64 more drawn. The distribution loses its tails, at most 2 exp(-72) < 2^-102.8 of it, as discrete
Gaussians are sub-Gaussian (Canonne et al. 2020), and a rounding of 2^-128 at each of fewer than 2^19 values.

*Two tables.* A larger deviation s is x = a + k b with a of deviation 2 k and b of deviation
sqrt(s^2 - 4 k^2) / k, k = round(sqrt(s / 2)) (Micciancio and Walter 2017). Summing over all b that lead to x,

    P(x)  is proportional to  exp(-x^2 / 2 s^2)  sum_j exp(-(j - c(x))^2 / 2 t^2),   t = 2 k sd(b) / s > 1.99,

and by Poisson's summation formula the sum over j is the same for all c up to factors within 1 +- e,
e < 3 exp(-2 pi^2 t^2) < 2^-111. With the ends of both tables it all comes to less than 2^-101.
"""

from __future__ import annotations

import functools
import math
from decimal import Context, Decimal
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # reading a ledger accounts for discrete noise, and needs no nets
    from client.randomness import KeyedStream

TOTAL_VARIATION = 2.0**-100
"""How far one draw is from the discrete Gaussian, at most, in total variation."""

SINGLE = 256.0
"""Deviation below which one table is used."""

REACH = 12
"""Deviations after which a table ends."""

GUIDE_BITS = 17
"""The first bits of a word that look its value up; words whose first bits leave a choice are searched for."""

MOST = 2.0**26
"""Largest deviation: sums of 32 bits have no room for more, and tables stay small."""

BLOCK = 1 << 16
"""Numbers drawn at a time, so that words and results stay in the processor's cache."""

_EXACT = Context(prec=60)
_ASK = np.int32(1 << 30)


class Table:
    """A discrete Gaussian over [-m, m] by the inverse of its cumulative distribution.

    Parameters
    ----------
    variance : of the discrete Gaussian, more than 0; its deviation may be up to some thousands.
    """

    def __init__(self, variance: Decimal) -> None:
        self.largest = math.ceil(REACH * math.sqrt(variance))
        ends = _cumulative(variance, self.largest)
        self._upper = np.array([end >> 64 for end in ends], np.uint64)
        self._lower = [end & (1 << 64) - 1 for end in ends]
        starts = np.arange(1 << GUIDE_BITS, dtype=np.uint64) << np.uint64(64 - GUIDE_BITS)
        stops = starts + np.uint64((1 << 64 - GUIDE_BITS) - 1)
        first = np.searchsorted(self._upper, starts, "left")
        last = np.searchsorted(self._upper, stops, "right")
        self._guide = np.where(first == last, first - self.largest, _ASK).astype(np.int32)

    def draw(self, stream: KeyedStream, count: int) -> NDArray[np.int32]:
        """Return ``count`` numbers."""
        words = stream.words(count)
        found = self._guide[(words >> np.uint64(64 - GUIDE_BITS)).astype(np.intp)]
        asked = np.flatnonzero(found == _ASK)
        rest = words[asked]
        below = np.searchsorted(self._upper, rest, "left")
        tied = np.flatnonzero(np.searchsorted(self._upper, rest, "right") != below)
        for index in tied:  # about once in 2^50 draws
            below[index] += self._passed(int(rest[index]), int(stream.words(1)[0]))
        found[asked] = below - self.largest
        return found

    def _passed(self, upper: int, lower: int) -> int:
        """Return how many of the ends that share the upper half of a word lie at or below it."""
        first, last = np.searchsorted(self._upper, np.uint64(upper), "left"), len(self._upper)
        alike = [i for i in range(int(first), last) if int(self._upper[i]) == upper]
        return sum(self._lower[i] <= lower for i in alike)


def _cumulative(variance: Decimal, largest: int) -> list[int]:
    """Return 2^128 times the probability of being at most x, for x from -largest to largest - 1."""
    exact = _EXACT
    ratio = exact.exp(exact.divide(Decimal(-1), exact.multiply(Decimal(2), variance)))
    square, weight = exact.multiply(ratio, ratio), Decimal(1)
    weights = [weight]
    for _ in range(largest):  # exp(-(x + 1)^2 / 2 v) = exp(-x^2 / 2 v) exp(-(2 x + 1) / 2 v)
        weight = exact.multiply(weight, ratio)
        weights.append(weight)
        ratio = exact.multiply(ratio, square)
    half = functools.reduce(exact.add, reversed(weights[1:]))
    unit = exact.divide(Decimal(1 << 128), exact.add(exact.multiply(Decimal(2), half), Decimal(1)))
    ends, total = [], Decimal(0)
    for weight in [*reversed(weights[1:]), *weights[:-1]]:
        total = exact.add(total, weight)
        ends.append(int(exact.multiply(total, unit)))
    return ends


class DiscreteGaussian:
    """The discrete Gaussian of a deviation.

    Parameters
    ----------
    deviation : s, from 1 to :data:`MOST`.

    Attributes
    ----------
    largest : no draw lies further from 0.
    """

    def __init__(self, deviation: float) -> None:
        assert 1.0 <= deviation <= MOST
        self.deviation = deviation
        variance = Decimal(deviation) ** 2
        self._step = 0 if deviation < SINGLE else round(math.sqrt(deviation / 2))
        if not self._step:
            self._tables = [Table(variance)]
            self.largest = self._tables[0].largest
            return
        step = Decimal(self._step)
        self._tables = [Table(4 * step**2), Table(_EXACT.divide(variance - 4 * step**2, step**2))]
        self.largest = self._tables[0].largest + self._step * self._tables[1].largest

    def draw(self, stream: KeyedStream, count: int) -> NDArray[np.int64]:
        """Return ``count`` numbers."""
        drawn = np.empty(count, np.int64)
        for start in range(0, count, BLOCK):
            part = drawn[start : start + BLOCK]
            part[:] = self._tables[0].draw(stream, len(part))
            if self._step:
                part += self._step * self._tables[1].draw(stream, len(part)).astype(np.int64)
        return drawn


@functools.lru_cache(maxsize=8)
def discrete_gaussian(deviation: float) -> DiscreteGaussian:
    """Return the discrete Gaussian of a deviation; its tables are made once a process."""
    return DiscreteGaussian(deviation)
