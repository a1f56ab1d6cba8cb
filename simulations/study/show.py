"""The table of a study on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from simulations.study.table import GROUPS, OVERALL, Facts, Figure, verdict

SHOWN = (GROUPS[0], GROUPS[2])
"""What stands in the narrow table of an attribute's groups; the page has more."""


def show(facts: Facts, console: Console) -> None:
    """Print a table of all methods, and what was left out."""
    console.print(_table(facts))
    caveats(facts, console)


def caveats(facts: Facts, console: Console) -> None:
    """Print what a table cannot tell: intervals where there is one seed, and what was left out."""
    if len(facts["seeds"]) < 2:
        console.print("one seed tells no interval: the differences may be chance", highlight=False)
    for name, reason in facts["refused"].items():
        console.print(f"left out: {name}: {reason}", highlight=False, soft_wrap=True, markup=False)


def _table(facts: Facts) -> Table:
    seeds = ", ".join(map(str, facts["seeds"]))
    title = f"Means over seeds {seeds}; below, the change from {facts['order'][0]} and its 95 % interval"
    made = Table(title=title, title_justify="left", show_lines=True)
    made.add_column("method", no_wrap=True)
    attributes = next(iter(facts["systems"].values()))["parity"]
    names = [figure.name for figure in OVERALL]
    names += [f"{figure.name}, {name.replace('_', ' ')}" for name in attributes for figure in SHOWN]
    for name in names:
        made.add_column(name, justify="right")
    rows = dict(facts["systems"])
    if facts["reference"] is not None:
        rows[f"{facts['order'][0]}, no privacy"] = facts["reference"]
    for method, found in rows.items():
        cells = [said(found, figure) for figure in OVERALL]
        cells += [said(groups, figure) for groups in found["parity"].values() for figure in SHOWN]
        made.add_row(method, *cells)
    return made


def said(found: Mapping[str, Any], figure: Figure) -> str:
    """Return a figure and, on lines below it, its change with the interval, and what that tells."""
    value, change = found[figure.key], found.get(f"{figure.key}_change")
    lines = ["–" if value is None else f"{value:.3f}"]
    if change is not None:
        limits = found[f"{figure.key}_change_interval"]
        spread = "" if limits is None else f" ({limits[0]:+.3f} to {limits[1]:+.3f})"
        lines += [f"{change:+.3f}{spread}", verdict(found, figure)]
    return "\n".join(line for line in lines if line)
