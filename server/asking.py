"""What the coordinator asks of its sites in a run, and what comes of their answers."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from flwr.app import Message, MessageType, RecordDict
from flwr.serverapp import Grid
from numpy.typing import NDArray

from client.audit_counts import audit_size, is_noisy
from client.by_site import own_attributes
from client.messages import pack, parts_of, scalar, text, vector_of, with_fact, with_facts
from client.plan import Plan
from client.question import Question
from client.secagg.layout import Sum
from client.statistics import statistics_size
from client.told import Told
from fer_models.counts import Counts, vector_size
from fer_models.errors import EngineError, PrivacyError
from fer_models.noisy_counts import cleaned
from server.aggregation import aggregate_of, require_sound
from server.books import Books
from server.class_shares import LABEL_COUNTS, STATISTICS, ask, from_answers
from server.debiasing.by_site import Said, SiteMean
from server.exchange import content_of, exchange
from server.scaffold import Control
from server.standing import Standing

EVERYBODY = "all sites"
"""The name under which the counts of a sum stand."""


@dataclass(frozen=True)
class Judging:
    """Weights that the sites are to evaluate on their test pictures.

    Attributes
    ----------
    vector : float32 (P + Q,).
    prove : whether the sites prove that no answer depends on the other pictures of its batch.
    """

    vector: torch.Tensor
    prove: bool


@dataclass
class Answers:
    """What the answers to one question came to.

    Attributes
    ----------
    mean : float64 (T + K,), the mean update and tally, or with SCAFFOLD (T + T,) and the mean change of the control
        variates; None where nothing was trained.
    loss : mean training loss a visit.
    visits, bytes_up, bytes_down, cpu_seconds : as in :class:`server.rounds.Totals`.
    counts : site -> counts of its test pictures; empty where nothing was evaluated.
    lost : why there is no sum, where too many sites dropped out of it; then nothing else is there.
    noises : sites whose noise is in the counts, 0 where they carry none.
    total : the sum itself, where it is of features.
    agreed : sites were asked to agree to the sum, so that they tell the same exact counts over no other sites.
    """

    mean: torch.Tensor | None = None
    loss: float = 0.0
    visits: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    cpu_seconds: float = 0.0
    counts: dict[str, Counts] = field(default_factory=dict)
    lost: str = ""
    noises: int = 0
    total: Sum | None = None
    agreed: bool = False


def question(
    plan: Plan,
    round_number: int,
    vector: torch.Tensor,
    told: Told,
    judging: Judging | None,
    common: torch.Tensor | None = None,
) -> Question:
    """Return what a round asks of every site; ``common`` (T,) is the mean control variate of SCAFFOLD."""
    weights, shared = vector.numpy(), None if common is None else common.numpy()
    if judging is None:
        return Question(plan, round_number, weights, told, common=shared)
    judged = weights if judging.vector is vector else judging.vector.numpy()
    return Question(plan, round_number, weights, told, judged, judging.prove, shared)


def answer_of(
    content: RecordDict, plan: Plan, kind: type[np.generic], size: int, *, judged: bool
) -> tuple[NDArray[Any], Counts | None, Counts | None]:
    """Return the update (T,) of a site's answer to a round, its counts of test pictures where it was to evaluate, and
    of its own training pictures where the plan weighs sites by them.

    Raises
    ------
    EngineError, DataError : the answer holds none, or others than were asked for.
    """
    tested, own = plan.attributes if judged else None, own_attributes(plan)
    if tested is None and own is None:
        return vector_of(content, kind, size), None, None
    sizes = [
        0 if attributes is None else vector_size(plan.labels, attributes) for attributes in (tested, own)
    ]
    update, *vectors = parts_of(content, (kind, size), *((np.int64, each) for each in sizes))
    found = [
        None if attributes is None else Counts.from_vector(vector, plan.labels, attributes)
        for vector, attributes in zip(vectors, (tested, own), strict=True)
    ]
    return update, found[0], found[1]


class Sites(Protocol):
    """The sites of a run, as the coordinator sees them."""

    @property
    def settled(self) -> bool:
        """Whether it is settled which sites the next question goes to."""
        ...

    def train(
        self,
        nodes: Sequence[int],
        round_number: int,
        vector: torch.Tensor,
        told: Told,
        judging: Judging | None,
    ) -> Answers:
        """Train a round from ``vector`` (P + Q,); with ``judging`` each site evaluates before it trains."""
        ...

    def evaluate(self, nodes: Sequence[int], judging: Judging, round_number: int) -> Answers:
        """Evaluate the weights of a round at every site."""
        ...

    def label_counts(self, nodes: Sequence[int]) -> NDArray[np.int64]:
        """Return the label counts of all sites' training pictures, by class or by group and class, one row."""
        ...

    def statistics(self, nodes: Sequence[int]) -> tuple[NDArray[np.int64], int]:
        """Return the tables of a plan's statistics, added up and one behind the other, and over how many sites."""
        ...


