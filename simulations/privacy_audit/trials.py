"""One round at one site, many times with and without one picture: what its presence does to all that is released.

Canaries in one run are scored along their own gradients. A fault that lets one picture change the gradients of the
others (a loss that is weighted by the batch, a layer that mixes it) moves the sum elsewhere. So here nothing is worked
out: the site's own agent is asked for one round on two data sets that differ in one picture. In a simulation the keys
follow from the seed, so that batches and noise of both are the same, and the difference of the two updates is what the
picture did, to itself and to others.

1. *Worst picture.* Extreme pictures with every label are tried beside the site's own pictures, and beside those of one
   class; the one that moves updates furthest in one direction is taken.
2. *Sensitivity.* Where a round is one step of SGD without chance of its own, no picture may move the sum by more than
   one clip. That is the premise of the proof, and needs no statistics.
3. *Trials.* By the toss of a coin the picture is there or not, in rounds with fresh batches and noise; each update is
   scored along the mean difference. The auditor may know who else joins, as the guarantee holds whoever does: what the
   others give is taken off. Trials are independent, so the bounds for canaries hold for them, against what one round is
   claimed to cost.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from client.agent import Agent, Benches
from client.grid import grid_of
from client.ledger import Ledger
from client.plan import Plan
from client.randomness import KeyedStream, SeededEntropy
from fer_models.samples import Samples
from simulations.partition import Partition
from simulations.privacy_audit.canaries import Canaries, extremes, insert

LOOKED_AT = 3
"""Rounds in which each picture is tried."""

AVERAGED = 8
"""Rounds whose differences make the direction that updates are scored along."""

FIRST_TRIAL = 1 << 20
"""Number of the first trial's batch and noise: far from those that the direction was made of."""

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Trials:
    """What many rounds with and without one picture came to.

    Attributes
    ----------
    picture : the picture that moved updates furthest in one direction, and its label.
    beside : among which pictures of the site.
    site : the site's name.
    coins, scores : (t,), whether the picture was there, and how far the update lay along what it does.
    moved : the largest difference, for any picture, of two sums that differ in it, over what the clip allows; None
        where a round is not one step of SGD, or draws random numbers for its whole batch (dropout, augmentation).
    """

    picture: str
    beside: str
    site: str
    coins: NDArray[np.bool_]
    scores: Vector
    moved: float | None


class Drawn(SeededEntropy):
    """Keys of which those of the batches can be had again with other noise."""

    batch, noise = 0, 0

    def key(self, round_number: int, purpose: str) -> bytes:  # noqa: ARG002
        """Return the key of the batch or of the noise that is set, whatever the round."""
        return super().key(self.batch if purpose == "poisson" else self.noise, purpose)


class Laboratory:
    """A site, in a room of its own: it answers as in a run, with a ledger that is thrown away.

    Parameters
    ----------
    plan : what the sites are asked for.
    vector : float32 (P + Q,), the weights of every round.
    prior : shares of the classes, where the loss needs them.
    names : of the sites.
    samples, division : the real pictures, and who holds which.
    seed : of all randomness.
    device : where the net is.
    """

    def __init__(
        self,
        plan: Plan,
        vector: NDArray[np.float32],
        prior: tuple[float, ...],
        names: list[str],
        samples: Samples,
        division: Partition,
        seed: int,
        device: str = "cpu",
    ) -> None:
        held = [division.rows(site, samples, "train") for site in range(division.sites)]
        self._site = int(np.argmax([len(rows) for rows in held]))
        self.name, self._plan, self._seed = names[self._site], plan, seed
        self._vector, self._prior = vector, prior
        self._pictures, shown = extremes(samples)
        classes, kinds = len(samples.labels), len(shown)
        every = Canaries(
            pictures=np.repeat(shown, classes, 0),
            label=np.tile(np.arange(classes, dtype=np.int16), kinds),
            site=np.full(kinds * classes, self._site, np.int32),
            included=np.ones(kinds * classes, bool),
        )
        self._real, self._labels = len(samples), samples.labels
        self._table, _ = insert(samples, division, every)
        self._benches = Benches(torch.device(device))
        label, own = samples.label, held[self._site]
        common = int(np.bincount(label[own]).argmax())
        self.beside = {
            "all its pictures": own,
            f"its pictures of {samples.labels[common]}": own[label[own] == common],
        }
        self._agents: dict[tuple[str, int | None], Agent] = {}
        self._entropies: list[Drawn] = []
        shared = plan.privacy is not None and plan.privacy.noise == "distributed"
        others = [site for site in range(division.sites) if shared and site != self._site]
        self._others = [self._agent(names[site], held[site]) for site in others]

    @property
    def count(self) -> int:
        """How many pictures there are to choose from."""
        return len(self._table) - self._real

    def called(self, picture: int) -> str:
        """Return what a picture shows, and its label."""
        kind, label = divmod(picture, len(self._labels))
        return f"{self._pictures[kind]}, labelled {self._labels[label]}"

    def release(self, beside: str, picture: int | None, batch: int, noise: int = 0) -> Vector:
        """Return what a round releases (T,): the site's update, or the sum of all shares of the noise.

        Parameters
        ----------
        beside : a key of :attr:`beside`.
        picture : which one is there too, None for none; it comes last, so that the others join the batches they did.
        batch, noise : which keys are used.
        """
        key = beside, picture
        if key not in self._agents:
            more = [] if picture is None else [self._real + picture]
            self._agents[key] = self._agent(
                self.name, np.concatenate([self.beside[beside], more]).astype(np.intp)
            )
        for entropy in self._entropies:
            entropy.batch, entropy.noise = batch, noise
        agents = [self._agents[key], *self._others]
        updates = [agent.train(self._plan, 1, self._vector, None, self._prior).delta for agent in agents]
        return np.sum([update.astype(np.float64) for update in updates], axis=0)

    def _agent(self, name: str, rows: NDArray[np.intp]) -> Agent:
        entropy = Drawn(self._seed, f"privacy audit|{name}")
        self._entropies.append(entropy)
        return Agent(
            name,
            self._table,
            rows,
            rows[:0],
            entropy=entropy,
            ledger=Ledger(None, name),
            benches=self._benches,
        )


