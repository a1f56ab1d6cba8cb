"""Membership inference by loss: whether a model does better on the pictures it was trained on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import nn

from fer_models.intervals import Interval, auc_interval, clopper_pearson
from fer_models.losses import known_only, soft_cross_entropy
from fer_models.transforms import to_input
from simulations.privacy_audit.bounds import rates_bound

BATCH = 256
"""Pictures a forward pass."""

ALARMS = (0.001, 0.01)
"""Shares of false positives at which the share of true positives is told (Carlini et al. 2022)."""


@dataclass(frozen=True)
class Caught:
    """How many members an attack finds at a share of false alarms.

    Attributes
    ----------
    alarms : the largest share of non-members that may be called members.
    share, interval : of members that are then called so, with its interval.
    """

    alarms: float
    share: float
    interval: Interval


@dataclass(frozen=True)
class Inference:
    """Membership inference on real records.

    Attributes
    ----------
    members, others : units that were trained on, and that were not.
    auc, auc_interval : area under the ROC curve of minus the loss; 0.5 tells nothing.
    caught : true positives at few false ones.
    epsilon : the lower bound that follows, were the records independent trials.
    """

    members: int
    others: int
    auc: float
    auc_interval: Interval
    caught: list[Caught]
    epsilon: float

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


@torch.inference_mode()
def losses(
    module: nn.Module, pictures: NDArray[np.uint8], targets: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the cross-entropy (n,) of pictures against targets (n, C), with the net in evaluation mode."""
    device = next(module.parameters()).device
    training = module.training
    module.eval()
    parts = [np.zeros(0)]
    for start in range(0, len(pictures), BATCH):
        own = slice(start, start + BATCH)
        logits = module(to_input(pictures[own], device))
        found = known_only(soft_cross_entropy)(logits, torch.from_numpy(targets[own]).to(device))
        parts.append(found.cpu().numpy().astype(np.float64))
    module.train(training)
    return np.concatenate(parts)


def by_person(values: NDArray[np.float64], people: NDArray[np.str_]) -> NDArray[np.float64]:
    """Return the mean of each person's values, in the order of their names."""
    _, person = np.unique(people, return_inverse=True)
    return np.bincount(person, values) / np.bincount(person)


def area(members: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """Return how often a member's score is above a non-member's, ties counted half: the area under the ROC curve."""
    ranks = rankdata(np.concatenate([members, others]))[: len(members)]
    return float((ranks.mean() - (len(members) + 1) / 2) / len(others))


def caught_at(
    alarms: float, members: NDArray[np.float64], others: NDArray[np.float64], confidence: float
) -> Caught:
    """Return the share of members above the score that at most ``alarms`` of the others reach."""
    allowed = int(alarms * len(others))
    threshold = np.sort(others)[len(others) - allowed - 1]
    count = int((members > threshold).sum())
    return Caught(alarms, count / len(members), clopper_pearson(count, len(members), confidence))


def infer(
    members: NDArray[np.float64],
    others: NDArray[np.float64],
    *,
    delta: float,
    confidence: float,
    chance: np.random.Generator,
) -> Inference | None:
    """Attack with scores that are higher for members; None without two of each.

    The threshold of the bound is chosen on one random half of the records and judged on the other.
    """
    if len(members) < 2 or len(others) < 2:
        return None
    auc = area(members, others)
    first, second = zip(_halves(members, chance), _halves(others, chance), strict=True)
    threshold = _best_threshold(*first, delta=delta, confidence=confidence)
    bound = _bound(threshold, *second, delta=delta, confidence=confidence)
    return Inference(
        members=len(members),
        others=len(others),
        auc=auc,
        auc_interval=auc_interval(auc, len(members), len(others), confidence),
        caught=[caught_at(share, members, others, confidence) for share in ALARMS],
        epsilon=bound,
    )


def _halves(values: NDArray[np.float64], chance: np.random.Generator) -> list[NDArray[np.float64]]:
    return np.array_split(chance.permutation(values), 2)


def _bound(
    threshold: float,
    members: NDArray[np.float64],
    others: NDArray[np.float64],
    *,
    delta: float,
    confidence: float,
) -> float:
    caught, alarms = int((members > threshold).sum()), int((others > threshold).sum())
    return rates_bound(caught, len(members), alarms, len(others), delta=delta, confidence=confidence)


def _best_threshold(
    members: NDArray[np.float64], others: NDArray[np.float64], *, delta: float, confidence: float
) -> float:
    """Return the threshold, of a hundred, that gives the largest bound on these records."""
    tried = np.quantile(np.concatenate([members, others]), np.linspace(0, 1, 101))
    bounds = [_bound(float(t), members, others, delta=delta, confidence=confidence) for t in tried]
    return float(tried[int(np.argmax(bounds))])
