"""The site's agent: it holds the pictures, the ledger and the randomness, and answers a plan."""

from __future__ import annotations

import functools
import logging
import math
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from client import statistics
from client.admission import no_place, require_allowed, require_fit, require_room, too_many_units
from client.answered import Answered
from client.audit_counts import audit_round, cost_of_audit, counted_places, is_noisy, with_noise
from client.by_site import own_attributes
from client.distributed import share_of
from client.evaluation import blurred
from client.finish import cost_of_step, step_of
from client.groups import FairRound, Grouped, fair_round, grouped
from client.inputs import Features, Inputs
from client.label_counts import noisy_counts, one_each
from client.ledger import Event, Head, Ledger, fingerprint
from client.limits import cost_of_counts, cost_of_round
from client.mechanisms import Mechanism
from client.messages import tensor_of
from client.moments import encode, look, sums_of
from client.own_counts import count_own
from client.plan import Plan
from client.policy import SitePolicy
from client.private_training import noisy_tally, train_private
from client.randomness import BoundEntropy, Entropy, KeyedStream, SeededEntropy
from client.releases import LabelCounts, Update, moved, with_tally
from client.scaffold import Correction, Variates
from client.told import NOTHING, Told
from client.training import LocalResult, LocalRows, dropout_seeded, train_plain
from client.workbench import Benches, Workbench
from fer_models.counts import Counts
from fer_models.errors import DataError, FedferError, PrivacyError
from fer_models.samples import Samples

log = logging.getLogger("fedfer.site")
"""What stays at a site: its reasons, where telling them would tell something of its pictures."""


