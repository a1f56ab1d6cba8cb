"""What the report shows of sites: who holds what, and how each system does at each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fer_models.intervals import wilson
from server.report import wording
from server.report.folder import Facts, Run, damaged
from server.report.systems import PARTS, Figure, System, figure, judged

MOST_SITES = 40
"""Sites drawn in the picture of the partition and listed in the open."""


def partition(run: Run) -> list[dict[str, Any]]:
    """Return one picture a column of the partition: a bar a site, as wide as the site is large."""
    names = run.partition.names("sites")
    pictures = []
    for column, facts in run.partition.child("by").children().items():
        values, table = facts.names("values"), facts.items("table")
        counts = [_row(row, len(values), f"{facts.where}.table[{index}]") for index, row in enumerate(table)]
        largest = max((sum(row) for row in counts), default=0)
        if len(counts) != len(names):
            raise damaged(f"expected a row for each of {len(names)} sites", facts.where)
        if largest:
            pictures.append(_stacks(column, values, names, counts, largest))
    return pictures


def _row(row: Any, width: int, where: str) -> list[float]:
    """Check one row of counts, one for each value of the column."""
    if not isinstance(row, list) or len(row) != width:
        raise damaged(f"expected {width} counts", where)
    facts = Facts({str(index): count for index, count in enumerate(row)}, where)
    return [facts.number(key) or 0 for key in facts]


def _stacks(
    column: str, values: list[str], names: list[str], counts: list[list[float]], largest: float
) -> dict[str, Any]:
    bars = [
        {
            "site": site,
            "total": wording.count(sum(row)),
            "width": round(100 * sum(row) / largest, 2),
            "parts": [
                {
                    "share": round(100 * n / sum(row), 2),
                    "colour": index % PARTS,
                    "text": f"{site}: {values[index]} {wording.count(n)}",
                }
                for index, n in enumerate(row)
                if n
            ],
        }
        for site, row in zip(names, counts, strict=True)
    ]
    legend = [{"name": value, "colour": index % PARTS} for index, value in enumerate(values)]
    table = [(site, [wording.count(n) for n in row]) for site, row in zip(names, counts, strict=True)]
    more = len(bars) - MOST_SITES
    return {
        "column": wording.spaced(column),
        "bars": bars[:MOST_SITES],
        "legend": legend,
        "names": values,
        "table": table,
        "more": wording.plural(more, "further site") if more > 0 else "",
    }


def sites(found: Sequence[System]) -> dict[str, Any] | None:
    """Return what every site holds and how each system does there, and how it spreads over sites."""
    with_sites = [system for system in judged(found) if system.facts.rows("per_site")]
    if not with_sites:
        return None
    own = {s.key: {row.text("site"): row for row in s.facts.rows("per_site")} for s in with_sites}
    rows = []
    for name in dict.fromkeys(name for sites in own.values() for name in sites):
        facts = next(sites[name] for sites in own.values() if name in sites)
        cells = [
            (system, _at_site(own[system.key].get(name), sure=not system.facts.text("doubt")))
            for system in with_sites
        ]
        rows.append({"name": name, "facts": _facts(facts), "cells": cells})
    spreads = [spread for system in with_sites if (spread := _spread(system))]
    notes = list(dict.fromkeys(note for system in with_sites if (note := system.facts.text("sites_note"))))
    return {"rows": rows, "systems": with_sites, "spreads": spreads, "open": MOST_SITES, "notes": notes}


def _facts(site: Facts) -> str:
    """What a site holds, and the privacy it spent."""
    known = [(name, site.number(key)) for key, name in (("train", "training"), ("test", "test"))]
    parts = [f"{wording.count(value)} {name}" for name, value in known if value is not None]
    budget = site.number("epsilon")
    return ", ".join(parts if budget is None else [*parts, f"epsilon {wording.epsilon(budget)}"])


def _at_site(facts: Facts | None, *, sure: bool) -> Figure:
    """Accuracy at a site, with its interval or the one that follows from its number of test pictures.

    Without any where these would be too narrow.
    """
    if facts is None or (value := facts.number("accuracy")) is None:
        return Figure("–")
    given, rows = facts.interval("accuracy") if sure else None, facts.number("test") if sure else None
    if given or not rows or not 0 <= value <= 1:
        return figure(value, given)
    low, high = wilson(min(round(value * rows), rows), rows).tolist()
    return figure(value, (low, high))


def _spread(system: System) -> str:
    facts = system.facts.child("sites").child("accuracy")
    lowest, mean = facts.number("minimum"), facts.number("mean")
    if lowest is None or mean is None:
        return ""
    parts = [f"{system.name}: {wording.percent(mean)} on average over sites"]
    if (deviation := facts.number("deviation")) is not None:
        parts.append(f"deviation {wording.points(deviation)}")
    if (gini := facts.number("gini")) is not None:
        parts.append(f"Gini {gini:.3f}")
    worst = _worst_site(system, facts.get("worst_site"))
    return f"{', '.join(parts)}; lowest {wording.percent(lowest)}{f' at {worst}' if worst else ''}."


def _worst_site(system: System, worst: Any) -> str:
    rows = system.facts.rows("per_site")
    if isinstance(worst, int) and 0 <= worst < len(rows):
        return rows[worst].text("site")
    return worst if isinstance(worst, str) else ""
