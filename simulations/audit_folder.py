"""The folder of an audit: its record, and all that is made of the record alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from server.run_folder import write_text
from simulations.audit import text_of
from simulations.audit_table import figures_csv

RECORD = "audit.json"

WRITERS: dict[str, Callable[[Mapping[str, Any]], str]] = {RECORD: text_of, "figures.csv": figures_csv}
"""File -> its text, from the record alone."""


def write_folder(record: Mapping[str, Any], folder: Path) -> None:
    """Write an audit's folder, each file whole or not at all; files of an earlier audit are written over.

    Parameters
    ----------
    record : what :func:`simulations.audit.record` returns, with all that was added to it.
    folder : made when missing.

    Raises
    ------
    RunFolderError : the folder cannot be written.
    """
    for name, text in WRITERS.items():
        write_text(folder / name, text(record))
