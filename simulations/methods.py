"""``fedfer fairness``: what the methods of fair training need, reveal and cost."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from client.methods.declaration import Method
from client.methods.registry import METHODS, method_of


def fairness(names: Sequence[str], file: Path | None, console: Console) -> None:
    """Print all methods as a table, or everything about those that are named, and write it to a file.

    Raises
    ------
    ConfigError : an unknown name.
    """
    chosen = [method_of(name) for name in names] or list(METHODS.values())
    if file is not None:
        file.write_text(json.dumps({"methods": [asdict(method) for method in chosen]}, indent=1) + "\n")
    if not names:
        console.print(_table(chosen))
        return
    for method in chosen:
        console.print(_details(method))


def _table(methods: Sequence[Method]) -> Table:
    table = Table("fairness=", "what", "a site needs", "the coordinator learns", "plain", "secure", "private")
    for each in methods:
        allowed = ["no" if reason else "yes" for reason in (each.plain, each.secure, each.private)]
        table.add_row(each.name, each.what, each.needs, each.reveals, *allowed)
    return table


def _details(method: Method) -> Table:
    table = Table("fairness=", method.name, show_lines=True)
    for name, text in _lines(method):
        table.add_row(name, text)
    return table


def _lines(method: Method) -> Iterator[tuple[str, str]]:
    yield "what", method.what
    yield "source", method.source
    yield "a site needs", method.needs
    yield "the coordinator learns", method.reveals
    yield "epsilon", method.epsilon
    yield "sent", method.traffic
    yield "computing", method.work
    for name in ("plain", "secure", "private"):
        reason = getattr(method, name)
        where = "differential privacy" if name == "private" else f"{name} aggregation"
        yield f"under {where}", f"refused: {reason}" if reason else "works"
    if method.caution:
        yield "mind", method.caution
