"""``fedfer bench NAME``: run a benchmark, print its figures, and write them to a file."""

from __future__ import annotations

import importlib
import json
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.table import Table

from client.strict import nearest
from fer_models.errors import ConfigError
from server.run_folder import write_text
from simulations.display import new_console

NAMES = (
    "audit",
    "deploy",
    "edge",
    "faces",
    "fer2013",
    "private-frontier",
    "private-step",
    "readers",
    "rounds",
    "scaling",
    "secagg",
    "zoo",
)

Figures = dict[str, float]


@dataclass
class Options:
    """The words after ``fedfer bench NAME``.

    Attributes
    ----------
    json : file for the figures.
    data : folder of the data set.
    run_dir : run folder to keep, for benchmarks that train.
    overrides : settings in Hydra's form.
    """

    json: Path | None = None
    data: Path | None = None
    run_dir: Path | None = None
    overrides: list[str] = field(default_factory=list)


def run(words: list[str]) -> int:
    """Run the benchmark that the words name.

    Raises
    ------
    ConfigError : an unknown benchmark or option.
    """
    if not words or words[0] not in NAMES:
        cure = nearest(words[0], NAMES) if words else f"Write fedfer bench and one of {', '.join(NAMES)}."
        raise ConfigError(f"unknown benchmark {words[0] if words else ''!r}", where="command line", cure=cure)
    options = parsed(words[1:])
    work: Callable[[Options], Figures] = importlib.import_module(
        f"simulations.bench.{words[0].replace('-', '_')}"
    ).bench
    figures = work(options)
    table = Table("figure", "value", title=f"bench {words[0]}", title_justify="left")
    for key, value in figures.items():
        table.add_row(key, f"{value:,.4g}" if abs(value) < 1e6 else f"{value:,.0f}")
    new_console().print(table)
    if options.json is not None:
        facts = {"name": words[0], "machine": machine(), "figures": figures}
        write_text(options.json, json.dumps(facts, indent=1, allow_nan=False) + "\n")
    return 0


def parsed(words: list[str]) -> Options:
    """Read ``--json FILE``, ``--data DIR``, ``--run-dir DIR`` and settings."""
    found, rest = Options(), iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if name.startswith("hydra.run.dir"):
            found.run_dir = Path(value.strip("'"))
        elif name in ("--json", "--data", "--run-dir"):
            value = value if equals else next(rest, "")
            if not value:
                raise ConfigError(f"{name} without a value", where="command line", cure=f"Write {name} PATH.")
            setattr(found, name.removeprefix("--").replace("-", "_"), Path(value))
        elif equals and not name.startswith("-"):
            found.overrides.append(word)
        else:
            cure = "Use --json FILE, --data DIR, --run-dir DIR, or KEY=VALUE."
            raise ConfigError(f"unknown option {word!r}", where="command line", cure=cure)
    return found


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    packages = {}
    for name in ("torch", "flwr", "opacus", "numpy", "ray", "pfl"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "not installed"
    return {
        "system": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "python": platform.python_version(),
        "packages": packages,
    }


def processor() -> str:
    """Return the processor's name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown"
    )
