"""Sites of whose answers the coordinator learns sums alone, over Flower messages.

A round takes three exchanges of messages, because the end of one session and the beginning of the next travel
together::

    work       inbox (r), question (r)    ->  masked vector (r)
    survivors  survivors (r), offer (r+1) ->  consent (r), advert (r+1)
    consents   consents (r), roll (r+1)   ->  shares revealed (r), shares (r+1)

The first session, and one after a session that was lost, is prepared by two exchanges of its own.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from numpy.typing import NDArray

from client.audit_counts import is_noisy
from client.identity import Roster
from client.messages import facts_of, pack, tell, text, vector_of, with_facts
from client.plan import Plan
from client.secagg.layout import Purpose, Sum, read_sum, session_layout
from client.secagg.refusals import refuse
from client.secagg.wire import Offer
from client.secure_site import expected, from_text, question_digest, to_text
from client.told import Told
from fer_models.errors import EngineError, SecureAggregationError
from server.aggregation import mean_of_sum
from server.asking import EVERYBODY, Answers, Judging, question, take_noisy
from server.books import Books
from server.exchange import content_of, exchange, to_all
from server.scaffold import Control
from server.secagg.session import Session
from server.secagg.session import Sum as Total
from server.standing import Standing

KEYS = "query.secure"
"""Type of the messages of keys."""

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

Take = Callable[[int, bytes], object]
"""Takes a site's answer."""

Recorder = Callable[[Offer], Callable[[str, bytes], object]]
"""Given the offer of a session, returns what is told every message of it that counts."""


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


