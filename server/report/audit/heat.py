"""Tables whose cells are coloured by a share: recall of class by group, and who is taken for what."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fer_models.counts import Counts
from fer_models.parity import SMALLEST, WEAK
from server.report import wording
from server.report.audit.first import people
from server.report.folder import Facts

STEPS = 7
"""Shades of each scale in the style sheet, from 0 on."""

FEW = f"under {SMALLEST}"
"""In place of a number of pictures that is too small to be told."""


class Cell(NamedTuple):
    """One cell: its text, its shade (None where nothing is shown), what a reader should mind, and its interval."""

    text: str
    step: int | None
    mind: str = ""
    span: str = ""


def shade(share: float) -> int:
    """Return the shade of a share: equal parts of 0 to 1."""
    return min(int(share * STEPS), STEPS - 1)


def heat_map(parity: Facts, persons: Facts) -> dict[str, Any] | None:
    """Return recall by class and group, shaded by how often it is wrong; None without two groups to show."""
    groups = {
        name: facts
        for name, facts in parity.child("groups").children().items()
        if not facts.get("suppressed")
    }
    if len(groups) < 2:
        return None
    classes = list(next(iter(groups.values())).child("recall"))
    told = [name for name in classes if any(facts.child("support").number(name) for facts in groups.values())]
    rows = [(name, [_recall(facts, name) for facts in groups.values()]) for name in told]
    heads = [(name, _size(facts, persons.number(name))) for name, facts in groups.items()]
    return {"groups": heads, "rows": rows}


def _size(facts: Facts, persons: float | None) -> str:
    if persons is not None:
        return ", ".join([people(persons), *few(persons)])
    return wording.plural(int(facts.number("n") or 0), "picture")


def _recall(facts: Facts, name: str) -> Cell:
    n, value = int(facts.child("support").number(name) or 0), facts.child("recall").number(name)
    if value is None:
        return Cell("–", None, FEW if n else "none")
    limits = Facts({"of_interval": facts.child("recall_interval").get(name)}, facts.where).interval("of")
    span = f"{wording.bare(limits[0], 0)} to {wording.bare(limits[1], 0)}" if limits else ""
    return Cell(wording.percent(value, 0), shade(1 - value), f"{n} pictures" if n < WEAK else "", span)


def few(persons: float | None) -> list[str]:
    """Return what to mind of a group of so many people."""
    if persons is None or persons >= WEAK:
        return []
    return ["too few people"] if persons < SMALLEST else ["few people"]


def confusions(counts: Counts, attribute: str) -> list[dict[str, Any]]:
    """Return for every group with enough pictures who is taken for what."""
    tables = counts.by_group[attribute]
    return [
        {"name": name, "table": confusion(counts, table)}
        for name, table in zip(counts.groups[attribute], tables, strict=True)
        if table.sum() >= SMALLEST
    ]


def confusion(counts: Counts, table: NDArray[np.int64]) -> dict[str, Any]:
    """Return shares of each true class by what it was called, row by row.

    Parameters
    ----------
    table : int64 (C, C), indexed [true, predicted].
    """
    seen = np.flatnonzero(counts.overall.sum(0) + counts.overall.sum(1)).tolist()
    rows = []
    for true in seen:
        n = int(table[true].sum())
        if not counts.overall[true].sum():
            continue
        cells = [_share(int(table[true, guess]), n, true == guess) for guess in seen]
        size = wording.count(n) if n >= SMALLEST or not n else FEW
        rows.append((counts.labels[true], size, cells))
    return {"heads": [counts.labels[place] for place in seen], "rows": rows}


def _share(x: int, n: int, right: bool) -> Cell:
    if n < SMALLEST:
        return Cell("–", None)
    return Cell(wording.bare(x / n, 0), shade(x / n), "right" if right else "")


def mistakes(counts: Counts) -> dict[str, str]:
    """Return per class what it is most often taken for instead, and how often; empty where it never is."""
    found = {}
    for place, name in enumerate(counts.labels):
        row = counts.overall[place].astype(float)
        n, row[place] = row.sum(), 0
        if row.any():
            other = int(row.argmax())
            found[name] = f"{counts.labels[other]}, {wording.percent(row[other] / n, 0)}"
    return found
