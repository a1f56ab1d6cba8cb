"""Holding a lock as long as a process lives: the operating system lets go of it, however the process ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fer_models.errors import EngineError


@contextmanager
def locked(path: Path, *, wait: bool, flags: int = 0) -> Iterator[int]:
    """Hold a lock as long as the block lasts, and yield the open file, which its owner alone may read.

    Parameters
    ----------
    wait : for a process that holds it; else that is a BlockingIOError.
    flags : more of them for opening the file.
    """
    handle = os.open(path, os.O_CREAT | os.O_RDWR | flags, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield handle
    finally:
        os.close(handle)


@contextmanager
def alone(path: Path, what: str, room: str = "site") -> Iterator[None]:
    """Hold a lock as long as the block lasts; its file says which process does.

    Parameters
    ----------
    what : is wrong where another process holds it.
    room : whose commands look at it and end it.

    Raises
    ------
    EngineError : another process holds it.
    """
    with ExitStack() as stack:
        try:
            handle = stack.enter_context(locked(path, wait=False))
        except BlockingIOError as error:
            raise EngineError(
                f"{what} (process {holder(path) or 0})",
                where=str(path.parent),
                cure=f"See fedfer {room} status DIR; fedfer {room} stop DIR ends it.",
            ) from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield


def holder(path: Path) -> int | None:
    """Return the process that holds a lock, 0 where it has not said so yet, None where none does."""
    try:
        handle = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _said(handle)
    finally:
        os.close(handle)
    return None


def _said(handle: int) -> int:
    told = os.pread(handle, 20, 0)
    return int(told) if told.isdigit() else 0
