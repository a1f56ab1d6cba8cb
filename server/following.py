"""Letting Flower work on a run folder, and looking on: rounds as they end, sites as they come and go, until the end."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Iterator
from typing import Any

from flwr.common.serde import fab_to_proto, user_config_to_proto
from flwr.proto.control_pb2 import ListRunsRequest, StartRunRequest, StopRunRequest
from flwr.supercore.fab import Fab

import fer_models.errors as errors
from client.alone import holder
from client.keys import write_own
from fer_models.errors import EngineError, FedferError
from server.bundle import bundle
from server.coordinator import Coordinator
from server.run_folder import RunFolder
from server.run_state import FLOWER, LOCK, OUTCOME, PROGRESS, RUNS, SITES, run_folders
from server.superlink import control

TICK, LOOK = 0.2, 2.0
"""Seconds between two looks into the folder, and at the process."""

STARTING, UNREACHABLE = 600.0, 120.0
"""Seconds that the process of the rounds may take to start, and the SuperLink to come back."""

RESTARTS = 3
"""How often in a row, without a round between, a process of the rounds that died is started again."""

ENDED = "finished"
"""Flower's status of a run that has ended, whatever came of it."""

Event = dict[str, Any]
"""A round, as in ``metrics.jsonl``; or ``sites``, who takes part now; or ``note``, a sentence."""


def start(coordinator: Coordinator, folder: RunFolder) -> None:
    """Let Flower work on a run folder, unless it does already.

    Raises
    ------
    EngineError : the SuperLink does not answer.
    """
    if holder(folder.path / LOCK) is not None:
        return
    fab = bundle()
    request = StartRunRequest(
        fab=fab_to_proto(Fab(hashlib.sha256(fab).hexdigest(), fab, {})),
        override_config=user_config_to_proto({"folder": str(folder.path.absolute())}),
    )
    with control(coordinator) as client:
        if (known := _known(folder)) is not None:
            if _starting(folder) and _status(client, known) not in (None, ENDED):
                return
            with contextlib.suppress(
                Exception
            ):  # else what a process that died had asked would still be answered
                client.StopRun(StopRunRequest(run_id=known))
        (folder.path / OUTCOME).unlink(missing_ok=True)
        since = time.time()
        found = client.StartRun(request)
    folder.write_json(FLOWER, {"run": found.run_id, "since": since})
    runs = [each for each in run_folders(coordinator) if each != str(folder.path.absolute())]
    write_own(coordinator.state_path / RUNS, json.dumps([*runs, str(folder.path.absolute())]) + "\n")


def _known(folder: RunFolder) -> int | None:
    facts = folder.read_json(FLOWER)
    return int(facts["run"]) if isinstance(facts, dict) else None


def _starting(folder: RunFolder) -> bool:
    """Whether the newest process of the rounds has not begun yet, and may still do."""
    facts, lock = folder.read_json(FLOWER), folder.path / LOCK
    since = float(facts["since"]) if isinstance(facts, dict) else 0.0
    return 0 <= time.time() - since < STARTING and not (lock.exists() and lock.stat().st_mtime > since)


def _status(client: Any, run: int) -> str | None:
    known = client.ListRuns(ListRunsRequest(run_id=run)).run_dict
    return next((each.status.status for each in known.values()), None)


def lives(coordinator: Coordinator, folder: RunFolder) -> bool:
    """Whether a process works on the folder, or is about to.

    Raises
    ------
    EngineError : there is none, and the SuperLink does not answer.
    """
    if holder(folder.path / LOCK) is not None:
        return True
    known = _known(folder)
    if known is None or not _starting(folder):
        return False
    with control(coordinator) as client:
        return _status(client, known) not in (None, ENDED)


def followed(coordinator: Coordinator, folder: RunFolder) -> Iterator[Event]:
    """Yield what happens in a run folder, until the run has ended; start its process again where that dies.

    Raises
    ------
    FedferError : the run ended with it.
    EngineError : the process of the run died again and again; the same command goes on from the last checkpoint.
    """
    progress, seen, sites, deaths = folder.path / PROGRESS, 0, None, 0
    looked = reached = time.monotonic()
    while True:
        outcome, now = folder.read_json(OUTCOME), folder.read_json(SITES)
        if now != sites and isinstance(now, dict):
            sites = now
            yield {"sites": now}
        lines = progress.read_text().splitlines() if progress.exists() else []
        for line in lines[seen:]:
            deaths = 0
            yield json.loads(line)
        seen = len(lines)
        if isinstance(outcome, dict):
            if "error" in outcome:
                raise _error(outcome["error"])
            return
        if time.monotonic() - looked > LOOK:
            looked = time.monotonic()
            try:
                alive = lives(coordinator, folder)
                if not alive and folder.read_json(OUTCOME) is None:
                    if deaths >= RESTARTS:
                        break
                    start(coordinator, folder)
                    deaths += 1
                    yield {"note": "the process of the rounds died; it goes on from the last checkpoint"}
                reached = time.monotonic()
            except EngineError:
                if time.monotonic() - reached > UNREACHABLE:
                    raise
        time.sleep(TICK)
    raise EngineError(
        "the process of the rounds died again and again",
        where=str(coordinator.state_path / "superexec.log"),
        cure="Run the same command again; it goes on from the last checkpoint.",
    )


def _error(parts: dict[str, str]) -> FedferError:
    kind = getattr(errors, str(parts.get("kind")), EngineError)
    known = kind if isinstance(kind, type) and issubclass(kind, FedferError) else EngineError
    return known(parts["what"], where=parts["where"], cure=parts["cure"])
