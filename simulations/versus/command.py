"""The comparison as a command: one record, from which tables, csv and page are made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from client.identity import Identity
from fer_models.changes import changes
from fer_models.seed_changes import seed_changes
from server.report.versus import render
from simulations.audit import VERSION, text_of, write
from simulations.audit_folder import write_folder
from simulations.audit_origin import config_of, judged_file
from simulations.audit_signature import sign_folder
from simulations.display import new_console
from simulations.versus import rows, seeds
from simulations.versus.asked import Asked, asked
from simulations.versus.show import show
from simulations.versus.table import changes_csv

RECORD = "comparison.json"

WRITERS = {RECORD: text_of, "changes.csv": changes_csv, "comparison.html": render}
"""File -> its text, from the record alone."""


def run(
    words: Sequence[str], file: Path | None, folder: Path | None, identity: Identity | None = None
) -> int:
    """Compare what the words name with the first of them; print tables.

    Parameters
    ----------
    file, folder : as in :func:`simulations.audit_command.run`.
    identity : signs the folder, if it is signed.
    """
    wanted, console = asked(words), new_console()
    found = record(wanted) | {"config": config_of(words, None)}
    show(found, console)
    write(found, file)
    if folder is not None:
        names = write_folder(found, folder, WRITERS)
        if identity is not None:
            sign_folder(folder, found, names, identity)
        console.print(f"comparison: {folder}", highlight=False, soft_wrap=True, markup=False)
    return 0


def record(wanted: Asked) -> dict[str, Any]:
    """Return a comparison as its file holds it: ``version``, ``source`` and ``comparisons``."""
    source: dict[str, Any] = {"door": "compare", "kind": wanted.kind, "names": list(wanted.names)}
    source["paths"] = [str(path) for path in wanted.paths]
    many = len(wanted.paths) - 1
    if wanted.kind == "seeds":
        source["seeds"], counts = seeds.paired(wanted)
        found = [seed_changes(counts[0], each, comparisons=many) for each in counts[1:]]
    else:
        judged = {"predictions": rows.predictions, "models": rows.models}[wanted.kind](wanted)
        key = "predictions" if wanted.kind == "predictions" else "model"
        source["judged"] = [judged_file({key: path}) for path in source["paths"]]
        source["rows"] = len(judged.true)
        source["people"] = None if judged.person is None else len(set(judged.person.tolist()))
        found = [changes(judged.pair(number), comparisons=many) for number in range(1, many + 1)]
    compared = [
        {"first": wanted.names[0], "second": name, **each}
        for name, each in zip(wanted.names[1:], found, strict=True)
    ]
    return {"version": VERSION, "source": source, "comparisons": compared}
