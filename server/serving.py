"""``fedfer server start``, ``status`` and ``stop``: the coordinator's processes, kept alive by one."""

from __future__ import annotations

import contextlib
import datetime
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from client.alone import alone, holder
from client.audit_log import AuditLog
from client.audit_view import shown
from client.certificates import read_certificate
from client.flower import environment
from client.keys import make_folder
from client.supervisor import GRACE, Supervisor, stopping
from client.words import read_words
from fer_models.errors import EngineError
from server.coordinator import Coordinator
from server.gate import flower_key
from server.run_state import run_folders, run_said
from server.superlink import GONE, Running, control, listens, nodes, programs, reconcile, require_free

TICK = 0.2
"""Seconds between two looks at the processes."""

RUNS_SHOWN = 5
"""Runs of which the status tells, the newest."""


def start(words: Sequence[str]) -> int:
    """Run a coordinator until it is stopped."""
    usage = "Write: fedfer server start DIR [--log-json]."
    found = read_words(words, usage, flags=("--log-json",))
    coordinator = Coordinator.open(Path(found.one("server start needs a folder", usage)))
    coordinator.check(datetime.datetime.now(datetime.UTC))
    make_folder(coordinator.state_path)
    with alone(_lock(coordinator), "this coordinator runs already", "server"), stopping() as stopped:
        require_free(coordinator)
        log = AuditLog(coordinator.log.path, shown(as_json="--log-json" in found.options))
        _serve(coordinator, log, stopped)
    return 0


def _serve(coordinator: Coordinator, log: AuditLog, stopped: Callable[[], bool]) -> None:
    """Keep the processes alive and the SuperLink's list of nodes right, until told to stop."""
    running = Running(coordinator)

    def told(name: str, code: int | None) -> None:
        if code is None:
            log.write("process_started", name=name)
        else:
            log.write("process_ended", name=name, code=code)
        running.write(supervisor.running)

    supervisor = Supervisor(
        programs(coordinator), environment(coordinator.state_path / "flower"), coordinator.state_path, told
    )
    log.write("server_started", address=coordinator.address)
    ready, seen = False, None
    with supervisor:
        while not stopped():
            supervisor.tend()
            seen = _told_the_superlink(coordinator, supervisor, log, seen)
            if not ready and seen is not None and listens(coordinator.port):
                ready = True
                log.write("server_ready", address=coordinator.address)
            time.sleep(TICK)
    running.path.unlink(missing_ok=True)
    log.write("server_stopped", address=coordinator.address)


Seen = tuple[int, int]
"""The SuperLink's process, and when the list of sites was changed."""


def _told_the_superlink(
    coordinator: Coordinator, supervisor: Supervisor, log: AuditLog, seen: Seen | None
) -> Seen | None:
    """Let the SuperLink know who takes part, where it or the list of sites is another than was seen."""
    changed = (coordinator.path / "sites.json").stat().st_mtime_ns
    now = supervisor.running.get("superlink", 0), changed
    if now == seen or not now[0] or not listens(coordinator.inner_port):
        return seen
    with contextlib.suppress(EngineError), control(coordinator) as client:
        new, gone = reconcile(client, coordinator.enrolled())
        log.write("sites_registered", new=len(new), gone=gone)
        return now
    return seen


def status(words: Sequence[str]) -> int:
    """Print whether the coordinator runs, and which sites are connected."""
    coordinator = _opened(words, "status")
    end = read_certificate(coordinator.certificate[1]).not_valid_after_utc
    sys.stdout.write(f"{coordinator.name}, {coordinator.address}; the certificate ends {end:%Y-%m-%d}\n")
    if holder(_lock(coordinator)) is None:
        raise EngineError(
            "this coordinator does not run", where=str(coordinator.path), cure="Run fedfer server start DIR."
        )
    for name, pid in Running(coordinator).read().items():
        sys.stdout.write(f"{name} runs, process {pid}\n")
    with control(coordinator) as client:
        known = {node.key: node.status for node in nodes(client) if node.status != GONE}
    for each in coordinator.enrolled().active:
        state = known.get(flower_key(each.node_key), "not known to the SuperLink yet")
        sys.stdout.write(f"site {each.site}: {'never seen' if state == 'registered' else state}\n")
    for path in run_folders(coordinator)[-RUNS_SHOWN:]:
        sys.stdout.writelines(f"{line}\n" for line in run_said(Path(path)))
    return 0


def stop(words: Sequence[str]) -> int:
    """End a coordinator's processes."""
    coordinator = _opened(words, "stop")
    pid = holder(_lock(coordinator))
    if pid is None:
        sys.stdout.write("it does not run\n")
        return 0
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + 4 * GRACE
    while holder(_lock(coordinator)) is not None:
        if time.monotonic() > end:
            raise EngineError(
                "it does not end",
                where=f"process {pid}",
                cure="Look into its logs in DIR/state, and kill it.",
            )
        time.sleep(TICK)
    sys.stdout.write("stopped\n")
    return 0


def _opened(words: Sequence[str], command: str) -> Coordinator:
    usage = f"Write: fedfer server {command} DIR."
    return Coordinator.open(Path(read_words(words, usage).one(f"server {command} needs a folder", usage)))


def _lock(coordinator: Coordinator) -> Path:
    return coordinator.state_path / ".lock"
