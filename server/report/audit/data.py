"""What the audit's page shows of the data that the model was judged on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from server.report import wording
from server.report.audit.first import people_of
from server.report.folder import Facts
from server.report.systems import index_of

HIDDEN = ("door", "calibration_error", "plan", "rows", "system")
"""Keys of the source that have a place of their own."""

PATHS = ("run", "model", "predictions")
"""Keys of the source whose value is a path: the page tells its last part, and nothing of whose machine it was."""


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
    return _net(facts.child(key)) if isinstance(value, dict) else facts.text(key)


def _net(facts: Facts) -> str:
    """Return a net's name and size; the empty string for other objects."""
    parameters = facts.number("parameters")
    return f"{facts.text('name')}, {wording.count(parameters)} parameters" if parameters else ""


def bias(record: Facts) -> list[dict[str, Any]]:
    """Return figures of bias in the data, a row for the classes alone and one an attribute."""
    parts, named = record.child("bias"), record.child("bias").child("attributes").children()
    told = {"expressions": parts.child("classes")} | {
        wording.spaced(name): facts for name, facts in named.items()
    }
    return [
        {
            "name": name,
            "evenness": index_of(facts, "evenness"),
            "ratio": "–" if (ratio := facts.number("imbalance_ratio")) is None else f"{ratio:.1f}",
            "most": " and ".join(filter(None, (facts.text("most"), facts.text("fewest")))),
            "phi": index_of(facts, "cramers_v"),
            "corrected": index_of(facts, "cramers_v_corrected"),
        }
        for name, facts in told.items()
        if facts.number("evenness") is not None
    ]
