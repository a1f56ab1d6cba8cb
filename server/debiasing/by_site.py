"""Weights of sites by what each of them says of itself: q-FFL, agnostic federated learning, FairFed.

A round's updates are held until all are there. Then they become one mean update: what the server's optimizer is given
where all sites weigh alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from client.messages import tensor_of
from client.plan import Plan
from fer_models.counts import Counts
from fer_models.labels import UNDISCLOSED

LEAST_LOSS = 1e-10
"""Added to losses, as in the released code of q-FFL, so that a power of one is defined at 0."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Said:
    """A site's answer to a round.

    Attributes
    ----------
    update : float32 (T,).
    weight : the site's weight in the plain mean.
    loss : mean training loss of the round.
    counts : of its training pictures, with the weights that the round began with; None where nobody asked.
    """

    site: str
    update: NDArray[np.float32]
    weight: float
    loss: float
    counts: Counts | None = None


class SiteMean:
    """Makes one update of each round's, and remembers what sites weigh.

    Parameters
    ----------
    plan : has a rule for its sites.
    """

    def __init__(self, plan: Plan) -> None:
        assert plan.server.by_site is not None
        self._terms, self._learning_rate = plan.server.by_site, plan.local.learning_rate
        self._weights: dict[str, float] = {}
        self._said: list[Said] = []

    def hear(self, said: Said) -> None:
        """Take a site's answer, and hold it until the round ends."""
        self._said.append(said)

    def mean(self) -> torch.Tensor:
        """Return the round's mean update, float64 (T,), and forget the answers."""
        said, self._said = sorted(self._said, key=lambda each: each.site), []
        total = torch.zeros(len(said[0].update), dtype=torch.float64)
        for each, factor in zip(said, self._factors(said), strict=True):
            total.add_(tensor_of(each.update), alpha=float(factor))
        return total

    def _factors(self, said: Sequence[Said]) -> Array:
        shares = np.array([each.weight for each in said]) / sum(each.weight for each in said)
        losses = np.array([each.loss for each in said])
        if self._terms.rule == "q_ffl":
            squares = np.array([float(np.square(each.update, dtype=np.float64).sum()) for each in said])
            return q_factors(losses, squares, shares, self._terms.q, self._learning_rate)
        before = np.array(
            [self._weights.get(each.site, share) for each, share in zip(said, shares, strict=True)]
        )
        if self._terms.rule == "afl":  # this round's update goes by the mixture before it
            used, after = before / before.sum(), onto_simplex(before + self._terms.mixture_step * losses)
        else:
            used = after = fairfed_weights(before, misses([_table(each) for each in said]), self._terms.beta)
        self._weights = dict(zip((each.site for each in said), after.tolist(), strict=True))
        return used

    def facts(self) -> dict[str, float]:
        """Return what sites weigh, as plain data; empty where a rule remembers nothing."""
        return dict(self._weights)

    def take_up(self, facts: Mapping[str, Any]) -> None:
        """Go on from what :meth:`facts` returned."""
        self._weights = {str(site): float(weight) for site, weight in facts.items()}


def _table(said: Said) -> NDArray[np.int64]:
    """Return a site's counts (G + 1, C, C) by group, true and predicted class; the undisclosed last."""
    assert said.counts is not None
    ((attribute, values),) = said.counts.groups.items()
    table, own = said.counts.by_group[attribute], np.array([value == UNDISCLOSED for value in values], bool)
    return np.concatenate([table[~own], table[own].sum(0, keepdims=True)])


def q_factors(losses: Array, squares: Array, shares: Array, q: float, learning_rate: float) -> Array:
    """Return the factor of each site's update (n,), which need not add up to 1.

    Li et al. 2020, algorithm 2, with L = 1 / learning_rate: the step is the sum of Delta_k over the sum of h_k, where
    Delta_k = F_k^q L d_k and h_k = q F_k^(q - 1) L^2 ||d_k||^2 + L F_k^q for an update d_k. Sites count by their
    shares, with which the paper draws them.

    Parameters
    ----------
    losses, squares, shares : (n,), F_k, ||d_k||^2 and shares that add up to 1.
    """
    losses = losses + LEAST_LOSS
    powers = losses**q
    slopes = powers + q * losses ** (q - 1) * squares / learning_rate
    return shares * powers / float(shares @ slopes)


def onto_simplex(x: Array) -> Array:
    """Return the nearest point to ``x`` (n,) whose coordinates are 0 or more and add up to 1 (Duchi et al. 2008)."""
    ordered = np.sort(x)[::-1]
    excess = (np.cumsum(ordered) - 1) / np.arange(1, len(x) + 1)
    last = int(np.flatnonzero(ordered > excess)[-1])
    return np.maximum(x - excess[last], 0.0)


def fairfed_weights(before: Array, missed: Array, beta: float) -> Array:
    """Return weights (n,) that add up to 1: less where a site misses more than the mean (Ezzeldin et al. 2023).

    A weight that would fall below 0 is 0; where all would, all sites weigh alike.
    """
    found = np.maximum(before - beta * (missed - missed.mean()), 0.0)
    total = found.sum()
    return found / total if total > 0 else np.full(len(found), 1 / len(found))


def misses(tables: Sequence[NDArray[np.int64]]) -> Array:
    """Return how far each site's gap between groups is from that of all sites (n,), else its accuracy.

    Parameters
    ----------
    tables : of each site (G + 1, C, C), by group, true and predicted class; the undisclosed last, who are no group.
    """
    whole = np.sum(tables, axis=0)
    gap, right = recall_gap(whole[:-1]), accuracy(whole)
    found = []
    for table in tables:
        own = recall_gap(table[:-1])
        found.append(abs(accuracy(table) - right) if own is None or gap is None else abs(own - gap))
    return np.array(found)


def accuracy(table: NDArray[np.int64]) -> float:
    """Return the share of right answers; 0 where there are none."""
    return float(np.einsum("gcc->", table) / max(1, table.sum()))


def recall_gap(table: NDArray[np.int64]) -> float | None:
    """Return the mean over classes of the largest difference in recall between groups (G, C, C); None without two.

    Only classes count that two groups have pictures of.
    """
    seen = table.sum(2)
    recall = np.einsum("gcc->gc", table) / np.maximum(seen, 1)
    both = (seen > 0).sum(0) >= 2
    if not both.any():
        return None
    highest, lowest = np.where(seen > 0, recall, -1).max(0), np.where(seen > 0, recall, 2).min(0)
    return float((highest - lowest)[both].mean())