class SecureSites:
    """Sites in sessions of secure aggregation.

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
        first: int = 0,
        standing: Standing,
        record: Recorder | None = None,
        control: Control | None = None,
    ) -> None:
        self._control = control
        self._survivors: tuple[int, ...] = ()  # of the last session
        self._grid, self._plan, self._size, self._books = grid, plan, size, books
        self._roster, self._following, self._record = roster, following, record
        self._ids = {node: roster.id_of(name) for node, name in names.items()}
        self._nodes = {site: node for node, site in self._ids.items()}
        self._number, self._agreed = first, False  # whether the last session came to its survivors
        self._ahead: tuple[Task, Session] | None = None
        self._left_out: set[int] = set()
        self._tries: Counter[str] = Counter()  # how many sessions each task has had
        # Up and down: masked vectors and weights. Messages of keys are some thousandths of that, and as many more when
        # a run is resumed; they are not counted.
        self._bytes = [0, 0]
        self.lost: dict[str, str] = {}  # site -> why it dropped out of the last session, where it said so
        self._standing = standing
        standing.admit = self._admit

    @property
    def settled(self) -> bool:
        """Whether the next session has been prepared with some sites; see :class:`server.asking.Sites`."""
        return self._ahead is not None

    def _admit(self, node: int, name: str) -> None:
        """Take in a site that comes, or comes back, and go on above every session that it was in."""
        self._ids[node] = self._roster.id_of(name)
        self._nodes[self._ids[node]] = node
        self._number = max(self._number, self._standing.session + 1)

    # The questions

    def train(
        self,
        nodes: Sequence[int],
        round_number: int,
        vector: torch.Tensor,
        told: Told,
        judging: Judging | None,
    ) -> Answers:
        """Train a round; see :class:`server.asking.Sites`."""
        common = None if self._control is None else self._control.common(len(self._standing.nodes))
        content = question(self._plan, round_number, vector, told, judging, common).content()
        done = self._answers(found := self._run(Task("train", round_number, tuple(nodes)), content))
        if isinstance(found, Sum):
            done.mean, done.loss, done.visits = mean_of_sum(self._plan, found), found.loss, found.visits
            if self._control is not None:
                names = [self._roster.names[site] for site in self._survivors]
                self._control.take(done.mean, found.weight, names, round_number)
        return done if judging else replace(done, counts={})

    def _answers(self, found: Sum | SecureAggregationError) -> Answers:
        done = Answers(bytes_up=self._bytes[0], bytes_down=self._bytes[1], agreed=self._agreed)
        self._bytes = [0, 0]
        if isinstance(found, SecureAggregationError):
            done.lost = self._why(found)
        else:
            done.cpu_seconds = found.cpu_seconds
            done.counts = {} if found.counts is None else {EVERYBODY: found.counts}
            if found.audit is not None:
                take_noisy(done, self._plan, found.audit, found.sites)
        return done

    def _why(self, error: SecureAggregationError) -> str:
        """Return why a session was lost, with what the sites that dropped out said."""
        told = "; ".join(f"{site}: {reason}" for site, reason in list(self.lost.items())[:3])
        return f"{error.what}{f' ({told})' if told else ''}"

    def evaluate(self, nodes: Sequence[int], judging: Judging, round_number: int) -> Answers:
        """Evaluate weights at every site; see :class:`server.asking.Sites`."""
        facts = {"plan": self._plan.text, "prove": int(judging.prove), "round": round_number}
        content = pack(judging.vector.numpy(), facts)
        done = self._answers(self._run(Task("evaluate", round_number, tuple(nodes)), content))
        return replace(done, bytes_up=0, bytes_down=0)  # as in plain, where an evaluation is not counted

    def label_counts(self, nodes: Sequence[int]) -> NDArray[np.int64]:
        """Ask for label counts, of which only the sum is learnt; see :class:`server.asking.Sites`.

        Raises
        ------
        SecureAggregationError : the session was lost; without the counts there is no run.
        """
        found = self._counts("label_counts", nodes)
        assert found.label_counts is not None
        return found.label_counts

    def statistics(self, nodes: Sequence[int]) -> tuple[NDArray[np.int64], int]:
        """Ask for statistics, of which only the sum is learnt; see :class:`server.asking.Sites`.

        Raises
        ------
        SecureAggregationError : the session was lost.
        """
        found = self._counts("statistics", nodes)
        assert found.statistics is not None
        return found.statistics, found.sites

    def _counts(self, purpose: Purpose, nodes: Sequence[int]) -> Sum:
        found = self._run(Task(purpose, 0, tuple(nodes)), tell({"plan": self._plan.text}))
        if isinstance(found, SecureAggregationError):
            raise refuse(found.code, self._why(found), found.culprit) from found
        return found

    def moments(
        self, nodes: Sequence[int], round_number: int, vector: torch.Tensor, radius: float
    ) -> Answers:
        """Ask for sums of features after the last round, of everybody's pictures alone.

        Parameters
        ----------
        vector, radius : as in :meth:`client.agent.Agent.moments`.
        """
        content = pack(vector.numpy(), {"plan": self._plan.text, "round": round_number, "radius": radius})
        found = self._run(Task("moments", round_number, tuple(nodes)), content)
        done = self._answers(found)
        return done if isinstance(found, SecureAggregationError) else replace(done, total=found)

    # A session

    def _run(self, task: Task, content: RecordDict) -> Sum | SecureAggregationError:
        """Run a session to its sum, or to the reason why it has none."""
        self.lost, self._agreed = {}, False
        try:
            session = self._prepared(task)
            session.ask(question_digest(task.purpose, content))
            self._work(task, session, content)
            found = self._closed(task, session)
            layout = session_layout(self._plan, task.purpose, task.round_number, self._size)
            self._survivors = found.survivors
            return read_sum(self._plan, layout, found.total, len(found.survivors))
        except SecureAggregationError as error:
            if error.code == "bad_secret" and error.culprit is not None:
                self._left_out.add(error.culprit)
            return error

    def _invited(self, task: Task) -> Task:
        """Return the task without the sites that lied about their shares, or that others have complained of."""
        nodes = tuple(node for node in task.nodes if self._ids[node] not in self._left_out)
        return replace(task, nodes=nodes)

    def _new(self, task: Task) -> Session:
        """Return the session of a task, with an offer to the sites that are invited."""
        own = expected(self._plan, task.purpose, task.round_number, self._size)
        terms, ids = own.terms, tuple(sorted(self._ids[node] for node in task.nodes))
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
        for site, reply in self._replies(self._questions(task, session, content)):
            with self._bearing(site):
                answer = vector_of(reply, np.uint8)
                self._bytes[0] += answer.nbytes
                if "ledger" in facts_of(reply):  # before the sum: nothing counts that no ledger tells of
                    self._standing.require_own(self._nodes[site], reply)
                    self._books.charge(reply)
                session.take_masked(site, answer.tobytes())

    def _questions(self, task: Task, session: Session, content: RecordDict) -> Iterator[Message]:
        """Yield a message of work for every member; all share one vector."""
        down = vector_of(content, np.float32).nbytes if "vector" in content else 0
        for site in session.shared:
            own, name = {"inbox": to_text(session.inbox(site))}, self._roster.names[site]
            if (task.purpose != "evaluate" or is_noisy(self._plan)) and name in self._books.heads:
                own["ledger"] = self._books.heads[name]
            if task.purpose == "train" and self._control is not None:
                own |= self._control.facts_for(name)
            self._bytes[1] += down
            yield Message(
                with_facts(content, own),
                self._nodes[site],
                WORK[task.purpose],
                group_id=str(task.round_number),
            )

    def _closed(self, task: Task, session: Session) -> Total:
        """Name the survivors and take the masks off, while the session of the next task is prepared."""
        survivors, ahead, self._agreed = session.survivors(), self._begun(task), True
        parts, takers = to_all(session.masked, "survivors", survivors), {"survivors": session.take_consent}
        if ahead:
            to_all(ahead[1].invited, "offer", ahead[1].offer(), parts)
            takers["offer"] = ahead[1].take_advert
        self._keys(parts, takers, ahead[0] if ahead else task)
        parts, takers, lost = {}, {"consents": session.take_reveal}, None
        try:
            asked = session.consented or session.masked[:1]  # where nobody has agreed, it says so
            parts = {site: {"consents": session.consents(site)} for site in asked}
        except SecureAggregationError as error:  # the next session goes on
            lost = error
        with contextlib.suppress(SecureAggregationError):  # the next session is lost, not this one
            if ahead:
                to_all(ahead[1].advertised, "roll", ahead[1].roll(), parts)
                takers["roll"] = ahead[1].take_shares
        self._keys(parts, takers, ahead[0] if ahead else task)
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

    def _keys(self, parts: Mapping[int, Mapping[str, bytes]], takers: Mapping[str, Take], task: Task) -> None:
        """Send each site its part of some exchanges, and hand its answers to whom they are for.

        ``task`` is what the newest of the sessions is for. Messages are named by it and by how often it was tried,
        the same in a run that is resumed, where a session that was prepared ahead is prepared by itself.
        """
        exchange = next((name for name in BEGINNING if name in takers), ", ".join(takers))
        group = f"{_name(task)}, {self._tries[_name(task)]}: {exchange}"
        plan, texts = self._plan.text, {}
        for part in parts.values():
            texts |= {id(data): to_text(data) for data in part.values() if id(data) not in texts}
        messages = []
        for site, part in parts.items():
            told = {name: texts[id(data)] for name, data in part.items()}
            messages.append(Message(tell({"plan": plan, **told}), self._nodes[site], KEYS, group_id=group))
        for site, reply in self._replies(messages):
            facts = facts_of(reply)
            for name in parts[site]:
                with self._bearing(site):
                    if name not in facts:
                        raise refuse("malformed", facts.get(f"{name} refused", f"no answer to the {name}"))
                    takers[name](site, from_text(text(reply, name)))

    def _replies(self, messages: Iterable[Message]) -> Iterator[tuple[int, RecordDict]]:
        """Yield site and answer; a site that crashed or refused has dropped out, any other error ends the run."""
        for reply in exchange(self._grid, messages):
            site = self._ids[reply.metadata.src_node_id]
            with self._bearing(site):
                yield site, content_of(reply)

    @contextlib.contextmanager
    def _bearing(self, site: int) -> Iterator[None]:
        """Go on without a site that a block fails for, and note why."""
        with self._standing.bearing(self._nodes[site], self.lost):
            try:
                yield
            except (SecureAggregationError, EngineError) as error:
                self.lost.setdefault(self._roster.names[site], error.what)


def _name(task: Task) -> str:
    return f"{task.purpose} {task.round_number}"
