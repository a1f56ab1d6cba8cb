"""What one system does better and worse than another for whom: the figures of a comparison, from paired rows.

A change is the second system's figure less the first's. Changes of accuracy and recall have the intervals of
:mod:`fer_models.paired`. Those of the other figures follow from these:

- balanced accuracy is the mean recall, and the classes' changes are independent (MOVER); with persons known, who may
  show several classes, their intervals are added up instead;
- the worst recall changes by no less than the lowest and no more than the highest change of any class, and by no more
  than the limits of both worst recalls allow;
- the accuracy gap changes by no more than the largest change of the difference of any two groups, and by no more than
  the limits of both gaps allow. These two are cautious: wider, never narrower. The limits of both systems take rows as
  independent, so with persons known they say nothing, and the changes alone count.

*For whom.* A cell is a group, a class or both. What is called better or worse there has an interval that excludes 0
with Bonferroni's correction over all cells of the comparison: all statements hold together at the level.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_models.intervals import (
    Interval,
    corrected,
    difference_interval,
    gap_interval,
    mean_interval,
    proportion_interval,
)
from fer_models.labels import UNDISCLOSED
from fer_models.paired import Cells, Rows, by_class, by_group, by_group_and_class, everywhere
from fer_models.parity import SMALLEST, WEAK

Facts = dict[str, Any]


def changes(rows: Rows, level: float = 0.95, comparisons: int = 1) -> Facts:
    """Return what changes from the first system to the second.

    Parameters
    ----------
    level : of the intervals.
    comparisons : how many pairs of systems are compared, over which the statements hold together.

    Returns
    -------
    dict : ``level``; ``overall``: ``accuracy``, ``balanced_accuracy`` and ``worst_recall``; ``recall``: class -> cell;
        ``groups``: attribute -> group -> ``accuracy`` (a cell) and ``recall`` (class -> cell); ``gaps``: attribute ->
        the change of ``accuracy_gap``; ``cells``: how many statements hold together; ``better`` and ``worse``: the
        cells that have changed for sure, the largest change first. A cell holds ``first``, ``second``, ``change`` and
        ``interval``, ``n`` and ``people`` (rows and persons, the latter where known), ``weak``, and ``sure``: "better",
        "worse" or "". Below :data:`SMALLEST` rows the figures are None.
    """
    tables = {name: (by_group(rows, name), by_group_and_class(rows, name)) for name in rows.groups}
    every, classes = everywhere(rows), by_class(rows)
    parts = [every, classes, *(cells for pair in tables.values() for cells in pair)]
    many = comparisons * sum(int((cells.n >= SMALLEST).sum()) for cells in parts)
    facts = {id(cells): _cells(cells, level, corrected(level, many)) for cells in parts}
    groups = {
        name: _groups(rows, name, facts[id(alone)], facts[id(both)]) for name, (alone, both) in tables.items()
    }
    found: Facts = {
        "level": level,
        "cells": many,
        "overall": {
            "accuracy": facts[id(every)][0],
            "balanced_accuracy": _balanced(classes, level),
            "worst_recall": _worst(classes, level),
        },
        "recall": dict(zip(rows.labels, facts[id(classes)], strict=True)),
        "groups": groups,
        "gaps": {
            name: {"accuracy_gap": _gap(alone, rows.values[name], level)}
            for name, (alone, _) in tables.items()
        },
    }
    return found | {kind: sorted_cells(found, kind) for kind in ("better", "worse")}


def sorted_cells(found: Mapping[str, Any], kind: str) -> list[Facts]:
    """Return the cells of a comparison that are surely "better" or "worse", with whom they are about."""
    sure = [{**whom, **cell} for whom, cell in _named(found) if cell["sure"] == kind]
    return sorted(sure, key=lambda cell: -abs(cell["change"]))


def _named(found: Mapping[str, Any]) -> Iterator[tuple[Facts, Facts]]:
    """Yield every cell with the attribute, group and class that it is about, empty for all."""
    yield {"attribute": "", "group": "", "class": ""}, found["overall"]["accuracy"]
    for label, cell in found["recall"].items():
        yield {"attribute": "", "group": "", "class": label}, cell
    for attribute, groups in found["groups"].items():
        for group, each in groups.items():
            yield {"attribute": attribute, "group": group, "class": ""}, each["accuracy"]
            for label, cell in each["recall"].items():
                yield {"attribute": attribute, "group": group, "class": label}, cell


def _cells(cells: Cells, level: float, strict: float) -> list[Facts]:
    """Return each cell's figures."""
    limits, sure = cells.limits(level), cells.limits(strict)
    found = []
    for k, n in enumerate(cells.n.tolist()):
        people = None if cells.people is None else int(cells.people[k])
        few = n < SMALLEST or (people is not None and people < SMALLEST)
        own = {"n": n, "people": people, "weak": n < WEAK or (people is not None and people < WEAK)}
        (first, second), (low, high) = cells.shares[k].tolist(), limits[k].tolist()
        side = "better" if sure[k, 0] > 0 else "worse" if sure[k, 1] < 0 else ""
        found.append(own | figure(first, second, (low, high)) | {"sure": "" if few else side})
        if n < SMALLEST:
            found[-1] |= dict.fromkeys(("first", "second", "change", "interval"))
    return found


