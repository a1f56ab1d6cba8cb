"""A site in a room of its own, asked for rounds on data sets that differ in one picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from client.agent import Agent
from client.ledger import Ledger
from client.plan import Plan
from client.randomness import SeededEntropy
from client.told import Told
from client.workbench import Benches
from fer_models.errors import ModelError
from fer_models.flat import FlatModel
from fer_models.samples import Samples
from fer_models.scope import logit_bias
from fer_models.zoo import build
from simulations.partition import Partition
from simulations.privacy_audit.canaries import Canaries, extremes, insert

COMPANY = 64
"""Others that a batch has on average, where the site has so many: as many as the site's code takes at once."""

LEANING = 4.0
"""What is added to the logit of one class, so that its pictures are hardly wrong and their gradients short."""

KEPT = 4
"""Agents that are kept, each with its pictures' features."""

Vector = NDArray[np.float64]


class Drawn(SeededEntropy):
    """Keys of which those of the batches can be had again with other noise."""

    batch, noise = 0, 0

    def key(self, round_number: int, purpose: str) -> bytes:  # noqa: ARG002
        """Return the key of the batch or of the noise that is set, whatever the round."""
        return super().key(self.batch if purpose == "poisson" else self.noise, purpose)


@dataclass(frozen=True)
class Scene:
    """Where a picture is tried.

    Attributes
    ----------
    told : among which pictures of the site, and at which weights.
    rows : the site's own pictures there.
    vector : float32 (P + Q,), the weights.
    """

    told: str
    rows: NDArray[np.intp]
    vector: NDArray[np.float32]


class Laboratory:
    """The largest site, and if noise is shared all others; it answers as in a run, with ledgers that are thrown away.

    Parameters
    ----------
    plan : what the sites are asked for.
    vectors : float32 (P + Q,) each, the weights that the run began with and those that it ended with.
    prior : shares of the classes, where the loss needs them.
    names : of the sites.
    samples, division : the real pictures, and who holds which.
    seed : of all randomness.
    device : where the net is.
    """

    def __init__(
        self,
        plan: Plan,
        vectors: tuple[NDArray[np.float32], NDArray[np.float32]],
        prior: tuple[float, ...],
        names: Sequence[str],
        samples: Samples,
        division: Partition,
        seed: int,
        device: str = "cpu",
    ) -> None:
        held = [division.rows(site, samples, "train") for site in range(division.sites)]
        site = int(np.argmax([len(rows) for rows in held]))
        self.name, self._seed, self._prior, self._real = names[site], seed, prior, len(samples)
        self._labels, self._benches = samples.labels, Benches(torch.device(device))
        self._kinds, shown = extremes(samples)
        classes, many = len(samples.labels), len(shown) * len(samples.labels)
        every = Canaries(
            pictures=np.repeat(shown, classes, 0),
            label=np.tile(np.arange(classes, dtype=np.int16), len(shown)),
            site=np.full(many, site, np.int32),
            included=np.ones(many, bool),
        )
        self._table, _ = insert(samples, division, every)
        self.scenes = _scenes(plan, vectors, samples, held[site])
        self._kept: dict[tuple[str, int | None], tuple[Agent, Drawn]] = {}
        shared = plan.privacy is not None and plan.privacy.noise == "distributed"
        others = [other for other in range(division.sites) if shared and other != site]
        self._others = [self._agent(names[other], held[other]) for other in others]

    @property
    def count(self) -> int:
        """How many pictures there are to choose from."""
        return len(self._table) - self._real

    def called(self, picture: int) -> str:
        """Return what a picture shows, and its label."""
        kind, label = divmod(picture, len(self._labels))
        return f"{self._kinds[kind]}, labelled {self._labels[label]}"

    def release(self, plan: Plan, scene: Scene, picture: int | None, batch: int, noise: int = 0) -> Vector:
        """Return what a round releases (T,): the site's update, or the sum of all shares of the noise.

        Parameters
        ----------
        picture : which one is there too, None for none; it comes last, so that the others join the batches they did.
        batch, noise : which keys are used.
        """
        key = scene.told, picture
        if key not in self._kept:
            if len(self._kept) >= KEPT:
                self._kept.clear()
            more = [] if picture is None else [self._real + picture]
            rows = np.concatenate([scene.rows, more]).astype(np.intp)
            self._kept[key] = self._agent(self.name, rows)
        found = []
        for agent, entropy in (self._kept[key], *self._others):
            entropy.batch, entropy.noise = batch, noise
            update = agent.train(plan, 1, scene.vector, None, Told(self._prior))
            found.append(update.delta.astype(np.float64))
        return np.sum(found, axis=0)

    def _agent(self, name: str, rows: NDArray[np.intp]) -> tuple[Agent, Drawn]:
        entropy, ledger = Drawn(self._seed, f"privacy audit|{name}"), Ledger(None, name)
        benches = self._benches
        return Agent(
            name, self._table, rows, rows[:0], entropy=entropy, ledger=ledger, benches=benches
        ), entropy


def _scenes(
    plan: Plan,
    vectors: tuple[NDArray[np.float32], NDArray[np.float32]],
    samples: Samples,
    own: NDArray[np.intp],
) -> list[Scene]:
    """Return the scenes: all pictures; those of one class; and the same at weights that lean to that class."""
    most = math.ceil(COMPANY / plan.local.rate)
    label = samples.label[own]
    common = int(np.bincount(label).argmax())
    alike, name = own[label == common][:most], samples.labels[common]
    start, last = vectors
    found = [
        Scene("all its pictures", own[:most], last),
        Scene(f"its pictures of {name}", alike, last),
    ]
    leaning = _leaning(plan, start, common)
    if leaning is not None:
        found.append(Scene(f"its pictures of {name}, at first weights that lean to {name}", alike, leaning))
    return found


def _leaning(plan: Plan, vector: NDArray[np.float32], label: int) -> NDArray[np.float32] | None:
    """Return weights whose logit of one class is larger; None where the net has no such bias."""
    flat = FlatModel(build(plan.model, plan.seed))
    try:
        name = logit_bias(flat.module, plan.model)
    except ModelError:
        return None
    found = torch.from_numpy(vector.copy())
    next(slot for slot in flat.slots if slot.name == name).view(found)[label] += LEANING
    return found.numpy()
