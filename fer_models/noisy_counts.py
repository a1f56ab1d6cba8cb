"""From a sum of tables with noise to counts that fit each other.

Each attribute's table tells all rows once, with noise of its own, so the tables do not agree. First they are made to,
without any cut, by least squares: the counts of all rows are the mean of the tables' sums over groups, each weighted
by one over its groups, and what a table differs from it is spread evenly over its groups. That is linear, and errs to
no side. Only then do counts become whole numbers from 0 on: the predictions of each true class by Euclidean projection
onto those with its total (which so stays free of bias, unless it was below 0), then each count's division among groups
in the same way; rounding gives the largest remainders first. Cutting each count at 0 before it is added up would raise
the small ones, and with them the rare classes and groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fer_models.counts import Counts

Reals = NDArray[np.float64]


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
    """Return a table (G, C, C) of whole numbers that sums to the counts of all rows."""
    even = table + (overall - table.sum(0)) / len(table)
    cells = even.reshape(len(table), -1).T
    return _whole(cells, overall.ravel()).T.reshape(table.shape).astype(np.int64)


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
