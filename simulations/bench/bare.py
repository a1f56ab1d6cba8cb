"""The yardstick: federated averaging as a bare PyTorch loop, in torch's default memory layout."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from fer_models.transforms import mirrored_probabilities, to_input

Pictures = tuple[NDArray[np.uint8], NDArray[np.int16]]
"""Pictures (N, H, W) and their labels (N,)."""


class BareLoop:
    """One net, one loop over sites, no messages: as few lines as the same work takes.

    Pictures are normalised once, before anything is timed, which FedFER does batch by batch.
    """

    def __init__(
        self, model: nn.Module, learning_rate: float, batch: int, sites: Sequence[Pictures], test: Pictures
    ) -> None:
        self.model, self.batch = model, batch
        self.sites = [_prepared(site) for site in sites]
        self.test = _prepared(test)
        self.parameters = list(self.model.parameters())
        self.optimizer = torch.optim.SGD(self.parameters, lr=learning_rate)
        self.weights = [p.detach().clone() for p in self.parameters]

    def round(self) -> float:
        """Train every site for one epoch, average, evaluate; return the accuracy."""
        total = [torch.zeros_like(p) for p in self.weights]
        rows = 0
        for x, y in self.sites:
            self._load(self.weights)
            for i in range(0, len(y), self.batch):
                self.optimizer.zero_grad(set_to_none=True)
                functional.cross_entropy(self.model(x[i : i + self.batch]), y[i : i + self.batch]).backward()
                self.optimizer.step()
            for each, parameter in zip(total, self.parameters, strict=True):
                each.add_(parameter.data, alpha=len(y))
            rows += len(y)
        self.weights = [each / rows for each in total]
        self._load(self.weights)
        return self.evaluate()

    def _load(self, weights: list[Tensor]) -> None:
        for parameter, weight in zip(self.parameters, weights, strict=True):
            parameter.data.copy_(weight)

    @torch.inference_mode()
    def evaluate(self) -> float:
        """Return the accuracy on the test pictures and their mirror images."""
        self.model.eval()
        x, y = self.test
        hits = sum(
            int((mirrored_probabilities(self.model, x[i : i + 256]).argmax(1) == y[i : i + 256]).sum())
            for i in range(0, len(y), 256)
        )
        self.model.train()
        return hits / len(y)


def _prepared(pictures: Pictures) -> tuple[Tensor, Tensor]:
    return to_input(pictures[0]), torch.from_numpy(pictures[1].astype(np.int64))
