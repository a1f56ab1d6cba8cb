"""The yardstick: federated averaging as a bare PyTorch loop, in torch's default memory layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from fer_models.transforms import mirrored_probabilities, to_input

_TORCH: Any = torch
"""Its functions on lists of tensors, the fastest way to average, have no public name."""

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
        held = [parameter.data for parameter in self.parameters]
        total = [torch.zeros_like(each) for each in held]
        rows = 0
        for x, y in self.sites:
            _TORCH._foreach_copy_(held, self.weights)
            for i in range(0, len(y), self.batch):
                self.optimizer.zero_grad(set_to_none=True)
                functional.cross_entropy(self.model(x[i : i + self.batch]), y[i : i + self.batch]).backward()
                self.optimizer.step()
            _TORCH._foreach_add_(total, held, alpha=len(y))
            rows += len(y)
        _TORCH._foreach_div_(total, float(rows))
        _TORCH._foreach_copy_(self.weights, total)
        _TORCH._foreach_copy_(held, total)
        return self.evaluate()

    def evaluate(self) -> float:
        """Return the accuracy on the test pictures and their mirror images."""
        return self.evaluate_on(self.model, self.test)

    @staticmethod
    @torch.inference_mode()
    def evaluate_on(model: nn.Module, test: tuple[Tensor, Tensor]) -> float:
        """Return the accuracy of a net on normalised pictures and their mirror images."""
        model.eval()
        x, y = test
        hits = sum(
            int((mirrored_probabilities(model, x[i : i + 256]).argmax(1) == y[i : i + 256]).sum())
            for i in range(0, len(y), 256)
        )
        model.train()
        return hits / len(y)


def _prepared(pictures: Pictures) -> tuple[Tensor, Tensor]:
    x = to_input(pictures[0])
    plain = torch.empty(x.shape).copy_(x)  # strides too: they alone would ask for channels_last
    return plain, torch.from_numpy(pictures[1].astype(np.int64))
