"""A session on disk, so that the coordinator's next process goes on with it where this one dies.

A site masks a round once: a session that is given up after that has lost the round. So from the question on a session
is kept, and whoever takes it up sends the same messages again. A site answers a message that it has answered before
with the same bytes, and so what was on its way is not lost either.

One file holds it, whole or not at all, behind its SHA-256::

    SHA-256 of the rest, 32 bytes
    length of the facts, 8 bytes, little-endian
    facts   JSON: the offer, the question, every message that counted, which exchanges are closed, what ledgers said
    total   the sum of the masked vectors so far

It holds what came over the wire and nothing else: no secret of a site, and no vector by itself. All signatures are
checked again when it is taken up.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from client.identity import Roster
from client.secagg.refusals import refuse
from client.secagg.wire import Offer
from client.secure_site import from_text, to_text
from fer_models.errors import FedferError, RunFolderError
from server.run_folder import write_bytes
from server.secagg.session import PHASES, Session

FILE = "session.bin"
"""The file in a run folder."""

PAUSE = 1.0
"""Seconds between two writes while vectors arrive: one that is not there yet is asked for again."""

HASH, LENGTH = 32, 8

Recorder = Callable[..., Callable[[str, bytes], object]]
"""Given the offer of a session, returns what is told every message of it that counts. Of a session that is taken up it
is given the sites besides whose vectors and complaints count."""


@dataclass
class Found:
    """A session that an earlier process had begun.

    Attributes
    ----------
    session : as it was left.
    told : site -> what its ledger said with its vector.
    number : the first that no session has had.
    """

    session: Session
    told: dict[int, dict[str, str]]
    number: int


@dataclass
class Kept:
    """The session of a run that is under way.

    Attributes
    ----------
    path : of its file.
    roster : everybody's public keys.
    """

    path: Path
    roster: Roster
    _written: float = field(default=0.0, init=False)

    def save(
        self, session: Session, told: Mapping[int, Mapping[str, str]], number: int, *, pause: float = 0.0
    ) -> None:
        """Keep a session; nothing that closes an exchange may leave before this returns.

        Parameters
        ----------
        told, number : as in :class:`Found`.
        pause : seconds since the last write within which nothing is written.

        Raises
        ------
        RunFolderError : it cannot be written.
        """
        if pause and time.monotonic() - self._written < pause:
            return
        taken = [[phase, site, to_text(data)] for (phase, site), data in session.taken.items()]
        facts = {
            "offer": to_text(session.offer()),
            "question": session.question.hex(),
            "phase": session.phase,
            "taken": taken,
            "told": [[site, dict(each)] for site, each in told.items()],
            "number": number,
        }
        head = json.dumps(facts).encode()
        rest = b"".join((len(head).to_bytes(LENGTH, "little"), head, session.total))
        write_bytes(self.path, hashlib.sha256(rest).digest() + rest)
        self._written = time.monotonic()

    def find(self, record: Recorder | None = None) -> Found | None:
        """Return what is kept, None where there is nothing.

        Parameters
        ----------
        record : of the session's transcript.

        Raises
        ------
        SecureAggregationError : (damaged_session) it is not what was written.
        RunFolderError : it cannot be read, or the transcript cannot be written; the session stays.
        """
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:  # what is there may be whole
            what, cure = f"cannot read: {error.strerror}", "Mend the disk or the rights, then start again."
            raise RunFolderError(what, where=str(self.path), cure=cure) from error
        digest, rest = data[:HASH], memoryview(data)[HASH:]
        if hashlib.sha256(rest).digest() != digest:
            raise _damaged(self.path, "its digest is another")
        try:
            size = int.from_bytes(rest[:LENGTH], "little")
            facts, total = json.loads(bytes(rest[LENGTH : LENGTH + size])), rest[LENGTH + size :]
            session = _restored(facts, bytes(total), self.roster, record)
            told = {int(site): {str(k): str(v) for k, v in each.items()} for site, each in facts["told"]}
            return Found(session, told, int(facts["number"]))
        except RunFolderError:  # of the transcript; nothing is wrong with the session
            raise
        except FedferError as error:
            raise _damaged(self.path, error.what) from error
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise _damaged(self.path, type(error).__name__) from error

    def drop(self) -> None:
        """Forget the session: what it came to is in a checkpoint, or will never be."""
        self.path.unlink(missing_ok=True)


def _restored(facts: Mapping[str, Any], total: bytes, roster: Roster, record: Recorder | None) -> Session:
    """Return a session from what it was sent, every message checked as when it came."""
    offer = Offer.parse(from_text(facts["offer"]))
    sent: dict[str, dict[int, bytes]] = {phase: {} for phase in PHASES}
    for phase, site, data in facts["taken"]:
        sent[phase][int(site)] = from_text(data)
    session = Session(offer, roster, record(offer, sent["masked"].keys()) if record else None)
    closed = PHASES.index(facts["phase"])
    for site, data in sent["adverts"].items():
        session.take_advert(site, data)
    session.roll()
    for site, data in sent["shares"].items():
        session.take_shares(site, data)
    session.inbox(session.shared[0])
    session.ask(bytes.fromhex(facts["question"]))
    session.take_sum(sent["masked"], total)
    if closed > PHASES.index("masked"):
        session.survivors()
    for site, data in sent["consents"].items():
        session.take_consent(site, data)
    if closed > PHASES.index("consents"):
        session.consents(session.consented[0])
    for site, data in sent["reveals"].items():
        session.take_reveal(site, data)
    return session


def _damaged(path: Path, why: str) -> FedferError:
    return refuse("damaged_session", f"the session in {path.name} is not what was written: {why}")
