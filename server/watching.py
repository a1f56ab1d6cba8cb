"""What ``fedfer server run`` shows: a live table on a terminal, otherwise a line for everything that happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from server.following import Event
from server.run_state import refusal

SHOWN = 12
"""Rounds in the table; the newest."""

SAID = 6
"""Sentences below the table; the newest."""


def said(line: Event) -> str:
    """Return what is shown of a round."""
    told = f"round {line['round']}/{line['rounds']}"
    if "lost" in line:
        told += f"  lost: {line['lost']}"
    if "accuracy" in line:
        told += f"  accuracy {line['accuracy']:.3f}  worst recall {line['worst_recall']:.3f}"
    if line.get("epsilon") is not None:
        told += f"  epsilon {line['epsilon']:.2f}"
    return f"{told}  {line['seconds']:.1f} s"


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for every site that is another than before."""
    for name, why in now["refused"].items():
        if before.get("refused", {}).get(name) != why:
            yield refusal(name, why)
    for name in now["away"]:
        if name not in before.get("away", ()):
            yield f"{name} is away; the rounds go on without it"
    missed = {*before.get("away", ()), *before.get("refused", ())}
    yield from (f"{name} takes part again" for name in now["present"] if name in missed)


class _Table:
    """The live table.

    Parameters
    ----------
    show : puts a renewed one on the screen.
    """

    def __init__(self, show: Callable[[Group], None]) -> None:
        self._show = show
        self._rounds: dict[int, Event] = {}
        self._sites: Mapping[str, Any] = {}
        self._notes: list[str] = []

    def __call__(self, event: Event) -> None:
        if "sites" in event:
            self._notes += changes(self._sites, event["sites"])
            self._sites = event["sites"]
        elif "note" in event:
            self._notes.append(event["note"])
        else:
            self._rounds[event["round"]] = event
        self._show(Group(self._table(), *(Text(each) for each in self._notes[-SAID:])))

    def _table(self) -> Table:
        present = len(self._sites.get("present", ()))
        known = present + len(self._sites.get("away", ())) + len(self._sites.get("refused", ()))
        table = Table(title=f"{present} of {known} sites take part", title_justify="left")
        for heading in ("round", "accuracy", "worst recall", "epsilon", "MB from sites", "seconds", ""):
            table.add_column(heading, justify="left" if not heading else "right", no_wrap=bool(heading))
        for number in sorted(self._rounds)[-SHOWN:]:
            line = self._rounds[number]
            figures = ((line.get(name), digits) for name, digits in FIGURES)
            cells = ["–" if value is None else f"{value:.{digits}f}" for value, digits in figures]
            size, lost = f"{line['bytes_up'] / 1e6:.2f}", f"lost: {line['lost']}" if "lost" in line else ""
            table.add_row(f"{number}/{line['rounds']}", *cells, size, f"{line['seconds']:.1f}", Text(lost))
        return table


FIGURES = (("accuracy", 3), ("worst_recall", 3), ("epsilon", 2))


@contextmanager
def watching(console: Console) -> Iterator[Callable[[Event], None]]:
    """Yield what shows an event, as long as the block lasts."""
    if console.is_terminal:
        with Live(console=console, auto_refresh=False, vertical_overflow="visible") as live:
            yield _Table(lambda found: live.update(found, refresh=True))
        return
    sites: dict[str, Any] = {}

    def show(event: Event) -> None:
        lines = [event["note"]] if "note" in event else [] if "sites" in event else [said(event)]
        if "sites" in event:
            lines = list(changes(sites, event["sites"]))
            sites.update(event["sites"])
        for line in lines:
            console.print(line, soft_wrap=True, markup=False, highlight=False)

    yield show