def run_trials(laboratory: Laboratory, plan: Plan, count: int, seed: int) -> Trials:
    """Look for the picture that moves a round most, and try it ``count`` times."""
    with _one_thread():
        beside, picture, largest = _worst(laboratory, plan)
        direction = _direction(laboratory, plan, beside, picture)
        coins = KeyedStream(SeededEntropy(seed, "privacy audit").key(0, "trials")).uniform(count) < 0.5
        scores = np.zeros(count)
        for trial, coin in enumerate(coins):
            number = FIRST_TRIAL + trial
            found = laboratory.release(beside, picture if coin else None, number, number)
            scores[trial] = (found - laboratory.release(beside, None, number)) @ direction
    allowed = allowed_move(plan)
    moved = None if allowed is None else largest / allowed
    return Trials(laboratory.called(picture), beside, laboratory.name, coins, scores, moved)


def allowed_move(plan: Plan) -> float | None:
    """Return the largest 2-norm by which one picture may move what a round releases; None where none is known."""
    privacy, work = plan.privacy, plan.local
    assert privacy is not None
    if plan.model.dropout > 0 or work.augment:  # the others' draws move with the size of the batch
        return None
    if privacy.noise == "distributed":
        return grid_of(privacy, work.rate).sensitivity
    if work.amount > 1 or work.optimizer != "sgd":
        return None
    return work.learning_rate * privacy.clip / (work.rate * privacy.nominal_units)


def _patience(plan: Plan) -> int:
    """Return the rounds after which a picture has been in some batch, but for a chance of e^-8."""
    return math.ceil(8 / min(1.0, plan.local.rate * plan.local.amount))


def _joined(laboratory: Laboratory, plan: Plan, beside: str, picture: int, wanted: int) -> Iterator[int]:
    """Yield the first rounds in which a picture's presence changes anything."""
    found = 0
    for number in range(1, wanted * _patience(plan) + 1):
        if found < wanted and _difference(laboratory, beside, picture, number).any():
            found += 1
            yield number


def _difference(laboratory: Laboratory, beside: str, picture: int, number: int) -> Vector:
    return laboratory.release(beside, picture, number) - laboratory.release(beside, None, number)


def _worst(laboratory: Laboratory, plan: Plan) -> tuple[str, int, float]:
    """Return beside what which picture moves rounds furthest in one direction, and the largest move of any."""
    best, chosen, largest = -1.0, (next(iter(laboratory.beside)), 0), 0.0
    for beside in laboratory.beside:
        # Whether a picture joins a batch follows from the keys, whatever it shows.
        joined = list(_joined(laboratory, plan, beside, 0, LOOKED_AT))
        without = [laboratory.release(beside, None, number) for number in joined]
        for picture in range(laboratory.count if joined else 0):
            moves = [
                laboratory.release(beside, picture, number) - before
                for number, before in zip(joined, without, strict=True)
            ]
            largest = max(largest, *(float(np.linalg.norm(move)) for move in moves))
            signal = float(np.linalg.norm(np.mean(moves, axis=0)))
            if signal > best:
                best, chosen = signal, (beside, picture)
    return *chosen, largest


def _direction(laboratory: Laboratory, plan: Plan, beside: str, picture: int) -> Vector:
    """Return the mean of what a picture does to rounds that it joins, at unit length."""
    moves = [
        _difference(laboratory, beside, picture, number)
        for number in _joined(laboratory, plan, beside, picture, AVERAGED)
    ]
    if not moves:
        return laboratory.release(beside, None, 1) * 0.0
    mean = np.mean(moves, axis=0)
    return mean / max(float(np.linalg.norm(mean)), 1e-300)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Add sums up in one order, as the sites of a run do."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
