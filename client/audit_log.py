"""The audit log of a site or a coordinator: who did what when, appended alone, every entry chained to all before it.

A line of JSON an entry::

    {
        "number": 2,
        "time": "2026-01-31T12:00:00+00:00",
        "kind": "site_approved",
        "facts": {"site": "clinic-a", "fingerprint": "..."},
        "hash": "...",
    }

The hash is SHA-256 of the hash before it and of the entry's own text, as in the privacy ledger. Changing, dropping or
swapping an entry breaks every later hash. Cutting the newest ones off does not, so whoever audits keeps a **head**
(number and hash) elsewhere, and asks later whether the log still holds it.

What may be written is fixed for every kind of entry in :data:`KINDS`: names, digests and dates. There is no
place for a picture, a label or a figure of one site.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from client.alone import locked
from fer_models.errors import ConfigError, RunFolderError, SignatureError

KINDS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "founded": frozenset({"owner", "fingerprint"}),
        "certificate_made": frozenset({"fingerprint", "until"}),
        "site_approved": frozenset({"site", "fingerprint"}),
        "site_revoked": frozenset({"site"}),
        "server_started": frozenset({"address"}),
        "server_ready": frozenset({"address"}),
        "server_stopped": frozenset({"address"}),
        "process_started": frozenset({"name"}),
        "process_ended": frozenset({"name", "code"}),
        "sites_registered": frozenset({"new", "gone"}),
        "agent_started": frozenset(),
        "agent_stopped": frozenset(),
        "plan_met": frozenset({"plan", "run"}),
        "plan_refused": frozenset({"plan", "rule"}),
    }
)
"""What an entry of each kind says."""

LONGEST = 1 << 12
"""Bytes of an entry's line; one has some hundreds."""

TEXT = re.compile(r"[^\x00-\x1f\x7f]{0,200}")

START = hashlib.sha256(b"fedfer audit log|1").hexdigest()
"""What the first entry is chained to."""

CURE = "Put the newest whole copy back, and find out who changed this one."


@dataclass(frozen=True)
class Entry:
    """One entry.

    Attributes
    ----------
    number : 1, 2, ...
    time : UTC.
    kind : one of :data:`KINDS`.
    facts : what its kind says.
    hash : of it and all before it, hexadecimal.
    """

    number: int
    time: str
    kind: str
    facts: dict[str, str | int]
    hash: str

    @property
    def head(self) -> str:
        """Number and hash, to be kept elsewhere."""
        return f"{self.number}:{self.hash}"

    @property
    def line(self) -> str:
        """The entry as the file holds it."""
        return json.dumps(vars(self), separators=(",", ":"), ensure_ascii=False) + "\n"

    @property
    def words(self) -> str:
        """The entry for a reader."""
        facts = " ".join(f"{name}={value}" for name, value in self.facts.items())
        return f"{self.time} {self.kind.replace('_', ' ')} {facts}".rstrip()


