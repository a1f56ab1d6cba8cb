"""The chart of disparities: every group beside its reference, with intervals and what is tolerated."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from server.report import wording
from server.report.charts import ticks
from server.report.folder import Facts, Interval

ACCURACY = ""
"""In place of a class."""

MOST_OPEN = 30
"""Rows of differences that stand in the open; beyond that those of each class are folded away."""


@dataclass(frozen=True)
class Mark:
    """A difference in words, and as places on an axis from 0 to 100 %."""

    name: str
    note: str
    text: str
    spread: str
    verdict: str
    at: float
    low: float
    high: float


def forest(
    disparity: Facts, bands: Mapping[str, float], notes: Mapping[str, str], scarce: Collection[str] = ()
) -> dict[str, Any] | None:
    """Return rows of differences from the reference, question by question; None without any.

    Parameters
    ----------
    disparity : what :func:`fer_models.findings.against_reference` returns.
    bands : class, or :data:`ACCURACY` -> the largest difference that is tolerated, where a rule names one.
    notes : group -> what to mind.
    scarce : groups of so few people that nothing is said of them beyond the figures.
    """
    groups = disparity.child("groups").children()
    known = _asked(groups)
    if not known:
        return None
    few = {name for name in groups if {name, disparity.text("reference")} & set(scarce)}
    reach = _reach([facts for rows in known.values() for facts in rows.values()], list(bands.values()))
    blocks = [
        {
            "name": label or "All expressions",
            "band": _band(bands.get(label), reach),
            "rows": [
                _mark(name, facts, notes.get(name, ""), reach, sure=name not in few)
                for name, facts in rows.items()
            ],
        }
        for label, rows in known.items()
    ]
    axis = [
        {"at": _place(tick, reach), "text": _signed(tick).removesuffix(".0")}
        for tick in ticks(-reach, reach)
        if abs(tick) <= reach
    ]
    return {
        "reference": disparity.text("reference"),
        "comparisons": wording.count(disparity.number("comparisons") or 0),
        "blocks": blocks,
        "long": sum(len(block["rows"]) for block in blocks) > MOST_OPEN and len(blocks) > 1,
        "axis": axis,
        "banded": any(label in bands for label in known),
    }


def _asked(groups: Mapping[str, Facts]) -> dict[str, dict[str, Facts]]:
    """Return the differences that are known: class, or :data:`ACCURACY` -> group -> its difference."""
    classes = list(dict.fromkeys(name for facts in groups.values() for name in facts.child("recall")))
    cells = {ACCURACY: {name: facts.child("accuracy") for name, facts in groups.items()}}
    for label in classes:
        cells[label] = {name: facts.child("recall").child(label) for name, facts in groups.items()}
    known = {label: {name: facts for name, facts in row.items() if facts} for label, row in cells.items()}
    return {label: row for label, row in known.items() if row}


def _reach(cells: Sequence[Facts], bands: Sequence[float]) -> float:
    """Return where the axis ends: at the next tenth beyond all limits."""
    limits = [abs(limit) for facts in cells for limit in _limits(facts)]
    return min(1.0, math.ceil(max([*limits, *bands, 0.1]) * 10 - 1e-9) / 10)


def _limits(facts: Facts) -> Interval:
    return facts.interval("difference") or (0.0, 0.0)


def _mark(name: str, facts: Facts, note: str, reach: float, *, sure: bool) -> Mark:
    value, (low, high) = facts.number("difference") or 0.0, _limits(facts)
    verdict = "not clear" if not sure or low <= 0 <= high else "lower" if high < 0 else "higher"
    spread = f"{_signed(low)} to {_signed(high)}"
    places = (_place(each, reach) for each in (value, low, high))
    return Mark(name, note, f"{_signed(value)}{wording.SPACE}points", spread, verdict, *places)


def _band(limit: float | None, reach: float) -> dict[str, Any] | None:
    if limit is None:
        return None
    low, high = _place(-limit, reach), _place(limit, reach)
    return {"low": low, "width": round(high - low, 2), "text": wording.points(limit)}


def _place(value: float, reach: float) -> float:
    return round(50 + 50 * min(max(value / reach, -1.0), 1.0), 2)


def _signed(value: float) -> str:
    plus = "+" if value > 5e-4 else ""
    said = f"{plus}{wording.bare(value)}"
    return "0.0" if said == f"{wording.MINUS}0.0" else said
