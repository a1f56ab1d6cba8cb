"""What a run costs, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch

from fer_models.counts import Counts
from fer_models.erasure import Eraser
from fer_models.people import People
from server.asking import sum_counts


@dataclass
class Totals:
    """What a run has cost so far.

    Attributes
    ----------
    visits : training pictures seen, over all sites and rounds.
    bytes_up, bytes_down : of the updates from the sites, and of the weights that they train from.
    cpu_seconds : of local work and evaluation at the sites.
    epsilon : the largest of any site, None without privacy.
    noises : sites whose noise is in the counts of test pictures, 0 where these carry none.
    """

    visits: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    cpu_seconds: float = 0.0
    epsilon: float | None = None
    noises: int = 0


@dataclass(frozen=True)
class Result:
    """A finished run: the weights that are kept, what it cost, and what each site's test pictures say.

    Attributes
    ----------
    vector : float32 (P,), the moving average of the global weights, without those of a critic.
    counts : site -> counts of its test pictures.
    epsilon : site -> epsilon; empty without privacy.
    prior : class -> its share that the run went by; empty where it needed none.
    steering : what fair training did, see :meth:`server.debiasing.steering.Steering.report`; None without it.
    finish : what was done with the finished net, see :meth:`server.debiasing.finishing.Finishing.report`; None for
        nothing.
    eraser : of features, folded into the vector's last layer; None where nothing was erased.
    people : sums over the people on all test pictures where they did not come from the sites, as in a simulation.
    unjudged : why nobody has evaluated these weights, empty where they were; only a deployed run ends so.
    judged_round : the round after which the weights were that the counts are of.
    """

    vector: torch.Tensor
    totals: Totals
    counts: dict[str, Counts]
    epsilon: dict[str, float] = field(default_factory=dict)
    prior: dict[str, float] = field(default_factory=dict)
    steering: dict[str, Any] | None = None
    finish: dict[str, Any] | None = None
    eraser: Eraser | None = None
    people: People | None = None
    unjudged: str = ""
    judged_round: int = 0

    @property
    def overall(self) -> Counts:
        """The sum of all sites' counts."""
        total = sum_counts(list(self.counts.values()))
        return total if self.people is None else replace(total, people=self.people)
