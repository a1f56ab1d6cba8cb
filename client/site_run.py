"""``fedfer site run``, ``status`` and ``stop``."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from client import relay
from client.alone import holder
from client.flower import environment
from client.node import STATE
from client.site_folder import SiteFolder
from client.site_process import LOCK, TICK, last_error, require_free
from client.study import Study
from client.supervisor import GRACE
from fer_models.errors import ConfigError, EngineError

QUIET = 2.0
"""Seconds after which it is said what ``site stop`` waits for."""


def run(folder: SiteFolder, *, as_json: bool) -> NoReturn:
    """Turn this process into the one that keeps a site alive; see :mod:`client.site_process`.

    Raises
    ------
    FedferError : something is not in order, before anything is started.
    """
    ready(folder)
    require_free(folder)
    flags = ("--log-json",) if as_json else ()
    command = (sys.executable, "-m", "client.site_process", str(folder.path.absolute()), *flags)
    sys.stdout.flush()
    os.execve(sys.executable, command, environment(folder.path / "state" / "flower"))


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


def asked(folder: SiteFolder) -> dict[str, Any] | None:
    """Return what a site's agent says of itself, None where it does not answer."""
    return relay.status(str(folder.socket))


def connection(folder: SiteFolder) -> dict[str, str]:
    """Return how a site's connection to the server is: state, why, since; empty where nothing is said."""
    try:
        found = json.loads((folder.path / "state" / STATE).read_text())
        return {name: str(found[name]) for name in ("state", "why", "since")}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def status(folder: SiteFolder) -> dict[str, Any]:
    """Return how a site is doing.

    Raises
    ------
    EngineError : it does not run.
    """
    pid, found = holder(folder.path / LOCK), asked(folder)
    if pid is None and found is None:
        raise EngineError("this site does not run", where=str(folder.path), cure="Run fedfer site run DIR.")
    why = last_error(folder) if found is None else ""
    return {"site": folder.name, "supervisor": pid, "agent": found, "why": why, "server": connection(folder)}


def sentences(found: dict[str, Any]) -> list[str]:
    """Return what :func:`status` found, in sentences."""
    agent = found["agent"]
    if agent is None:
        why = f": {found['why']}" if found["why"] else ""
        return [f"{found['site']} runs (process {found['supervisor']}); its agent does not answer yet{why}"]
    said = [
        f"{found['site']} runs since {agent['since']} (agent {agent['pid']}, supervisor {found['supervisor']})",
        f"{agent['answered']} questions answered, the last {agent['last'] or 'never'}; {len(agent['plans'])} plans met",
        f"the agent held {agent['peak_mb']:.0f} MB at most",
    ]
    if server := found["server"]:
        why = f": {server['why']}" if server["why"] else ""
        said.append(f"server: {server['state']} since {server['since']}{why}")
    return said + [f"plan {plan[:12]} is refused by {rule}" for plan, rule in agent["refused"].items()]


def stop(folder: SiteFolder, say: Callable[[str], object]) -> bool:
    """End a site's processes; return whether it ran.

    Parameters
    ----------
    say : is told what is waited for, where it takes a while.

    Raises
    ------
    EngineError : it does not end.
    """
    if holder(folder.path / LOCK) is None:
        return False
    began, sent, said = time.monotonic(), False, False
    while (pid := holder(folder.path / LOCK)) is not None:
        if pid and not sent:  # 0 where it has not said yet
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            sent = True
        waited = time.monotonic() - began
        if waited > QUIET and not said:
            most = f"{2 * GRACE:.0f} seconds at most; then they are killed"
            say(f"waiting for its processes to end what they are at, {most}")
            said = True
        if waited > 4 * GRACE:
            cure = "Look into its logs in DIR/state, and kill it."
            raise EngineError("it does not end", where=f"process {pid}", cure=cure)
        time.sleep(TICK)
    return True
