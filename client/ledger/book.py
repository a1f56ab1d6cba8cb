"""The ledger as a site uses it: verified when opened, written before a release, compared with what others saw."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client.accounting import Epsilon, epsilon_of
from client.finish import cost_after
from client.ledger.events import VERSION, Event, Head, first_hash, next_hash
from client.ledger.store import COLUMNS, Store, alone
from client.limits import Limit, cost_before, first_round_over, over_limit, with_rounds
from client.mechanisms import History, Mechanism, is_part, merged
from fer_models.errors import ConfigError, PrivacyError

if TYPE_CHECKING:
    from client.plan import Plan

NOTHING = Head("", 0, "")
"""Where a ledger stands that has not been made."""


class Ledger:
    """The releases of one site.

    The file is made with the first release. It holds a head record (a random identity, the site's name, a version,
    and where the ledger stands) and a row for each event, with the SHA-256 of the hash before it and of its content.

    Parameters
    ----------
    path : the file; None keeps the ledger in memory.
    site : the site's name; the ledger of another site is refused. None takes any.
    limit : of everything in it; what would pass it is refused. None sets no limit.
    read_only : for looking at it.

    Attributes
    ----------
    site : the site's name, as the file says.
    stated_limit : the limit that was in force when the file was last written.

    Raises
    ------
    PrivacyError : the file is damaged, another site's, or of another version.
    RunFolderError : it cannot be read.
    """

    def __init__(
        self,
        path: Path | None = None,
        site: str | None = None,
        limit: Limit | None = None,
        *,
        read_only: bool = False,
    ) -> None:
        self._expected, self.limit = site, limit
        self.site, self.stated_limit = site or "", limit
        self._store = Store(path, read_only=read_only)
        self._head = NOTHING
        self._events: dict[Event, str] = {}
        self._history: tuple[int, History] = (0, ())
        self._within: History = ()
        self._require_no_lines(path)
        self.refresh()

    @staticmethod
    def _require_no_lines(path: Path | None) -> None:
        if path is not None and (lines := path.with_suffix(".jsonl")).exists():
            raise PrivacyError(
                "a privacy ledger of an earlier version of FedFER",
                where=str(lines),
                cure="Run again in a new folder.",
            )

    @property
    def head(self) -> Head:
        """Where the ledger stands."""
        return self._head

    @property
    def events(self) -> dict[Event, str]:
        """Every event in order, with the time at which it was written."""
        return dict(self._events)

    def history(self, plan: str | None = None) -> History:
        """Return the composed history, of the plan with that hash or of all."""
        if plan is not None:
            return merged(event.mechanism for event in self._events if event.plan == plan)
        if self._history[0] != len(self._events):
            self._history = (len(self._events), merged(event.mechanism for event in self._events))
        return self._history[1]

    def epsilon(self, delta: float) -> Epsilon:
        """Return epsilon over everything in the ledger."""
        return epsilon_of(self.history(), delta)

    # Before a release

    def require_contains(self, seen: Head) -> None:
        """Refuse to go on from a ledger that lacks what somebody has seen of it.

        Parameters
        ----------
        seen : where the ledger stood after an earlier release, as the coordinator remembers it.

        Raises
        ------
        PrivacyError : the ledger is older than that, another one, or has gone another way since.
        """
        self.refresh()
        cure = "Put the newest ledger back, the only one with all that this site has released."
        if self._head.identity != seen.identity:
            gone = self._head == NOTHING
            other = "this is not the ledger that the site's earlier releases are in"
            raise self._store.damaged("the privacy ledger is gone" if gone else other)
        if self._head.number < seen.number:
            what = (
                f"the privacy ledger is older than what this site has already released, {self._head.number} entries "
                f"where {seen.number} are known: restored from a copy?"
            )
            raise PrivacyError(what, where=str(self._store.path or self.site), cure=cure)
        with self._store.transaction(write=False) as connection:
            held = _hash_at(connection, seen.number)
        if seen.number and held != seen.hash:
            what = (
                f"the privacy ledger has forked, two copies of it were in use: entry {seen.number} is another"
            )
            raise PrivacyError(what, where=str(self._store.path or self.site), cure=cure)

    def admit(self, plan: Plan, round_number: int = 1) -> None:
        """Refuse a private plan, before any of it is released, that the ledger has no room for.

        A site that is drawn for some rounds only cannot know for how many, and looks at the round at hand. Round 0 is
        what is released before the first.

        Raises
        ------
        PrivacyError : a round would pass the limit, or the plan claims to protect persons where earlier releases
            protect pictures only.
        """
        assert plan.privacy is not None
        history = self.history()
        if plan.privacy.unit == "subject" and any(each.unit == "record" for each in history):
            raise PrivacyError(
                "the site has made releases that protect single pictures only, so none can claim persons any more",
                where=str(self._store.path or self.site),
                cure="Use privacy.unit=record, or leave the site out.",
            )
        if self.limit is None:
            return
        done = {event.round for event in self._events if event.plan == plan.digest}
        if round_number == 0:
            beside = cost_before(
                plan,
                frozenset(each.kind for each in self._events if (each.plan, each.round) == (plan.digest, 0)),
            )
            history, round_number = merged((*history, *beside)), 1
        history = merged((*history, *cost_after(plan, frozenset(done))))
        last = plan.server.rounds if plan.server.participation >= 1 else round_number
        rounds = [number for number in range(round_number, last + 1) if number not in done]
        over = first_round_over(history, plan, self.limit, rounds)
        if over is not None:
            raise over_limit(over, plan, self.limit, self.site or "privacy ledger")
        self._within = with_rounds(history, plan, len(rounds))

    # The release itself

    def record(self, event: Event) -> Head:
        """Write an event and sync it to disk; the release may leave only after this returns.

        An event that is there already is the same release over again, and is not counted twice.

        Raises
        ------
        PrivacyError : it would pass the limit, or the ledger is no longer whole.
        RunFolderError : it cannot be written.
        """
        with alone():
            if self._head == NOTHING and not self._store.exists:
                self._create()
            with self._store.transaction(write=True) as connection:
                self._take(connection)
                if event in self._events:
                    return self._head
                self._require_within_limit(event)
                time = datetime.now(UTC).isoformat(timespec="seconds")
                hashed = self._append(connection, event, time)
            self._remember(event, time, hashed)
            return self._head

    def _append(self, connection: sqlite3.Connection, event: Event, time: str) -> str:
        number = self._head.number + 1
        hashed = next_hash(self._head.hash, number, time, event)
        row = {**asdict(event), **asdict(event.mechanism), "mechanism": event.mechanism.name}
        row |= {"number": number, "time": time, "hash": hashed}
        marks = ", ".join("?" * len(COLUMNS))
        connection.execute(f"INSERT INTO events VALUES ({marks})", [row[name] for name in COLUMNS])
        limit = (self.limit.epsilon, self.limit.delta) if self.limit else (None, None)
        connection.execute(
            "UPDATE head SET number = ?, hash = ?, limit_epsilon = ?, limit_delta = ?",
            (number, hashed, *limit),
        )
        return hashed

    def _create(self) -> None:
        identity, created = os.urandom(16).hex(), datetime.now(UTC).isoformat(timespec="seconds")
        self._store.create(
            (identity, self.site, created, VERSION, 0, first_hash(identity, self.site, created))
        )

    def _require_within_limit(self, event: Event) -> None:
        if self.limit is None:
            return
        before = self.history()
        after = merged((*before, event.mechanism))
        # What is part of a history that holds the limit holds it too, and spares asking an accountant every round.
        if not is_part(after, self._within) and not self.limit.holds(after):
            spent = epsilon_of(before, self.limit.delta).value
            raise PrivacyError(
                f"{event.kind.replace('_', ' ')} in round {event.round} would pass the site's limit of epsilon "
                f"{self.limit.epsilon:g}, of which {spent:.3g} is spent",
                where=self.site or "privacy ledger",
                cure="Nothing was released. Only the site can raise its limit.",
            )

    # Reading

    def refresh(self) -> None:
        """Verify and take in what is new in the file.

        Raises
        ------
        PrivacyError : it is damaged, gone, or has lost entries.
        """
        if self._head != NOTHING or self._store.exists:
            with self._store.transaction(write=False) as connection:
                self._take(connection)

    def _take(self, connection: sqlite3.Connection) -> None:
        identity, site, created, version, number, hashed = self._head_record(connection)
        self._require_own(identity, site, version)
        self.site = site
        if self._head == NOTHING:
            self._head = Head(identity, 0, first_hash(identity, site, created))
        if number < self._head.number or _hash_at(connection, self._head.number) not in (
            None,
            self._head.hash,
        ):
            raise self._store.damaged("the privacy ledger has lost entries")
        names = ", ".join(COLUMNS)
        rows = connection.execute(
            f"SELECT {names} FROM events WHERE number > ? ORDER BY number", (self._head.number,)
        )
        for row in rows:
            self._verify(dict(zip(COLUMNS, row, strict=True)))
        if (self._head.number, self._head.hash) != (number, hashed):
            raise self._store.damaged("the privacy ledger is damaged", f"after entry {self._head.number}")

    def _head_record(self, connection: sqlite3.Connection) -> tuple[str, str, str, int, int, str]:
        columns = "identity, site, created, version, number, hash, limit_epsilon, limit_delta"
        heads = connection.execute(f"SELECT {columns} FROM head").fetchall()
        try:
            (found,) = heads
            if [type(value) for value in found[:6]] != [str, str, str, int, int, str]:
                raise TypeError
            self.stated_limit = None if found[6] is None else Limit(found[6], found[7])
        except (ValueError, TypeError, ConfigError) as error:
            raise self._store.damaged("the privacy ledger is damaged", "its head record") from error
        return found[:6]

    def _require_own(self, identity: str, site: str, version: int) -> None:
        where = str(self._store.path or self.site)
        if version != VERSION:
            cure = f"This FedFER writes version {VERSION}; use the one that wrote it."
            raise PrivacyError(f"a privacy ledger of version {version}", where=where, cure=cure)
        if self._head != NOTHING and identity != self._head.identity:
            raise self._store.damaged("another privacy ledger has taken the place of this one")
        if self._expected is not None and site != self._expected:
            cure = f"Give {self._expected!r} its own; each site has one."
            raise PrivacyError(f"the privacy ledger of another site, {site!r}", where=where, cure=cure)

    def _verify(self, row: dict[str, Any]) -> None:
        expected = self._head.number + 1
        try:
            names = ("mechanism", "noise", "rate", "count", "unit", "slack")
            mechanism = Mechanism(*(row[name] for name in names))
            event = Event(
                row["kind"], row["run"], row["plan"], row["round"], row["key"], row["delta"], mechanism
            )
            good = row["number"] == expected and row["hash"] == next_hash(
                self._head.hash, expected, row["time"], event
            )
        except (ConfigError, TypeError, ValueError):
            good = False
        if not good:
            raise self._store.damaged("the privacy ledger is damaged", f"entry {expected}")
        self._remember(event, row["time"], row["hash"])

    def _remember(self, event: Event, time: str, hashed: str) -> None:
        self._events[event] = time
        self._head = Head(self._head.identity, self._head.number + 1, hashed)


def _hash_at(connection: sqlite3.Connection, number: int) -> str | None:
    found = connection.execute("SELECT hash FROM events WHERE number = ?", (number,)).fetchone()
    return found and found[0]
