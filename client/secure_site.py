"""A site's part in secure aggregation: between the messages, the sessions it is in, and the agent that does the work.

A message of keys holds any of the exchanges that need no work, each of its own session: the end of one round's session
and the beginning of the next one's travel together. A message of work holds the peers' parcels and the question; its
answer is the masked vector.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, RecordDict

from client.agent import Agent, LabelCounts, Update
from client.answers import ledger_facts
from client.audit_counts import is_noisy
from client.finish import step_of
from client.identity import Identity, Roster
from client.messages import facts_of, pack, scalar, tell, text, vector_of
from client.plan import Plan, read_plan
from client.plan_signature import SIGNED
from client.question import COUNTED, read_question
from client.secagg.agreement import digest
from client.secagg.codec import session_of
from client.secagg.journal import Journal, MemoryJournal
from client.secagg.layout import Values, session_layout
from client.secagg.participant import Participant
from client.secagg.policy import Expected, Policy
from client.secagg.refusals import refuse
from client.secagg.wire import Offer
from client.session_files import Left, SessionFiles
from fer_models.errors import PrivacyError, RunFolderError, SecureAggregationError

EXCHANGES = ("offer", "roll", "survivors", "consents")
"""What a message of keys may hold; the order in which it is answered."""

OWN = ("inbox", "ledger", COUNTED, SIGNED)
"""Facts of a message of work that are one site's, or the coordinator's signature under the plan, which is put on the
message afterwards; all others are the question, the same for everybody."""

KEPT = 2
"""Sessions that a site is in at a time: one that ends and one that begins."""


log = logging.getLogger("fedfer.site")


@dataclass(frozen=True)
class Membership:
    """What makes a site one of a run's.

    Attributes
    ----------
    identity : signs for the site.
    roster : everybody's public keys, as the site has pinned them.
    policy : the site's floors.
    journal : what it has sent.
    store : file in which a simulated site keeps its sessions between processes, None keeps them in memory.
    files : where a real site keeps its open sessions; None keeps them in the process, and a restart leaves them.
    """

    identity: Identity
    roster: Roster
    policy: Policy
    journal: Journal
    store: Path | None = None
    files: SessionFiles | None = None


def to_text(data: bytes) -> str:
    """Return bytes as a fact holds them."""
    return base64.b64encode(data).decode()


def from_text(told: str) -> bytes:
    """Return the bytes of a fact.

    Raises
    ------
    SecureAggregationError : (malformed) it holds none.
    """
    try:
        return base64.b64decode(told, validate=True)
    except (binascii.Error, ValueError) as error:
        raise refuse("malformed", "a fact that holds no bytes") from error


def question_digest(kind: str, content: RecordDict) -> bytes:
    """Return the digest, 32 bytes, of what a message of work asks of every site alike: its vector and its facts."""
    record = content.get("vector")
    arrays = record.items() if isinstance(record, ArrayRecord) else ()
    # With their names: else two vectors that change places would be two questions with one digest.
    vectors = [part for name, array in arrays for part in (name.encode(), array.data)]
    shared = {name: value for name, value in facts_of(content).items() if name not in OWN}
    return digest("fedfer question", kind.encode(), json.dumps(shared, sort_keys=True).encode(), *vectors)


def subject_of(content: RecordDict, plan: Plan, purpose: str) -> bytes:
    """Return what an answer to a message of work counts exactly: a digest of all but the site's own pictures that the
    counts depend on, and nothing where noise protects them.

    Tables of training pictures depend on nothing else, so that all kinds of them are one.
    """
    if purpose in ("train", "evaluate"):
        evaluates = purpose == "evaluate" or "judged" in facts_of(content)
        if not evaluates or is_noisy(plan):
            return b""
        judged = vector_of(content, np.float32) if purpose == "evaluate" else read_question(content).judged
        assert judged is not None
        return digest("fedfer told", b"test pictures", judged.tobytes())
    if plan.privacy is not None:
        return b""
    if purpose == "moments":
        step = step_of(plan, int(scalar(content, "round"))).encode()
        return digest("fedfer told", b"features", step, vector_of(content, np.float32).tobytes())
    return digest("fedfer told", b"training pictures")


def run_digest(plan: Plan) -> bytes:
    """Return what a plan's run is called in offers and journals, 32 bytes."""
    return hashlib.sha256(plan.run.encode()).digest()