class Agent:
    """One site.

    Parameters
    ----------
    name : the site's name, for errors and the ledger.
    samples : a table that holds the site's pictures (in a simulation among others').
    train, test : int, the site's rows for training and for evaluation.
    entropy : where its randomness comes from.
    ledger : its privacy ledger.
    benches : the process's net.
    opted_out : the site tells nobody's group. Nobody can see that it does not: what it sends of groups is hidden in
        sums, and its pictures are taught like all others not to show their group.
    policy : the site's rules for plans, None allows all.
    answered : which weights it has judged, None for none so far.
    variates : its control variates, None for none so far.
    """

    def __init__(
        self,
        name: str,
        samples: Samples,
        train: NDArray[np.intp],
        test: NDArray[np.intp],
        *,
        entropy: Entropy,
        ledger: Ledger,
        benches: Benches,
        opted_out: bool = False,
        policy: SitePolicy | None = None,
        answered: Answered | None = None,
        variates: Variates | None = None,
    ) -> None:
        self.opted_out, self._policy, self._answered = opted_out, policy, answered or Answered()
        self._variates = variates or Variates()
        self._groups: tuple[str, Grouped] | None = None
        self.name, self.samples, self.test = name, samples, test
        self._train, self._entropy, self._ledger, self._benches = train, entropy, ledger, benches
        self._data: dict[str, LocalRows] = {}
        self._admitted: set[str] = set()
        self._allowed: set[str] = set()

    @functools.cached_property
    def tested(self) -> Features:
        """What is kept of the site's test pictures."""
        return Features(self.samples, self.test)

    @functools.cached_property
    def blurred(self) -> Samples:
        """The table, with groups as exact counts of test pictures name them."""
        return blurred(self.samples, self._policy.statistics.smallest_group) if self._policy else self.samples

    @property
    def inputs(self) -> Inputs:
        """The table's pictures as the net takes them."""
        return self._benches.inputs(self.samples)

    def bench(self, plan: Plan) -> Workbench:
        """Return the process's net for a plan."""
        return self._benches.of(plan)

    @property
    def simulated(self) -> bool:
        """Whether the site is made up: its randomness follows from a seed."""
        return isinstance(self._entropy, SeededEntropy)

    def update_size(self, plan: Plan) -> int:
        """Return how many numbers of an update travel; see :meth:`client.plan.Plan.numbers`."""
        return plan.numbers(len(self._benches.of(plan).flat.trained))

    def draw(self, number: int, purpose: str) -> bytes:
        """Return 32 bytes of the site's randomness for a round or session and a purpose."""
        return self._entropy.key(number, purpose)

    def _rows(self, targets: str) -> LocalRows:
        if not len(self._train):
            raise DataError(
                "a site without training pictures", where=self.name, cure="Give it some, or leave it out."
            )
        if targets not in self._data:
            source = self.samples if targets == "votes" else replace(self.samples, votes=None)
            found = torch.from_numpy(source.targets(self._train))
            self._data[targets] = LocalRows(self.samples, self._train, found, self.inputs)
        return self._data[targets]

    def _grouped(self, plan: Plan) -> Grouped:
        if self._groups is None or self._groups[0] != plan.digest:
            own = grouped(plan, self.samples, self._train, opted_out=self.opted_out)
            self._groups = plan.digest, own
        return self._groups[1]

    def _fair(self, plan: Plan, told: Told) -> FairRound | None:
        return None if plan.fairness is None else fair_round(plan, self._grouped(plan), told)

    def require_willing(self, plan: Plan, *, telling: bool = False) -> None:
        """Refuse a plan that the site's pictures do not fit, or its policy or :mod:`client.settled` refuses."""
        require_fit(plan, self.samples, self.name)
        if self._policy is None and self.opted_out:
            self._refuse_for(no_place(plan, self.name))
        if plan.digest not in self._allowed:  # once, as it asks an accountant
            require_allowed(self._policy, plan, len(self._train), self.name, opted_out=self.opted_out)
            self._allowed.add(plan.digest)
        self._answered.settled.hold(plan, self.name, telling=telling)

    def count_labels(self, plan: Plan, seen: Head | None = None) -> LabelCounts:
        """Count the classes of the training pictures; under privacy with noise, after the ledger is written.

        Raises
        ------
        PrivacyError : the plan does not ask for counts, or the ledger has no room for it.
        """
        self.require_willing(plan, telling=True)
        if not plan.counts_labels:
            raise PrivacyError(
                "the plan does not ask for label counts", where=self.name, cure="Ask for none of the sites."
            )
        label, classes = self.samples.label[self._train], math.prod(plan.counted)
        if plan.fairness is not None:
            label = self._grouped(plan).cells
        if plan.privacy is None:
            return LabelCounts(np.bincount(label, minlength=classes).astype(np.int64), ())
        assert plan.privacy.counts_epsilon is not None
        label = label[self._counted(plan)]
        key = BoundEntropy(self._entropy, plan.digest.encode()).key(0, "label counts")
        self._admit(plan, 0, seen)
        self._release(plan, 0, "label_counts", key, *cost_of_counts(plan))
        found = noisy_counts(label, classes, plan.privacy.counts_epsilon, KeyedStream(key))
        return LabelCounts(found, self._ledger.history(), self._ledger.head)

    def statistics(self, plan: Plan, seen: Head | None = None) -> LabelCounts:
        """Count the training pictures by group and class; under privacy with noise, after the ledger is written.

        Raises
        ------
        PrivacyError : the plan does not ask for that, or the ledger has no room for it.
        DataError : no column tells a group that it asks for.
        """
        self.require_willing(plan, telling=True)
        if plan.statistics is None:
            raise PrivacyError(
                "the plan does not ask for statistics", where=self.name, cure="Ask for none of the sites."
            )
        rows = self._train[self._counted(plan)]
        found = statistics.counted(plan, self.samples, rows, opted_out=self.opted_out)
        if plan.privacy is None:
            return LabelCounts(statistics.folded(plan, found), ())
        key = BoundEntropy(self._entropy, plan.digest.encode()).key(0, statistics.KIND)
        self._admit(plan, 0, seen)
        self._release(plan, 0, statistics.KIND, key, *statistics.cost_of_statistics(plan))
        found = statistics.with_noise(plan, found, key)
        return LabelCounts(found, self._ledger.history(), self._ledger.head)

    def _counted(self, plan: Plan) -> NDArray[np.intp]:
        """Return the positions of the pictures that are counted: one of each person, where people are the unit."""
        if plan.privacy is None or plan.privacy.unit == "record":
            return np.arange(len(self._train))
        drawing = KeyedStream(self._entropy.key(0, "counted pictures"))
        return one_each(self._rows(plan.local.targets).people, drawing)

    def moments(
        self,
        plan: Plan,
        round_number: int,
        vector: NDArray[np.float32],
        radius: float,
        seen: Head | None = None,
    ) -> LabelCounts:
        """Add up features of the training pictures for a step after the last round; the ledger is written first.

        Parameters
        ----------
        vector : float32 (P + Q,), weights of the finished net.
        radius : R, see :mod:`client.finish`.
        seen : as in :meth:`train`.
        """
        self.require_willing(plan, telling=True)
        step, rows = step_of(plan, round_number), self._train[self._counted(plan)]
        entropy = BoundEntropy(self._entropy, plan.digest.encode() + vector.tobytes() + repr(radius).encode())
        key = entropy.key(round_number, "moments")
        if plan.privacy is not None:
            self._admit(plan, round_number, seen)
            self._release(plan, round_number, "moments", key, cost_of_step(plan, step))
        bench = self._benches.of(plan)
        bench.load_(tensor_of(vector))
        looked = look(bench, plan, self._benches.inputs(self.samples), rows, opted_out=self.opted_out)
        found = encode(plan, step, sums_of(plan, step, looked, radius), key)
        return LabelCounts(found, self._ledger.history(), self._ledger.head if plan.privacy else None)

    def train(
        self,
        plan: Plan,
        round_number: int,
        vector: NDArray[np.float32],
        seen: Head | None = None,
        told: Told = NOTHING,
        correction: Correction | None = None,
    ) -> Update:
        """Train from the round's weights and return the update; the ledger is written first.

        Parameters
        ----------
        vector : float32 (P,), the round's weights in the flat order.
        seen : where the site's ledger stood when the coordinator last heard of it, None when it never did.
        told : public numbers of the round.
        correction : of SCAFFOLD, None without it.
        """
        self.require_willing(plan)
        bench, data = self._benches.of(plan), self._rows(plan.local.targets)
        where = f"{self.name}, round {round_number}"
        bench.load_(tensor_of(vector))
        bench.expect(told, partial=self.samples.known is not None)
        bench.fair = self._fair(plan, told)
        if not bench.flat.module.training:
            bench.flat.module.train()
        if plan.privacy is not None:
            question = vector.tobytes() + told.binding
            return self._train_private(bench, data, plan, round_number, vector, question, seen)
        own = self._variates.of(plan, correction, self.name)
        shift = None if correction is None else tensor_of(correction.common - own)
        with dropout_seeded(plan, self._entropy.key(round_number, "dropout")):
            done = train_plain(bench, data, plan.local, round_number, self._entropy, where, shift)
        delta, steps = moved(bench, vector), done.steps
        delta = self._variates.answer(plan, round_number, correction, own, delta, steps)
        if bench.tally is not None:
            delta = with_tally(delta, bench.tally.total / max(1, done.visits))
        return self._update(plan, delta, done)

    def count_own(self, plan: Plan, round_number: int, vector: NDArray[np.float32]) -> Counts | None:
        """Return how its training pictures fare with a round's weights, None where the plan does not ask for it."""
        attributes = own_attributes(plan)
        if attributes is None:
            return None
        self.require_willing(plan, telling=True)
        bench, stream = self._benches.of(plan), KeyedStream(self.draw(round_number, "own counts"))
        bench.load_(tensor_of(vector))
        return count_own(bench, self._rows(plan.local.targets), attributes, stream, opted_out=self.opted_out)

    def _train_private(
        self,
        bench: Workbench,
        data: LocalRows,
        plan: Plan,
        round_number: int,
        vector: NDArray[np.float32],
        question: bytes,
        seen: Head | None,
    ) -> Update:
        assert plan.privacy is not None
        distributed, where = plan.privacy.noise == "distributed", f"{self.name}, round {round_number}"
        self._require_hidden_share(plan, where)
        if plan.privacy.unit == "subject":
            _ = data.people  # refuses pictures of unknown people before the ledger is written
        entropy = BoundEntropy(self._entropy, plan.digest.encode() + question)
        self._admit(plan, round_number, seen)
        key = entropy.key(round_number, "noise")
        self._release(plan, round_number, "training", key, *cost_of_round(plan))
        with dropout_seeded(plan, entropy.key(round_number, "dropout")):
            if distributed:
                delta = share_of(bench, data, plan, round_number, entropy, where)
            else:
                train_private(bench, data, plan, round_number, entropy, where)
                delta = moved(bench, vector)
                if bench.tally is not None:
                    tally = noisy_tally(plan, bench.tally, entropy.key(round_number, "tally"))
                    delta = with_tally(delta, tally)
        # What leaves besides the update is made of public constants.
        return Update(delta, 1.0, plan.expected_visits, 0.0, self._ledger.history(), self._ledger.head)

    def _require_hidden_share(self, plan: Plan, where: str) -> None:
        """Refuse to give a share of noise to a coordinator that would see it by itself."""
        assert plan.privacy is not None
        if plan.privacy.noise == "distributed" and plan.aggregation == "plain" and not self.simulated:
            raise PrivacyError(
                "this site's share of distributed noise would reach the coordinator by itself, which its noise is "
                "too little for",
                where=where,
                cure="Use aggregation=secure, or privacy.noise=site.",
            )

    def admit_counts(self, plan: Plan, digest: str) -> None:
        """Refuse to judge more weights on its test pictures than the plan has evaluations; see :mod:`client.answered`.

        ``digest`` is that of the weights. Where counts carry noise, the ledger bounds them.
        """
        if not is_noisy(plan):
            self._answered.admit(plan, digest, self.name)

    def counted_test(self, plan: Plan) -> NDArray[np.intp]:
        """Return the places of the test pictures that count: all but where noise on counts protects people."""
        key = self.draw(audit_round(plan), "counted test pictures")
        return counted_places(plan, self.samples, self.test, key)

    def audit(
        self, plan: Plan, vector: NDArray[np.float32], counts: Counts, seen: Head | None = None
    ) -> LabelCounts:
        """Return tables of counts of the test pictures, judged with ``vector``, with noise; the ledger comes first."""
        self._require_hidden_share(plan, f"{self.name}, test counts")
        number, bound = audit_round(plan), plan.digest.encode() + vector.tobytes()
        key = BoundEntropy(self._entropy, bound).key(number, "audit counts")
        self._admit(plan, number, seen)
        self._release(plan, number, "audit_counts", key, *cost_of_audit(plan))
        return LabelCounts(with_noise(counts, plan, key), self._ledger.history(), self._ledger.head)

    def _update(self, plan: Plan, delta: NDArray[np.float32], done: LocalResult) -> Update:
        weight = float(len(self._train)) if plan.server.weighting == "size" else 1.0
        return Update(delta, weight, done.visits, done.loss, ())

    def _admit(self, plan: Plan, round_number: int, seen: Head | None) -> None:
        """Refuse a plan, before any of it is released, where the ledger is not whole or has no room for it."""
        if seen is not None:
            self._ledger.require_contains(seen)
        if plan.digest not in self._admitted:
            self._refuse_for(too_many_units(plan, self.units(plan), self.name))
            self._ledger.admit(plan, round_number)
            self._admitted.add(plan.digest)

    def _refuse_for(self, reason: FedferError | None) -> None:
        """Refuse a plan for a reason that is private, such as how many units a site holds, or that it opted out.

        A real site gives it to its own log, and no other than that it takes no part to whoever asks.
        """
        if reason is None:
            return
        if self.simulated:
            raise reason
        log.error("%s", reason)
        raise PrivacyError(
            "the site takes no part in this plan",
            where=self.name,
            cure="Ask who keeps the site; the reason stands in its own log.",
        )

    def units(self, plan: Plan) -> int:
        """Return how many units of a private plan the site trains on: pictures, or people."""
        by_person = plan.privacy is not None and plan.privacy.unit == "subject"
        return len(self._rows(plan.local.targets).people) if by_person else len(self._train)

    def _release(self, plan: Plan, round_number: int, kind: str, key: bytes, mechanism: Mechanism) -> None:
        """Write a release of the plan to the ledger; nothing of it may leave before this returns.

        Parameters
        ----------
        key : of the noise; its fingerprint tells a repetition from a new release.
        """
        assert plan.privacy is not None
        event = Event(
            kind, plan.run, plan.digest, round_number, fingerprint(key), plan.privacy.delta, mechanism
        )
        if event not in self._ledger.events:  # the same release over again costs nothing more
            require_room(self._policy, plan, self._ledger.history(plan.digest), mechanism, self.name)
        self._ledger.record(event)
