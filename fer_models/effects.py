"""How much less rows say when persons have several of them: effective rows of every rate.

Rows of one person are alike, so a thousand rows of ten persons say less than a thousand rows of a thousand. The
variance of a rate over persons is that to which a bootstrap of persons converges, in closed form (the
infinitesimal jackknife, Efron 1982; the linearised variance of a ratio in survey sampling): with x of n rows of a
person right, the rate is R = sum x / sum n and its variance m / (m - 1) sum (x - R n)^2 / (sum n)^2 over m
persons. The effective rows are those of which independent ones would have this variance, and Wilson's, Newcombe's
and all other intervals are taken with them (Korn and Graubard 1998, with their allowance for few persons).
Effective rows are never more than rows, so no interval becomes narrower.

References
----------
Efron, "The jackknife, the bootstrap and other resampling plans", SIAM 1982.
Korn and Graubard, "Confidence intervals for proportions with small expected number of positive counts estimated from
survey data", Survey Methodology 24, 1998.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from fer_models.intervals import critical, proportion_interval

Table = NDArray[np.float64]
"""Counts (U, C, C), indexed [person or group, true, predicted]."""

Rate = Callable[[Table], tuple[NDArray[np.float64], NDArray[np.float64]]]
"""Table -> hits and rows (U, K)."""

OVERALL = ""
"""Stands for all rows where attributes are named."""

CHUNK = 4096
"""Persons whose tables are held at a time."""


def _hits(table: Table) -> NDArray[np.float64]:
    return np.diagonal(table, axis1=1, axis2=2)


def _all(table: Table) -> NDArray[np.float64]:
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


def effect_of(groups: NDArray[np.int64], units: Iterator[tuple[NDArray[np.int64], Table]]) -> Effect:
    """Return the effect of persons' having several rows.

    Parameters
    ----------
    groups : counts (G, C, C) of all rows.
    units : chunks of persons: the group of each (U,) and its counts in it (U, C, C).
    """
    table = groups.astype(np.float64)
    whole = {key: rate(table) for key, rate in RATES.items()}
    figures = {key: np.divide(x, n, out=np.zeros_like(n), where=n > 0) for key, (x, n) in whole.items()}
    variance = {key: np.zeros_like(n) for key, (_, n) in whole.items()}
    people = {key: np.zeros_like(n) for key, (_, n) in whole.items()}
    together = {key: np.zeros((table.shape[1],) * 2) for key in ("recall", "f1")}
    for group, own in units:
        for key, rate in RATES.items():
            x, n = rate(own)
            apart = (x - figures[key][group] * n) / np.maximum(whole[key][1][group], 1)
            np.add.at(variance[key], group, apart**2)
            np.add.at(people[key], group, n > 0)
            if key in together:
                together[key] += apart.T @ apart
    shares = {key: _share(figures[key], whole[key][1], variance[key], people[key]) for key in RATES}
    return Effect(shares, {key: _correlation(each) for key, each in together.items()})


def _share(
    rate: NDArray[np.float64],
    rows: NDArray[np.float64],
    variance: NDArray[np.float64],
    people: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return effective rows over rows; where a rate is 0 or 1 or of one person, a person is worth a row."""
    freedom = np.maximum(people - 1, 1)
    few = (critical(0.95) / stdtrit(freedom, 0.975)) ** 2
    spread = variance * people / freedom
    plain = rate * (1 - rate) / np.where(spread > 0, spread, 1) * few
    effective = np.where((spread > 0) & (people > 1), plain, people)
    return np.where(rows > 0, np.clip(effective, 1.0, np.maximum(rows, 1)) / np.maximum(rows, 1), 1.0)


def _correlation(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    spread = np.sqrt(np.diag(covariance))
    spread[spread < 1e-12] = np.inf
    found = covariance / np.outer(spread, spread)
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

    def effect(self, groups: NDArray[np.int64], places: list[int], classes: NDArray[np.int64]) -> Effect:
        """Return the effect on counts ``groups`` (G, C, C) of the groups and classes with these codes (G,), (C,)."""
        order = np.zeros(self.groups, np.int64)
        order[places] = np.arange(len(places))
        units = ((order[group], table[:, classes][:, :, classes]) for group, table in self._units())
        return effect_of(groups, units)

    def _units(self) -> Iterator[tuple[NDArray[np.int64], Table]]:
        """Yield chunks of persons: the code of the group (U,) and the counts in it (U, C, C)."""
        self._settle()
        cells = self.classes**2
        units, place = np.unique(self.keys // cells, return_inverse=True)
        for start in range(0, len(units), CHUNK):
            chunk = units[start : start + CHUNK]
            low, high = np.searchsorted(place, [start, start + len(chunk)])
            flat = (place[low:high] - start) * cells + self.keys[low:high] % cells
            table = np.bincount(flat, self.times[low:high], len(chunk) * cells).astype(np.float64)
            yield chunk % self.groups, table.reshape(-1, self.classes, self.classes)
