"""``fedfer site run``, ``status`` and ``stop``: the agent and Flower's SuperNode, kept alive by one process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import time
from typing import Any

import grpc

from client.agent_process import LOCK
from client.alone import alone, holder
from client.audit_log import AuditLog
from client.audit_view import FILE, shown
from client.flower import environment, program
from client.keys import make_folder, write_own
from client.relay import SOCKET
from client.site_folder import SiteFolder
from client.study import Study
from client.supervisor import GRACE, Program, Supervisor, stopping
from fer_models.errors import ConfigError, EngineError

TICK = 0.2
"""Seconds between two looks at the processes."""

RUNNING = "run.lock"
"""What keeps a second supervisor from a site."""

STATUS = "/fedfer.Agent/Status"


def run(folder: SiteFolder, *, as_json: bool) -> None:
    """Run a site until SIGTERM or SIGINT comes: the agent, and the SuperNode once that answers.

    Both are started again whenever they end, and the SuperNode tries to reach the coordinator for ever.

    Raises
    ------
    FedferError : something is not in order, before anything is started.
    """
    study = ready(folder)
    state = folder.path / "state"
    make_folder(state)
    write_own(state / "authority.crt", study.ca)
    with alone(folder.path / RUNNING, "this site runs already"), stopping() as stopped:
        if holder(folder.path / LOCK) is not None:
            with alone(folder.path / LOCK, "an agent runs on this site's ledger already"):
                pass
        book = AuditLog(folder.path / FILE, shown(as_json=as_json))

        def told(name: str, code: int | None) -> None:
            if code is None:
                book.write("process_started", name=name)
            else:
                book.write("process_ended", name=name, code=code)

        surroundings = environment(state / "flower") | {SOCKET: str(folder.socket)}
        with Supervisor(programs(folder, study), surroundings, state, told) as supervisor:
            while not stopped():
                supervisor.tend()
                time.sleep(TICK)


def ready(folder: SiteFolder) -> Study:
    """Return the study of a site that may run: its files are there, its keys its owner's, its study current.

    Raises
    ------
    FedferError : the first thing that is not so.
    """
    folder.policy()
    folder.request()  # which reads both keys
    study = folder.study()
    if study is None:
        cure = "Run fedfer site join DIR STUDY.json."
        raise ConfigError("the site has joined no study", where=str(folder.path), cure=cure)
    return study


def programs(folder: SiteFolder, study: Study) -> tuple[Program, ...]:
    """Return the processes, in the order in which they start."""
    agent = (sys.executable, "-m", "client.agent_process", str(folder.path.absolute()))
    supernode = (
        program("flower-supernode"), "--superlink", study.address,
        "--root-certificates", str((folder.path / "state" / "authority.crt").absolute()),
        "--auth-supernode-private-key", str((folder.path / "keys" / "node.key").absolute()),
        "--host", "127.0.0.1", "--port", str(_free_port()),
    )  # fmt: skip
    return (
        Program("agent", agent),
        Program("supernode", supernode, needs=lambda: asked(folder) is not None),
    )


def _free_port() -> int:
    """Return a port that is free now, for what the SuperNode says to its own ClientApps."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return trial.getsockname()[1]


def asked(folder: SiteFolder) -> dict[str, Any] | None:
    """Return what a site's agent says of itself, None where it does not answer."""
    with grpc.insecure_channel(f"unix:{folder.socket}") as channel:
        try:
            return json.loads(channel.unary_unary(STATUS)(b"", timeout=5))
        except grpc.RpcError:
            return None


def status(folder: SiteFolder) -> dict[str, Any]:
    """Return how a site is doing.

    Raises
    ------
    EngineError : it does not run.
    """
    pid, found = holder(folder.path / RUNNING), asked(folder)
    if pid is None and found is None:
        raise EngineError("this site does not run", where=str(folder.path), cure="Run fedfer site run DIR.")
    return {"site": folder.name, "supervisor": pid, "agent": found}


def sentences(found: dict[str, Any]) -> list[str]:
    """Return what :func:`status` found, in sentences."""
    agent = found["agent"]
    if agent is None:
        return [f"{found['site']} runs (process {found['supervisor']}); its agent does not answer yet"]
    said = [
        f"{found['site']} runs since {agent['since']} (agent {agent['pid']}, supervisor {found['supervisor']})",
        f"{agent['answered']} questions answered, the last {agent['last'] or 'never'}; {len(agent['plans'])} plans met",
    ]
    return said + [f"plan {plan[:12]} is refused by {rule}" for plan, rule in agent["refused"].items()]


def stop(folder: SiteFolder) -> bool:
    """End a site's processes; return whether it ran.

    Raises
    ------
    EngineError : it does not end.
    """
    if holder(folder.path / RUNNING) is None:
        return False
    end, sent = time.monotonic() + 4 * GRACE, False
    while (pid := holder(folder.path / RUNNING)) is not None:
        if pid and not sent:  # 0 where it has not said yet
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            sent = True
        if time.monotonic() > end:
            cure = "Look into its logs in DIR/state, and kill it."
            raise EngineError("it does not end", where=f"process {pid}", cure=cure)
        time.sleep(TICK)
    return True
