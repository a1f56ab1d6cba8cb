"""What a command says on standard error while it reads a data set, and where decoded pictures are kept."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from fer_models.stores import Cache

FIRST, AGAIN = 2.0, 30.0
"""Seconds of reading before something is said, and between two lines of a log; a terminal's line is renewed."""


def say(text: str) -> None:
    """Print a line that is no result."""
    sys.stderr.write(f"{text}\n")


class Shown:
    """Tells how many pictures are read; a context manager, called with the pictures read and to read."""

    def __init__(self, name: str) -> None:
        self._name, self._open = name, False
        self._began: tuple[float, int] | None = (
            None  # time and pictures at the first call: listing comes before
        )
        self._next = time.monotonic() + FIRST

    def __enter__(self) -> Shown:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def __call__(self, done: int, total: int) -> None:
        """Take a number of pictures read and to read; 0 to read where that is unknown."""
        now = time.monotonic()
        began, first = self._began = self._began or (now, done)
        if now < self._next:
            return
        left = (total - done) * (now - began) / (done - first) if done > first else None
        of = f" of {total:,}" if total else ""
        of += f", {left:.0f} s left" if total and left is not None else ""
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\033[Kreading {self._name}: {done:,}{of}")
            sys.stderr.flush()
            self._open, self._next = True, now + 0.2
        else:
            say(f"reading {self._name}: {done:,}{of}")
            self._next = now + AGAIN

    def say(self, text: str) -> None:
        """Print a line of its own."""
        self._close()
        say(text)

    def _close(self) -> None:
        if self._open:
            sys.stderr.write("\n")
            self._open = False


def cache_of(chosen: str, tell: Callable[[str], None]) -> Cache | None:
    """Return where decoded pictures are kept.

    Parameters
    ----------
    chosen : ``none``: nowhere; a folder: there, however few they are; ``auto``: large sets only, in the folder that the
        variable FEDFER_CACHE names, else in the user's folder of caches.
    """
    if chosen == "none":
        return None
    if chosen != "auto":
        return Cache(Path(chosen).expanduser(), 0, 0, tell)
    named = os.environ.get("FEDFER_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "fedfer"
    return Cache(Path(named).expanduser() if named else base, tell=tell)
