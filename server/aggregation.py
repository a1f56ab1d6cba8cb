"""How the answers of a round become one update, one answer at a time; memory grows only with rules that compare."""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from client.grid import LARGEST, decode
from client.messages import tensor_of
from client.plan import Plan
from client.secagg.layout import Sum
from fer_models.errors import EngineError, PrivacyError, TrainingError
from server.robust import RobustMean

MOST_RATIO = 1000.0
"""How many times as long as the weights of a round, and 1, an update may be; one that is longer is of a broken site."""

MOST_PICTURES, MOST_VISITS = 10**9, 10**12
"""More than any site holds, and sees in a round."""


def require_sound(
    plan: Plan, update: NDArray[Any], said: tuple[float, float], length: float, where: str
) -> None:
    """Refuse what one site sent of a round, where it alone would spoil the mean.

    This is against mistakes and broken machines; against a site that wants harm there are the robust rules.

    Parameters
    ----------
    update : (T,), as it came; a rule that bears malicious sites takes out by itself what is not finite.
    said : the weight that the site claims, and the pictures that it has seen.
    length : 2-norm of the weights that the round began from.

    Raises
    ------
    TrainingError : with what is wrong.
    """
    weight, visits = said
    most = MOST_PICTURES if plan.server.weighting == "size" else 1
    wrong = ""
    if not (0 < weight <= most and 0 <= visits <= MOST_VISITS):
        wrong = f"it says that it weighs {weight:g}, and has seen {visits:g} pictures"
    elif update.dtype == np.float32 and plan.server.rule == "mean":
        with np.errstate(over="ignore", invalid="ignore"):
            size = math.sqrt(float(np.dot(update, update)))
        if not size <= MOST_RATIO * (1 + length):  # NaN is not
            wrong = (
                f"its update is {size:.3g} long where the weights are {length:.3g}"
                if np.isfinite(update).all()
                else "its update is not finite"
            )
    if wrong:
        cure = "Lower local.learning_rate; or see that site's log, and revoke it where it goes on."
        raise TrainingError(wrong, where=where, cure=cure)


class Aggregate(Protocol):
    """Takes the answers of a round in any number and gives their mean update."""

    @property
    def kind(self) -> type[np.generic]:
        """Type of an update's numbers."""
        ...

    def add(self, update: NDArray[Any], weight: float) -> None:
        """Take an update (T,) of that type."""
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

    kind = np.float32

    def __init__(self, size: int) -> None:
        self._total, self._weights = torch.zeros(size, dtype=torch.float64), 0.0

    def add(self, update: NDArray[np.float32], weight: float) -> None:
        """Take an update and its weight."""
        self._total.add_(tensor_of(update), alpha=weight)
        self._weights += weight

    def mean(self) -> torch.Tensor:
        """Return the mean, float64 (T,)."""
        return self._total.div_(self._weights)


class SumOfShares:
    """The exact sum of whole numbers, of which each site sends a share: ``privacy.noise: distributed``.

    Parameters
    ----------
    size : T, numbers of a share.
    """

    kind = np.int32

    def __init__(self, plan: Plan, size: int) -> None:
        self._plan, self._total, self._shares = plan, np.zeros(size, np.int64), 0

    def add(self, update: NDArray[np.int32], weight: float) -> None:  # noqa: ARG002 - all shares weigh alike
        """Take a share."""
        self._total += update
        self._shares += 1

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
        return _step_of(self._plan, self._total, self._shares)


def _step_of(plan: Plan, total: NDArray[np.int64], sites: int) -> torch.Tensor:
    """Return the step of ``local.learning_rate`` against the mean gradient of a sum of shares, and the tally behind it.

    float64 (T + K,); a picture of the tally is C / rho long in the sum (:mod:`client.fairness`).
    """
    found = torch.from_numpy(decode(total, plan, sites))
    learning = len(found) - plan.tally_size
    found[:learning].mul_(-plan.local.learning_rate)
    if plan.fairness is not None and plan.privacy is not None:
        found[learning:].mul_(plan.fairness.noise_ratio / plan.privacy.clip)
    return found


def mean_of_sum(plan: Plan, found: Sum) -> torch.Tensor:
    """Return the mean update, float64 (T + K,), of a training session of secure aggregation.

    Raises
    ------
    PrivacyError : fewer sites than distributed noise was divided among.
    """
    assert found.update is not None
    privacy = plan.privacy
    if privacy is None or privacy.noise == "site":
        return torch.from_numpy(found.update / found.weight)
    if found.sites < privacy.threshold:
        raise PrivacyError(
            f"a sum over {found.sites} sites of noise that was divided among {privacy.threshold}",
            where="privacy.threshold",
            cure="Lose the round, and go on with the next.",
        )
    return _step_of(plan, found.update, found.sites)


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
        return RobustMean(plan.server)
    return MeanOfUpdates(size)
