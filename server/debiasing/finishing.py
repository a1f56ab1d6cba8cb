"""Mends the finished net with what the sites add up after the last round; :mod:`client.finish` has the steps.

*Erasure* (:mod:`fer_models.erasure`): the sums give the map of features after which all disclosed groups have one mean.
It is affine, so it folds into the layer after it: the net keeps its form, and its logits are those of erased features.

*Clusters* (:mod:`fer_models.clusters`): centres of features by k-means, a step of it from each sum, and then the bias
of each cluster from the classes that its pictures have and are given. They are numbers of the net itself.

Under privacy all of this is post-processing of noisy sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from client.finish import COUNTED, STEPS, deviation, erased_groups, step_of
from client.moments import moments_of, radius_of
from client.plan import Plan
from client.secagg.refusals import refuse
from fer_models.clusters import Clustered, first_centres, next_centres, offsets_of
from fer_models.embedding import last_layer
from fer_models.erasure import Eraser, eraser_of, meant
from fer_models.errors import DataError, ModelError
from fer_models.flat import FlatModel, Slot
from server.asking import Answers, Sites
from server.secure import SecureSites
from server.sessions import Task

MOMENTS = "finish.moments"
"""Name of the sums in a checkpoint."""

HALF = 0.5
"""Share of what sets the groups' sums apart that is no noise, below which the report says so."""

SMALLEST = 10.0
"""Pictures of a group below which it is left as it is; under privacy at least four deviations of their count."""

DRAWN = 20.0
"""Pictures of everybody that are added to each cluster; under privacy four deviations of the noise more."""

TRIES = 4
"""How often a sum is asked for that is lost."""


