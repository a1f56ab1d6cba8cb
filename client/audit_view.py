"""Showing audit logs: ``log`` of a site or a coordinator, and what long-running commands print meanwhile."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from client.audit_log import AuditLog, Entry
from client.words import read_words

FILE = "audit.jsonl"
"""The name of the log in the folder of a site or a coordinator."""


def shown(*, as_json: bool) -> Callable[[Entry], None]:
    """Return what prints an entry as soon as it is written: for people, or as the line of JSON that the file holds."""

    def show(entry: Entry) -> None:
        sys.stdout.write(entry.line if as_json else f"{entry.words}\n")
        sys.stdout.flush()

    return show


def log(words: Sequence[str], room: str) -> int:
    """``log DIR``: print the entries of an audit log, and hold every one against its hash.

    Parameters
    ----------
    room : site or server, for the usage.

    Raises
    ------
    SignatureError : the log is not what was written.
    """
    usage = f"Write: fedfer {room} log DIR [--head NUMBER:HASH] [--log-json]."
    found = read_words(words, usage, valued=("--head",), flags=("--log-json",))
    path = Path(found.one(f"{room} log needs a folder", usage))
    book = AuditLog(path / FILE if path.is_dir() else path)
    show = shown(as_json="--log-json" in found.options)
    for entry in book.entries():
        show(entry)
    last = book.verify(found.options.get("--head"))
    if "--log-json" not in found.options:
        count = last.number if last else 0
        sys.stdout.write(f"{count} entries, each as it was written; keep this head elsewhere:\n")
        sys.stdout.write(f"{last.head if last else '-'}\n")
    return 0