def sum_counts(counts: Sequence[Counts]) -> Counts:
    """Add counts up.

    Raises
    ------
    EngineError : there are none.
    """
    if not counts:
        raise EngineError("no site sent counts", cure="Give at least one site test pictures.")
    first = counts[0]
    if any((other.labels, other.groups) != (first.labels, first.groups) for other in counts):
        return functools.reduce(operator.add, counts)  # which says what differs
    people = [each.people for each in counts if each.people is not None]
    total = functools.reduce(operator.add, people) if len(people) == len(counts) else None
    vector = sum(each.to_vector() for each in counts)
    return replace(Counts.from_vector(vector, first.labels, first.groups), people=total)


def counts_of(answer: RecordDict, plan: Plan) -> Counts:
    """Return the counts of a site's answer to an evaluation, with the sums over people that the plan asks for."""
    numbers, size = vector_of(answer, np.int64), vector_size(plan.labels, plan.attributes)
    people = numbers[size:] if plan.server.people else None
    return Counts.told(numbers if people is None else numbers[:size], people, plan.labels, plan.attributes)


def take_noisy(done: Answers, plan: Plan, total: NDArray[np.int64], sites: int) -> None:
    """Make counts of a sum of so many sites' tables with noise: only the sum is cut to what counts can be.

    Raises
    ------
    PrivacyError : fewer sites than distributed noise was divided among.
    """
    assert plan.privacy is not None
    if sites < plan.privacy.threshold:
        raise PrivacyError(
            f"counts of {sites} sites with noise that was divided among {plan.privacy.threshold}",
            where="privacy.threshold",
            cure="Evaluate with as many sites as the plan was made for.",
        )
    done.counts, done.noises = {EVERYBODY: cleaned(total, plan.labels, plan.attributes)}, sites


