"""Federated rounds over any Flower Grid: resumable, with memory that does not grow with the number of sites."""

from __future__ import annotations

import functools
import math
import operator
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch
from flwr.app import Message, MessageType, RecordDict
from flwr.serverapp import Grid

from client.accounting import epsilon_of
from client.mechanisms import History, from_json
from client.messages import error_from_wire, pack, scalar, text, vector_of, with_fact
from client.plan import Plan
from fer_models.counts import Counts
from fer_models.errors import ConfigError, EngineError, PrivacyError, TrainingError
from fer_models.flat import FlatModel
from fer_models.metrics import headline
from fer_models.scope import restrict
from fer_models.zoo import build
from server.aggregation import aggregate_of
from server.class_shares import Adjustment, ask, from_answers, told
from server.optimizers import ServerOptimizer
from server.run_folder import RunFolder, reading

POLL_SECONDS = 0.02
"""Pause between two looks for replies on a grid that works in other processes."""

WAITING_SECONDS = 300.0
"""How long the sites of a simulation may take to register."""

WINDOW = 64
"""How many replies are asked for at a time, and how many may wait for their turn."""

CHECKPOINT_SECONDS = 10.0
"""A checkpoint is written after a round when the last one is older; a kill loses no more than that."""

Observer = Callable[[dict[str, Any]], None]
"""Called with each line of metrics.jsonl as it is written."""


def cohort(seed: int, round_number: int, nodes: Sequence[int], share: float) -> list[int]:
    """Return the nodes of a round, in the given order: a seeded draw of ``share`` of them, at least one."""
    if share >= 1:
        return list(nodes)
    size = max(1, round(share * len(nodes)))
    drawn = np.random.default_rng([seed, round_number]).choice(len(nodes), size, replace=False)
    return [nodes[i] for i in sorted(drawn)]


def exchange(grid: Grid, messages: Iterable[Message]) -> Iterator[Message]:
    """Send messages and yield the replies in the order of the messages, each as soon as its turn has come.

    Replies that come early wait, no more than a window of them from a grid that hands out only what it is asked
    for; nothing else is kept, so a caller that adds replies up holds a sum and not the replies.
    """
    order = list(grid.push_messages(messages))
    pending = dict.fromkeys(order)
    early: dict[str, Message] = {}
    for identity in order:
        while identity not in early:
            wanted = islice(pending, max(1, WINDOW - len(early)))
            replies = list(grid.pull_messages(list(wanted)))
            for reply in replies:
                early[reply.metadata.reply_to_message_id] = reply
                pending.pop(reply.metadata.reply_to_message_id, None)
            if not replies:
                time.sleep(POLL_SECONDS)
        yield early.pop(identity)


@dataclass
class Totals:
    """What a run has cost so far.

    Attributes
    ----------
    visits : training pictures seen, over all sites and rounds.
    bytes_up, bytes_down : of the vectors in train messages, from and to the sites.
    cpu_seconds : of local work and evaluation at the sites.
    epsilon : the largest of any site, None without privacy.
    """

    visits: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    cpu_seconds: float = 0.0
    epsilon: float | None = None


@dataclass(frozen=True)
class Result:
    """A finished run: the weights that are kept, what it cost, and what each site's test pictures say.

    Attributes
    ----------
    vector : float32 (P,), the moving average of the global weights.
    counts : site -> counts of its test pictures.
    epsilon : site -> epsilon; empty without privacy.
    prior : class -> its share that the run went by; empty where it needed none.
    """

    vector: torch.Tensor
    totals: Totals
    counts: dict[str, Counts]
    epsilon: dict[str, float] = field(default_factory=dict)
    prior: dict[str, float] = field(default_factory=dict)

    @property
    def overall(self) -> Counts:
        """The sum of all sites' counts."""
        return sum_counts(list(self.counts.values()))


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
    return Counts.from_vector(sum(each.to_vector() for each in counts), first.labels, first.groups)


