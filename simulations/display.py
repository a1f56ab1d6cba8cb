"""The live table: one row a system, renewed with every round."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

TITLES = {
    "pretrain": "drawn faces",
    "pooled": "pooled",
    "local_only": "local only",
    "federated": "federated",
    "federated_without_privacy": "federated, no privacy",
    "federated_without_fairness": "federated, not steered",
    "pooled_private": "pooled, private",
    "worst_picture": "audit: pictures tried",
    "one_round": "audit: trials of one round",
}


def shown(value: float | None, digits: int = 3) -> str:
    """Return a figure as text, a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def new_console() -> Console:
    """Return the console of a command: as wide as the terminal, or wide enough for every table in a file."""
    console = Console()
    return console if console.is_terminal else Console(width=140)


class Display:
    """Shows progress: a live table on a terminal, otherwise one line an evaluation.

    Use as a context manager; call it with each record of a run.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rows: dict[str, dict[str, Any]] = {}
        self._began: dict[str, tuple[float, float]] = {}
        # No refresh thread: worker processes are forked while the table is on the screen.
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._painted = 0.0

    def __enter__(self) -> Display:
        if self._live is not None:
            self._live.__enter__()
        return self

    def __exit__(self, *details: Any) -> None:
        if self._live is not None:
            self._live.update(self._table(), refresh=True)
            self._live.__exit__(*details)

    def __call__(self, record: dict[str, Any]) -> None:
        """Take a record of a round or an evaluation."""
        system = record["system"]
        kept = {k: v for k, v in self._rows.get(system, {}).items() if k not in record}
        self._rows[system] = {**kept, **record}
        self._began.setdefault(system, (time.monotonic(), record["round"]))
        if self._live is None:
            if "accuracy" in record or record.get("epsilon") is not None:
                self._console.print(self._line(record), highlight=False, soft_wrap=True)
        elif time.monotonic() - self._painted > 0.1:
            self._live.update(self._table(), refresh=True)
            self._painted = time.monotonic()

    def _left(self, record: dict[str, Any]) -> float | None:
        began, first = self._began[record["system"]]
        done = record["round"] - first
        return (time.monotonic() - began) / done * (record["rounds"] - record["round"]) if done > 0 else None

    def _cells(self, record: dict[str, Any]) -> list[str]:
        parity = [value for value in record.get("parity", {}).values() if value is not None]
        left = self._left(record)
        return [
            f"{record['round']:g}/{record['rounds']:g}",
            shown(record.get("accuracy")),
            shown(record.get("worst_recall")),
            shown(max(parity) if parity else None),
            shown(record.get("epsilon"), 2),
            "–" if left is None else f"{left:.0f} s",
        ]

    def _line(self, record: dict[str, Any]) -> str:
        names = ("round", "accuracy", "worst recall", "parity gap", "epsilon", "left")
        cells = zip(names, self._cells(record), strict=True)
        title = TITLES.get(record["system"], record["system"])
        return f"{title}: " + "  ".join(f"{name} {cell}" for name, cell in cells)

    def _table(self) -> Table:
        table = Table(title="FedFER", title_justify="left")
        for heading in (
            "system",
            "round",
            "accuracy",
            "worst recall",
            "parity gap",
            "epsilon",
            "seconds left",
        ):
            table.add_column(heading, justify="left" if heading == "system" else "right", no_wrap=True)
        for system, record in self._rows.items():
            if not system.startswith("local_only-") or len(self._rows) < 14:
                table.add_row(TITLES.get(system, system), *self._cells(record))
        return table
