"""What the report shows of groups: accuracy, parity beside that of the labels, and rates per class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fer_models.labels import UNDISCLOSED
from fer_models.parity import SMALLEST
from server.report import wording
from server.report.folder import Facts
from server.report.systems import Figure, System, figure_of, index_of, judged, main_system, named_figure

PARITY = (
    ("demographic_parity_difference", "Demographic parity difference", "mean over classes; 0 is parity"),
    ("demographic_parity_difference_worst", "Demographic parity difference, worst class", "0 is parity"),
    ("demographic_parity_ratio", "Demographic parity ratio", "mean over classes; 1 is parity"),
    ("equalized_odds_difference", "Equalized odds difference", "mean over classes; 0 is parity"),
    ("equal_opportunity_difference", "Equal opportunity difference", "mean over classes; 0 is parity"),
    ("accuracy_gap", "Accuracy gap", "best group less worst group"),
)


def groups(found: Sequence[System]) -> list[dict[str, Any]]:
    """Return one view an attribute: accuracy by group, parity beside that of the labels, rates per class."""
    main = main_system(found)
    if main is None:
        return []
    return [_attribute(name, main, judged(found)) for name in main.facts.child("parity")]


def _attribute(name: str, main: System, ready: Sequence[System]) -> dict[str, Any]:
    parity = {system.key: system.facts.child("parity").child(name) for system in ready}
    own = parity[main.key]
    members = own.child("groups").children()
    rows = [
        {
            "name": value,
            "pictures": _pictures(facts),
            "notes": _notes(value, facts),
            "cells": [
                (system, figure_of(parity[system.key].child("groups").child(value), "accuracy"))
                for system in ready
            ],
        }
        for value, facts in members.items()
    ]
    return {
        "name": wording.spaced(name),
        "systems": ready,
        "rows": rows,
        "verdict": wording.gap(
            own.number("accuracy_gap"), None if main.facts.text("doubt") else own.interval("accuracy_gap")
        ),
        "figures": _parity_rows(parity, ready, own),
        "probes": _probes(name, ready, parity),
        "unprobed": main.facts.child("probes").child(name).text("note"),
        "rates": _rates(members, own),
        "main": main,
        "excluded": [_left_out(row) for row in own.rows("excluded")],
    }


def _pictures(facts: Facts) -> str:
    if facts.get("suppressed"):
        return f"fewer than {SMALLEST} pictures"
    return wording.plural(int(facts.number("n") or 0), "picture")


def _notes(value: str, facts: Facts) -> list[str]:
    if facts.get("suppressed"):
        return ["too few to show"]
    notes = ["weak: few pictures"] if facts.get("weak") else []
    return [*notes, "not compared"] if value == UNDISCLOSED and not facts.get("compared") else notes


def _left_out(row: Facts) -> str:
    label = row.text("class")
    return f"{row.text('group')}{f', {label}' if label else ''}: {row.text('reason')}"


def _parity_rows(parity: dict[str, Facts], ready: Sequence[System], own: Facts) -> list[dict[str, Any]]:
    rows = []
    for key, name, hint in PARITY:
        cells = [
            (system, index_of(parity[system.key], key), parity[system.key].text(f"{key}_class"))
            for system in ready
        ]
        labels = index_of(own.child("labels"), key), own.child("labels").text(f"{key}_class")
        if any(cell.at is not None for _, cell, _ in cells):
            rows.append({"name": name, "hint": hint, "cells": cells, "labels": labels})
    return rows


def _probes(
    name: str, ready: Sequence[System], parity: dict[str, Facts]
) -> list[tuple[System, Facts, list[Figure]]]:
    """Return per system how well fresh probes tell the group, and beside it how far recalls differ between groups."""
    probed = [(system, system.facts.child("probes").child(name)) for system in ready]
    return [
        (
            system,
            facts,
            [
                *(figure_of(facts, key) for key in ("chance", "linear", "mlp")),
                index_of(parity[system.key], "equal_opportunity_difference"),
            ],
        )
        for system, facts in probed
        if facts.number("linear") is not None
    ]


def _rates(members: dict[str, Facts], own: Facts) -> dict[str, Any] | None:
    """Return per class which share of each group is called so, beside the share that is labelled so."""
    shown = {value: facts for value, facts in members.items() if not facts.get("suppressed")}
    classes = list(own.child("per_class"))
    if not shown or not classes:
        return None
    rows = []
    for name in classes:
        cells = [
            (value, named_figure(facts, "selection_rate", name), named_figure(facts, "label_rate", name))
            for value, facts in shown.items()
        ]
        rows.append(
            {"name": name, "cells": cells, "gap": index_of(own.child("per_class").child(name), PARITY[0][0])}
        )
    return {"groups": list(shown), "rows": rows}