class PlainSites:
    """Sites whose every answer the coordinator sees.

    Parameters
    ----------
    size : numbers of an update, see :meth:`client.plan.Plan.numbers`.
    names : node -> its site's name.
    by_site : what weighs sites, where the plan has a rule for that.
    standing : who takes part, and whether a question may go on without a site.
    control : the coordinator's half of SCAFFOLD, None without it.
    """

    settled = False

    def __init__(
        self,
        grid: Grid,
        plan: Plan,
        size: int,
        names: dict[int, str],
        books: Books,
        by_site: SiteMean | None,
        standing: Standing,
        control: Control | None = None,
    ) -> None:
        self._grid, self._plan, self._size, self._by_site = grid, plan, size, by_site
        self._control = control
        self._names, self._books, self._standing = names, books, standing

    def _messages(
        self, nodes: Sequence[int], kind: str, content: RecordDict, group: int = 0
    ) -> Iterator[Message]:
        """Yield one message a node; all share one vector, which nobody writes to.

        Before it trains with privacy, each is also told where its site's ledger stood, so that it notices an old copy.
        """
        for node in nodes:
            name, trains = self._names[node], kind == MessageType.TRAIN
            known = self._books.heads.get(name) if trains else None
            own = content if known is None else with_fact(content, "ledger", known)
            if trains and self._control is not None:
                own = with_facts(own, self._control.facts_for(name))
            yield Message(own, node, kind, group_id=str(group))

    def train(
        self,
        nodes: Sequence[int],
        round_number: int,
        vector: torch.Tensor,
        told: Told,
        judging: Judging | None,
    ) -> Answers:
        """Train a round; see :class:`Sites`."""
        done, total = Answers(), aggregate_of(self._plan, self._size)
        common = None if self._control is None else self._control.common(len(self._standing.nodes))
        asked = question(self._plan, round_number, vector, told, judging, common).content()
        numbers = vector.numel() + (0 if common is None else common.numel())
        done.bytes_down = len(nodes) * numbers * vector.element_size()
        heard: list[Said] = []
        length = float(vector.norm())
        weights: dict[str, float] = {}
        messages = self._messages(nodes, MessageType.TRAIN, asked, round_number)

        def take(content: RecordDict) -> None:
            update, counts, own = answer_of(
                content, self._plan, total.kind, self._size, judged=judging is not None
            )
            weight, loss, seen = (scalar(content, name) for name in ("weight", "loss", "visits"))
            site, seconds = text(content, "site"), scalar(content, "cpu_seconds")
            self._books.charge(content)
            require_sound(self._plan, update, (weight, seen), length, f"{site}, round {round_number}")
            if counts is not None:
                done.counts[site] = counts
            if self._by_site is None:
                total.add(update, weight)
                weights[site] = weight
            else:
                heard.append(Said(site, update, weight, loss, own))
            done.loss, done.visits = done.loss + loss * int(seen), done.visits + int(seen)
            done.bytes_up += update.nbytes
            done.cpu_seconds += seconds

        if self._taken(messages, take, done):
            for said in heard:
                assert self._by_site is not None
                self._by_site.hear(said)
            done.mean = total.mean() if self._by_site is None else self._by_site.mean()
            if self._control is not None:
                self._control.take(done.mean, sum(weights.values()), weights, round_number)
        done.loss /= max(1, done.visits)
        return done

    def _taken(self, messages: Iterable[Message], take: Callable[[RecordDict], None], done: Answers) -> bool:
        """Take in the answers to a question; return whether enough sites have sent one, and note it where not."""
        lost: dict[str, str] = {}
        answered = 0
        for reply in exchange(self._grid, messages):
            with self._standing.bearing(reply.metadata.src_node_id, lost):
                content = content_of(reply)
                self._standing.require_own(reply.metadata.src_node_id, content)
                take(content)
                answered += 1
        if lost and answered < self._standing.quorum:
            why = "; ".join(f"{site}: {reason}" for site, reason in list(lost.items())[:3])
            done.lost = f"{answered} sites answered where {self._standing.quorum} are needed ({why})"
            done.counts = {}
        return not done.lost

    def evaluate(self, nodes: Sequence[int], judging: Judging, round_number: int) -> Answers:
        """Evaluate weights at every site; see :class:`Sites`."""
        facts = {"prove": int(judging.prove), "plan": self._plan.text}
        content, done = pack(judging.vector.numpy(), facts), Answers()
        noisy: list[NDArray[np.int64]] = []

        def take(answer: RecordDict) -> None:
            seconds, site = scalar(answer, "cpu_seconds"), text(answer, "site")
            if is_noisy(self._plan):
                own = from_answers([answer], audit_size(self._plan))
                self._books.charge(answer)
                noisy.append(own)
            else:
                done.counts[site] = counts_of(answer, self._plan)
            done.cpu_seconds += seconds

        messages = self._messages(nodes, MessageType.EVALUATE, content, round_number)
        if self._taken(messages, take, done) and noisy:
            take_noisy(done, self._plan, np.sum(noisy, axis=0), len(noisy))
        return done

    def label_counts(self, nodes: Sequence[int]) -> NDArray[np.int64]:
        """Ask every site for its label counts; what they add up to is public from then on.

        Raises
        ------
        EngineError : too few sites answered; without the counts there is no run.
        """
        return self._counts(nodes, LABEL_COUNTS, math.prod(self._plan.counted))[0]

    def statistics(self, nodes: Sequence[int]) -> tuple[NDArray[np.int64], int]:
        """Ask every site for its statistics; see :class:`Sites`.

        Raises
        ------
        EngineError : too few sites answered.
        """
        return self._counts(nodes, STATISTICS, statistics_size(self._plan))

    def _counts(self, nodes: Sequence[int], kind: str, cells: int) -> tuple[NDArray[np.int64], int]:
        heads, names, done = self._books.heads, self._names, Answers()
        tables: list[NDArray[np.int64]] = []

        def take(content: RecordDict) -> None:
            own = from_answers([content], cells)  # first, so that an answer that is none is borne
            self._books.charge(content)
            tables.append(own)

        messages = (ask(self._plan, node, heads.get(names[node]), kind) for node in nodes)
        if not self._taken(messages, take, done):
            raise EngineError(f"no counts: {done.lost}", cure="Run the same command again.")
        return sum(tables, np.zeros(cells, np.int64)), len(tables)
