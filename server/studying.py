"""``fedfer server run``: a plan's rounds over the sites that are connected; leaves off and takes up again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from flwr.common.serde import fab_to_proto, user_config_to_proto
from flwr.proto.control_pb2 import ListRunsRequest, StartRunRequest
from flwr.supercore.fab import Fab
from rich.console import Console

import fer_models.errors as errors
from client.plan import Plan
from client.plan_signature import sign_plan
from client.site_check import plan_of
from client.words import read_words
from fer_models.errors import ConfigError, EngineError, FedferError
from server.bundle import bundle
from server.coordinator import Coordinator
from server.deployed import OUTCOME, PROGRESS, ROSTER, SIGNATURE
from server.run_folder import RunFolder, write_text
from server.superlink import control

FLOWER = "flower.json"
"""Which of Flower's runs works in a run folder."""

TICK = 0.5
"""Seconds between two looks."""

ENDED = "finished"
"""Flower's status of a run that has ended, whatever came of it."""


def run(words: Sequence[str]) -> int:
    """Run a plan, or take up one that was left off; Ctrl-C leaves it running."""
    usage = "Write: fedfer server run DIR PLAN.json [--name NAME] [--run-dir RUN]."
    found = read_words(words, usage, valued=("--name", "--run-dir"))
    if len(found.others) != 2:
        raise ConfigError("server run needs a folder and a plan", where="command line", cure=usage)
    coordinator, plan = Coordinator.open(Path(found.others[0])), plan_of(Path(found.others[1]))
    if "--name" in found.options:
        plan = replace(plan, run=found.options["--name"])  # two runs of one plan are two in every ledger
    default = coordinator.path / "runs" / (plan.run or "run")
    folder = prepared(coordinator, plan, Path(found.options.get("--run-dir", default)))
    say = Console(highlight=False).print
    say(f"run folder: {folder.path}", soft_wrap=True, markup=False)
    if not folder.complete:
        start(coordinator, folder)
        for line in followed(coordinator, folder):
            say(line, soft_wrap=True, markup=False)
    say(f"done: {folder.path / 'summary.json'} and {folder.path / 'model'}", soft_wrap=True, markup=False)
    return 0


def prepared(coordinator: Coordinator, plan: Plan, path: Path) -> RunFolder:
    """Return the run folder of a plan, made where it is missing.

    Raises
    ------
    ConfigError : no site takes part, or fewer than the plan needs.
    RunFolderError : the folder holds another run.
    """
    roster = coordinator.enrolled().roster
    names = roster.names if roster else ()
    needed = plan.secure.fewest if plan.secure else 1
    if len(names) < needed or roster is None:
        raise ConfigError(
            f"{len(names)} sites take part, and the plan needs {needed}",
            where=str(coordinator.path),
            cure="Approve more sites: fedfer server approve DIR REQUEST.",
        )
    folder = RunFolder(path)
    folder.open(
        {"plan": asdict(plan), "hash": plan.digest}, f"# the plan {plan.digest} of {coordinator.name}\n"
    )
    if not (path / ROSTER).exists():
        write_text(path / ROSTER, roster.to_json())
    write_text(path / SIGNATURE, sign_plan(coordinator.identity(), plan))
    return folder


def start(coordinator: Coordinator, folder: RunFolder) -> None:
    """Let Flower work on a run folder, unless it does already.

    Raises
    ------
    EngineError : the SuperLink does not answer.
    """
    if _works(coordinator, folder):
        return
    (folder.path / OUTCOME).unlink(missing_ok=True)
    fab = bundle()
    request = StartRunRequest(
        fab=fab_to_proto(Fab(hashlib.sha256(fab).hexdigest(), fab, {})),
        override_config=user_config_to_proto({"folder": str(folder.path.absolute())}),
    )
    with control(coordinator) as client:
        found = client.StartRun(request)
    folder.write_json(FLOWER, {"run": found.run_id})


def _works(coordinator: Coordinator, folder: RunFolder) -> bool:
    """Whether one of Flower's runs works on the folder now."""
    facts = folder.read_json(FLOWER)
    if not isinstance(facts, dict):
        return False
    with control(coordinator) as client:
        known = client.ListRuns(ListRunsRequest(run_id=int(facts["run"]))).run_dict
    return any(each.status.status != ENDED for each in known.values())


def followed(coordinator: Coordinator, folder: RunFolder) -> Iterator[str]:
    """Yield a line for every round, until the run has ended.

    Raises
    ------
    FedferError : the run ended with it.
    EngineError : the process of the run died; the same command goes on from the last checkpoint.
    """
    progress, seen, looked = folder.path / PROGRESS, 0, time.monotonic()
    while True:
        outcome = folder.read_json(OUTCOME)
        lines = progress.read_text().splitlines() if progress.exists() else []
        for line in lines[seen:]:
            yield said(json.loads(line))
        seen = len(lines)
        if isinstance(outcome, dict):
            if "error" in outcome:
                raise _error(outcome["error"])
            return
        if time.monotonic() - looked > 10 * TICK:
            looked = time.monotonic()
            if not _works(coordinator, folder) and folder.read_json(OUTCOME) is None:
                raise EngineError(
                    "the process of the run died",
                    where=str(coordinator.state_path / "superexec.log"),
                    cure="Run the same command again; it goes on from the last checkpoint.",
                )
        time.sleep(TICK)


def said(line: dict[str, Any]) -> str:
    """Return what is shown of a round."""
    told = f"round {line['round']}/{line['rounds']}"
    if "lost" in line:
        told += f"  lost: {line['lost']}"
    if "accuracy" in line:
        told += f"  accuracy {line['accuracy']:.3f}  worst recall {line['worst_recall']:.3f}"
    if line.get("epsilon") is not None:
        told += f"  epsilon {line['epsilon']:.2f}"
    return f"{told}  {line['seconds']:.1f} s"


def _error(parts: dict[str, str]) -> FedferError:
    kind = getattr(errors, str(parts.get("kind")), EngineError)
    known = kind if isinstance(kind, type) and issubclass(kind, FedferError) else EngineError
    return known(parts["what"], where=parts["where"], cure=parts["cure"])
