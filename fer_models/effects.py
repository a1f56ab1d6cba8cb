"""How much less rows say when persons have several of them: effective rows of every rate.

Rows of one person are alike, so a thousand rows of ten persons say less than a thousand rows of a thousand. The
variance of a rate over persons is that to which a bootstrap of persons converges, in closed form (the
infinitesimal jackknife, Efron 1982; the linearised variance of a ratio in survey sampling): with x of n rows of a
person right, the rate is R = sum x / sum n and its variance m / (m - 1) sum (x - R n)^2 / (sum n)^2. m is Kish's
effective number of persons (sum n)^2 / sum n^2: where n are unequal, fewer persons settle the rate than have rows.
Were the variance of x - R n in proportion to n, the expected sum would be short by the share 1 / m, and have about
m - 1 degrees of freedom (Satterthwaite 1946). The effective rows are those of which independent ones would have this
variance, and Wilson's, Newcombe's and all other intervals are taken with them (Korn and Graubard 1998, with their
allowance for few persons). Effective rows are never more than rows, so no interval becomes narrower.

References
----------
Efron, "The jackknife, the bootstrap and other resampling plans", SIAM 1982.
Kish, "Survey sampling", Wiley 1965.
Korn and Graubard, "Confidence intervals for proportions with small expected number of positive counts estimated from
survey data", Survey Methodology 24, 1998.
Satterthwaite, "An approximate distribution of estimates of variance components", Biometrics Bulletin 2, 1946.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from fer_models.intervals import critical, proportion_interval

Whole = NDArray[np.int64]

Table = Whole
"""Counts (U, C, C), indexed [person or group, true, predicted]."""

Rate = Callable[[Table], tuple[Whole, Whole]]
"""Table -> hits and rows (U, K)."""

OVERALL = ""
"""Stands for all rows where attributes are named."""

LEAST = 0.1
"""Degrees of freedom, at least: one person has nearly all rows of a rate, which then is worth about one row."""

CHUNK = 4096
"""Persons whose tables are held at a time."""


def _hits(table: Table) -> Whole:
    return np.diagonal(table, axis1=1, axis2=2)


def _all(table: Table) -> Whole:
    return np.repeat(table.sum((1, 2))[:, None], table.shape[1], 1)


RATES: Mapping[str, Rate] = {
    "accuracy": lambda t: (_hits(t).sum(1, keepdims=True), t.sum((1, 2))[:, None]),
    "recall": lambda t: (_hits(t), t.sum(2)),
    "false_alarm": lambda t: (t.sum(1) - _hits(t), _all(t) - t.sum(2)),
    "selection_rate": lambda t: (t.sum(1), _all(t)),
    "label_rate": lambda t: (t.sum(2), _all(t)),
    "precision": lambda t: (_hits(t), t.sum(1)),
    "union": lambda t: (_hits(t), t.sum(1) + t.sum(2) - _hits(t)),
    "f1": lambda t: (2 * _hits(t), t.sum(1) + t.sum(2)),
}
"""The rates of a table; ``union`` is what F1 is a function of."""


@dataclass(frozen=True, eq=False)
class Effect:
    """What share of their rows the rates of some groups are worth.

    Attributes
    ----------
    shares : key of :data:`RATES` -> (G, K), 0 to 1; a rate that is missing is worth all its rows.
    correlation : ``recall`` and ``f1`` -> (C, C), how these vary together over persons; of all rows only.
    """

    shares: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    correlation: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def share(self, key: str) -> NDArray[np.float64]:
        """Return the shares of a rate (G, K), or (1, 1) of 1."""
        return self.shares.get(key, np.ones((1, 1)))

    def limits(self, key: str, hits: NDArray, rows: NDArray, level: float) -> NDArray[np.float64]:
        """Return the intervals (K, 2) of the rates of all rows, with hits and rows (K,)."""
        share = np.broadcast_to(self.share(key)[0], np.shape(hits))
        return proportion_interval(np.multiply(hits, share), np.multiply(rows, share), level)

    def of_groups(self, places: NDArray | list[int]) -> Effect:
        """Return the effect of some groups, by place."""
        return Effect({key: share[places] for key, share in self.shares.items()})


GROUP_RATES = ("accuracy", "recall", "false_alarm", "selection_rate", "label_rate")
"""Rates of single groups that have intervals."""

OVERALL_RATES = ("accuracy", "recall", "precision", "union")
"""Rates of all rows that have intervals."""

JOINT = ("recall", "f1")
"""Rates of all rows whose means over classes have intervals, so that it matters how classes go together."""


@dataclass(frozen=True, eq=False)
class Sums:
    """Whole numbers, each a sum over persons, from which the effect of their having several rows is worked out.

    The variance of R = X / N, with X = sum x and N = sum n, asks for sum (x - R n)^2, and

        N^2 sum (x - R n)^2  =  N^2 sum x^2 - 2 X N sum x n + X^2 sum n^2,

    whose parts add up over sites, while x - R n of a person cannot be had before the R of all sites is known. All is
    whole, so nothing is lost by cancelling. As no two sites know the same person, or take such for two, the sums of
    all sites are those of all persons.

    Attributes
    ----------
    moments : int64 (4, G, K): persons with n > 0, and sums of x^2, x n and n^2, of every rate of :func:`rates_of`.
    joint : int64 (len(JOINT), 2 C, 2 C) of all rows, sums of v v^T with v = (x of all classes, n of all classes);
        (0, 2 C, 2 C) for single groups.
    """

    moments: NDArray[np.int64]
    joint: NDArray[np.int64]

    @classmethod
    def zero(cls, groups: int, classes: int, *, overall: bool) -> Sums:
        """Return the sums over nobody."""
        columns = sum(1 if key == "accuracy" else classes for key in rates_of(overall))
        joint = (len(JOINT) if overall else 0, 2 * classes, 2 * classes)
        return cls(np.zeros((4, groups, columns), np.int64), np.zeros(joint, np.int64))

    def add(self, group: NDArray[np.int64], own: NDArray[np.int64]) -> None:
        """Add persons: the group of each (U,), and the counts in it (U, C, C)."""
        overall = bool(len(self.joint))
        pairs = [RATES[key](own) for key in rates_of(overall)]
        x, n = (np.concatenate([pair[side] for pair in pairs], 1) for side in (0, 1))
        for place, part in enumerate((n > 0, x * x, x * n, n * n)):
            np.add.at(self.moments[place], group, part.astype(np.int64))
        if overall:
            for place, key in enumerate(JOINT):
                both = np.concatenate(RATES[key](own), 1)
                self.joint[place] += both.T @ both

    def effect(self, table: NDArray[np.int64], repeats: int = 1) -> Effect:
        """Return the effect on counts (G, C, C) of all rows.

        Parameters
        ----------
        repeats : how many models judged every row, when table and sums hold all their answers: a row is then worth what
            their mean answer tells, and no more than one row.
        """
        overall, classes, shares, start = bool(len(self.joint)), table.shape[1], {}, 0
        for key in rates_of(overall):
            stop = start + (1 if key == "accuracy" else classes)
            shares[key] = _share(*RATES[key](table), *self.moments[:, :, start:stop], repeats=repeats)
            start = stop
        joint = zip(JOINT, self.joint, strict=False)
        return Effect(shares, {key: _correlation(*RATES[key](table), each) for key, each in joint})


def rates_of(overall: bool) -> tuple[str, ...]:
    """Return the rates of all rows, or those of single groups."""
    return OVERALL_RATES if overall else GROUP_RATES


def _share(
    hits: Whole, rows: Whole, people: Whole, squares: Whole, products: Whole, sizes: Whole, *, repeats: int
) -> NDArray[np.float64]:
    """Return effective rows over rows, both of one model; the variance over people is that of the models' mean answer.

    Where nobody has two rows of a rate, all count: they are independent. Where it is 0 or 1 or of one person, a person
    is worth a row. Where every person has the same rate between, as in a design in which each plays every expression
    as often, people do not differ, and all rows count.
    """
    x, n = hits.astype(object), rows.astype(object)  # whole numbers of any length
    apart = n * n * squares - 2 * x * n * products + x * x * sizes
    total = np.maximum(rows, 1).astype(np.float64)
    alike = total**2 / np.maximum(sizes, 1)
    freedom = np.maximum(alike - 1, LEAST)
    few = (critical(0.95) / stdtrit(freedom, 0.975)) ** 2
    spread = apart.astype(np.float64) / total**4 * alike / freedom
    rate = hits / total
    plain = rate * (1 - rate) / np.where(spread > 0, spread, 1) * few
    most = total / repeats
    same = np.where((rate > 0) & (rate < 1), most, people)
    effective = np.where(people > 1, np.where(spread > 0, plain, same), people)
    several = (rows > 0) & (sizes > rows * repeats)
    return np.where(several, np.clip(effective, 1.0, most) / most, 1.0)


def _correlation(hits: Whole, rows: Whole, joint: Whole) -> NDArray[np.float64]:
    """Return how rates (1, C) go together over persons (C, C): the covariance of x - R n, over both deviations."""
    x, n = hits[0].astype(object), rows[0].astype(object)
    turn = np.concatenate([np.diag(n), np.diag(-x)], 1)
    apart = (turn @ joint.astype(object) @ turn.T).astype(np.float64)
    spread = np.sqrt(np.diag(apart))
    spread[spread <= 0] = np.inf
    found = apart / np.outer(spread, spread)
    np.fill_diagonal(found, 1.0)
    return found


class PersonCounts:
    """Counts of group x true x predicted of every person, kept as the cells that occur; grows while rows are read.

    Attributes
    ----------
    groups, classes : how many groups and classes a code may name.
    """

    def __init__(self, groups: int, classes: int) -> None:
        self.groups, self.classes = groups, classes
        self.keys, self.times = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self.pending: list[NDArray[np.int64]] = []
        self.waiting = 0

    def add(self, person: NDArray, group: NDArray, true: NDArray, predicted: NDArray) -> None:
        """Count rows, all int64 (N,)."""
        cell = ((person * self.groups + group) * self.classes + true) * self.classes + predicted
        self.pending.append(cell)
        self.waiting += len(cell)
        if self.waiting > max(len(self.keys), 100_000):
            self._settle()

    def _settle(self) -> None:
        fresh = np.concatenate([self.keys, *self.pending])
        weight = np.concatenate([self.times, np.ones(self.waiting, np.int64)])
        self.keys, place = np.unique(fresh, return_inverse=True)
        self.times = np.bincount(place, weight, len(self.keys)).astype(np.int64)
        self.pending, self.waiting = [], 0

    def people(self) -> NDArray[np.int64]:
        """Return how many persons each group has (G,)."""
        self._settle()
        units = np.unique(self.keys // self.classes**2)
        return np.bincount(units % self.groups, minlength=self.groups)

    def sums(self, places: list[int], classes: NDArray[np.int64], *, overall: bool) -> Sums:
        """Return the sums over persons of the groups and classes with these codes (G,), (C,)."""
        order, found = np.zeros(self.groups, np.int64), Sums.zero(len(places), len(classes), overall=overall)
        order[places] = np.arange(len(places))
        for group, table in self._units():
            found.add(order[group], table[:, classes][:, :, classes])
        return found

    def _units(self) -> Iterator[tuple[NDArray[np.int64], Table]]:
        """Yield chunks of persons: the code of the group (U,) and the counts in it (U, C, C)."""
        self._settle()
        cells = self.classes**2
        units, place = np.unique(self.keys // cells, return_inverse=True)
        for start in range(0, len(units), CHUNK):
            chunk = units[start : start + CHUNK]
            low, high = np.searchsorted(place, [start, start + len(chunk)])
            flat = (place[low:high] - start) * cells + self.keys[low:high] % cells
            table = np.bincount(flat, self.times[low:high], len(chunk) * cells).astype(np.int64)
            yield chunk % self.groups, table.reshape(-1, self.classes, self.classes)
