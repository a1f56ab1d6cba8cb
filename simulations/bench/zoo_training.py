"""How ``fedfer bench zoo`` trains a net: one recipe for all, for so many processor seconds and no more.

AdamW under a one-cycle schedule (Smith 2018, arXiv:1803.09820), pictures varied, a moving average of the weights. The
schedule follows the processor seconds that are spent, so that a slow net goes through the whole of it on fewer
pictures. There is no choice among epochs: the last weights count.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from client.strict import nearest, require
from fer_models.backbones import NORMS
from fer_models.flat import FlatModel
from fer_models.losses import soft_cross_entropy
from fer_models.mixing import mixed_losses
from fer_models.samples import Samples
from fer_models.transforms import Augmentation, augment, to_input
from fer_models.zoo import ModelSpec, build

DECAY, CLIP, AVERAGE, BATCH, RISE = 0.05, 5.0, 0.998, 64, 0.2
"""Weight decay, longest gradient, decay of the average, pictures a step, share of the time on the way up."""

PEAK = 5e-3
"""Largest learning rate of a net that :data:`RATES` does not name."""

RATES = {"patt_lite": 1e-3}
"""Nets whose largest learning rate is another one, as ``part=validation`` told on training pictures alone."""

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""What convolutions and products are computed in; weights, gradients and losses stay float32."""


@dataclass(frozen=True)
class Recipe:
    """What may be asked otherwise of the training.

    Attributes
    ----------
    rate : largest learning rate; 0 takes the net's own.
    norm : of the nets, one of :data:`fer_models.backbones.NORMS`.
    precision : a key of :data:`PRECISIONS`.
    smoothing : share of the targets that is spread over all classes.
    erase : chance that a rectangle of a picture is erased.
    dropout : share of the features that are set to zero.
    mixup : alpha of Mixup; 0 mixes no pictures.
    """

    rate: float = 0.0
    norm: str = "gn"
    precision: str = "float32"
    smoothing: float = 0.0
    erase: float = 0.0
    dropout: float = 0.2
    mixup: float = 0.0

    def __post_init__(self) -> None:
        for name, known in (("norm", NORMS), ("precision", PRECISIONS)):
            value = getattr(self, name)
            require(value in known, f"unknown {name} {value!r}", name, nearest(value, known))
        limits = {"rate": 1.0, "smoothing": 0.9, "erase": 1.0, "dropout": 0.9, "mixup": 10.0}
        for name, most in limits.items():
            value = getattr(self, name)
            require(0 <= value <= most, f"{name} is {value:g}", name, f"Give 0 to {most:g}.")

    def peak(self, net: str) -> float:
        """Return the largest learning rate of a net."""
        return self.rate or RATES.get(net, PEAK)


def new_net(name: str, samples: Samples, recipe: Recipe) -> tuple[FlatModel, ModelSpec]:
    """Return a net with its initial weights, and its specification."""
    dropout = 0.0 if name == "hog_linear" else recipe.dropout
    norm = "gn" if name == "hog_linear" else recipe.norm
    spec = ModelSpec(name, norm=norm, classes=len(samples.labels), size=samples.size, dropout=dropout)
    return FlatModel(build(spec, 0)), spec


def train(
    flat: FlatModel, samples: Samples, seconds: float, recipe: Recipe, peak: float
) -> tuple[int, float, int]:
    """Train in place, leave the averaged weights; return pictures seen, processor seconds and steps.

    Parameters
    ----------
    seconds : of this process on the processor, however long they take by the clock.
    peak : largest learning rate.
    """
    rows, average = samples.rows("train"), flat.full_vector.clone()
    targets = torch.from_numpy(samples.targets(rows))
    optimizer = torch.optim.AdamW([flat.vector], peak, weight_decay=DECAY)
    drawing, order = torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)
    variation = Augmentation(erase=recipe.erase)
    start, spent, steps, queue = time.process_time(), 0.0, 0, np.zeros(0, np.int64)
    while spent < seconds:
        if len(queue) < BATCH:
            queue = np.concatenate([queue, torch.randperm(len(rows), generator=order).numpy()])
        chosen, queue = queue[:BATCH], queue[BATCH:]
        optimizer.param_groups[0]["lr"] = one_cycle(spent / seconds, peak)
        x = _varied(samples, rows[chosen], drawing, variation)
        _step(flat, optimizer, x, targets[torch.from_numpy(chosen)], recipe)
        steps += 1
        average.lerp_(flat.full_vector, 1 - min(AVERAGE, (1 + steps) / (10 + steps)))
        spent = time.process_time() - start
    flat.load_(average)
    return steps * BATCH, spent, steps


def _varied(
    samples: Samples, rows: NDArray[np.intp], drawing: torch.Generator, variation: Augmentation
) -> torch.Tensor:
    return augment(to_input(samples.pictures[rows]), drawing, variation)


def _step(
    flat: FlatModel, optimizer: torch.optim.Optimizer, x: torch.Tensor, targets: torch.Tensor, recipe: Recipe
) -> None:
    flat.zero_grad()
    _losses(_in(flat, recipe.precision), x, targets, recipe).mean().backward()
    with torch.no_grad():
        norm = torch.linalg.vector_norm(flat.gradient)
        flat.gradient.mul_((CLIP / (norm + 1e-6)).clamp(max=1.0))
        optimizer.step()


def _in(
    net: Callable[[torch.Tensor], torch.Tensor], precision: str
) -> Callable[[torch.Tensor], torch.Tensor]:
    if precision == "float32":
        return net

    def forward(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", PRECISIONS[precision]):
            return net(x).float()

    return forward


def _losses(
    net: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, targets: torch.Tensor, recipe: Recipe
) -> torch.Tensor:
    def loss(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return soft_cross_entropy(logits, wanted, recipe.smoothing)

    if recipe.mixup:
        return mixed_losses("mixup", net, loss, x, targets, recipe.mixup)
    return loss(net(x), targets)


def one_cycle(share: float, peak: float) -> float:
    """Return the learning rate when this share of the time is spent: up by a cosine, down by one."""
    low = peak / 25
    if share < RISE:
        return low + (peak - low) * (1 - math.cos(math.pi * share / RISE)) / 2
    return peak * (1 + math.cos(math.pi * (share - RISE) / (1 - RISE))) / 2
