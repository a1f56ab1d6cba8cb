"""Independent pieces of work, one process each, on a number of cores."""

from __future__ import annotations

import json
import signal
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from client.failures import error_from_wire, error_to_wire
from fer_models.errors import EngineError, FedferError
from simulations.threads import one_thread
from simulations.workers import context, follow_parent, start_process

Progress = Callable[[dict[str, Any]], None]
Job = Callable[[Progress], None]
"""Works, tells of its progress in plain values, and leaves its result in a file."""


def run_jobs(jobs: Sequence[Job], workers: int, progress: Progress) -> None:
    """Run all jobs, at most ``workers`` at a time, each on one thread; with one worker, in this process.

    Raises
    ------
    FedferError : as the first failing job raised it; the others are ended.
    EngineError : a job's process died.
    """
    if workers <= 1:
        with one_thread():
            for job in jobs:
                job(progress)
        return
    waiting, running = deque(jobs), dict[Connection, BaseProcess]()
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                ours, process = _start(waiting.popleft())
                running[ours] = process
            for connection in wait(list(running)):
                assert isinstance(connection, Connection)
                if _listen(connection, running[connection], progress):
                    del running[connection]
    finally:
        for process in running.values():
            process.kill()
            process.join()


def _start(job: Job) -> tuple[Connection, BaseProcess]:
    ours, theirs = context().Pipe()
    process = start_process(_work, job, theirs)
    theirs.close()
    return ours, process


def _work(job: Job, connection: Connection) -> None:
    follow_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)

    def tell(kind: str, value: Any) -> None:
        connection.send_bytes(json.dumps([kind, value]).encode())

    try:
        job(lambda record: tell("progress", record))
        tell("done", None)
    except FedferError as error:
        wire = error_to_wire(error)
        tell("error", [wire.code, wire.reason])


def _listen(connection: Connection, process: BaseProcess, progress: Progress) -> bool:
    """Take one message of a job; return whether the job has ended."""
    from flwr.app import Error

    try:
        kind, value = json.loads(connection.recv_bytes())
    except (EOFError, ConnectionResetError) as error:
        process.join(timeout=5)
        raise EngineError(
            f"a process died with exit code {process.exitcode}",
            where="baselines",
            cure="It may have run out of memory: use engine.workers=1, and run again to resume.",
        ) from error
    if kind == "progress":
        progress(value)
        return False
    process.join()
    if kind == "error":
        raise error_from_wire(Error(*value), "")
    return True
