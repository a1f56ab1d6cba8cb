"""The page of a comparison: what got better and worse, for whom, and how sure that is; from its record alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from server.report import wording
from server.report.folder import Facts, Interval
from server.report.page import environment

TEMPLATES = Path(__file__).parent / "audit" / "templates"

KINDS = {
    "predictions": "predictions of the same rows",
    "models": "models on the same pictures",
    "seeds": "methods of training with the same seeds",
}

NAMES = {"": "Accuracy", "balanced_accuracy": "Balanced accuracy", "worst_recall": "Worst recall"}


class Change(NamedTuple):
    """One figure of both systems: its change and interval in words, and a sign and style that say which way."""

    name: str
    note: str
    first: str
    second: str
    text: str
    spread: str
    style: str


def render(record: Mapping[str, Any]) -> str:
    """Return the page as HTML: it loads nothing, runs no script, and escapes every text.

    Raises
    ------
    RunFolderError : a key with a value of another kind.
    """
    facts = Facts(record, "comparison.json")
    source, pairs = facts.child("source"), facts.rows("comparisons")
    return (
        environment(TEMPLATES)
        .get_template("versus.html.jinja")
        .render(
            kind=KINDS.get(source.text("kind"), "systems"),
            seeds=[str(seed) for seed in source.items("seeds")],
            rows=source.number("rows"),
            people=source.number("people"),
            count=wording.count,
            names=source.names("names"),
            pairs=[_pair(pair, number) for number, pair in enumerate(pairs)],
        )
    )


def _pair(pair: Facts, number: int) -> dict[str, Any]:
    """Return what the page shows of one system beside the first."""
    overall = pair.child("overall")
    return {
        "id": f"pair-{number}",
        "first": pair.text("first"),
        "second": pair.text("second"),
        "lead": _lead(pair),
        "better": _named(pair.rows("better")),
        "worse": _named(pair.rows("worse")),
        "cells": wording.count(pair.number("cells") or 0),
        "overall": [
            change(NAMES.get(key, wording.spaced(key).capitalize()), overall.child(key)) for key in overall
        ],
        "classes": [change(name, cell) for name, cell in pair.child("recall").children().items()],
        "groups": [_attribute(pair, name) for name in pair.child("groups")],
    }


def _lead(pair: Facts) -> str:
    """Say how the accuracy changes, and whether the pictures tell."""
    cell, second, first = pair.child("overall").child("accuracy"), pair.text("second"), pair.text("first")
    value, limits = cell.number("change"), _limits(cell)
    if value is None or limits is None:
        return f"There are too few pictures to compare {second} with {first}."
    span = f"(95{wording.SPACE}% interval {signed(limits[0])} to {signed(limits[1])})"
    if limits[0] <= 0 <= limits[1]:
        return f"The pictures do not tell the accuracy of {second} from that of {first} {span}."
    way = "higher" if value > 0 else "lower"
    return f"The accuracy of {second} is {wording.points(abs(value))} {way} than that of {first} {span}."


def _named(cells: Sequence[Facts]) -> list[Change]:
    return [change(_whom(cell), cell) for cell in cells]


def _whom(cell: Facts) -> str:
    parts = [cell.text("class"), wording.spaced(cell.text("attribute")), cell.text("group")]
    return ", ".join(filter(None, parts)) or "all pictures"


def _attribute(pair: Facts, name: str) -> dict[str, Any]:
    groups = pair.child("groups").child(name).children()
    classes = list(pair.child("recall"))
    gaps = pair.child("gaps").child(name)
    return {
        "name": wording.spaced(name),
        "groups": list(groups),
        "rows": [
            ("Accuracy", [change("", facts.child("accuracy")) for facts in groups.values()]),
            *(
                (label, [change("", facts.child("recall").child(label)) for facts in groups.values()])
                for label in classes
            ),
        ],
        "gaps": [
            change(wording.spaced(key).capitalize(), gaps.child(key)) for key in gaps if gaps.child(key)
        ],
    }


def change(name: str, cell: Facts) -> Change:
    """Return a cell in words; dashes where too few rows allow no figure."""
    limits = _limits(cell)
    value, sure, n = cell.number("change"), cell.text("sure"), cell.number("n")
    if value is None or limits is None:
        return Change(name, "too few", "–", "–", "–", "", "none")
    notes = [f"{wording.count(n)} pictures" if n is not None else "", "few" if cell.get("weak") else ""]
    first, second = (wording.percent(cell.number(key) or 0) for key in ("first", "second"))
    spread = f"{signed(limits[0])} to {signed(limits[1])}"
    style = sure or ("up" if limits[0] > 0 else "down" if limits[1] < 0 else "same")
    return Change(name, ", ".join(filter(None, notes)), first, second, signed(value), spread, style)


def _limits(cell: Facts) -> Interval | None:
    return Facts({"its_interval": cell.get("interval")}, cell.where).interval("its")


def signed(value: float) -> str:
    """Write a change in percentage points with its sign: .0412 -> "+4.1"."""
    said = wording.bare(value)
    return f"+{said}" if value > 0 and said != "0.0" else said.replace(f"{wording.MINUS}0.0", "0.0")
