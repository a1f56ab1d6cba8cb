"""The coordinator's half of SCAFFOLD: the mean of the sites' control variates, of which it knows their sum alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from client.plan import Plan
from client.question import COUNTED
from fer_models.errors import ModelError
from fer_models.flat import FlatModel


class Control:
    """The sum of the sites' control variates, each times the site's weight, and whose answer was counted when.

    A sum, and not the mean, so that it stays right when sites come or go.

    Parameters
    ----------
    flat : the plan's net.

    Raises
    ------
    ModelError : the net keeps statistics, which follow no gradient.
    """

    def __init__(self, plan: Plan, flat: FlatModel) -> None:
        if flat.buffer_slots:
            raise ModelError(
                "a net that keeps statistics has no control variates for them",
                where="local.scaffold",
                cure="Use model.norm=gn, or local.scaffold=false.",
            )
        self._uniform = plan.server.weighting == "uniform"
        self._sum = torch.zeros(len(flat.trained), dtype=torch.float64)
        self._heaviest = 0.0
        self._counted: dict[str, int] = {}

    def common(self, sites: int) -> torch.Tensor:
        """Return c, float32 (T,): the mean over all sites, of which there are ``sites``.

        Weights by size are known as sums alone; with everybody in every round, the largest of them is that of all.
        """
        weight = float(max(sites, len(self._counted))) if self._uniform else self._heaviest
        return (self._sum / max(weight, 1.0)).float()

    def facts_for(self, site: str) -> dict[str, str]:
        """Return what one site is told: the round in which its answer was last counted."""
        return {COUNTED: str(self._counted.get(site, 0))}

    def take(self, mean: torch.Tensor, weight: float, sites: Iterable[str], round_number: int) -> None:
        """Take in the answers of a round.

        Parameters
        ----------
        mean : float64 (T + T,), the mean update and the mean change behind it.
        weight : sum of the weights of ``sites``, whose answers were counted.
        """
        self._sum.add_(mean[len(self._sum) :], alpha=weight)
        self._heaviest = max(self._heaviest, weight)
        self._counted |= dict.fromkeys(sites, round_number)

    def facts(self) -> dict[str, Any]:
        """Return what a checkpoint keeps besides the sum."""
        return {"heaviest": self._heaviest, "counted": self._counted}

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the sum, as a checkpoint keeps it."""
        return {"control": self._sum}

    def take_up(self, facts: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
        """Go on from a checkpoint."""
        self._sum.copy_(tensors["control"])
        self._heaviest = float(facts["heaviest"])
        self._counted = {str(site): int(number) for site, number in facts["counted"].items()}
