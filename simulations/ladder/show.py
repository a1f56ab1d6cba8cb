"""The ladder on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from server.report import wording
from simulations.ladder.page import lost
from simulations.study.show import caveats, said
from simulations.study.table import GROUPS, OVERALL, Facts

SHOWN = GROUPS[2:]
"""What stands in the narrow table of an attribute's groups; the page and the csv file have more."""


def show(facts: Facts, console: Console) -> None:
    """Print a table of all rungs, what each took, and what was left out."""
    console.print(_figures(facts))
    console.print(_costs(facts))
    caveats(facts, console)


def _figures(facts: Facts) -> Table:
    seeds = ", ".join(map(str, facts["seeds"]))
    title = f"Means over seeds {seeds}; below, the change from the rung before and its 95 % interval"
    made = Table(title=title, title_justify="left", show_lines=True)
    made.add_column("rung")
    attributes = next(iter(facts["systems"].values()))["parity"]
    names = [figure.name for figure in OVERALL]
    names += [f"{figure.name}, {name.replace('_', ' ')}" for name in attributes for figure in SHOWN]
    for name in names:
        made.add_column(name, justify="right")
    for found in facts["systems"].values():
        cells = [said(found, figure) for figure in OVERALL]
        cells += [said(groups, figure) for groups in found["parity"].values() for figure in SHOWN]
        made.add_row(found["name"], *cells)
    return made


def _costs(facts: Facts) -> Table:
    made = Table(title="What each rung took, and who lost most", title_justify="left", show_lines=True)
    for name in ("rung", "epsilon", "at least", "CPU time", "uploaded", "lost most"):
        made.add_column(name)
    for found in facts["systems"].values():
        audited = found["audited"]
        least = (
            "–"
            if audited is None or audited["audited_epsilon"] is None
            else f"{audited['audited_epsilon']:.2f}"
        )
        made.add_row(
            found["name"],
            wording.epsilon(found["epsilon"]),
            least,
            wording.duration(found["cpu_seconds"]),
            wording.size(found["bytes_up"]),
            "; ".join(lost(found)) or "–",
        )
    return made
