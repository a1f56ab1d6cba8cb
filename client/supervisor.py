"""Keeping processes alive: what ends is started again, and all end together."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fer_models.errors import EngineError

SHORTEST, LONGEST = 1.0, 60.0
"""Seconds to wait before a process is started again; twice as long every time, until it has lived for the longest."""

LARGEST_LOG = 10_000_000
"""Bytes of a process's log, at which it becomes NAME.log.1 in the place of an older one, and another is begun."""

GRACE = 30.0
"""Seconds that a process has to end by itself: on a busy machine, one that is at work takes a while to hear of it."""

OWN = os.O_CREAT | os.O_TRUNC | os.O_WRONLY
"""How a file is opened that is written anew."""

PR_SET_PDEATHSIG = 1
"""See prctl(2): the signal that a process gets when the one that started it dies."""


@dataclass(frozen=True)
class Program:
    """A process to be kept alive.

    Attributes
    ----------
    name : for the log, and of its own log file.
    command : program and arguments.
    needs : what must be true before it is started, such as that another program answers.
    """

    name: str
    command: Sequence[str]
    needs: Callable[[], bool] = lambda: True


@dataclass
class _Child:
    program: Program
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    wait: float = SHORTEST
    due: float = 0.0
    ends: int = 0


@dataclass
class Supervisor:
    """Some processes that live and end together.

    Example::

        supervisor = Supervisor(programs, environment, folder, told)
        with supervisor:
            while not stopped():
                supervisor.tend()
                time.sleep(0.2)

    Attributes
    ----------
    programs : in the order in which they are started; they are ended in the other.
    environment, folder : of every process; its output goes to NAME.log there, for its owner's eyes, and is
        kept within :data:`LARGEST_LOG` twice.
    told : is called with a program's name and what happened: started, or ended with a code.
    """

    programs: Sequence[Program]
    environment: Mapping[str, str]
    folder: Path
    told: Callable[[str, int | None], None]
    _children: list[_Child] = field(default_factory=list)

    def __enter__(self) -> Supervisor:
        self._children = [_Child(program) for program in self.programs]
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def running(self) -> dict[str, int]:
        """Name -> process id of those that live."""
        return {
            child.program.name: child.process.pid
            for child in self._children
            if child.process is not None and child.process.poll() is None
        }

    def tend(self) -> None:
        """Start what is due, and note what has ended.

        Raises
        ------
        EngineError : a program cannot be started at all.
        """
        now = time.monotonic()
        for child in self._children:
            if child.process is not None and (code := child.process.poll()) is not None:
                self._ended(child, code, now)
            if child.process is None and now >= child.due and child.program.needs():
                self._start(child, now)
            self._turn(child.program.name)

    def _turn(self, name: str) -> None:
        """Begin a log anew that has grown long; a process goes on writing to the same file, behind its new end."""
        path = self.folder / f"{name}.log"
        with contextlib.suppress(OSError):  # none so far; or no room for a copy, then it is looked at again
            if path.stat().st_size < LARGEST_LOG:
                return
            old = path.with_name(f"{path.name}.1")
            with path.open("rb") as log, os.fdopen(os.open(old, OWN, 0o600), "wb") as copy:
                shutil.copyfileobj(log, copy)
            os.truncate(path, 0)

    def _start(self, child: _Child, now: float) -> None:
        path = self.folder / f"{child.program.name}.log"
        try:
            handle = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
            with os.fdopen(handle, "wb") as log:
                child.process = subprocess.Popen(
                    list(child.program.command),
                    env=dict(self.environment),
                    cwd=self.folder,  # where no other code of that name lies
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    preexec_fn=_end_with_parent if sys.platform == "linux" else None,
                    start_new_session=True,  # Ctrl-C is for the supervisor, which ends them in order
                )
        except OSError as error:
            raise EngineError(
                f"cannot start {child.program.name}: {error.strerror}",
                where=str(error.filename or path),
                cure="Free disk space, or install FedFER with its dependencies again.",
            ) from error
        child.started = now
        self.told(child.program.name, None)

    def _ended(self, child: _Child, code: int, now: float) -> None:
        """Let a process that ends soon after its start wait longer every time."""
        if now - child.started > LONGEST:
            child.wait = SHORTEST
        child.process, child.due = None, now + child.wait
        child.wait = min(2 * child.wait, LONGEST)
        child.ends += 1
        self.told(child.program.name, code)

    def stop(self) -> None:
        """End all, the newest first, and tell of it then; who does not end by itself is killed."""
        ended: list[tuple[str, int]] = []
        for child in reversed(self._children):
            if child.process is None:
                continue
            with contextlib.suppress(ProcessLookupError):
                child.process.send_signal(signal.SIGTERM)
            try:
                code = child.process.wait(GRACE)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.process.pid, signal.SIGKILL)
                code = child.process.wait()
            child.process = None
            ended.append((child.program.name, code))
        for name, code in ended:  # last, as a log on a full disk raises
            self.told(name, code)


def _end_with_parent() -> None:
    """Ask for SIGTERM when the supervisor dies; runs in the new process, before its program."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@contextlib.contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Yield what tells whether SIGTERM or SIGINT has come meanwhile."""
    came: list[int] = []
    signals = signal.SIGTERM, signal.SIGINT
    before = {each: signal.signal(each, lambda number, _: came.append(number)) for each in signals}
    try:
        yield lambda: bool(came)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
