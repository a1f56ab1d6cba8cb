"""Every change of a comparison, one a row."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

COLUMNS = ("first", "second", "attribute", "group", "class", "metric")
FIGURES = ("value_first", "value_second", "change", "low", "high", "n", "people", "sure")


def changes_csv(record: Mapping[str, Any]) -> str:
    """Return the record's figures as csv; what is not known is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*COLUMNS, *FIGURES))
    for compared in record["comparisons"]:
        pair = (compared["first"], compared["second"])
        writer.writerows((*pair, *whom, *_figures(cell)) for whom, cell in cells_of(compared))
    return text.getvalue()


def cells_of(
    compared: Mapping[str, Any],
) -> Iterator[tuple[tuple[str, str, str, str], Mapping[str, Any] | None]]:
    """Yield every figure of a comparison: (attribute, group, class, metric), and the figure or None."""
    for key, cell in compared["overall"].items():
        yield ("", "", "", key), cell
    for label, cell in compared["recall"].items():
        yield ("", "", label, "recall"), cell
    for name, groups in compared["groups"].items():
        for group, each in groups.items():
            yield (name, group, "", "accuracy"), each["accuracy"]
            for label, cell in each["recall"].items():
                yield (name, group, label, "recall"), cell
        for key, cell in compared["gaps"][name].items():
            yield (name, "", "", key), cell


def _figures(cell: Mapping[str, Any] | None) -> list[Any]:
    if cell is None:
        return [""] * len(FIGURES)
    low, high = cell["interval"] or ("", "")
    found = [cell["first"], cell["second"], cell["change"], low, high]
    found += [cell.get(key) for key in ("n", "people", "sure")]
    return ["" if value is None else value for value in found]
