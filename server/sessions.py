"""Sessions of secure aggregation over Flower messages: what a task's answers add up to.

A round takes three exchanges of messages, because the end of one session and the beginning of the next travel
together::

    work       inbox (r), question (r)    ->  masked vector (r)
    survivors  survivors (r), offer (r+1) ->  consent (r), advert (r+1)
    consents   consents (r), roll (r+1)   ->  shares revealed (r), shares (r+1)

The first session, and one after a session that was lost, is prepared by two exchanges of its own. From its question
on a session is kept on disk (:mod:`server.secagg.kept`), where the run says so: a process that takes the run up goes on
with it, and asks only those that have not been heard.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from client.audit_counts import is_noisy
from client.identity import Roster
from client.messages import facts_of, tell, text, vector_of, with_facts
from client.plan import Plan
from client.secagg.layout import Purpose, Sum, read_sum, session_layout
from client.secagg.policy import fewest
from client.secagg.refusals import refuse
from client.secagg.wire import Masked, Offer
from client.secure_site import expected, question_digest, to_text
from fer_models.errors import SecureAggregationError
from server.books import Books
from server.exchange import to_all
from server.post import KEYS, Ending, Post, Take
from server.scaffold import Control
from server.secagg.kept import PAUSE, Kept, Recorder
from server.secagg.session import Session
from server.secagg.session import Sum as Total
from server.standing import Standing

WORK = {
    "train": "train.secure",
    "evaluate": "evaluate.secure",
    "label_counts": "query.secure_label_counts",
    "moments": "query.secure_moments",
    "statistics": "query.secure_statistics",
}
"""Purpose -> type of the messages of work."""

TRIES = 2
"""Sessions that a task may have before its question is asked: sites that missed the first one may be back."""

BEGINNING = ("offer", "roll")
"""The exchanges that begin a session."""

LEDGER = ("site", "history", "ledger")
"""What an answer tells of a site's ledger."""

log = logging.getLogger("fedfer.server")


@dataclass(frozen=True)
class Task:
    """What a session is for.

    Attributes
    ----------
    purpose, round_number : as in the offer.
    nodes : the sites that are invited.
    """

    purpose: Purpose
    round_number: int
    nodes: tuple[int, ...]


Following = Callable[[str, int], "Task | None"]
"""Given purpose and round of a task, returns the one after it, None after the last."""


@dataclass
class Last:
    """What is known of the last session besides its sum.

    Attributes
    ----------
    told : a site's id -> what its ledger said with its vector.
    agreed : whether sites were asked to agree to the sum.
    resumed : whether an earlier process had begun it.
    """

    told: dict[int, dict[str, str]] = field(default_factory=dict)
    agreed: bool = False
    resumed: bool = False


