"""Probes: how well a fresh classifier tells the group of a person from what a net makes of the picture.

A linear probe and a small MLP learn on the features of some people and are judged on those of others, by balanced
accuracy: the mean over groups of the share that is told right, where guessing gives 1 / G (the chance level). Every
person counts the same within a group: pictures of one person are alike, and ten of them are no ten pieces of evidence.

A probe at chance says that *this kind* of rule finds nothing, from this many pictures; one above chance proves that
the features tell the group, to anyone who has them (Elazar and Goldberg 2018, "Adversarial removal of demographic
attributes from text data", EMNLP: what hides from the adversary in training is often found by a fresh probe). Neither
says whether errors are equal between groups.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from fer_models.errors import DataError
from fer_models.intervals import mean_interval, wilson
from fer_models.labels import UNDISCLOSED

FEWEST = 10
"""People of a group, on either side, below which it is left out."""

HIDDEN, EPOCHS, BATCH = 32, 10, 64
"""Of the MLP: hidden units, passes over the pictures that it learns from, pictures a step."""

Classifier = Callable[[Tensor], Tensor]
"""Features (n, F) -> logits (n, G)."""


@dataclass(frozen=True)
class Shown:
    """Pictures as a probe sees them.

    Attributes
    ----------
    features : float32 (n, F).
    group : str (n,), each picture's group.
    person : int (n,), who is on it.
    """

    features: NDArray[np.float32]
    group: NDArray[np.str_]
    person: NDArray[np.integer]

    def people(self, group: str) -> int:
        """Return how many people of a group there are."""
        return len(np.unique(self.person[self.group == group]))


def probe(learn: Shown, judge: Shown, *, seed: int = 0, level: float = 0.95) -> dict[str, Any]:
    """Let both probes learn on some people, and judge them on others.

    Parameters
    ----------
    seed : of the MLP's weights and batches; equal seeds give equal figures.
    level : of the intervals, which cover the chance of having judged these people.

    Returns
    -------
    dict : ``groups`` (names, G of them), ``left_out`` (names of groups with fewer than :data:`FEWEST` people on
        either side), ``people`` (judged), ``chance``, ``linear`` and ``mlp`` (balanced accuracies), each of the two
        beside ``KEY_interval``; or ``note`` and ``left_out`` where fewer than two groups are left. Undisclosed groups
        are not looked at.

    Raises
    ------
    DataError : somebody is on both sides.
    """
    both = np.intersect1d(learn.person, judge.person)
    if len(both):
        raise DataError(
            f"{len(both)} people are on both sides of a probe",
            where="probes",
            cure="Split by people: a probe that knows a person knows the group.",
        )
    known = [str(each) for each in np.union1d(learn.group, judge.group) if each != UNDISCLOSED]
    groups = [each for each in known if min(learn.people(each), judge.people(each)) >= FEWEST]
    left_out = [each for each in known if each not in groups]
    if len(groups) < 2:
        return {"note": f"fewer than two groups have {FEWEST} people or more", "left_out": left_out}
    (x, y, _), (judged, truth, person) = (_numbers(side, groups) for side in (learn, judge))
    mean, spread = x.mean(0), x.std(0)
    scale = torch.where(spread > 1e-6, 1 / spread.clamp(min=1e-6), 0.0)  # what never changes tells nothing
    x, judged = (x - mean) * scale, (judged - mean) * scale
    figures: dict[str, Any] = {"groups": groups, "left_out": left_out, "chance": 1 / len(groups)}
    figures["people"] = len(np.unique(person))
    for name, fit in (("linear", linear_probe), ("mlp", mlp_probe)):
        told = fit(x, y, len(groups), seed)(judged).argmax(1).numpy()
        figures[name], limits = balanced_accuracy(told, truth, person, level)
        figures[f"{name}_interval"] = list(limits)
    return figures


def _numbers(side: Shown, groups: list[str]) -> tuple[Tensor, Tensor, NDArray[np.integer]]:
    """Return features (n, F), index of the group (n,) and person (n,) of the pictures of these groups."""
    kept = np.isin(side.group, groups)
    index = np.searchsorted(groups, side.group[kept])
    return torch.from_numpy(side.features[kept]), torch.from_numpy(index), side.person[kept]


def balanced_accuracy(
    told: NDArray[np.integer],
    truth: Tensor | NDArray[np.integer],
    person: NDArray[np.integer],
    level: float = 0.95,
) -> tuple[float, tuple[float, float]]:
    """Return the mean over groups of the mean over people of the share of their pictures told right, and its interval.

    Parameters
    ----------
    told, truth, person : int (n,), the group that is told, the true one, and who is on the picture.

    Returns
    -------
    figure and (low, high) : Wilson's interval of each group with as many trials as people, joined over groups. A
        person's share lies between 0 and 1, so it varies no more than a yes or no of the same mean: where people have
        several pictures the interval is wide enough, and with one picture each it is Wilson's.
    """
    group = np.asarray(truth)
    units, unit = np.unique(np.stack([group, person], 1), axis=0, return_inverse=True)
    unit = unit.ravel()
    share = np.bincount(unit, told == group) / np.bincount(unit)
    _, owner = np.unique(units[:, 0], return_inverse=True)
    right, people = np.bincount(owner, share), np.bincount(owner)
    right = np.minimum(right, people)  # sums of shares can round above their number
    return float((right / people).mean()), mean_interval(right / people, wilson(right, people, level))


def linear_probe(x: Tensor, y: Tensor, groups: int, seed: int = 0) -> Classifier:  # noqa: ARG001 - as mlp_probe
    """Return a logistic regression with groups of equal weight and a ridge of F / (10 n), fitted by L-BFGS.

    Parameters
    ----------
    x : float32 (n, F), standardised features.
    y : int64 (n,), index of the group, below ``groups``.
    """
    weight, ridge = _balance(y, groups), x.shape[1] / (10 * len(x))
    coefficients = torch.zeros(x.shape[1] + 1, groups, requires_grad=True)
    optimizer = torch.optim.LBFGS([coefficients], max_iter=30, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        logits = x @ coefficients[:-1] + coefficients[-1]
        loss = (weight * functional.cross_entropy(logits, y, reduction="none")).sum()
        loss = loss + ridge / 2 * coefficients[:-1].square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[arg-type]  # torch types the closure as returning a number
    return lambda features: features @ coefficients[:-1] + coefficients[-1]


def mlp_probe(x: Tensor, y: Tensor, groups: int, seed: int = 0) -> Classifier:
    """Return an MLP with one hidden layer, dropout and groups of equal weight, fitted by AdamW.

    Parameters as in :func:`linear_probe`; ``seed`` is that of weights, dropout and batches.
    """
    weight = _balance(y, groups) * len(y)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        net = nn.Sequential(
            nn.Linear(x.shape[1], HIDDEN), nn.ReLU(), nn.Dropout(0.3), nn.Linear(HIDDEN, groups)
        )
        optimizer = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=0.3)
        steps = max(EPOCHS * len(y) // BATCH, 200)  # few pictures are seen more often
        order = torch.cat([torch.randperm(len(y)) for _ in range(-(-steps * BATCH // len(y)))])
        for batch in order[: steps * BATCH].split(BATCH):
            optimizer.zero_grad()
            losses = functional.cross_entropy(net(x[batch]), y[batch], reduction="none")
            (weight[batch] * losses).mean().backward()
            optimizer.step()
    return net.eval()


def _balance(y: Tensor, groups: int) -> Tensor:
    """Return weights (n,) with sum 1 that give every group the same."""
    return (1 / (groups * torch.bincount(y, minlength=groups).clamp(min=1)))[y]
