"""Federated rounds over any Flower Grid: resumable, with memory that does not grow with the number of sites."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from flwr.serverapp import Grid
from numpy.typing import NDArray

from client.answered import weights_digest
from client.identity import Roster
from client.nets import model_of, net_of, with_critic
from client.plan import Plan
from client.secagg.refusals import refuse
from client.told import Told
from fer_models.counts import Counts
from fer_models.errors import ConfigError, TrainingError
from fer_models.flat import FlatModel
from fer_models.metrics import headline
from server.asking import Answers, Judging, PlainSites, Sites, sum_counts
from server.books import Books
from server.class_shares import Adjustment, scaled, shares_of
from server.debiasing.by_site import SiteMean
from server.debiasing.finishing import Finishing
from server.debiasing.steering import Steering
from server.optimizers import ServerOptimizer
from server.order import following, members
from server.results import Result, Totals
from server.run_folder import RunFolder, reading
from server.scaffold import Control
from server.secagg.kept import FILE as SESSION
from server.secagg.kept import Kept
from server.secagg.transcript import Transcripts
from server.secure import SecureSites
from server.sessions import Task
from server.standing import Standing
from server.statistics import take_statistics

CHECKPOINT_SECONDS = 10.0
"""A checkpoint is written after a round when the last one is older; a kill loses no more than that."""

MOST_LOST = 10
"""Rounds in a row without a sum, after which a run ends."""

RETRIES = 3
"""How often the last evaluation is tried again; it was lost before any site had sent its counts, or it stays lost."""

Observer = Callable[[dict[str, Any]], None]
"""Called with each line of metrics.jsonl as it is written."""


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
    roster : everybody's public keys, which secure aggregation needs.
    transcripts : keeps every session of secure aggregation for an auditor, None keeps none.
    checkpoint_seconds : age of the last checkpoint from which another is written, None for CHECKPOINT_SECONDS. With 0
        the session of secure aggregation that is under way is kept as well, and a process that takes the run up goes on
        with it; that is for sites that outlive this process.
    """

    def __init__(
        self,
        plan: Plan,
        folder: RunFolder,
        system: str,
        observer: Observer | None = None,
        initial: torch.Tensor | None = None,
        sites: int = 0,
        roster: Roster | None = None,
        transcripts: Transcripts | None = None,
        checkpoint_seconds: float | None = None,
    ) -> None:
        self._pause, self._sites = checkpoint_seconds, sites
        self._roster, self._transcripts = roster, transcripts
        self.plan, self.folder, self.system = plan, folder, system
        self._observer = observer or (lambda _: None)
        flat = FlatModel(net_of(plan))
        if initial is not None:
            flat.load_(with_critic(flat, initial))
        self._flat = flat
        self._steering = None if plan.fairness is None else Steering(plan)
        self._by_site = None if plan.server.by_site is None else SiteMean(plan)
        self._finishing = None if plan.finish is None else Finishing(plan, flat)
        self._control = Control(plan, flat) if plan.local.scaffold else None
        self._start, self._trained = flat.full_vector.clone(), flat.trained
        first = self._trained.take(self._start)
        self._optimizer = ServerOptimizer(plan.server, first, len(flat.learning))
        self._prior, self._counted = scaled(plan.local.prior), False
        tau = plan.server.adjustment
        self._adjustment = Adjustment(plan, flat, tau) if tau > 0 else None
        self._totals = Totals()
        self._books = Books(plan)
        self._counts: dict[str, Counts] = {}
        # The line of a round whose weights nobody has evaluated yet.
        self._pending: dict[str, Any] | None = None
        # The last: digest of weights that sites may have judged in a sum that was lost.
        self._unjudged, self._judged_round, self._told = "", 0, ""
        self._standing: Standing
        self._round, self._lost = 0, 0  # the last one, and how many in a row have been lost
        self._began = self._saved = time.monotonic()
        self._earlier_seconds = 0.0

    def run(self, grid: Grid) -> Result:
        """Run the rounds that are missing and return the result.

        Where all sites take part in every round, they evaluate a round's weights when the next one begins, before
        they train: one message less for each.
        """
        nodes, sites = self.begin(grid)
        if self.plan.counts_labels and not self._counted:
            self._take_counts(sites.label_counts(nodes))
            self._checkpoint()
        for round_number in range(self._round + 1, self.plan.server.rounds + 1):
            if self._pending and self.plan.server.participation < 1:
                self._evaluate(sites, nodes, prove=not self._counts)
                self._checkpoint_in_time()
            if not sites.settled:
                self._standing.require_quorum()
            self._train(sites, nodes, round_number)
            self._checkpoint_in_time()
        if self._finishing is not None:
            self._finishing.run(sites, nodes, self._judged, self._took)
        if self._pending or not self._counts:
            self._evaluate(sites, nodes, prove=True)
            self._checkpoint()
        self._totals.epsilon = self._books.account()
        prior = dict(zip(self.plan.labels, self._prior, strict=True)) if self._prior else {}
        return Result(
            model_of(self._flat, self._judged()).clone(),
            self._totals,
            self._counts,
            self._books.epsilon,
            prior,
            None if self._steering is None else self._steering.report(),
            None if self._finishing is None else self._finishing.report(),
            None if self._finishing is None else self._finishing.eraser,
            unjudged=self._unjudged,
            judged_round=self._judged_round,
        )

    def begin(self, grid: Grid) -> tuple[list[int], Sites]:
        """Take up what was left off, and ask the sites whether they take part, and for the statistics of the plan."""
        self._resume()
        sites = self._sites_of(grid)
        nodes = self._standing.nodes
        if take_statistics(self.plan, self.folder, sites, nodes):
            self._checkpoint()
        return nodes, sites

    def _took(self, done: Answers) -> None:
        self._take(done)
        self._checkpoint()

    def _take_counts(self, counts: NDArray[np.int64]) -> None:
        """Take the label counts of all sites: shares of the classes, and what steers by groups."""
        self._counted = True
        if self.plan.uses_prior and not self._prior:
            self._prior = shares_of(self.plan, counts)
        if self._steering is not None:
            self._steering.begin(counts)

    def _judged(self) -> torch.Tensor:
        """Return the weights that are evaluated and kept (P + Q,): the average, its logits adjusted where asked for."""
        found = self._full(self._optimizer.vector if self.plan.server.ema == 0 else self._optimizer.average)
        if self._adjustment is not None:
            found = self._adjustment.apply(found, self._prior)
        return found if self._finishing is None else self._finishing.apply(found)

    def _full(self, trained: torch.Tensor) -> torch.Tensor:
        """Return all weights (P + Q,), given those that learn (T,)."""
        if self._trained.whole:
            return trained
        full = self._start.clone()
        self._trained.put(full, trained)
        return full

    def _sites_of(self, grid: Grid) -> Sites:
        """Return the sites, once those that take part have said so."""
        standing = self._standing = Standing(grid, self.plan, self._sites, self.folder)
        standing.gather()
        names = standing.names
        size = self.plan.numbers(len(self._trained))
        if self.plan.aggregation == "plain":
            return PlainSites(
                grid, self.plan, size, names, self._books, self._by_site, standing, self._control
            )
        if self._roster is None:
            raise ConfigError("no roster", where="aggregation", cure="Give the coordinator everybody's keys.")
        kept = self._transcripts.last if self._transcripts else -1
        return SecureSites(
            grid, self.plan, size, names, self._books, roster=self._roster, following=self._following,
            first=1 + max(kept, standing.session), standing=standing, control=self._control,
            record=self._transcripts.record if self._transcripts else None,
            kept=Kept(self.folder.path / SESSION, self._roster) if self._pause == 0 else None,
        )  # fmt: skip

    def _following(self, purpose: str, round_number: int) -> Task | None:
        """Return what the sites are asked after a task, None after the last."""
        self._standing.refresh()
        counts = self.plan.counts_labels and not self._counted
        asked = purpose, round_number
        return following(self.plan, self._finishing, self._standing.nodes, asked, counts=counts)

    def _train(self, sites: Sites, nodes: list[int], round_number: int) -> None:
        vector = self._full(self._optimizer.vector)
        prior = self._prior if self.plan.local.tells_prior else ()
        told = Told(prior) if self._steering is None else self._steering.told(round_number, prior)
        judging = self._judging(vector) if self.plan.judges_in(round_number) else None
        if judging is not None and self._told == weights_digest(judging.vector.numpy()):
            # A sum of counts with these weights was lost late: over other sites, sites would refuse another.
            judging = None
            if self._pending is not None:
                record, self._pending = self._pending, None
                self._observer(record)
        done = sites.train(members(self.plan, nodes, round_number), round_number, vector, told, judging)
        if judging is not None and done.lost and done.agreed:
            self._told = weights_digest(judging.vector.numpy())
        self._take(done)
        if done.mean is not None:
            self._step(done.mean[: len(self._trained)], round_number)
            if self._steering is not None:
                self._steering.take(done.mean[len(self._trained) :].numpy(), round_number)
        self._round = round_number
        line = self._line(done)
        self._bear(done.lost, f"round {round_number}")
        if self.plan.evaluates_after(round_number):
            self._pending = line
        else:
            self._observer(line)

    def _bear(self, reason: str, where: str) -> None:
        """Go on without the sum of a round, but not for ever.

        Raises
        ------
        SecureAggregationError : too many rounds in a row have been lost.
        """
        self._lost = self._lost + 1 if reason else 0
        if self._lost >= MOST_LOST:
            raise refuse("too_few", f"{self._lost} rounds in a row have been lost, {where} because: {reason}")

    def _judging(self, vector: torch.Tensor) -> Judging:
        """Return what the sites are to evaluate before they train from ``vector``."""
        judged = self._judged()
        alike = judged.data_ptr() == vector.data_ptr() or bool(torch.equal(judged, vector))
        return Judging(vector if alike else judged, prove=not self._counts)

    def _evaluate(self, sites: Sites, nodes: list[int], *, prove: bool) -> None:
        """Have the weights evaluated by themselves: at the end, or where other sites train than evaluate."""
        last, judging = self._round == self.plan.server.rounds, Judging(self._judged(), prove)
        if last and not sites.settled:
            self._standing.require_quorum()
        self._unjudged = ""  # whatever an earlier process came to
        done = first = sites.evaluate(nodes, judging, self._round)
        tries = RETRIES if last else 0
        while done.lost and tries:  # sites that have sent their counts once do not send them again
            done, tries = sites.evaluate(nodes, judging, self._round), tries - 1
        if done.lost and last:
            self._unjudged = first.lost
            if not self._standing.deployed:  # its figures would be of other weights than its model
                raise refuse("too_few", f"the last evaluation was lost: {first.lost}")
        self._take(done)

    def _take(self, done: Answers) -> None:
        """Add up what answers cost, and report the counts that came with them."""
        totals = self._totals
        totals.visits += done.visits
        totals.bytes_up += done.bytes_up
        totals.bytes_down += done.bytes_down
        totals.cpu_seconds += done.cpu_seconds
        if done.counts:
            self._counts, totals.noises = done.counts, done.noises
            self._judged_round = self._round if self._pending is None else self._pending["round"]
        if self._pending is None or not (done.counts or done.lost):
            return
        record, self._pending = self._pending, None
        if done.counts:
            record |= headline(sum_counts(list(done.counts.values())))
            if done.noises:  # which the counts have cost
                totals.epsilon = record["epsilon"] = self._books.account()
            self.folder.append(record)
        self._observer(record)

    def _step(self, mean_delta: torch.Tensor, round_number: int) -> None:
        if not bool(torch.isfinite(mean_delta.sum())):
            raise TrainingError(
                "the mean update is not finite",
                where=f"round {round_number}",
                cure="Lower local.learning_rate or server.learning_rate.",
            )
        kept = self._transcripts.step(round_number, self._optimizer) if self._transcripts else None
        with kept or contextlib.nullcontext():
            self._optimizer.step(mean_delta, round_number)

    def _seconds(self) -> float:
        return self._earlier_seconds + time.monotonic() - self._began

    def _line(self, done: Answers) -> dict[str, Any]:
        """Return what is told of the round that ended, but for what an evaluation adds."""
        line: dict[str, Any] = {
            "system": self.system,
            "round": self._round,
            "rounds": self.plan.server.rounds,
            # Under privacy no site releases a loss.
            "loss": None if self.plan.privacy or done.lost else done.loss,
            "visits": self._totals.visits,
            "bytes_up": self._totals.bytes_up,
            "seconds": round(self._seconds(), 3),
        }
        if done.lost:
            line["lost"] = done.lost
        if self.plan.evaluates_after(self._round):
            self._totals.epsilon = line["epsilon"] = self._books.account()
        return line

    def _checkpoint_in_time(self) -> None:
        pause, age = (
            CHECKPOINT_SECONDS if self._pause is None else self._pause,
            time.monotonic() - self._saved,
        )
        if self._control is not None or age >= pause:  # what a site keeps of SCAFFOLD goes back one round
            self._checkpoint()

    def _checkpoint(self) -> None:
        facts = {
            "plan": self.plan.digest,
            "round": self._round,
            "totals": vars(self._totals),
            "epsilon": self._books.epsilon,
            "ledgers": self._books.heads,
            "histories": self._books.told,
            "prior": list(self._prior),
            "counted": self._counted,
            "told": self._told,
            "unjudged": [self._unjudged, self._judged_round],
            "steering": None if self._steering is None else self._steering.facts(),
            "by_site": None if self._by_site is None else self._by_site.facts(),
            "finish": None if self._finishing is None else self._finishing.facts(),
            "control": None if self._control is None else self._control.facts(),
            "counts": {site: counts.to_json() for site, counts in self._counts.items()},
            "pending": self._pending,
            "seconds": self._seconds(),
        }
        tensors = self._optimizer.state() | (self._finishing.tensors() if self._finishing else {})
        tensors |= {} if self._control is None else self._control.tensors()
        self.folder.save_checkpoint(f"checkpoint-{self.system}", tensors, facts)
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
        self.folder.forget_after(self.system, self._round - 1 if self._pending else self._round)

    def _take_up(self, tensors: dict[str, torch.Tensor], facts: Mapping[str, Any]) -> None:
        self._optimizer.restore(tensors)
        self._totals = Totals(**facts["totals"])
        self._books.take_up(facts["epsilon"], facts["ledgers"], facts.get("histories", {}))
        self._pending = None if facts["pending"] is None else dict(facts["pending"])
        self._prior = tuple(float(share) for share in facts["prior"])
        self._counted, self._told = bool(facts["counted"]), str(facts.get("told", ""))
        self._unjudged, self._judged_round = facts.get("unjudged", ("", 0))
        if self._steering is not None:
            self._steering.take_up(facts["steering"])
        if self._by_site is not None:
            self._by_site.take_up(facts["by_site"])
        if self._finishing is not None:
            self._finishing.take_up(facts["finish"], tensors)
        if self._control is not None:
            self._control.take_up(facts["control"], tensors)
        self._counts = {site: Counts.from_json(value) for site, value in facts["counts"].items()}
        self._round, self._earlier_seconds = int(facts["round"]), float(facts["seconds"])
