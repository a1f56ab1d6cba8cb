"""What the audit's page shows of the data that the model was judged on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from server.report import wording
from server.report.audit.first import people_of
from server.report.folder import Facts

HIDDEN = ("door", "calibration_error", "plan", "rows", "system")
"""Keys of the source that have a place of their own."""

PATHS = ("run", "model", "predictions")
"""Keys of the source whose value is a path: the page tells its last part, and nothing of whose machine it was."""

NAMES = {
    "evenness": "Evenness (1: all are equally many)",
    "imbalance_ratio": "Most over fewest",
    "cramers_v": "Cramér’s V of label and group (0: labels of all groups are alike)",
    "cramers_v_corrected": "The same, corrected for few rows",
}
"""Names of figures of bias that need more words than their key."""


def card(record: Facts) -> list[tuple[str, str]]:
    """Return names and values of what is known of the data and of what was judged."""
    source, data, figures = record.child("source"), record.child("data"), record.child("figures")
    rows = [
        (wording.spaced(key), Path(source.text(key)).name if key in PATHS else _said(source, key))
        for key in source
        if key not in HIDDEN
    ]
    support = figures.child("support")
    rows.append(("pictures", wording.count(sum(support.number(name) or 0 for name in support))))
    if persons := people_of(record):
        rows.append(("people", wording.count(persons)))
    rows += [(wording.spaced(key), _said(data, key)) for key in data]
    told = dict(rows) | {"classes": ", ".join(support)}
    return [(key, value) for key, value in told.items() if value]


def _said(facts: Facts, key: str) -> str:
    value = facts.get(key)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        number = facts.number(key) or 0.0
        return wording.count(number) if number == int(number) else f"{number:g}"
    if isinstance(value, list):
        return ", ".join(str(each) for each in value)
    return "" if isinstance(value, dict) else facts.text(key)


def bias(record: Facts) -> list[dict[str, Any]]:
    """Return the figures of bias in the data: of the classes alone, then attribute by attribute."""
    parts, named = record.child("bias"), record.child("bias").child("attributes").children()
    told = {"Balance of the classes": parts.child("classes")}
    told |= {f"Labels by {wording.spaced(name)}": facts for name, facts in named.items()}
    return [{"name": name, "rows": rows} for name, facts in told.items() if (rows := _numbers(facts))]


def _numbers(facts: Facts) -> list[tuple[str, str, str]]:
    """Return the numbers among the facts with their intervals."""
    rows = []
    for key in facts:
        value = facts.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            limits = facts.interval(key)
            spread = f"{limits[0]:.3f} to {limits[1]:.3f}" if limits else ""
            rows.append((NAMES.get(key, wording.spaced(key)), f"{value:.3g}", spread))
    return rows
