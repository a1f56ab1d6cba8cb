"""Print a comparison as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from simulations.display import shown
from simulations.versus.table import cells_of

STYLES = {"better": "green", "worse": "bold red", "": ""}


def show(record: Mapping[str, Any], console: Console) -> None:
    """Print every pair's figures, group by group, and what has surely changed."""
    for compared in record["comparisons"]:
        first, second = compared["first"], compared["second"]
        table = Table("whom", "figure", first, second, "change", "95 % interval", "rows", "for sure")
        table.title, table.title_justify = f"{second} beside {first}", "left"
        for (attribute, group, label, metric), cell in cells_of(compared):
            if cell is not None and (not group or not label):
                sure = cell.get("sure", "")
                whom = ", ".join(filter(None, (attribute, group, label))) or "all"
                figures = [shown(cell[key]) for key in ("first", "second")]
                rows = str(cell.get("n", ""))
                change = (
                    _signed(cell["change"]),
                    _limits(cell["interval"]),
                    rows,
                    f"[{STYLES[sure]}]{sure}[/]",
                )
                table.add_row(
                    whom, metric.replace("_", " "), *figures, *(change if sure else (*change[:3], ""))
                )
        console.print(table)
        for kind in ("better", "worse"):
            console.print(said(kind, second, compared[kind]), highlight=False, soft_wrap=True, markup=False)


def said(kind: str, name: str, cells: Sequence[Mapping[str, Any]]) -> str:
    """Say for whom a system is surely better or worse."""
    if not cells:
        return f"{name} is surely {kind} for nobody."
    told = [f"{whom(cell)} by {abs(cell['change']):.3f}" for cell in cells]
    return f"{name} is surely {kind} for {'; '.join(told)}."


def whom(cell: Mapping[str, Any]) -> str:
    """Say whom a cell is about."""
    return ", ".join(filter(None, (cell["attribute"], cell["group"], cell["class"]))) or "all"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.3f}"


def _limits(pair: Sequence[float] | None) -> str:
    return "–" if pair is None else f"{pair[0]:+.3f} to {pair[1]:+.3f}"
