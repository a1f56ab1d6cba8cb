"""What the audit's page shows of each group attribute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fer_models.counts import Counts
from fer_models.parity import SMALLEST
from server.report import groups as report
from server.report.audit.first import people
from server.report.audit.forest import ACCURACY, forest
from server.report.audit.heat import confusions, few, heat_map
from server.report.folder import Facts
from server.report.systems import System

TOLERATED = {"accuracy_gap": False, "equal_opportunity_difference": True}
"""Metrics whose limit is a band around the reference: of accuracy, or of the recall of the rule's class."""


def groups(record: Facts, counts: Counts, judged: System) -> list[dict[str, Any]]:
    """Return one view an attribute: the report's own, with people, disparities, recalls and confusions."""
    return [_attribute(record, counts, view, name) for name, view in _views(record, judged)]


def _views(record: Facts, judged: System) -> list[tuple[str, dict[str, Any]]]:
    return list(zip(record.child("figures").child("parity"), report.groups([judged]), strict=True))


def _attribute(record: Facts, counts: Counts, view: dict[str, Any], name: str) -> dict[str, Any]:
    parity, known = record.child("figures").child("parity").child(name), record.child("people").child(name)
    persons = {group: int(known.number(group) or 0) for group in known}
    for row in view["rows"]:
        row["notes"] = [*row["notes"], *few(persons.get(row["name"]))]
        if row["name"] in persons:
            row["pictures"] += f", {people(persons[row['name']])}"
    notes = {row["name"]: ", ".join(row["notes"]) for row in view["rows"]}
    disparity = record.child("disparities").child(name)
    scarce = [group for group, number in persons.items() if number < SMALLEST]
    if record.text("doubt"):
        scarce = list(disparity.child("groups"))
    return view | {
        "key": name,
        "forest": forest(disparity, bands(record.rows("verdicts"), name), notes, scarce),
        "heat": heat_map(parity, known),
        "confusions": confusions(counts, name),
        "calibration": _calibration(record.child("source").child("calibration_error").child(name)),
    }


def bands(verdicts: Sequence[Facts], attribute: str) -> dict[str, float]:
    """Return what rules tolerate: class, or the empty string for accuracy -> the largest difference."""
    found: dict[str, float] = {}
    for verdict in verdicts:
        rule = verdict.child("rule")
        per_class, limit = TOLERATED.get(rule.text("metric")), rule.number("limit")
        if per_class is None or limit is None or rule.text("attribute") != attribute:
            continue
        label = rule.text("class") if per_class else ACCURACY
        if label or not per_class:
            found[label] = min(limit, found.get(label, 1.0))
    return found


def _calibration(errors: Facts) -> list[tuple[str, str]]:
    told = [(name, errors.number(name)) for name in errors]
    return [(name, "–" if error is None else f"{error:.3f}") for name, error in told]