def figure(first: float, second: float, interval: Interval) -> Facts:
    """Return a figure of both systems and its change, as the record holds it."""
    return {"first": first, "second": second, "change": second - first, "interval": list(interval)}


def _groups(rows: Rows, name: str, alone: list[Facts], both: list[Facts]) -> Facts:
    labels = rows.labels
    return {
        group: {
            "accuracy": alone[g],
            "recall": dict(zip(labels, both[g * len(labels) : (g + 1) * len(labels)], strict=True)),
        }
        for g, group in enumerate(rows.values[name])
    }


def _balanced(classes: Cells, level: float) -> Facts | None:
    """Return the change of the mean recall over the classes that occur."""
    known = np.flatnonzero(classes.n)
    if not len(known):
        return None
    change, limits = classes.change[known], classes.limits(level)[known]
    low, high = mean_interval(change, limits)
    if classes.people is not None:
        low, high = limits[:, 0].mean(), limits[:, 1].mean()
    first, second = classes.shares[known].mean(0).tolist()
    return figure(first, second, (float(low), float(high)))


def _worst(classes: Cells, level: float) -> Facts | None:
    """Return the change of the lowest recall of the classes that occur."""
    known = np.flatnonzero(classes.n)
    if not len(known):
        return None
    parts = 3 if classes.people is None else 1
    strict = corrected(level, parts * len(known))
    n, shares = classes.n[known], classes.shares[known]
    first, second = shares.min(0).tolist()
    between = classes.limits(strict)[known]
    tight = (float(between[:, 0].min()), float(between[:, 1].max()))
    if classes.people is not None:
        return figure(first, second, tight)
    own = [proportion_interval(shares[:, i] * n, n, strict).min(0) for i in (0, 1)]
    loose = (float(own[1][0] - own[0][1]), float(own[1][1] - own[0][0]))
    return figure(first, second, _both(tight, loose))


def _gap(alone: Cells, names: tuple[str, ...], level: float) -> Facts | None:
    """Return the change of the largest difference in accuracy of two groups that can be compared."""
    kept = [i for i, n in enumerate(alone.n.tolist()) if n >= SMALLEST and names[i] != UNDISCLOSED]
    if len(kept) < 2:
        return None
    n, shares, change = alone.n[kept], alone.shares[kept], alone.change[kept]
    first, second = np.ptp(shares, axis=0).tolist()
    parts = 3 if alone.people is None else 1
    pairs = list(combinations(range(len(kept)), 2))
    limits = alone.limits(corrected(level, parts * len(pairs)))[kept]
    widest = max(_largest(change, limits, i, j) for i, j in pairs)
    if alone.people is not None:
        return figure(first, second, (-widest, widest))
    own = [gap_interval(shares[:, i] * n, n, corrected(level, parts)) for i in (0, 1)]
    loose = (own[1][0] - own[0][1], own[1][1] - own[0][0])
    return figure(first, second, _both((-widest, widest), loose))


def _largest(change: NDArray[np.float64], limits: NDArray[np.float64], i: int, j: int) -> float:
    """Return by how much the difference of two groups can have changed, in either direction."""
    low, high = difference_interval(change[i], tuple(limits[i]), change[j], tuple(limits[j]))
    return max(abs(low), abs(high))


def _both(a: Interval, b: Interval) -> Interval:
    """Return what two intervals of one figure both allow."""
    return max(a[0], b[0]), min(a[1], b[1])
