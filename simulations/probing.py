"""Probes for groups on the features of the nets of a run: only who holds all sites' pictures can try this."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from client.evaluation import EVALUATION_BATCH, evaluating
from client.plan import Plan
from fer_models.embedding import embed, last_layer
from fer_models.erasure import Eraser
from fer_models.errors import ModelError
from fer_models.features import TwoStage
from fer_models.flat import FlatModel
from fer_models.probes import Shown, probe
from fer_models.samples import Samples
from fer_models.splits import units
from fer_models.transforms import for_forward, to_input
from fer_models.zoo import build
from simulations.threads import one_thread

LEARNED, JUDGED = 1500, 4000
"""Pictures, at most, that probes learn on and are judged on."""

Found = dict[str, dict[str, Any]]
"""Attribute -> what :func:`fer_models.probes.probe` found."""


@dataclass
class Prober:
    """Probes nets on one table: learns on training pictures, judges on test pictures of other people.

    Attributes
    ----------
    samples : everybody's pictures.
    device : where features are made.
    seed : of the draw of the pictures, and of the probes.
    """

    samples: Samples
    device: str
    seed: int

    def __post_init__(self) -> None:
        self._fixed: Found | None = None

    def __call__(self, plan: Plan, vector: torch.Tensor, eraser: Eraser | None = None) -> Found:
        """Return what probes find, for every audited attribute, in the features of the net with weights (P + Q,).

        Parameters
        ----------
        eraser : folded into the last layer: what is left of features behind it is probed.
        """
        if self._fixed is not None and eraser is None:
            return self._fixed
        flat = FlatModel(build(plan.model, plan.seed))
        module = flat.module
        flat.load_(vector)
        # Features that no net of the run has learned are the same in all of them.
        fixed = isinstance(module, TwoStage) and module.keeps_features()
        with one_thread():  # the last bits of sums depend on the number of threads
            try:
                features = self._features(module.to(self.device), plan)
                if eraser is not None:
                    features = eraser(features).astype(np.float32)
            except ModelError as error:
                return {name: {"note": error.what} for name in plan.attributes}
            found = {name: self._probe(features, name) for name in plan.attributes}
        if fixed and eraser is None:
            self._fixed = found
        return found

    @cached_property
    def _taken(self) -> tuple[Samples, NDArray[np.intp]]:
        """The pictures that are looked at, and who is on each (N,)."""
        rng = np.random.default_rng(self.seed)
        rows = [rng.permutation(self.samples.rows(split)) for split in ("train", "test")]
        taken = self.samples.take(np.concatenate([rows[0][:LEARNED], rows[1][:JUDGED]]))
        return taken, units(taken)

    def _features(self, module: torch.nn.Module, plan: Plan) -> NDArray[np.float32]:
        """Return features (N, F) of the pictures that are looked at."""
        pictures, last = self._taken[0].pictures, last_layer(module, plan.model)
        with evaluating(module):
            parts = [
                embed(module, last, for_forward(to_input(pictures[i : i + EVALUATION_BATCH], self.device)))
                for i in range(0, len(pictures), EVALUATION_BATCH)
            ]
        return torch.cat(parts).float().cpu().numpy()

    def _probe(self, features: NDArray[np.float32], attribute: str) -> dict[str, Any]:
        taken, person = self._taken
        group, test = taken.groups[attribute], taken.split == "test"
        # Official splits may show a person on both sides.
        learns = (taken.split == "train") & ~np.isin(person, person[test])
        learn, judge = (Shown(features[part], group[part], person[part]) for part in (learns, test))
        return probe(learn, judge, seed=self.seed)