def next_hash(previous: str, number: int, time: str, kind: str, facts: Mapping[str, Any]) -> str:
    """Return the hash of an entry: SHA-256 of the hash before it and its canonical text."""
    text = json.dumps([previous, number, time, kind, dict(facts)], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class AuditLog:
    """An audit log on disk, made with its first entry. Any number of processes may write to it.

    Parameters
    ----------
    path : of the file, which its owner alone may read.
    show : is given every entry that this object writes.
    """

    def __init__(self, path: Path, show: Callable[[Entry], None] | None = None) -> None:
        self.path, self._show = path, show

    def write(self, kind: str, **facts: str | int) -> Entry:
        """Append an entry, and sync it.

        Raises
        ------
        ValueError : its kind does not say such facts.
        SignatureError : the newest entry is damaged.
        RunFolderError : the file cannot be written.
        """
        _require_sayable(kind, facts)
        with self._alone() as handle:
            last = self._last(handle)
            number, previous = (last.number + 1, last.hash) if last else (1, START)
            time = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            entry = Entry(number, time, kind, dict(facts), next_hash(previous, number, time, kind, facts))
            _write(handle, entry.line.encode())
            os.fsync(handle)
        if self._show is not None:
            self._show(entry)
        return entry

    @contextlib.contextmanager
    def _alone(self) -> Iterator[int]:
        try:
            with locked(self.path, wait=True, flags=os.O_APPEND) as handle:
                yield handle
        except OSError as error:
            raise RunFolderError(
                f"cannot write the audit log: {error.strerror}",
                where=str(self.path),
                cure="Free disk space or mend the disk; nothing is done without its entry.",
            ) from error

    def _last(self, handle: int) -> Entry | None:
        """Return the newest entry; what a kill left of one that was never whole is cut off."""
        size = os.fstat(handle).st_size
        tail = os.pread(handle, min(size, 2 * LONGEST), max(0, size - 2 * LONGEST))
        whole = tail[: tail.rfind(b"\n") + 1]
        if len(whole) < len(tail):
            os.ftruncate(handle, size - len(tail) + len(whole))
        if not whole:
            if size > LONGEST:
                raise self._damaged("its end is no entry")
            return None
        return self._entry(whole.rstrip(b"\n").rpartition(b"\n")[2], "the newest entry")

    def entries(self) -> Iterator[Entry]:
        """Yield every entry, the oldest first, each held against its hash.

        Raises
        ------
        SignatureError : at the first that is not what was written.
        ConfigError : there is no log.
        """
        previous, number = START, 0
        try:
            with self.path.open("rb") as file:
                for line in file:
                    number += 1
                    if not line.endswith(b"\n"):
                        return  # being written, or torn by a kill: never was an entry
                    entry = self._entry(line, f"entry {number}")
                    expected = next_hash(previous, number, entry.time, entry.kind, entry.facts)
                    if (entry.number, entry.hash) != (number, expected):
                        raise self._damaged(f"entry {number} is not what was written there")
                    previous = entry.hash
                    yield entry
        except OSError as error:
            raise ConfigError(
                f"the audit log cannot be read: {error.strerror}",
                where=str(self.path),
                cure="Give the folder that holds it.",
            ) from error

    def verify(self, head: str | None = None) -> Entry | None:
        """Return the newest entry of a whole log, None of an empty one.

        Parameters
        ----------
        head : that was kept; the log has to hold it still.

        Raises
        ------
        SignatureError : an entry was changed, dropped or added, or the head is not there.
        """
        last, held = None, head is None
        for last in self.entries():
            held = held or last.head == head
        if not held:
            raise self._damaged("it does not hold the head that was kept")
        return last

    def _entry(self, line: bytes, which: str) -> Entry:
        try:
            if len(line) > LONGEST:
                raise ValueError("too long")
            entry = Entry(**json.loads(line))
            _require_sayable(entry.kind, entry.facts)
            if type(entry.number) is not int or not isinstance(entry.time, str):
                raise ValueError("ill-typed")
            return entry
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise self._damaged(f"{which} is none") from error

    def _damaged(self, what: str) -> SignatureError:
        return SignatureError(f"the audit log is damaged: {what}", where=str(self.path), cure=CURE)


def _write(handle: int, data: bytes) -> None:
    """Write all of some bytes; a disk that is nearly full takes the first of them without an error."""
    while data:
        data = data[os.write(handle, data) :]


def _require_sayable(kind: str, facts: Mapping[str, Any]) -> None:
    """Refuse what no entry may say."""
    if KINDS.get(kind) != set(facts):
        raise ValueError(f"an entry {kind} does not say {sorted(facts)}")
    for name, value in facts.items():
        plain = type(value) is int or (isinstance(value, str) and TEXT.fullmatch(value) is not None)
        if not plain:
            raise ValueError(f"{name} is no short text or number")
