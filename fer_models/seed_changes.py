"""What one method of training does better and worse than another for whom, over runs of paired seeds.

Runs of one seed have pictures, split, sites and first weights in common, so figures are held against each other seed by
seed. The interval of a mean change is Student's over the seeds: how other trainings would differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fer_models.changes import figure, sorted_cells
from fer_models.counts import Counts
from fer_models.intervals import corrected, student_interval
from fer_models.metrics import headline
from fer_models.parity import SMALLEST, WEAK, parity

Facts = dict[str, Any]

OVERALL = ("accuracy", "balanced_accuracy", "worst_recall")
ALIKE = 1e-12
"""Rounding errors: seeds that all agree say that nothing is drawn, and not that the change is known exactly."""

GAPS = ("accuracy_gap", "demographic_parity_difference", "equalized_odds_difference")


class _Cell(NamedTuple):
    """Who a cell is about, and where its rows lie: [attribute, its place among groups, place of its class]."""

    attribute: str
    group: int
    label: int | None


def seed_changes(
    first: Sequence[Counts], second: Sequence[Counts], level: float = 0.95, comparisons: int = 1
) -> Facts:
    """Return what changes from the first method to the second; keys as of :func:`fer_models.changes.changes`.

    Figures are means over the seeds, ``n`` the fewest rows of any seed, and ``people`` is None. Gaps are
    ``accuracy_gap`` and two parity differences, each None where a run does not know it.

    Parameters
    ----------
    first, second : counts of two runs or more, with the same seeds in the same order.
    """
    cells = list(_all_cells(first[0]))
    sizes = [min(_rows(each, cell)[1] for each in (*first, *second)) for cell in cells]
    many = comparisons * sum(n >= SMALLEST for n in sizes)
    told = {
        cell: _told([_rates(runs, cell) for runs in (first, second)], n, level, corrected(level, many))
        for cell, n in zip(cells, sizes, strict=True)
    }
    known = [[headline(each) for each in runs] for runs in (first, second)]
    overall = {key: _mean([[run[key] for run in runs] for runs in known], level) for key in OVERALL}
    labels = first[0].labels
    found: Facts = {
        "level": level,
        "cells": many,
        "overall": overall | {"accuracy": told[_Cell("", 0, None)]},
        "recall": {label: told[_Cell("", 0, place)] for place, label in enumerate(labels)},
        "groups": {name: _groups(first[0], name, told) for name in first[0].groups},
        "gaps": {name: _gaps(first, second, name, level) for name in first[0].groups},
    }
    return found | {kind: sorted_cells(found, kind) for kind in ("better", "worse")}


def _all_cells(counts: Counts) -> Iterator[_Cell]:
    places = [None, *range(len(counts.labels))]
    for attribute, groups in {"": ("",), **counts.groups}.items():
        yield from (_Cell(attribute, group, label) for group in range(len(groups)) for label in places)


def _rows(counts: Counts, cell: _Cell) -> tuple[int, int]:
    """Return how many rows of a cell are right, and how many there are."""
    table = counts.by_group[cell.attribute][cell.group] if cell.attribute else counts.overall
    if cell.label is None:
        return int(np.trace(table)), int(table.sum())
    return int(table[cell.label, cell.label]), int(table[cell.label].sum())


def _rates(runs: Sequence[Counts], cell: _Cell) -> NDArray[np.float64]:
    pairs = np.array([_rows(each, cell) for each in runs], np.float64)
    return pairs[:, 0] / np.maximum(pairs[:, 1], 1)


def _told(rates: Sequence[NDArray[np.float64]], n: int, level: float, strict: float) -> Facts:
    """Return a cell's figures: means over the seeds, and whether they have surely changed."""
    own: Facts = {"n": n, "people": None, "weak": n < WEAK, "sure": ""}
    if n < SMALLEST:
        return own | dict.fromkeys(("first", "second", "change", "interval"))
    moved = rates[1] - rates[0]
    low, high = student_interval(moved, strict)
    side = "" if np.ptp(moved) < ALIKE else "better" if low > 0 else "worse" if high < 0 else ""
    first, second = (float(each.mean()) for each in rates)
    return own | figure(first, second, student_interval(moved, level)) | {"sure": side}


def _mean(values: Sequence[Sequence[float | None]], level: float) -> Facts | None:
    """Return the mean change of a figure; None where a run does not know it."""
    if any(value is None for runs in values for value in runs):
        return None
    first, second = (np.array(runs, np.float64) for runs in values)
    return figure(float(first.mean()), float(second.mean()), student_interval(second - first, level))


def _groups(counts: Counts, name: str, told: dict[_Cell, Facts]) -> Facts:
    return {
        group: {
            "accuracy": told[_Cell(name, g, None)],
            "recall": {label: told[_Cell(name, g, place)] for place, label in enumerate(counts.labels)},
        }
        for g, group in enumerate(counts.groups[name])
    }


def _gaps(first: Sequence[Counts], second: Sequence[Counts], name: str, level: float) -> Facts:
    known = [[parity(each, name) for each in runs] for runs in (first, second)]
    return {key: _mean([[run.get(key) for run in runs] for runs in known], level) for key in GAPS}
