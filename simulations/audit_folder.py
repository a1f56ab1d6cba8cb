"""The folder of an audit: its record, and all that is made of the record alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from server.report import audit
from server.run_folder import write_text, writing
from simulations.audit import text_of
from simulations.audit_card import README, card
from simulations.audit_table import figures_csv

RECORD, SIGNATURE = "audit.json", "signature.json"
"""What all else is made of, and what is made last (:mod:`simulations.audit_signature`)."""

Writer = Callable[[Mapping[str, Any]], str | None]

WRITERS: dict[str, Writer] = {
    RECORD: text_of,
    "figures.csv": figures_csv,
    "audit.html": audit.render,
    README: card,
}
"""File -> its text, from the record alone; None where it has nothing to say."""


def write_folder(
    record: Mapping[str, Any], folder: Path, writers: Mapping[str, Writer] | None = None
) -> list[str]:
    """Write an audit's folder, each file whole or not at all; files of an earlier audit are written over.

    The signature of an earlier audit goes first: it is none of the new files'.

    Parameters
    ----------
    record : what :func:`simulations.audit.record` returns, with all that was added to it.
    folder : made when missing.
    writers : file -> its text; :data:`WRITERS` when None.

    Returns
    -------
    The names of the files.

    Raises
    ------
    RunFolderError : the folder cannot be written.
    """
    read = json.loads(text_of(record))  # what others will read: all files can be made again from audit.json
    with writing(folder):
        (folder / SIGNATURE).unlink(missing_ok=True)
    chosen = WRITERS if writers is None else writers
    texts = {name: writer(read) for name, writer in chosen.items()}
    for name, text in texts.items():
        if text is None:
            with writing(folder):
                (folder / name).unlink(missing_ok=True)  # an earlier audit's
        else:
            write_text(folder / name, text)
    return [name for name, text in texts.items() if text is not None]