def expected(plan: Plan, purpose: str, round_number: int, numbers: int) -> Expected:
    """Return what a site of a plan expects of an offer; ``numbers`` is T, the length of an update.

    Raises
    ------
    PrivacyError : the plan does not ask for secure aggregation.
    """
    if plan.secure is None:
        raise PrivacyError(
            "an offer of secure aggregation for a plan that has none",
            where="aggregation",
            cure="Run the same version of FedFER everywhere.",
        )
    layout = session_layout(plan, purpose, round_number, numbers)
    own = bytes.fromhex(plan.digest)
    terms = plan.secure.of(purpose)
    return Expected(run_digest(plan), own, layout.digest, purpose, layout.words64, layout.words32, terms)


class SecureSite:
    """One site in the sessions of secure aggregation.

    Parameters
    ----------
    agent : does the work.
    membership : makes the site one of the run's.
    """

    def __init__(self, agent: Agent, membership: Membership) -> None:
        self.agent, self._member = agent, membership
        self._journal = membership.journal
        self._sessions: dict[int, Participant] = {}
        self._facts: dict[int, dict[str, str]] = {}  # session -> what the ledger said of its vector
        if membership.files is not None:
            self._take_up(membership.files)

    def last(self, plan: Plan) -> int:
        """Return the number of the run's last session that the site has been in, -1 for none."""
        with self._kept(plan):
            return self._journal.last(run_digest(plan))

    def keys(self, content: RecordDict) -> RecordDict:
        """Answer a message of keys; an exchange that the site refuses is answered with the reason."""
        plan, facts = read_plan(text(content, "plan")), facts_of(content)
        self.agent.require_willing(plan)  # before a net of the coordinator's size is built
        answers: dict[str, Any] = {"site": self.agent.name}
        with self._kept(plan):
            for name in EXCHANGES:
                if name not in facts:
                    continue
                try:
                    answers[name] = to_text(self._answer(name, from_text(text(content, name)), plan))
                except SecureAggregationError as error:
                    answers[f"{name} refused"] = str(error)
        return tell(answers)

    def _answer(self, name: str, data: bytes, plan: Plan) -> bytes:
        if name == "offer":
            offer = Offer.parse(data)
            # A site that lives through several runs: each counts its sessions by itself.
            for other in [n for n, each in self._sessions.items() if each.offer.run != offer.run]:
                self._leave(other)
            participant = self._sessions.get(offer.session) or self._new(plan, offer)
            answer = participant.advertise(data)
            self._sessions[offer.session] = participant
            for old in sorted(self._sessions)[:-KEPT]:
                self._leave(old)
            return answer
        participant = self._of(data)
        if name == "roll":
            return participant.share(data)
        return participant.consent(data) if name == "survivors" else participant.reveal(data)

    def _new(self, plan: Plan, offer: Offer) -> Participant:
        """Return a participant for an offer, which it will hold against what the site works out itself."""
        asked = expected(plan, offer.purpose, offer.round_number, self.agent.update_size(plan))
        return self._participant(asked, offer.session)

    def _participant(self, asked: Expected | None, number: int) -> Participant:
        member = self._member
        return Participant(
            member.identity,
            member.roster,
            asked,
            member.policy,
            self._journal,
            lambda purpose: self.agent.draw(number, f"secure aggregation, {purpose}"),
            self._keep,
        )

    def _leave(self, number: int) -> None:
        """Leave a session, of which nothing stays."""
        self._sessions.pop(number).forget()
        if self._member.files is not None:
            self._member.files.drop(number)

    def _keep(self, participant: Participant) -> None:
        if self._member.files is not None:
            number = participant.offer.session
            facts = self._facts.get(number, {})
            try:
                self._member.files.keep(Left(number, participant.snapshot(), participant.vector, facts))
            except (
                RunFolderError
            ) as error:  # as where there is no such place: the process goes on, the next does not
                log.warning("session %d is not kept, memory for it is full: %s", number, error.what)
                self._member.files.drop(number)

    def _take_up(self, files: SessionFiles) -> None:
        """Go on with the sessions that an earlier process was in; what the journal speaks against is left.

        Raises
        ------
        SecureAggregationError : (unwritable_journal) nothing can be noted.
        """
        for left in files.read():
            participant = self._participant(None, left.number)
            try:
                participant.restore(left.state, left.vector)
                if participant.offer.session != left.number:
                    raise refuse("wrong_session", "a file with the name of another session")
            except (SecureAggregationError, ValueError, LookupError, TypeError, AttributeError) as error:
                if isinstance(error, SecureAggregationError) and error.code == "unwritable_journal":
                    raise  # nothing is wrong with the session: the next process may take it up
                log.warning("session %d is not taken up: %s", left.number, error)
                files.drop(left.number)
                continue
            self._sessions[left.number], self._facts[left.number] = participant, dict(left.facts)

    def _of(self, data: bytes) -> Participant:
        """Return the participant of the session that a message belongs to."""
        number = session_of(data)
        if number not in self._sessions:
            raise refuse("wrong_session", f"a message of session {number}, in which the site is not")
        return self._sessions[number]

    # Work

    def begin(self, content: RecordDict, plan: Plan, purpose: str, round_number: int) -> RecordDict | None:
        """Look at the peers' parcels before any work is done; return the answer where there is no work to do.

        Raises
        ------
        SecureAggregationError : the message belongs to no session that the site is in.
        """
        inbox = from_text(text(content, "inbox"))
        with self._kept(plan):
            participant = self._of(inbox)
            offer = participant.offer
            asked = bytes.fromhex(plan.digest), purpose, round_number
            if (offer.plan, offer.purpose, offer.round_number) != asked:
                raise refuse("wrong_question", "work that the session's offer was not for")
            if participant.answered("inbox"):
                again = participant.mask(inbox, question_digest(purpose, content), bytearray())
                return self._masked(again, self._facts.get(offer.session, {}))
            complaint = participant.open(inbox)
            return None if complaint is None else self._masked(complaint, {})

    def finish(
        self,
        content: RecordDict,
        plan: Plan,
        purpose: str,
        values: Values,
        done: Update | LabelCounts | None = None,
    ) -> RecordDict:
        """Return the masked vector of finished work, and what the ledger says of it.

        Parameters
        ----------
        values : segment -> numbers, as the session's layout has them.
        done : what the agent returned, where it wrote to the ledger.
        """
        inbox, question = from_text(text(content, "inbox")), question_digest(purpose, content)
        with self._kept(plan):
            participant = self._of(inbox)
            offer = participant.offer
            layout = session_layout(plan, purpose, offer.round_number, self.agent.update_size(plan))
            weight = round(done.weight) if isinstance(done, Update) else 1
            # By the round and not by the session, whose number a simulation that is resumed does not repeat.
            dither = self.agent.draw(offer.round_number, f"secure aggregation, dither, {purpose}")
            # Nothing is counted in a round in which nobody was asked to, though the layout has the place.
            absent = (each for each in layout.segments if each.name == "counts" and each.name not in values)
            values = {**values, **{each.name: np.zeros(each.length, np.int64) for each in absent}}
            body = layout.encode(values, weight, dither)
            facts = ledger_facts(done)
            # As long as the vector: asked again, the site says again what it has cost.
            known = {n: self._facts[n] for n in self._facts if n in self._sessions}
            self._facts = known | {offer.session: facts}
            masked = participant.mask(inbox, question, body, subject_of(content, plan, purpose))
        return self._masked(masked, facts)

    def _masked(self, answer: bytes, facts: Mapping[str, str]) -> RecordDict:
        return pack(np.frombuffer(answer, np.uint8), {"site": self.agent.name, **facts})

    # Between processes

    @contextlib.contextmanager
    def _kept(self, plan: Plan) -> Iterator[None]:
        """Take up the site's sessions from its file, where it has one, and leave them there again."""
        store = self._member.store
        if store is None:
            yield
            return
        held = json.loads(store.read_text()) if store.exists() else {"journal": "", "sessions": {}}
        if held["journal"]:
            self._journal = MemoryJournal.restore(from_text(held["journal"]))
        self._sessions = {}
        for number, state in held["sessions"].items():
            offer = Offer.parse(from_text(state["offer"]))
            self._sessions[int(number)] = self._new(plan, offer)
            self._sessions[int(number)].restore(from_text(state["state"]))
        try:
            yield
        finally:
            assert isinstance(self._journal, MemoryJournal)
            sessions = {
                number: {"offer": to_text(each.offer.encode()), "state": to_text(each.snapshot())}
                for number, each in self._sessions.items()
            }
            part = store.with_suffix(".part")
            part.write_text(json.dumps({"journal": to_text(self._journal.snapshot()), "sessions": sessions}))
            part.replace(store)
