"""What a site has sent, written down before it is sent: so that a restarted site never masks twice.

A second masked vector for the same round would let a coordinator that sees both sums subtract them. The journal knows
for every run the last session and the rounds that were answered; it holds no secret.

Exact counts are the same whenever they are asked for, in another round or another run. So it also knows, over all runs,
with which other sites the sums of each such count were: the difference of sums over other sites would tell of those by
which they differ. (With honest sites a sum that only some of its sites have been in before needs, for its threshold,
two or more to which the question is new; so no combination of sums is over fewer.)
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from client.secagg.refusals import refuse
from client.transactions import transaction

PATIENCE = 60.0
"""Seconds to wait for another process's write."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS sessions (run BLOB PRIMARY KEY, session INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS masked (run BLOB, purpose TEXT, round INTEGER, session INTEGER NOT NULL,
                                   PRIMARY KEY (run, purpose, round));
CREATE TABLE IF NOT EXISTS sent (run BLOB, session INTEGER, exchange TEXT, digest BLOB NOT NULL,
                                 PRIMARY KEY (run, session, exchange));
CREATE TABLE IF NOT EXISTS told (subject BLOB PRIMARY KEY, company BLOB NOT NULL);
"""


class Journal(Protocol):
    """Remembers what a site has sent."""

    def last(self, run: bytes) -> int:
        """Return the last session of a run that the site has been in, -1 for none."""
        ...

    def begin(self, run: bytes, session: int) -> None:
        """Note that a session begins.

        Raises
        ------
        SecureAggregationError : (stale_session) the site has been in a session of that number or a higher one.
        """
        ...

    def has_masked(self, run: bytes, purpose: str, round_number: int) -> bool:
        """Return whether the round has had its masked vector, in any session."""
        ...

    def mask(self, run: bytes, purpose: str, round_number: int, session: int) -> None:
        """Note that the round's masked vector is about to be sent.

        Raises
        ------
        SecureAggregationError : (already_masked) one has been before.
        """
        ...

    def mask_again(self, run: bytes, purpose: str, round_number: int, session: int) -> None:
        """Note that a vector that was kept before it was noted may be sent, or sent again.

        Raises
        ------
        SecureAggregationError : (already_masked) the round has had the vector of another session.
        """
        ...

    def send(self, run: bytes, session: int, exchange: str, digest: bytes) -> None:
        """Note that an answer with that digest is about to be sent.

        Raises
        ------
        SecureAggregationError : (replayed) another one has been in that exchange.
        """
        ...

    def tell(self, subject: bytes, company: bytes) -> None:
        """Note that the site is about to agree to an exact sum.

        Parameters
        ----------
        subject : what is counted, a digest; the same for the same pictures and the same weights, whoever asks.
        company : whose sum it is, a digest.

        Raises
        ------
        SecureAggregationError : (other_company) it has agreed to one over other sites.
        """
        ...


class MemoryJournal:
    """The journal of a simulated site: it lasts as long as the simulation does."""

    def __init__(self) -> None:
        self._sessions: dict[bytes, int] = {}
        self._masked: dict[tuple[bytes, str, int], int] = {}
        self._sent: dict[tuple[bytes, int, str], bytes] = {}
        self._told: dict[bytes, bytes] = {}

    def last(self, run: bytes) -> int:
        """Return the last session of a run, -1 for none."""
        return self._sessions.get(run, -1)

    def begin(self, run: bytes, session: int) -> None:
        """Note that a session begins."""
        if session <= self.last(run):
            raise _stale(session)
        self._sessions[run] = session
        self._sent = {k: value for k, value in self._sent.items() if k[0] != run or k[1] >= session - 1}

    def has_masked(self, run: bytes, purpose: str, round_number: int) -> bool:
        """Return whether the round has had its masked vector, in any session."""
        return (run, purpose, round_number) in self._masked

    def mask(self, run: bytes, purpose: str, round_number: int, session: int) -> None:
        """Note that the round's masked vector is about to be sent."""
        if self.has_masked(run, purpose, round_number):
            raise _already(round_number)
        self._masked[run, purpose, round_number] = session

    def mask_again(self, run: bytes, purpose: str, round_number: int, session: int) -> None:
        """Note that a vector of that session may be sent, or sent again."""
        if self._masked.setdefault((run, purpose, round_number), session) != session:
            raise _already(round_number)

    def send(self, run: bytes, session: int, exchange: str, digest: bytes) -> None:
        """Note that an answer with that digest is about to be sent."""
        if self._sent.setdefault((run, session, exchange), digest) != digest:
            raise _replayed(exchange)

    def tell(self, subject: bytes, company: bytes) -> None:
        """Note that the site is about to agree to an exact sum."""
        if self._told.setdefault(subject, company) != company:
            raise _other()

    def snapshot(self) -> bytes:
        """Return the journal as bytes."""
        return json.dumps(
            {
                "sessions": [[run.hex(), session] for run, session in self._sessions.items()],
                "masked": [[run.hex(), *rest, of] for (run, *rest), of in sorted(self._masked.items())],
                "sent": [[run.hex(), *rest, value.hex()] for (run, *rest), value in self._sent.items()],
                "told": [[subject.hex(), company.hex()] for subject, company in self._told.items()],
            }
        ).encode()

    @classmethod
    def restore(cls, data: bytes) -> MemoryJournal:
        """Return the journal of :meth:`snapshot`."""
        journal, held = cls(), json.loads(data)
        journal._sessions = {bytes.fromhex(run): session for run, session in held["sessions"]}
        journal._masked = {
            (bytes.fromhex(run), purpose, number): session for run, purpose, number, session in held["masked"]
        }
        journal._sent = {
            (bytes.fromhex(run), session, exchange): bytes.fromhex(value)
            for run, session, exchange, value in held["sent"]
        }
        told = held.get("told", ())  # which came later
        journal._told = {bytes.fromhex(subject): bytes.fromhex(company) for subject, company in told}
        return journal