class Finishing:
    """The steps of one run.

    Parameters
    ----------
    plan : has a finish.
    flat : the plan's net.

    Attributes
    ----------
    radius : R, 1 until it is known.
    eraser : of features, None until it is known, or where nothing can be erased.

    Raises
    ------
    ModelError : the net has no last layer with a bias.
    """

    def __init__(self, plan: Plan, flat: FlatModel) -> None:
        assert plan.finish is not None
        self._plan, self._finish = plan, plan.finish
        self._slots = _last_slots(plan, flat)
        self._done = 0
        self.radius = 1.0
        self._places = {slot.name.rpartition(".")[2]: slot for slot in flat.slots if _held(slot.name)}
        self._moments: NDArray[np.float64] | None = None
        # Centres (K, F) and biases (K, C), as far as they are known, and the pictures of each cluster.
        self._clusters: dict[str, NDArray[np.float64]] = {}
        self.eraser: Eraser | None = None
        self._note, self._meant = "", 0.0

    def missing(self) -> range:
        """Return the rounds that are still to be asked for."""
        last = self._plan.server.rounds
        return range(last + 1 + self._done, last + 1 + len(self._finish.steps))

    def run(
        self,
        sites: Sites,
        nodes: Sequence[int],
        judged: Callable[[], torch.Tensor],
        took: Callable[[Answers], None],
    ) -> None:
        """Go through the steps that are missing.

        Parameters
        ----------
        judged : returns the weights (P + Q,) as they are so far.
        took : told of the answers after each step.

        Raises
        ------
        SecureAggregationError : the sum of one is lost for good.
        """
        assert isinstance(sites, SecureSites)  # the plan is refused otherwise
        for number in self.missing():
            for _ in range(TRIES):
                done = sites.moments(nodes, number, judged(), self.radius)
                if done.total is not None:
                    break
            if done.total is None or done.total.moments is None:
                raise refuse("too_few", f"the sums after the last round were lost: {done.lost}")
            self.take(done.total.moments, done.total.sites, number)
            took(done)

    def following(self, nodes: Sequence[int], purpose: str, round_number: int) -> Task | None:
        """Return what the sites are asked after a task from the last round on, None after the last."""
        if purpose == "evaluate":
            return None
        last = self._plan.server.rounds
        if round_number < last + len(self._finish.steps):
            return Task("moments", round_number + 1, tuple(nodes))
        return Task("evaluate", last, tuple(nodes))

    def take(self, total: NDArray[np.int64], sites: int, round_number: int) -> None:
        """Take the sum (P,), in steps, of that many sites in a round after the last."""
        step, sums = step_of(self._plan, round_number), total / STEPS
        noise = deviation(self._plan, step) * math.sqrt(sites) / STEPS
        if step == "norms":
            self.radius = radius_of(sums)
        elif step == "moments":
            self._moments = np.append(sums, noise)
            self._erase()
        else:
            self._cluster(step, sums, noise)
        self._done += 1

    def _cluster(self, step: str, sums: NDArray[np.float64], noise: float) -> None:
        clusters, features = self._finish.clusters, self._finish.features
        if step == "spread":
            count = max(1.0, sums[0] / COUNTED)
            mean = sums[1:-1] / count
            spread = math.sqrt(max(0.0, sums[-1] / COUNTED / count - float(mean @ mean)))
            centres = first_centres(mean, spread, clusters, self._plan.seed)
            self._clusters["centres"] = self.radius * centres
        elif step == "cells":
            count, total = sums[:clusters] / COUNTED, sums[clusters:].reshape(clusters, features)
            smallest = max(SMALLEST, 4 * noise / COUNTED)
            own = next_centres(self._clusters["centres"], count, self.radius * total, smallest)
            self._clusters |= {"centres": own, "sizes": count}
        else:
            labelled, given = sums.reshape(2, clusters, -1)
            self._clusters["offsets"] = offsets_of(labelled, given, DRAWN + 4 * noise)

    def _erase(self) -> None:
        assert self._moments is not None
        sums, noise = self._moments[:-1], float(self._moments[-1])
        try:
            moments = moments_of(self._plan, sums)
            found = eraser_of(moments, noise, max(SMALLEST, 4 * noise / COUNTED))
            self._meant = meant(moments, noise)
        except DataError as error:
            self._note = f"nothing was erased: {error.what}"
            return
        if self._meant < HALF:
            self._note = "noise outweighs the difference between the groups, so little of it was erased"
        self.eraser = Eraser(found.removed, found.mean * self.radius, found.rank)

    def apply(self, vector: torch.Tensor) -> torch.Tensor:
        """Return weights (P + Q,) that hold what is known so far: a last layer for erased features, and clusters."""
        if self.eraser is None and not self._clusters:
            return vector
        found = vector.clone()
        for name, slot in self._places.items():
            if name in self._clusters:
                slot.view(found).copy_(torch.from_numpy(self._clusters[name]))
        if self.eraser is None:
            return found
        weight, bias = (slot.view(found) for slot in self._slots)
        changed = self.eraser.folded(weight.numpy(), bias.numpy())
        for old, new in zip((weight, bias), changed, strict=True):
            old.copy_(torch.from_numpy(new))
        return found

    # Between processes, and for the report

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the sums so far, for a checkpoint."""
        held = {f"finish.{name}": values for name, values in self._clusters.items()}
        if self._moments is not None:
            held[MOMENTS] = self._moments
        return {name: torch.from_numpy(values) for name, values in held.items()}

    def facts(self) -> dict[str, Any]:
        """Return the rest of the state as plain data."""
        return {"done": self._done, "radius": self.radius}

    def take_up(self, facts: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
        """Go on from the state that :meth:`facts` and :meth:`tensors` returned."""
        self._done, self.radius = int(facts["done"]), float(facts["radius"])
        for name in ("centres", "sizes", "offsets"):
            if f"finish.{name}" in tensors:
                self._clusters[name] = tensors[f"finish.{name}"].numpy()
        if MOMENTS in tensors:
            self._moments = tensors[MOMENTS].numpy()
            self._erase()

    def report(self) -> dict[str, Any]:
        """Return what is told of the finished net."""
        return (self._erased() if self._finish.erase else {}) | (self._clustered() if self._clusters else {})

    def _clustered(self) -> dict[str, Any]:
        offsets = self._clusters.get("offsets", np.zeros(1))
        sizes = np.maximum(0, np.round(self._clusters.get("sizes", np.zeros(0))))
        return {
            "clusters": sizes.astype(int).tolist(),
            "largest_bias": round(float(np.abs(offsets).max()), 3),
        }

    def _erased(self) -> dict[str, Any]:
        return {
            "erased": self._finish.erase,
            "groups": list(erased_groups(self._plan)),
            "rank": 0 if self.eraser is None else self.eraser.rank,
            "meant": round(self._meant, 3),
            "radius": self.radius,
            "whitened": self._finish.second,
            "note": self._note,
        }


def _held(name: str) -> bool:
    return name.rpartition(".")[2] in Clustered.held


def _last_slots(plan: Plan, flat: FlatModel) -> tuple[Slot, Slot]:
    """Return where weight (C, F) and bias (C,) of the last layer lie in the flat vector."""
    last = last_layer(flat.module, plan.model)
    owner = next(name for name, module in flat.module.named_modules() if module is last)
    slots = {slot.name: slot for slot in flat.slots}
    if f"{owner}.bias" not in slots:
        raise ModelError(
            f"the last layer of {plan.model.name} has no bias",
            where="fairness",
            cure="Use another net, or another method of fairness.",
        )
    return slots[f"{owner}.weight"], slots[f"{owner}.bias"]
