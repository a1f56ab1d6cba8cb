"""From a sum of tables with noise to counts that fit each other.

Each attribute's table tells all rows once, with noise of its own, so the tables do not agree. First they are made to,
without any cut, by least squares: the counts of all rows are the mean of the tables' sums over groups, each weighted
by one over its groups, and what a table differs from it is spread evenly over its groups. That is linear, and errs to
no side. Only then do counts become whole numbers from 0 on: the predictions of each true class by Euclidean projection
onto those with its total (which so stays free of bias, unless it was below 0); in the same way, how many rows of each
group are told right, and how many are not; rounding gives the largest remainders first. Then both by class, and last
the wrong ones by the class that they are taken for: each time the division of every total among groups by projection is
fitted to the groups' totals as well, by iterative proportional fitting (Deming and Stephan 1940). Cutting each count at
0 before it is added up, or dividing each by itself, would raise the many small ones, and with them the rare classes and
the errors of small groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fer_models.counts import Counts

Reals = NDArray[np.float64]

FITS = 60
"""Rounds of fitting to the sums of rows and columns."""

STIR, TINY = 0.01, 1e-12
"""Share of a division in proportion to both sums that is stirred in, so that what was cut at 0 can be fitted; and what
stands for nothing in a divisor."""


def cleaned(total: NDArray[np.int64], labels: Sequence[str], groups: Mapping[str, Sequence[str]]) -> Counts:
    """Return the counts that a sum of noisy tables is nearest to.

    Parameters
    ----------
    total : tables (G, C, C) of every attribute one behind the other, or one table (C, C) without attributes.
    """
    classes = len(labels)
    tables = np.split(total.astype(np.float64), np.cumsum(_sizes(groups, classes))[:-1])
    tables = [table.reshape(-1, classes, classes) for table in tables]
    weight = np.array([1 / len(table) for table in tables])
    together = sum(w * table.sum(0) for w, table in zip(weight, tables, strict=True)) / weight.sum()
    overall = _whole(together, np.maximum(np.rint(together.sum(1)), 0))
    by_group = {name: _divided(table, overall) for name, table in zip(groups, tables, strict=False)}
    names = {name: tuple(values) for name, values in groups.items()}
    return Counts(tuple(labels), names, overall.astype(np.int64), by_group)


def variance_of_cell(groups: Sequence[int], variance: float) -> float:
    """Return the variance of the noise in a count of all rows, before it is cut.

    Parameters
    ----------
    groups : G of every table, empty for one table of all.
    variance : of the noise in a count of a table.
    """
    return variance / sum(1 / each for each in groups) if groups else variance


def _sizes(groups: Mapping[str, Sequence[str]], classes: int) -> list[int]:
    return [len(values) * classes**2 for values in groups.values()] or [classes**2]


def _divided(table: Reals, overall: Reals) -> NDArray[np.int64]:
    """Return a table (G, C, C) of whole numbers that sums to the counts of all rows (C, C)."""
    groups, classes = table.shape[:2]
    even = table + (overall - table.sum(0)) / groups
    off = ~np.eye(classes, dtype=bool)
    parts = []
    for values, totals in (
        (np.diagonal(even, axis1=1, axis2=2), np.diagonal(overall)),
        (np.where(off, even, 0).sum(2), np.where(off, overall, 0).sum(1)),
    ):
        own = _whole(values.sum(1)[None], totals.sum(keepdims=True))[0]
        parts.append(_fitted(values, own, totals))
    hits, wrong = parts
    found = np.zeros_like(table)
    for true in range(classes):
        columns = off[true]
        found[:, true, columns] = _fitted(even[:, true, columns], wrong[:, true], overall[true, columns])
        found[:, true, true] = hits[:, true]
    return found.astype(np.int64)


def _fitted(values: Reals, rows: Reals, columns: Reals) -> Reals:
    """Return whole numbers from 0 on (G, K) with these sums of rows (G,) and columns (K,), which are whole and have one
    total: near ``values``, divided column by column and then fitted to both sums.
    """
    total = rows.sum()
    if not total:
        return np.zeros_like(values)
    near = onto_simplex(values.T, columns).T + STIR * np.outer(rows, columns) / total
    for _ in range(FITS):
        near *= (rows / np.maximum(near.sum(1), TINY))[:, None]
        near *= columns / np.maximum(near.sum(0), TINY)
    low = np.floor(near + 1e-9)
    for row in np.flatnonzero(low.sum(1) > rows):  # where fitting has not quite come to its end
        for _ in range(int(low[row].sum() - rows[row])):
            low[row, low[row].argmax()] -= 1
    need, short = rows - low.sum(1), columns - low.sum(0)
    for row in np.argsort(-need, kind="stable"):
        for _ in range(int(need[row])):
            wanted = np.where(short > 0, near[row] - low[row], -np.inf)
            column = int(wanted.argmax())
            low[row, column] += 1
            short[column] -= 1
    return low


def _whole(values: Reals, totals: Reals) -> Reals:
    """Return the whole numbers from 0 on with these row sums that rows (N, K) are nearest to, up to rounding."""
    kept = onto_simplex(values, totals)
    low = np.floor(kept + 1e-9)
    left = totals - low.sum(1)
    rank = np.argsort(np.argsort(-(kept - low), axis=1, kind="stable"), axis=1, kind="stable")
    return low + (rank < left[:, None])


def onto_simplex(values: Reals, totals: Reals) -> Reals:
    """Return the numbers from 0 on with given row sums (N,) that are nearest to rows (N, K), in 2-norm.

    The algorithm with sorting (Duchi et al. 2008, "Efficient projections onto the l1-ball").
    """
    ordered = -np.sort(-values, axis=1)
    over = np.cumsum(ordered, axis=1) - totals[:, None]
    many = np.arange(1, values.shape[1] + 1)
    kept = np.maximum((ordered * many > over).sum(1), 1)
    cut = over[np.arange(len(values)), kept - 1] / kept
    return np.where(totals[:, None] > 0, np.maximum(values - cut[:, None], 0), 0.0)
