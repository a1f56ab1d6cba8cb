"""From the runs of a sweep to its figures, and to the tables that people read: Markdown and csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from server.report import wording
from server.run_folder import RunFolder
from simulations.study.table import COSTS, OVERALL, Facts, over_seeds, row
from simulations.sweeps.cells import Cell

MARKDOWN, CSV = "table.md", "table.csv"

CURVES = ("accuracy", "worst_recall")
"""Figures that are shown round by round."""


def figures_of(cell: Cell, found: Sequence[Facts]) -> Facts:
    """Return the figures of a cell, each with its mean over the seeds, its interval and its seeds.

    Epsilon is the largest over the seeds, as in every table.

    Parameters
    ----------
    found : what the summary of each seed's run says of the federated system.
    """
    made = row(found, None)
    made["epsilon_seeds"] = [each["epsilon"] for each in found]
    for key in COSTS:
        made |= over_seeds(key, [each[key] for each in found], None, share=False)
    gaps = [next(iter(each["parity"].values()), {}).get("accuracy_gap") for each in found]
    made |= over_seeds("accuracy_gap", gaps, None)
    return {"group": cell.group, "line": cell.line, "name": cell.name, **made}


def curve_of(folders: Sequence[Path]) -> Facts:
    """Return the mean curve of a cell over its seeds: round, bytes that were sent up, and each of :data:`CURVES`."""
    lines = [
        [each for each in RunFolder(place).metrics() if each["system"] == "federated" and "accuracy" in each]
        for place in folders
    ]
    length = min(len(each) for each in lines)
    made: Facts = {
        key: np.mean([[record[key] for record in each[:length]] for each in lines], axis=0).tolist()
        for key in ("round", "bytes_up")
    }
    for key in CURVES:
        values = [[record[key] for record in each[:length]] for each in lines]
        made[key] = [_mean(column) for column in zip(*values, strict=True)]
    return made


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None


COLUMNS = {
    **{figure.key: figure.name for figure in OVERALL},
    "accuracy_gap": "accuracy gap",
    "epsilon": "epsilon",
    "bytes_up": "sent up",
    "cpu_seconds": "CPU time",
}
"""Figures of the tables -> their headings."""


def to_csv(cells: Mapping[str, Facts]) -> str:
    """Return every figure of every cell: its mean, and the ends of its interval."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("group", "line", "at", "figure", "value", "low", "high", "seeds"))
    for found in cells.values():
        for key in COLUMNS:
            limits = found.get(f"{key}_interval") or ("", "")
            value = "" if found[key] is None else found[key]
            known = len(found[f"{key}_seeds"])
            writer.writerow((found["group"], found["line"], found["name"], key, value, *limits, known))
    return text.getvalue()


def to_markdown(facts: Facts) -> str:
    """Return a table a group: each figure with its interval where it is a share."""
    parts = []
    for group, axis in facts["groups"].items():
        cells = [found for found in facts["systems"].values() if found["group"] == group]
        chosen = any(found.get("chosen") for found in cells)
        heads = [
            "method" if facts["curves"] else axis,
            *([] if facts["curves"] else ["line"]),
            *COLUMNS.values(),
        ]
        heads += ["rate"] if chosen else []
        lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
        for found in cells:
            first = [found["line"]] if facts["curves"] else [found["name"], found["line"]]
            cellwords = [said(found, key) for key in COLUMNS]
            last = [f"`{found['chosen']}`" if found.get("chosen") else ""] if chosen else []
            lines.append("| " + " | ".join([*first, *cellwords, *last]) + " |")
        parts.append("\n".join([f"**{group}**", "", *lines]))
    return "\n\n".join(parts) + "\n"


def said(found: Facts, key: str) -> str:
    """Return a figure of a cell in words, with its interval where it is a share."""
    value: Any = found[key]
    if value is None:
        return "–"
    if key == "epsilon":
        return wording.epsilon(value)
    if key == "bytes_up":
        return wording.size(value)
    if key == "cpu_seconds":
        return wording.duration(value)
    limits = found.get(f"{key}_interval")
    spread = "" if limits is None else f" ({wording.bare(limits[0])} to {wording.bare(limits[1])})"
    return f"{wording.bare(value)}{spread}"
