"""Two systems on the same pictures: what got better and worse for whom, with intervals of the differences.

The same picture is judged by both, so what is hard about it is hard for both, and the difference is known better than
from two sets of pictures. Rows are counted by right and wrong of the first and of the second system, in cells: all
rows, each class, each group, each group and class.

*Rows.* The interval of a difference of two paired proportions is Newcombe's (1998b, method 10: Statistics in Medicine
17, 2635 to 2650): limits of both, and the correlation of the pairs with a correction for continuity.

*Persons.* Rows of one person are not independent. Where persons are known, the change d = sum D_p / sum N_p of a cell
(D_p: rows that the second has right less those that the first has, N_p: rows of person p) is a ratio of sums over
persons, with the variance P / (P - 1) sum (D_p - d N_p)^2 / (sum N_p)^2 (Cochran 1977, chapter 6) and Student's t with
P - 1 degrees of freedom. The wider of both intervals stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from fer_models.intervals import proportion_interval

Limits = NDArray[np.float64]
"""Lower and upper limits (K, 2)."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows that two systems judged.

    Attributes
    ----------
    true, first, second : int (N,), the class and what the two systems say, as indices of ``labels``.
    labels : names of the classes.
    groups : attribute -> int (N,), indices of ``values``.
    values : attribute -> names of its groups.
    person : int (N,), who is on the picture; None where it is not known.
    """

    true: NDArray[np.int64]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    labels: tuple[str, ...]
    groups: Mapping[str, NDArray[np.int64]]
    values: Mapping[str, tuple[str, ...]]
    person: NDArray[np.int64] | None = None


@dataclass(frozen=True, eq=False)
class Judged:
    """Rows that several systems judged; see :class:`Rows`.

    Attributes
    ----------
    said : int (N,) for each system.
    """

    true: NDArray[np.int64]
    said: tuple[NDArray[np.int64], ...]
    labels: tuple[str, ...]
    groups: Mapping[str, NDArray[np.int64]]
    values: Mapping[str, tuple[str, ...]]
    person: NDArray[np.int64] | None = None

    def pair(self, number: int) -> Rows:
        """Return the rows of the first system and of another."""
        first, second = self.said[0], self.said[number]
        return Rows(self.true, first, second, self.labels, self.groups, self.values, self.person)

    def without_unused(self) -> Judged:
        """Return the same without classes that nobody is and no system says."""
        used = np.unique(np.concatenate([self.true, *self.said]))
        code = np.full(len(self.labels), -1, np.int64)
        code[used] = np.arange(len(used))
        labels = tuple(self.labels[place] for place in used.tolist())
        said = tuple(code[each] for each in self.said)
        return Judged(code[self.true], said, labels, self.groups, self.values, self.person)


@dataclass(frozen=True, eq=False)
class Cells:
    """Rows counted in K cells.

    Attributes
    ----------
    table : int64 (K, 2, 2), indexed [cell, first is right, second is right].
    people : int64 (K,), persons; None where they are not known.
    squares : float64 (K, 3), sums over persons of D^2, D N and N^2; None where persons are not known.
    """

    table: NDArray[np.int64]
    people: NDArray[np.int64] | None = None
    squares: NDArray[np.float64] | None = None

    @property
    def n(self) -> NDArray[np.int64]:
        """Rows (K,)."""
        return self.table.sum((1, 2))

    @property
    def shares(self) -> NDArray[np.float64]:
        """Shares (K, 2) that the first and the second have right; 0 in an empty cell."""
        right = np.stack([self.table[:, 1].sum(1), self.table[:, :, 1].sum(1)], 1)
        return right / np.maximum(self.n, 1)[:, None]

    @property
    def change(self) -> NDArray[np.float64]:
        """Share (K,) of the second less that of the first."""
        first, second = self.shares.T
        return second - first

    def limits(self, level: float = 0.95) -> Limits:
        """Return the limits of the change; (-1, 1) in an empty cell, and with persons in a cell of one of them."""
        found = newcombe_paired(self.table, level)
        if self.people is None or self.squares is None:
            return found
        own = self._by_person(level)
        return np.stack([np.minimum(found[:, 0], own[:, 0]), np.maximum(found[:, 1], own[:, 1])], 1)

    def deviation(self) -> NDArray[np.float64]:
        """Return the standard deviation (K,) of the change over persons; infinite with fewer than two."""
        assert self.people is not None and self.squares is not None
        change, many = self.change, self.people
        squares, mixed, sizes = self.squares.T
        spread = np.maximum(squares - 2 * change * mixed + change**2 * sizes, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            variance = many / (many - 1) * spread / self.n.astype(np.float64) ** 2
        return np.where(many > 1, np.sqrt(np.where(many > 1, variance, 0)), np.inf)

    def _by_person(self, level: float) -> Limits:
        assert self.people is not None
        known = self.people > 1
        times = np.where(known, stdtrit(np.maximum(self.people - 1, 1), 1 - (1 - level) / 2), 1.0)
        half = times * self.deviation()
        return np.clip(self.change[:, None] + np.stack([-half, half], 1), -1, 1)


def counted(rows: Rows, cell: NDArray[np.int64], cells: int) -> Cells:
    """Count rows by their cell and by who is right.

    Parameters
    ----------
    cell : int (N,), from 0 to ``cells`` - 1.
    """
    right = [rows.first == rows.true, rows.second == rows.true]
    code = cell * 4 + right[0] * 2 + right[1]
    table = np.bincount(code, minlength=4 * cells).reshape(cells, 2, 2).astype(np.int64)
    if rows.person is None:
        return Cells(table)
    pair, inverse, size = np.unique(rows.person * cells + cell, return_inverse=True, return_counts=True)
    moved = np.bincount(inverse, right[1].astype(np.float64) - right[0], minlength=len(pair))
    at = pair % cells
    each = (moved**2, moved * size, size.astype(np.float64) ** 2)
    sums = np.stack([np.bincount(at, weights, minlength=cells).astype(np.float64) for weights in each], 1)
    return Cells(table, np.bincount(at, minlength=cells).astype(np.int64), sums)


def newcombe_paired(table: NDArray[np.int64], level: float = 0.95) -> Limits:
    """Return the limits (K, 2) of p_second - p_first for paired proportions: Newcombe (1998b), method 10.

    Parameters
    ----------
    table : counts (K, 2, 2), indexed [cell, first is right, second is right]; (-1, 1) where a cell is empty.
    """
    n = table.sum((1, 2)).astype(np.float64)
    first, second = table[:, 1].sum(1), table[:, :, 1].sum(1)
    safe = np.maximum(n, 1)
    p, q = first / safe, second / safe
    (low_p, high_p), (low_q, high_q) = (proportion_interval(x, n, level).T for x in (first, second))
    phi = _correlation(table.astype(np.float64), n)
    below = (q - low_q) ** 2 - 2 * phi * (q - low_q) * (high_p - p) + (high_p - p) ** 2
    above = (high_q - q) ** 2 - 2 * phi * (high_q - q) * (p - low_p) + (p - low_p) ** 2
    low, high = q - p - np.sqrt(np.maximum(below, 0)), q - p + np.sqrt(np.maximum(above, 0))
    return np.where((n > 0)[:, None], np.stack([low, high], 1), [-1.0, 1.0])


def _correlation(table: NDArray[np.float64], n: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return phi (K,) of the pairs, drawn towards 0 where it is positive; 0 where a margin is empty."""
    (neither, only_second), (only_first, both) = np.moveaxis(table, 0, -1)
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    product = both * neither - only_first * only_second
    corrected = np.where(product > n / 2, product - n / 2, np.minimum(product, 0.0))
    return np.divide(corrected, np.sqrt(margins), out=np.zeros_like(n), where=margins > 0)


def everywhere(rows: Rows) -> Cells:
    """Count all rows in one cell."""
    return counted(rows, np.zeros(len(rows.true), np.int64), 1)


def by_class(rows: Rows) -> Cells:
    """Count rows by class: cells (C,)."""
    return counted(rows, rows.true, len(rows.labels))


def by_group(rows: Rows, attribute: str) -> Cells:
    """Count rows by the groups of an attribute: cells (G,)."""
    return counted(rows, rows.groups[attribute], len(rows.values[attribute]))


def by_group_and_class(rows: Rows, attribute: str) -> Cells:
    """Count rows by group and class: cells (G C,), the classes of a group one after the other."""
    classes = len(rows.labels)
    return counted(rows, rows.groups[attribute] * classes + rows.true, len(rows.values[attribute]) * classes)
