"""How the answers of a round become one update, one answer at a time; memory grows only with rules that compare."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from flwr.app import RecordDict

from client.grid import LARGEST, decode
from client.messages import scalar, tensor_of, vector_of
from client.plan import Plan
from fer_models.errors import EngineError, PrivacyError
from server.robust import RobustMean


class Aggregate(Protocol):
    """Takes the answers of a round in any number and gives their mean update."""

    def add(self, content: RecordDict) -> int:
        """Take an answer; return the bytes of its vector."""
        ...

    def mean(self) -> torch.Tensor:
        """Return the mean update, float64 (T,)."""
        ...


class MeanOfUpdates:
    """The weighted mean of the sites' updates.

    Parameters
    ----------
    size : T, numbers of an update.
    """

    def __init__(self, size: int) -> None:
        self._total, self._weights = torch.zeros(size, dtype=torch.float64), 0.0

    def add(self, content: RecordDict) -> int:
        """Take an update and its weight; return the update's bytes."""
        delta = vector_of(content, np.float32, len(self._total))
        weight = scalar(content, "weight")
        self._total.add_(tensor_of(delta), alpha=weight)
        self._weights += weight
        return delta.nbytes

    def mean(self) -> torch.Tensor:
        """Return the mean, float64 (T,)."""
        return self._total.div_(self._weights)


class SumOfShares:
    """The exact sum of whole numbers, of which each site sends a share: ``privacy.noise: distributed``.

    Parameters
    ----------
    size : T, numbers of a share.
    """

    def __init__(self, plan: Plan, size: int) -> None:
        self._plan, self._total, self._shares = plan, np.zeros(size, np.int64), 0

    def add(self, content: RecordDict) -> int:
        """Take a share; return its bytes."""
        share = vector_of(content, np.int32, len(self._total))
        self._total += share
        self._shares += 1
        return share.nbytes

    def mean(self) -> torch.Tensor:
        """Return the step of ``local.learning_rate`` against the noisy mean gradient, float64 (T,).

        Raises
        ------
        PrivacyError : not as many shares as the noise was divided among.
        EngineError : a site sent more than a share can be.
        """
        assert self._plan.privacy is not None
        if self._shares != self._plan.privacy.threshold:
            raise PrivacyError(
                f"{self._shares} shares of noise that was divided among {self._plan.privacy.threshold} sites",
                where="privacy.threshold",
                cure="Run the plan with as many sites a round as it was made for.",
            )
        if self._total.size and max(self._total.max(), -self._total.min()) > LARGEST:
            raise EngineError(
                "the sum of the sites' shares leaves 32 bits",
                cure="Run the same version of FedFER everywhere.",
            )
        return torch.from_numpy(decode(self._total, self._plan, self._shares)).mul_(
            -self._plan.local.learning_rate
        )


def aggregate_of(plan: Plan, size: int) -> Aggregate:
    """Return the empty aggregate of a round of a plan with plain aggregation.

    Parameters
    ----------
    size : length of what the sites send.

    Raises
    ------
    PrivacyError : the plan asks for secure aggregation, where no site sends anything that this could take.
    """
    if plan.aggregation == "secure":
        raise PrivacyError(
            "single updates of a plan that promises secure aggregation",
            where="aggregation",
            cure="Run the same version of FedFER everywhere, or plan aggregation=plain.",
        )
    if plan.privacy is not None and plan.privacy.noise == "distributed":
        return SumOfShares(plan, size)
    if plan.server.rule != "mean":
        return RobustMean(plan.server, size)
    return MeanOfUpdates(size)