def _scaled(prior: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(share / sum(prior) for share in prior)


class Coordinator:
    """Runs a plan over a grid.

    Parameters
    ----------
    plan : what to run.
    folder : where checkpoints and metrics go.
    system : the run's name in metrics.jsonl, and the name of its checkpoint.
    observer : told of every line of metrics and of every round.
    initial : float32 (P + Q,), weights to start from; None takes those that the plan's seed gives.
    sites : how many to wait for: an engine may start the coordinator before all its sites have registered.
    """

    def __init__(
        self,
        plan: Plan,
        folder: RunFolder,
        system: str,
        observer: Observer | None = None,
        initial: torch.Tensor | None = None,
        sites: int = 0,
    ) -> None:
        self._sites = sites
        self.plan, self.folder, self.system = plan, folder, system
        self._observer = observer or (lambda _: None)
        flat = FlatModel(restrict(build(plan.model, plan.seed), plan.model, plan.local.scope))
        if initial is not None:
            flat.load_(initial)
        self._start, self._trained = flat.full_vector.clone(), flat.trained
        first = self._trained.take(self._start)
        self._optimizer = ServerOptimizer(plan.server, first, len(flat.learning))
        self._prior = _scaled(plan.local.prior)
        tau = plan.server.adjustment
        self._adjustment = Adjustment(plan, flat, tau) if tau > 0 else None
        self._totals = Totals()
        self._epsilon: dict[str, float] = {}
        self._histories: dict[str, History] = {}  # of the sites that have answered since the run was taken up
        self._counts: dict[str, Counts] = {}
        self._names: dict[int, str] = {}
        self._ledgers: dict[str, str] = {}  # where each site's ledger stood when it last answered
        self._round = 0
        self._began = time.monotonic()
        self._saved = time.monotonic()
        self._earlier_seconds = 0.0

    def run(self, grid: Grid) -> Result:
        """Run the rounds that are missing and return the result."""
        self._resume()
        nodes = self._nodes(grid)
        if self.plan.counts_labels and not self._prior:
            self._count_labels(grid, nodes)
        for round_number in range(self._round + 1, self.plan.server.rounds + 1):
            loss = self._train(grid, nodes, round_number)
            self._round = round_number
            last = round_number == self.plan.server.rounds
            if last or round_number % self.plan.server.evaluate_every == 0:
                self._evaluate(grid, nodes, prove=last or not self._counts)
                self._report(loss)
            else:
                self._observer(self._record(loss))
            if last or time.monotonic() - self._saved > CHECKPOINT_SECONDS:
                self._checkpoint()
        if not self._counts:
            self._evaluate(grid, nodes, prove=True)
        prior = dict(zip(self.plan.labels, self._prior, strict=True)) if self._prior else {}
        return Result(self._judged().clone(), self._totals, self._counts, self._epsilon, prior)

    def _count_labels(self, grid: Grid, nodes: list[int]) -> None:
        """Ask every site for its label counts; what they add up to is public from then on."""
        questions = (ask(self.plan, node, self._ledgers.get(self._names[node])) for node in nodes)
        contents = []
        for reply in exchange(grid, questions):
            contents.append(self._content(reply))
            self._charge(contents[-1])
        self._prior = from_answers(contents, len(self.plan.labels))
        self._checkpoint()

    def _judged(self) -> torch.Tensor:
        """Return the weights that are evaluated and kept (P + Q,): the average, its logits adjusted where asked for."""
        average = self._full(self._optimizer.average)
        return average if self._adjustment is None else self._adjustment.apply(average, self._prior)

    def _full(self, trained: torch.Tensor) -> torch.Tensor:
        """Return all weights (P + Q,), given those that learn (T,)."""
        if self._trained.whole:
            return trained
        full = self._start.clone()
        self._trained.put(full, trained)
        return full

    def _nodes(self, grid: Grid) -> list[int]:
        """Return the nodes in the order of their sites' names, which is the same on every engine."""
        ask = (Message(RecordDict(), node, MessageType.QUERY) for node in self._registered(grid))
        names = {r.metadata.src_node_id: text(self._content(r), "site") for r in exchange(grid, ask)}
        if not names:
            raise ConfigError("no sites", where="partition.sites", cure="Give one site or more.")
        self._names = names
        return sorted(names, key=names.__getitem__)

    def _registered(self, grid: Grid) -> list[int]:
        """Return the grid's nodes, when there are as many as are waited for.

        Raises
        ------
        EngineError : they do not come.
        """
        began = time.monotonic()
        while len(nodes := list(grid.get_node_ids())) < self._sites:
            if time.monotonic() - began > WAITING_SECONDS:
                raise EngineError(
                    f"only {len(nodes)} of {self._sites} sites have registered",
                    cure="Try again on a less busy machine, or use engine=local.",
                )
            time.sleep(POLL_SECONDS)
        return nodes

    def _messages(
        self, nodes: list[int], kind: str, vector: torch.Tensor, facts: dict[str, int | str]
    ) -> Iterator[Message]:
        """Yield one message a node; all share one content, which nobody writes to.

        Before it trains with privacy, each is also told where its site's ledger stood, so that it notices an old copy.
        """
        content = pack(vector.numpy(), {**facts, "plan": self.plan.text})
        for node in nodes:
            known = self._ledgers.get(self._names[node]) if kind == MessageType.TRAIN else None
            own = content if known is None else with_fact(content, "ledger", known)
            yield Message(own, node, kind, group_id=str(self._round))

    def _train(self, grid: Grid, nodes: list[int], round_number: int) -> float:
        chosen = cohort(self.plan.seed, round_number, nodes, self.plan.server.participation)
        vector, size = self._full(self._optimizer.vector), len(self._trained)
        facts: dict[str, int | str] = {"round": round_number}
        if self.plan.local.loss != "cross_entropy" and not self.plan.local.prior:
            facts["prior"] = told(self._prior)
        messages = self._messages(chosen, MessageType.TRAIN, vector, facts)
        total, loss, visits = aggregate_of(self.plan, size), 0.0, 0
        for reply in exchange(grid, messages):
            content = self._content(reply)
            received = total.add(content)
            seen = int(scalar(content, "visits"))
            loss, visits = loss + scalar(content, "loss") * seen, visits + seen
            self._note(content, received)
        self._totals.visits += visits
        self._totals.bytes_down += len(chosen) * vector.numel() * 4
        self._step(total.mean(), round_number)
        return loss / max(1, visits)

    def _note(self, content: Any, received: int) -> None:
        self._totals.bytes_up += received
        self._totals.cpu_seconds += scalar(content, "cpu_seconds")
        self._charge(content)

    def _charge(self, content: Any) -> None:
        """Take in what a site's ledger says after a release."""
        if self.plan.privacy is not None:
            site = text(content, "site")
            self._histories[site] = from_json(text(content, "history"), f"history of {site}")
            self._ledgers[site] = text(content, "ledger")
            if (
                site not in self._epsilon
            ):  # so that noise which protects nobody ends the run at its first round
                self._account()

    def _account(self) -> None:
        """Work out what the sites have spent; a tight accountant takes a while, so only where it is told or kept."""
        for site, history in self._histories.items():
            assert self.plan.privacy is not None
            self._epsilon[site] = epsilon_of(history, self.plan.privacy.delta).value
            if not math.isfinite(self._epsilon[site]):
                raise PrivacyError("no finite epsilon", where=site, cure="Plan more noise.")
        self._totals.epsilon = max(self._epsilon.values(), default=None)

    def _step(self, mean_delta: torch.Tensor, round_number: int) -> None:
        if not bool(torch.isfinite(mean_delta.sum())):
            raise TrainingError(
                "the mean update is not finite",
                where=f"round {round_number}",
                cure="Lower local.learning_rate or server.learning_rate.",
            )
        self._optimizer.step(mean_delta, round_number)

    def _content(self, reply: Message) -> Any:
        if reply.has_error():
            raise error_from_wire(reply.error, f"node {reply.metadata.src_node_id}")
        return reply.content

    def _evaluate(self, grid: Grid, nodes: list[int], *, prove: bool) -> None:
        messages = self._messages(nodes, MessageType.EVALUATE, self._judged(), {"prove": int(prove)})
        counts: dict[str, Counts] = {}
        for reply in exchange(grid, messages):
            content = self._content(reply)
            vector = vector_of(content, np.int64)
            counts[text(content, "site")] = Counts.from_vector(vector, self.plan.labels, self.plan.attributes)
            self._totals.cpu_seconds += scalar(content, "cpu_seconds")
        self._counts = counts

    def _record(self, loss: float) -> dict[str, Any]:
        seconds = self._earlier_seconds + time.monotonic() - self._began
        return {
            "system": self.system,
            "round": self._round,
            "rounds": self.plan.server.rounds,
            "loss": None if self.plan.privacy else loss,  # under privacy no site releases one
            "visits": self._totals.visits,
            "bytes_up": self._totals.bytes_up,
            "seconds": round(seconds, 3),
        }

    def _report(self, loss: float) -> None:
        self._account()
        judged = headline(sum_counts(list(self._counts.values())))
        record = {**self._record(loss), "epsilon": self._totals.epsilon, **judged}
        self.folder.append(record)
        self._observer(record)

    def _checkpoint(self) -> None:
        self._account()
        facts = {
            "plan": self.plan.digest,
            "round": self._round,
            "totals": vars(self._totals),
            "epsilon": self._epsilon,
            "ledgers": self._ledgers,
            "prior": list(self._prior),
            "counts": {site: counts.to_json() for site, counts in self._counts.items()},
            "seconds": self._earlier_seconds + time.monotonic() - self._began,
        }
        self.folder.save_checkpoint(f"checkpoint-{self.system}", self._optimizer.state(), facts)
        self._saved = time.monotonic()

    def _resume(self) -> None:
        found = self.folder.load_checkpoint(f"checkpoint-{self.system}")
        if found is None:
            self.folder.forget_after(self.system, 0)
            return
        tensors, facts = found
        if facts.get("plan") != self.plan.digest:
            raise ConfigError(
                "the checkpoint belongs to another plan",
                where=str(self.folder.path),
                cure="Give an empty folder with --run-dir.",
            )
        with reading(self.folder.path / f"checkpoint-{self.system}.safetensors", "Delete it to start again."):
            self._take_up(tensors, facts)
        self.folder.forget_after(self.system, self._round)

    def _take_up(self, tensors: dict[str, torch.Tensor], facts: Mapping[str, Any]) -> None:
        self._optimizer.restore(tensors)
        self._totals = Totals(**facts["totals"])
        self._epsilon = {str(site): float(value) for site, value in facts["epsilon"].items()}
        self._ledgers = {str(site): str(value) for site, value in facts["ledgers"].items()}
        self._prior = tuple(float(share) for share in facts["prior"])
        self._counts = {site: Counts.from_json(value) for site, value in facts["counts"].items()}
        self._round, self._earlier_seconds = int(facts["round"]), float(facts["seconds"])
