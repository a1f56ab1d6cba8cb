"""A ledger on disk: an SQLite file in write-ahead mode, synced at every commit, for its owner's eyes only.

Any number of processes and threads may share it; each process has connections of its own, which never cross a fork.
A file appears whole, with its head record, or not at all.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

from client.keys import sync_folder
from client.transactions import transaction
from fer_models.errors import PrivacyError, RunFolderError

MOST_OPEN = 100
"""Connections that a process keeps open; one takes three file descriptors."""

PATIENCE = 120.0
"""Seconds to wait for another process's write; it may be asking an accountant meanwhile."""

COLUMNS = (
    "number", "time", "kind", "run", "plan", "round", "key", "delta", "mechanism", "noise", "rate", "count", "unit",
    "slack", "hash",
)  # fmt: skip

SCHEMA = """
CREATE TABLE head (identity TEXT, site TEXT, created TEXT, version INTEGER, number INTEGER, hash TEXT,
                   limit_epsilon REAL, limit_delta REAL);
CREATE TABLE events (number INTEGER PRIMARY KEY, time TEXT, kind TEXT, run TEXT, plan TEXT, round INTEGER, key TEXT,
                     delta REAL, mechanism TEXT, noise REAL, rate REAL, count INTEGER, unit TEXT, slack REAL,
                     hash TEXT);
"""

_lock = threading.RLock()
_open: OrderedDict[Store, tuple[sqlite3.Connection, tuple[int, int]]] = OrderedDict()
"""This process's connections, with device and inode of their files, the least recently used first."""


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Keep this process's other threads from all ledgers."""
    with _lock:
        yield


def close_all() -> None:
    """Close all connections of this process; the last one to close a file leaves it alone, without its log."""
    with _lock:
        while _open:
            _open.popitem()[1][0].close()


def _before_fork() -> None:
    """Close everything first: SQLite keeps count of a process's locks, and a child would take the parent's for its own.

    Then its parent, as the last to close, would take away the log that the child still writes to.
    """
    _lock.acquire()
    close_all()


def _in_child() -> None:
    global _lock
    _lock = threading.RLock()


atexit.register(close_all)
os.register_at_fork(before=_before_fork, after_in_parent=lambda: _lock.release(), after_in_child=_in_child)


class Store:
    """The file of one ledger; None keeps it in memory."""

    def __init__(self, path: Path | None, *, read_only: bool = False) -> None:
        self.path, self._read_only = path, read_only
        self._memory: sqlite3.Connection | None = None

    @property
    def exists(self) -> bool:
        """Whether there is a ledger yet."""
        return self._memory is not None if self.path is None else os.path.lexists(self.path)

    def create(self, head: tuple[str, str, str, int, int, str]) -> None:
        """Make the file with its head record, unless another process has just done so."""
        if self.path is None:
            self._memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            _fill(self._memory, head)
            return
        part = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        with _lock, self.translated("write"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            part.unlink(missing_ok=True)
            os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            try:
                with contextlib.closing(sqlite3.connect(part, isolation_level=None)) as connection:
                    connection.execute("PRAGMA synchronous=FULL")
                    connection.execute("PRAGMA journal_mode=WAL")  # which the file remembers
                    _fill(connection, head)
                with contextlib.suppress(FileExistsError):
                    os.link(part, self.path)  # where a rename would take the place of another's
            finally:
                part.unlink(missing_ok=True)
            sync_folder(self.path.parent)

    @contextlib.contextmanager
    def transaction(self, *, write: bool) -> Iterator[sqlite3.Connection]:
        """Read, or read and write, at one state of the file; what is written is on disk when the block ends.

        Raises
        ------
        PrivacyError : the file is damaged or gone.
        RunFolderError : it cannot be read or written.
        """
        begin = "BEGIN IMMEDIATE" if write else "BEGIN"
        with (
            _lock,
            self.translated("write" if write else "read"),
            transaction(self._connection(), begin) as connection,
        ):
            yield connection

    def _connection(self) -> sqlite3.Connection:
        if self.path is None:
            assert self._memory is not None
            return self._memory
        try:
            found = self.path.stat()
        except FileNotFoundError as error:
            self.close()
            raise self.damaged("the privacy ledger is gone") from error
        file = (found.st_dev, found.st_ino)
        if self in _open and _open[self][1] != file:  # another file has taken its place
            self.close()
        if self not in _open:
            while len(_open) >= MOST_OPEN:
                _open.popitem(last=False)[1][0].close()
            _open[self] = (_connected(self.path, self._read_only), file)
        _open.move_to_end(self)
        return _open[self][0]

    def close(self) -> None:
        """Close this process's connection."""
        with _lock, self.translated("write"):
            if self in _open:
                _open.pop(self)[0].close()

    @contextlib.contextmanager
    def translated(self, purpose: str) -> Iterator[None]:
        """Turn what SQLite and the operating system refuse into an error with a cure."""
        try:
            yield
        except (OSError, sqlite3.OperationalError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR:  # such as a missing table
                raise self.damaged("the privacy ledger is damaged") from error
            raise RunFolderError(
                f"cannot {purpose} the privacy ledger: {reason}",
                where=str(self.path),
                cure="Free disk space or mend the disk; nothing leaves the site without its entry in the ledger.",
            ) from error
        except sqlite3.DatabaseError as error:
            raise self.damaged("the privacy ledger is damaged") from error

    def damaged(self, what: str, where: str = "") -> PrivacyError:
        """Return the error of a ledger that can no longer be trusted."""
        place = f"{self.path}{where and f', {where}'}"
        cure = (
            "Put the newest copy with all its entries in its place; without it the site's epsilon is unknown."
        )
        return PrivacyError(what, where=place, cure=cure)


def _connected(path: Path, read_only: bool) -> sqlite3.Connection:
    address = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}"
    # Where nobody writes and no folder can be written to, a read-only file needs no log beside it.
    if read_only and not path.with_name(path.name + "-wal").exists():
        address += "&immutable=1"
    connection = sqlite3.connect(
        address, uri=True, timeout=PATIENCE, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA synchronous=FULL")  # which the file does not remember
    return connection


def _fill(connection: sqlite3.Connection, head: tuple[str, str, str, int, int, str]) -> None:
    connection.executescript(f"BEGIN;{SCHEMA}")
    connection.execute("INSERT INTO head VALUES (?, ?, ?, ?, ?, ?, NULL, NULL)", head)
    connection.execute("COMMIT")
