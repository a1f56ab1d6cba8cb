"""The yardstick: federated averaging as a bare PyTorch loop, in torch's default memory layout."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from client.plan import Plan
from fer_models.transforms import mirrored_probabilities, to_input
from fer_models.zoo import build


class BareLoop:
    """One net, one loop over sites, no messages: as few lines as the same work takes.

    Pictures are normalised once, before anything is timed, which FedFER does batch by batch.
    """

    def __init__(
        self, plan: Plan, sites: list[tuple[NDArray[np.uint8], NDArray[np.int16]]], test: tuple
    ) -> None:
        self.plan = plan
        self.model = build(plan.model, plan.seed)
        self.sites = [(to_input(x), torch.from_numpy(y.astype(np.int64))) for x, y in sites]
        self.test = (to_input(test[0]), torch.from_numpy(test[1].astype(np.int64)))
        self.parameters = list(self.model.parameters())
        self.optimizer = torch.optim.SGD(self.parameters, lr=plan.local.learning_rate)
        self.weights = [p.detach().clone() for p in self.parameters]

    def round(self) -> float:
        """Train every site for one epoch, average, evaluate; return the accuracy."""
        held = [p.data for p in self.parameters]
        total = [torch.zeros_like(p) for p in held]
        rows, size = 0, self.plan.local.batch
        for x, y in self.sites:
            torch._foreach_copy_(held, self.weights)
            for i in range(0, len(y), size):
                self.optimizer.zero_grad(set_to_none=True)
                functional.cross_entropy(self.model(x[i : i + size]), y[i : i + size]).backward()
                self.optimizer.step()
            torch._foreach_add_(total, held, alpha=len(y))
            rows += len(y)
        torch._foreach_div_(total, float(rows))
        torch._foreach_copy_(self.weights, total)
        torch._foreach_copy_(held, total)
        return self.evaluate()

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