class DiskJournal:
    """The journal of a real site: an SQLite file, synced before anything is sent.

    Parameters
    ----------
    path : the file; it is made where it is missing, for its owner's eyes only.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with self._writing() as connection:
            for statement in _SCHEMA.strip().split(";")[:-1]:
                connection.execute(statement)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Write alone; what is written is on disk when the block ends."""
        if not self._path.exists():
            raise refuse("damaged_journal", "the journal of secure aggregation is gone")
        try:
            with contextlib.closing(
                sqlite3.connect(self._path, timeout=PATIENCE, isolation_level=None)
            ) as connection:
                connection.execute("PRAGMA synchronous=EXTRA")  # FULL may lose the last entry with the power
                with transaction(connection):
                    yield connection
        except (
            sqlite3.OperationalError
        ) as error:  # the disk is full or broken, or another process holds the file
            raise refuse(
                "unwritable_journal", f"the journal of secure aggregation cannot be written: {error}"
            ) from error
        except sqlite3.Error as error:
            raise refuse(
                "damaged_journal", f"the journal of secure aggregation cannot be used: {error}"
            ) from error

    def last(self, run: bytes) -> int:
        """Return the last session of a run, -1 for none."""
        with self._writing() as connection:
            return _last(connection, run)

    def begin(self, run: bytes, session: int) -> None:
        """Note that a session begins."""
        with self._writing() as connection:
            if session <= _last(connection, run):
                raise _stale(session)
            connection.execute("INSERT OR REPLACE INTO sessions VALUES (?, ?)", (run, session))
            connection.execute("DELETE FROM sent WHERE run = ? AND session < ?", (run, session - 1))

    def has_masked(self, run: bytes, purpose: str, round_number: int) -> bool:
        """Return whether the round has had its masked vector, in any session."""
        asked = "SELECT 1 FROM masked WHERE run = ? AND purpose = ? AND round = ?"
        with self._writing() as connection:
            return connection.execute(asked, (run, purpose, round_number)).fetchone() is not None

    def mask(self, run: bytes, purpose: str, round_number: int, session: int) -> None:
        """Note that the round's masked vector is about to be sent."""
        with self._writing() as connection:
            row = (run, purpose, round_number, session)
            if not connection.execute("INSERT OR IGNORE INTO masked VALUES (?, ?, ?, ?)", row).rowcount:
                raise _already(round_number)

    def mask_again(self, run: bytes, purpose: str, round_number: int, session: int) -> None:
        """Note that a vector of that session may be sent, or sent again."""
        asked = "SELECT session FROM masked WHERE run = ? AND purpose = ? AND round = ?"
        with self._writing() as connection:
            row = (run, purpose, round_number, session)
            connection.execute("INSERT OR IGNORE INTO masked VALUES (?, ?, ?, ?)", row)
            if connection.execute(asked, row[:3]).fetchone()[0] != session:
                raise _already(round_number)

    def send(self, run: bytes, session: int, exchange: str, digest: bytes) -> None:
        """Note that an answer with that digest is about to be sent."""
        with self._writing() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO sent VALUES (?, ?, ?, ?)", (run, session, exchange, digest)
            )
            found = connection.execute(
                "SELECT digest FROM sent WHERE run = ? AND session = ? AND exchange = ?",
                (run, session, exchange),
            ).fetchone()
            if found[0] != digest:
                raise _replayed(exchange)

    def tell(self, subject: bytes, company: bytes) -> None:
        """Note that the site is about to agree to an exact sum."""
        with self._writing() as connection:
            connection.execute("INSERT OR IGNORE INTO told VALUES (?, ?)", (subject, company))
            asked = "SELECT company FROM told WHERE subject = ?"
            if connection.execute(asked, (subject,)).fetchone()[0] != company:
                raise _other()


def _last(connection: sqlite3.Connection, run: bytes) -> int:
    found = connection.execute("SELECT session FROM sessions WHERE run = ?", (run,)).fetchone()
    return found[0] if found else -1


def _stale(session: int) -> Exception:
    return refuse("stale_session", f"session {session} is not after the last one of the run")


def _already(round_number: int) -> Exception:
    return refuse("already_masked", f"round {round_number} has had its masked vector")


def _replayed(exchange: str) -> Exception:
    return refuse("replayed", f"another answer has been sent in the exchange {exchange}")


def _other() -> Exception:
    return refuse("other_company", "exact counts that the site has told in a sum over other sites")
