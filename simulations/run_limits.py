"""Limits of a run: checked before it trains, held against its counts when it has ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from client.plan import Plan
from fer_models.counts import Counts
from fer_models.errors import ConfigError
from fer_models.noisy_intervals import Noise
from server.report import write_report
from server.run_folder import RunFolder, reading
from simulations.run_audit import count_run
from simulations.tolerance import Tolerance, facts, read_tolerance, require_kept, show_verdicts, verdicts_on

JUDGED = "federated"
"""The system that limits are for."""


def read_limits(file: str, plan: Plan, systems: Sequence[str]) -> Tolerance:
    """Return the tolerance of a file, after a look whether it fits what will be run.

    Raises
    ------
    ConfigError : the file is none, a rule names a class or a group that the run does not count, or the run trains
        no federated system.
    """
    if JUDGED not in systems:
        raise ConfigError(
            "limits are for the federated system, which is not run",
            where="tolerance",
            cure="Use fedfer simulate or fedfer compare, or audit the run with system=NAME.",
        )
    tolerance = read_tolerance(Path(file))
    verdicts_on(tolerance, Counts.zero(plan.labels, plan.attributes), {})
    return tolerance


def hold(folder: Path, file: str, tolerance: Tolerance, console: Console) -> None:
    """Hold a finished run against limits: verdicts on the console, in ``summary.json`` and in ``report.html``.

    Raises
    ------
    ToleranceError, EvidenceError : after everything is written, a limit is broken, or undecided.
    """
    _, counts, parts = count_run([f"run={folder}", f"system={JUDGED}"])
    noise = Noise.of(parts["noise"]) if "noise" in parts else None
    verdicts = verdicts_on(tolerance, counts, parts.get("people", {}), noise, parts.get("doubt", ""))
    _write(folder, {"file": file, "level": tolerance.level, "verdicts": facts(verdicts)})
    show_verdicts(verdicts, console)
    require_kept(verdicts, Path(file))


def _write(folder: Path, found: Mapping[str, Any]) -> None:
    """Put verdicts into the summary and the report, unless they stand there."""
    run = RunFolder(folder)
    with reading(folder / "summary.json"):
        summary = dict(run.read_json("summary.json"))
    if summary.get("tolerance") != found:
        run.write_json("summary.json", {**summary, "tolerance": dict(found)})
        write_report(folder)