class Sessions:
    """Runs one task after the other, each in a session.

    Parameters
    ----------
    size : numbers of an update, see :meth:`client.plan.Plan.numbers`.
    names : node -> its site's name.
    roster : everybody's public keys.
    following : which task comes after which, so that its session can be prepared.
    first : number of the first session; every site's last one is below it.
    record : keeps transcripts, None keeps none.
    control : the coordinator's half of SCAFFOLD, None without it.
    standing : who takes part, and which errors of a site a run goes on after.
    kept : keeps the session that is under way, None leaves it in memory.

    Attributes
    ----------
    post : carries the messages, and knows who is gone.
    last : of the last session.
    survivors : ids of the sites that were in the last sum.
    up, down : bytes of masked vectors and of weights, until somebody counts them. Messages of keys are some
        thousandths of that, and as many more when a run is resumed; they are not counted.
    """

    def __init__(
        self,
        grid: Grid,
        plan: Plan,
        size: int,
        names: Mapping[int, str],
        books: Books,
        *,
        roster: Roster,
        following: Following,
        first: int,
        standing: Standing,
        record: Recorder | None,
        control: Control | None,
        kept: Kept | None,
    ) -> None:
        self._plan, self._size, self._books = plan, size, books
        self._roster, self._following, self._record = roster, following, record
        self._control, self._kept, self._looked = control, kept, False
        self.post = Post(grid, plan, names, roster, standing)
        self._number = first
        self._ahead: tuple[Task, Session] | None = None
        self._left_out: set[int] = set()
        self._tries: Counter[str] = Counter()  # how many sessions each task has had
        self.last, self.survivors, self.up, self.down = Last(), tuple[int, ...](), 0, 0
        self._standing = standing
        standing.admit = self._admit

    @property
    def settled(self) -> bool:
        """Whether the next session has been prepared with some sites."""
        return self._ahead is not None

    def _admit(self, node: int, name: str) -> None:
        """Take in a site that comes, or comes back, and go on above every session that it was in."""
        self.post.admit(node, name)
        self._number = max(self._number, self._standing.session + 1)

    def run(self, task: Task, content: RecordDict) -> Sum | SecureAggregationError:
        """Run a session to its sum, or to the reason why it has none."""
        self.last = Last()
        self.post.forget()
        try:
            question = question_digest(task.purpose, content)
            session = self._found(task, question) or self._prepared(task)
            session.ask(question)
            self._work(task, session, content)
            found = self._closed(task, session)
            layout = session_layout(self._plan, task.purpose, task.round_number, self._size)
            self.survivors = found.survivors
            return read_sum(self._plan, layout, found.total, len(found.survivors))
        except SecureAggregationError as error:
            if error.code == "bad_secret" and error.culprit is not None:
                self._left_out.add(error.culprit)
            return error

    # On disk

    def _found(self, task: Task, question: bytes) -> Session | None:
        """Return the session of a task that an earlier process had asked the same question in, None without one."""
        if self._kept is None or self._looked:
            return None
        self._looked = True
        try:
            found = self._kept.find(self._record)
        except SecureAggregationError as error:
            log.warning("%s", error)
            self._kept.drop()
            return None
        if found is None:
            return None
        self._number = max(self._number, found.number)
        session, own = found.session, expected(self._plan, task.purpose, task.round_number, self._size)
        offer = session.terms
        asked = offer.run, offer.plan, offer.layout, offer.purpose, offer.round_number, offer.roster
        wanted = own.run, own.plan, own.layout, own.purpose, task.round_number, self._roster.digest
        if asked != wanted or session.question != question:
            return None
        self.last.told, self.last.resumed = found.told, True
        for each in found.told.values():
            self._books.charge(tell(each))
        self.up += len(session.masked) * (Masked.HEAD + offer.nbytes)
        return session

    def _keep(self, session: Session, pause: float = 0.0) -> None:
        if self._kept is not None:
            self._kept.save(session, self.last.told, self._number, pause=pause)

    # A session

    def _invited(self, task: Task) -> Task:
        """Return the task without the sites that lied about their shares, or that others have complained of."""
        nodes = tuple(node for node in task.nodes if self.post.ids[node] not in self._left_out)
        return replace(task, nodes=nodes)

    def _new(self, task: Task) -> Session:
        """Return the session of a task, with an offer to the sites that are invited."""
        own = expected(self._plan, task.purpose, task.round_number, self._size)
        terms, ids = own.terms, tuple(sorted(self.post.ids[node] for node in task.nodes))
        if len(ids) < terms.fewest:
            raise refuse("too_few", f"{len(ids)} sites to invite where {terms.fewest} are needed")
        offer = Offer(
            self._number, own.run, own.purpose, task.round_number, terms.profile, own.plan,
            self._roster.digest, own.layout, own.words64, own.words32, ids, terms.threshold, terms.minimum,
            terms.degree, os.urandom(32) if terms.degree else bytes(32),
        )  # fmt: skip
        self._number += 1
        self._tries[_name(task)] += 1
        return Session(offer, self._roster, self._record(offer) if self._record else None)

    def _prepared(self, task: Task) -> Session:
        """Return the session of a task, keys and shares exchanged."""
        ahead, self._ahead = self._ahead, None
        invited = self._invited(task)
        if ahead is not None and ahead[0] == invited:
            return ahead[1]
        while True:
            session = self._new(invited)
            last = self._tries[_name(task)] >= TRIES
            try:
                offers = to_all(session.invited, "offer", session.offer())
                self._keys(offers, {"offer": session.take_advert}, task)
                rolls = to_all(session.advertised, "roll", session.roll())
                self._keys(rolls, {"roll": session.take_shares}, task)
            except SecureAggregationError:
                if last:
                    raise
            if last or not session.hopeless:
                return session

    def _work(self, task: Task, session: Session, content: RecordDict) -> None:
        """Send everybody's parcels with the question, and add up the masked vectors."""
        for site in session.shared[:1]:
            session.inbox(site)  # which closes the shares
        if session.phase != "masked":
            return
        self._keep(session)
        down = vector_of(content, np.float32).nbytes if "vector" in content else 0
        self.down += down * len(session.masked)

        def ask(sites: Sequence[int]) -> None:
            known = self.post.known(sites)
            self.down += down * len(known)
            for site, reply in self.post.replies(self._questions(task, session, content, known)):
                with self.post.bearing(site):
                    answer = vector_of(reply, np.uint8)
                    self.up += answer.nbytes
                    if "ledger" in facts_of(reply):  # before the sum: nothing counts that no ledger tells of
                        self._standing.require_own(self.post.nodes[site], reply)
                        self._books.charge(reply)
                        self.last.told[site] = {name: text(reply, name) for name in LEDGER}
                    session.take_masked(site, answer.tobytes())
                    self._keep(session, PAUSE)

        def missing() -> list[int]:
            return [site for site in session.shared if ("masked", site) not in session.taken]

        began, kind, least = time.monotonic(), WORK[task.purpose], fewest(session.terms)
        ask(missing())
        self.post.wait(kind, began, ask, missing, lambda: len(session.masked) >= least)

    def _questions(
        self, task: Task, session: Session, content: RecordDict, sites: Sequence[int]
    ) -> Iterator[Message]:
        """Yield a message of work for each of some members; all share one vector."""
        for site in sites:
            own, name = {"inbox": to_text(session.inbox(site))}, self._roster.names[site]
            if (task.purpose != "evaluate" or is_noisy(self._plan)) and name in self._books.heads:
                own["ledger"] = self._books.heads[name]
            if task.purpose == "train" and self._control is not None:
                own |= self._control.facts_for(name)
            whole, group = with_facts(content, own), str(task.round_number)
            yield Message(whole, self.post.nodes[site], WORK[task.purpose], group_id=group)

    def _closed(self, task: Task, session: Session) -> Total:
        """Name the survivors and take the masks off, while the session of the next task is prepared.

        Where an earlier process had begun the session, nothing is prepared meanwhile: a site is in two at a time, and
        may have begun the one after it with that process.
        """
        survivors, self.last.agreed = session.survivors(), True
        ahead = None if self.last.resumed else self._begun(task)
        self._keep(session)
        least, lost = session.terms.threshold, None
        if session.phase == "consents":
            consent = Ending(
                "survivors", lambda _: survivors, session.take_consent,
                lambda: _without(session.masked, session.consented), lambda: len(session.consented) >= least,
            )  # fmt: skip
            self._exchanged(task, consent, ahead, "offer")
        try:
            session.consents((session.consented or session.masked)[0])  # where nobody has agreed, it says so
            self._keep(session)
        except SecureAggregationError as error:  # the next session goes on
            lost = error
        reveal = Ending(
            "consents", session.consents, session.take_reveal,
            lambda: _without(session.consented, session.revealed), lambda: len(session.revealed) >= least,
        )  # fmt: skip
        self._exchanged(task, None if lost else reveal, ahead, "roll")
        if ahead and not ahead[1].hopeless:  # else sites that are back have another chance
            self._ahead = ahead
        self._left_out |= set(session.accused())
        if lost:
            raise lost
        return session.finish()

    def _begun(self, task: Task) -> tuple[Task, Session] | None:
        """Return the task after this one and its session, None where there is none."""
        following = self._following(task.purpose, task.round_number)
        if following is None:
            return None
        invited = self._invited(following)
        with contextlib.suppress(SecureAggregationError):
            return invited, self._new(invited)
        return None

    # Messages

    def _exchanged(
        self, task: Task, ending: Ending | None, ahead: tuple[Task, Session] | None, begins: str
    ) -> None:
        """Take an exchange that ends a session together with one that begins the next."""
        parts, takers = {}, dict[str, Take]()
        if ending:
            parts, takers = ending.parts(ending.missing()), {ending.name: ending.take}
        with contextlib.suppress(SecureAggregationError):  # the next session is lost, not this one
            if ahead and begins == "offer":
                to_all(ahead[1].invited, "offer", ahead[1].offer(), parts)
                takers["offer"] = ahead[1].take_advert
            elif ahead:
                to_all(ahead[1].advertised, "roll", ahead[1].roll(), parts)
                takers["roll"] = ahead[1].take_shares
        began = time.monotonic()
        self._keys(parts, takers, ahead[0] if ahead else task)
        if ending:
            again = lambda sites: self._keys(ending.parts(sites), {ending.name: ending.take}, task)  # noqa: E731
            self.post.wait(KEYS, began, again, ending.missing, ending.enough)

    def _keys(self, parts: Mapping[int, Mapping[str, bytes]], takers: Mapping[str, Take], task: Task) -> None:
        """Take some exchanges of keys.

        ``task`` is what the newest of the sessions is for. Messages are named by it and by how often it was tried,
        the same in a run that is resumed, where a session that was prepared ahead is prepared by itself.
        """
        exchange = next((name for name in BEGINNING if name in takers), ", ".join(takers))
        self.post.keys(parts, takers, f"{_name(task)}, {self._tries[_name(task)]}: {exchange}")


def _without(sites: Iterable[int], heard: Iterable[int]) -> list[int]:
    known = set(heard)
    return [site for site in sites if site not in known]


def _name(task: Task) -> str:
    return f"{task.purpose} {task.round_number}"
