"""Figures of ``fedfer bench zoo`` that outlive their run folder: a row a training, with how and on what it was made.

Rows of several runs, budgets and machines stand in one file, which later runs read and add to; no picture and no net is
in it.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fer_models.errors import ConfigError
from server.run_folder import write_text
from simulations.bench.run import processor

Row = dict[str, Any]
"""``system``, ``targets``, ``part``, ``minutes`` and ``recipe`` (none of a classical system) say what it is,
``figures`` what came out, ``command``, ``processor`` and ``versions`` where from."""

IDENTITY = ("system", "targets", "part", "minutes", "recipe")
"""Keys that say what was trained; rows that agree in them are one."""

FILE = "figures.json"
"""Name of a row's file in its folder of a run folder."""


def same(one: Row, other: Row) -> bool:
    """Return whether two rows are of the same training."""
    return all(one.get(key) == other.get(key) for key in IDENTITY)


def origin() -> Row:
    """Return the processor and the versions that figures depend on."""
    packages = ("fedfer", "torch", "numpy", "scikit-learn", "scikit-image")
    found = {name: version(name) for name in packages}
    if commit := _commit():
        found["commit"] = commit
    return {"processor": processor(), "versions": found}


def _commit() -> str:
    """Return the commit of the repository that this file lies in, and nothing where it lies in none."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return ""
    words = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=10"]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def load_rows(path: Path) -> list[Row]:
    """Return the rows of a file, none where there is no file.

    Raises
    ------
    ConfigError : the file is not one that this module wrote.
    """
    if not path.is_file():
        return []
    try:
        found = json.loads(path.read_text())
        rows = found["rows"]
        whole = all({*IDENTITY, "figures"} <= row.keys() for row in rows)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError("no rows of bench zoo", where=str(path), cure="Name another file.") from error
    if not whole:
        raise ConfigError("rows with keys missing", where=str(path), cure="Name another file.")
    return rows


def save_rows(path: Path, rows: Iterable[Row]) -> list[Row]:
    """Add rows to a file, which is read anew for that; of two of one training the one in the file stays.

    Returns all rows: the nets before the classical systems, then by name, targets, minutes.
    """
    found = joined(load_rows(path), rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({"rows": found}, indent=1, allow_nan=False) + "\n")
    return found


def joined(rows: Sequence[Row], more: Iterable[Row]) -> list[Row]:
    """Return both, without those of the second that are the same training as one of the first, in order."""
    found = list(rows)
    for row in more:
        if not any(same(row, other) for other in found):
            found.append(row)
    return sorted(found, key=_order)


def _order(row: Row) -> tuple[Any, ...]:
    return (
        row["minutes"] is None,
        row["system"],
        row["targets"],
        row["part"],
        row["minutes"] or 0,
        json.dumps(row["recipe"], sort_keys=True),
    )


def rows_of(folder: Path) -> list[Row]:
    """Return the rows that a run folder of the benchmark holds so far."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob(f"*/{FILE}"))]
