"""Shares of the classes: from the sites' label counts to the loss, or to the bias of the finished model."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from flwr.app import Message, RecordDict
from numpy.typing import NDArray

from client.label_counts import shares
from client.messages import tell, vector_of
from client.plan import Plan
from fer_models.errors import EngineError
from fer_models.flat import FlatModel
from fer_models.scope import logit_bias

LABEL_COUNTS = "query.label_counts"
"""Type of the message that asks for label counts."""

MOST = 1 << 40
"""Pictures of a class at a site, at most; sums of that many do not overflow."""


STATISTICS = "query.statistics"
"""Type of the message that asks for statistics."""


def ask(plan: Plan, node: int, known: str | None, kind: str = LABEL_COUNTS) -> Message:
    """Return the question for a site's label counts, or for its statistics.

    Parameters
    ----------
    known : where its ledger stood when it last answered.
    kind : of the message.
    """
    facts: dict[str, str] = {"plan": plan.text}
    if known is not None:
        facts["ledger"] = known
    return Message(tell(facts), node, kind)


def from_answers(contents: Iterable[RecordDict], cells: int) -> NDArray[np.int64]:
    """Return the label counts over all sites (cells,).

    Counts with noise are added up as they are and cut at the end: cutting each would raise the rare classes.

    Raises
    ------
    EngineError : an answer that holds no counts.
    """
    total = np.zeros(cells, np.int64)
    for content in contents:
        counts = vector_of(content, np.int64, cells)
        if ((counts < -MOST) | (counts > MOST)).any():
            raise EngineError(
                "label counts that no site can have", cure="Run the same version of FedFER everywhere."
            )
        total += counts
    return total


def scaled(prior: tuple[float, ...]) -> tuple[float, ...]:
    """Return shares that add up to one."""
    return tuple(share / sum(prior) for share in prior)


def shares_of(plan: Plan, counts: NDArray[np.int64]) -> tuple[float, ...]:
    """Return the shares of the classes, all positive, of label counts by class, or by group and class."""
    return shares(counts.reshape(plan.counted).sum(0))


class Adjustment:
    """Logits - tau log prior, as a change of the last bias (Menon et al. 2021, equation 9).

    Parameters
    ----------
    flat : the plan's net.
    tau : strength, above 0.

    Raises
    ------
    ModelError : the last layer has no bias.
    """

    def __init__(self, plan: Plan, flat: FlatModel, tau: float) -> None:
        name = logit_bias(flat.module, plan.model)
        self._slot = next(slot for slot in flat.slots if slot.name == name)
        self._tau = tau

    def apply(self, vector: torch.Tensor, prior: tuple[float, ...]) -> torch.Tensor:
        """Return weights (P + Q,) whose logits are adjusted for ``prior``."""
        found = vector.clone()
        log_prior = torch.tensor(prior, dtype=torch.float64).log().to(found)
        self._slot.view(found).sub_(log_prior, alpha=self._tau)
        return found
