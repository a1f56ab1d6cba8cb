"""A warm pool of one-thread processes that answer Flower messages."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from flwr.app import Message

from fer_models.errors import EngineError
from simulations.wire import Receiver, Sender, reply_of

Answer = Callable[[list[dict[str, Any]]], list[Message]]
"""Heads of the messages of a unit, with their contents -> the replies."""

MOST_UNITS = 16
"""Units of messages that a worker is given at a time, at most."""


def context() -> Any:
    """Return the way processes start: fork on Linux (shares memory, starts at once), spawn elsewhere."""
    return multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")


def start_process(work: Callable[..., None], *arguments: Any) -> BaseProcess:
    """Start a child process; an interrupt waits until it has, for one in the midst of a fork would be lost."""
    process = context().Process(target=work, args=arguments, daemon=True)
    masks = hasattr(signal, "pthread_sigmask")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if masks else set()
    try:
        process.start()
    finally:
        if masks:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return process


def follow_parent() -> None:
    """End this process when its parent ends, however that ends; to be called first thing in a child.

    The end of a pipe does not tell: forked processes hold copies of each other's ends.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _serve(connection: Connection, start: Callable[[], Answer]) -> None:
    follow_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    torch.set_num_threads(1)
    answer, receiver, sender = start(), Receiver(connection), Sender(connection)
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            for unit in receiver.receive():
                sender.send([answer(unit)])


class WorkerPool:
    """Processes that each answer a few units of messages at a time; a unit is answered in one go.

    A worker is written to only while it is idle and therefore reading, so the two ends never wait for each other.

    Parameters
    ----------
    workers : how many processes.
    start : called in each process; returns the function that answers a message.
    """

    def __init__(self, workers: int, start: Callable[[], Answer]) -> None:
        self._processes: list[BaseProcess] = []
        self._connections: list[Connection] = []
        for _ in range(workers):
            ours, theirs = context().Pipe()
            self._processes.append(start_process(_serve, theirs, start))
            theirs.close()
            self._connections.append(ours)
        self._senders = [Sender(connection) for connection in self._connections]
        self._receivers = [Receiver(connection) for connection in self._connections]
        self._busy: dict[int, dict[str, Message]] = {}
        self._queue: deque[list[Message]] = deque()
        self._given = 0
        self._open: dict[str, int] = {}  # units given out, by first message, in the order of their numbers

    def submit(self, unit: list[Message]) -> None:
        """Queue a unit of messages."""
        self._queue.append(unit)

    def collect(self) -> list[Message]:
        """Hand out queued messages and wait until at least one reply is there; return the replies."""
        self._dispatch()
        if not self._busy:
            return []
        ready = wait([self._connections[worker] for worker in self._busy])
        replies: list[Message] = []
        for worker in [w for w in self._busy if self._connections[w] in ready]:
            replies += self._read(worker)
        self._dispatch()
        return replies

    def _dispatch(self) -> None:
        for worker, sender in enumerate(self._senders):
            count = 0 if worker in self._busy else self._share()
            if not count:
                continue
            batch = [self._queue.popleft() for _ in range(count)]
            for unit in batch:
                self._open[unit[0].metadata.message_id] = self._given
                self._given += 1
            self._busy[worker] = {message.metadata.message_id: message for unit in batch for message in unit}
            try:
                sender.send(batch)
            except (BrokenPipeError, ConnectionResetError) as error:
                raise self._died(worker) from error

    def _share(self) -> int:
        """Return how many units an idle worker is given: fewer near the end, none too far ahead of the slowest.

        Replies are used in the order of the messages, so those that are far ahead would only fill the memory.
        """
        oldest = next(iter(self._open.values()), self._given)
        room = oldest + 2 * MOST_UNITS * len(self._senders) - self._given
        fair = max(1, len(self._queue) // (4 * len(self._senders)))
        return max(0, min(len(self._queue), MOST_UNITS, fair, room))

    def _read(self, worker: int) -> list[Message]:
        try:
            units = self._receivers[worker].receive()
        except (EOFError, ConnectionResetError) as error:
            raise self._died(worker) from error
        asked = self._busy[worker]
        for unit in units:
            del self._open[unit[0]["answers"]]
        replies = [reply_of(head, asked.pop(head["answers"])) for unit in units for head in unit]
        if not asked:
            del self._busy[worker]
        return replies

    def _died(self, worker: int) -> EngineError:
        process = self._processes[worker]
        process.join(timeout=5)
        return EngineError(
            f"a worker died with exit code {process.exitcode}",
            where=f"worker {worker}",
            cure="It may have run out of memory: use fewer with engine.workers=1, and run again to resume.",
        )

    def close(self) -> None:
        """End the processes at once; what they keep is on disk, written so that it can be cut off anywhere."""
        for connection in self._connections:
            connection.close()
        for process in self._processes:
            process.kill()
            process.join()
