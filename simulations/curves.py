"""Accuracy against rounds, visits and bytes, of one or several runs beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from fer_models.errors import RunFolderError
from server.run_folder import RunFolder
from simulations.display import TITLES, shown


def curves(folders: Sequence[Path], points: int = 6) -> Table:
    """Return a table with up to ``points`` evaluations, evenly spaced, of every system of every run.

    Raises
    ------
    RunFolderError : a folder holds no evaluation.
    """
    table = Table("run", "system", title="Accuracy against rounds, visits and bytes", title_justify="left")
    for heading in ("round", "visits", "sent up", "accuracy", "balanced", "worst recall", "epsilon"):
        table.add_column(heading, justify="right", no_wrap=True)
    for folder in folders:
        if not (folder / "metrics.jsonl").exists():
            raise RunFolderError("no evaluation", where=str(folder), cure="Give the folder of a run.")
        records = RunFolder(folder).metrics()
        for system in dict.fromkeys(record["system"] for record in records):
            own = [record for record in records if record["system"] == system]
            for record in _spaced(own, points):
                table.add_row(folder.name, TITLES.get(system, system), *_cells(record))
            table.add_section()
    return table


def _spaced(records: list[dict[str, Any]], points: int) -> list[dict[str, Any]]:
    """Return up to ``points`` records, the last one among them."""
    step = -(-len(records) // points)
    return records[::-1][::step][::-1]


def _cells(record: dict[str, Any]) -> list[str]:
    return [
        f"{record['round']:g}",
        f"{record['visits']:,}",
        f"{record['bytes_up'] / 1e6:,.1f} MB",
        *(shown(record[key]) for key in ("accuracy", "balanced_accuracy", "worst_recall")),
        shown(record["epsilon"], 2),
    ]
