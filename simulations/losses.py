"""``fedfer losses``: the losses by name, and whether a private plan may use them, which the guard decides."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from client.plan import LocalWork, Plan, Privacy, ServerWork
from client.strict import nearest
from client.workbench import Workbench
from fer_models.errors import ConfigError, PrivacyError
from fer_models.loss_table import TABLE, LossFacts
from fer_models.plugins import added, load, origin
from fer_models.zoo import ModelSpec
from server.run_folder import write_text

LABELS = ("neutral", "happiness", "surprise", "sadness")
"""Classes of the trial; which they are does not matter."""

SIZE = 32
"""Pixels a side of the trial's pictures."""


def facts_of(name: str) -> LossFacts:
    """Return what is known of a loss; of another package's, where it comes from and the first line of its docstring."""
    if name in TABLE:
        return TABLE[name]
    what = (inspect.getdoc(load("losses", name)) or "").partition("\n")[0]
    return LossFacts(what, "logits", origin("losses", name))


def private_plan(loss: str) -> Plan:
    """Return a small private plan that uses a loss, on a net that has what the loss looks at."""
    heads = facts_of(loss).sees == "heads"
    similar = (
        tuple(tuple(float(1 + 8 * (i == k)) for i in range(4)) for k in range(4)) if loss == "pdls" else ()
    )
    facts: dict[str, Any] = {"loss": loss, "similar": similar}
    local = LocalWork(rate=0.1, **facts)
    return Plan(
        labels=LABELS,
        model=ModelSpec("dan_lite" if heads else "fer_nano", classes=4, size=SIZE, dropout=0.0),
        local=LocalWork(rate=0.1, prior=(0.4, 0.3, 0.2, 0.1), **facts) if local.needs_prior else local,
        server=ServerWork(weighting="uniform"),
        privacy=Privacy(noise_multiplier=1.0, clip=1.0, delta=1e-5, nominal_units=100),
    )


def refusal(loss: str) -> str:
    """Return why the guard refuses a loss in a private plan; empty where it does not."""
    try:
        Workbench(private_plan(loss), torch.device("cpu"))
    except PrivacyError as error:
        return error.what
    return ""


def losses(names: Sequence[str], file: Path | None, console: Console) -> None:
    """List the losses, or tell all about those that are named.

    Parameters
    ----------
    file : for the facts as JSON; None for none.

    Raises
    ------
    ConfigError : an unknown name.
    """
    known = list(dict.fromkeys([*TABLE, *added("losses")]))
    for name in names:
        if name not in known:
            raise ConfigError(f"unknown loss {name!r}", where="command line", cure=nearest(name, known))
    chosen = {name: (facts_of(name), refusal(name)) for name in names or known}
    if names:
        for name, (facts, reason) in chosen.items():
            console.print(_details(name, facts, reason))
    else:
        console.print(_table(chosen))
    if file is not None:
        rows = [
            {"name": name, **asdict(facts), "private": not reason, "reason": reason}
            for name, (facts, reason) in chosen.items()
        ]
        write_text(file, json.dumps({"losses": rows}, indent=1) + "\n")


def _table(chosen: dict[str, tuple[LossFacts, str]]) -> Table:
    table = Table("local.loss=", "what", "sees", "private", "from")
    for name, (facts, reason) in chosen.items():
        table.add_row(name, facts.what, facts.sees, "no" if reason else "yes", facts.paper)
    return table


def _details(name: str, facts: LossFacts, reason: str) -> Table:
    table = Table("local.loss=", name, show_lines=True)
    table.add_row("what", facts.what)
    table.add_row("sees", facts.sees)
    table.add_row("under privacy", f"refused: {reason}" if reason else "yes")
    table.add_row("local.strength", facts.number or "none")
    table.add_row("from", facts.paper)
    table.add_row("changed", facts.changed or "nothing")
    return table
