"""How ``fedfer bench zoo`` trains a net: one recipe for all, for so many processor seconds and no more.

AdamW under a one-cycle schedule (Smith 2018, arXiv:1803.09820), pictures varied, a moving average of the weights. The
schedule follows the processor seconds that are spent, so that a slow net goes through the whole of it on fewer
pictures. There is no choice among epochs: the last weights count.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load, save

from client.strict import nearest, require
from fer_models.backbones import NORMS
from fer_models.flat import FlatModel
from fer_models.losses import soft_cross_entropy
from fer_models.mixing import mixed_losses
from fer_models.samples import Samples
from fer_models.transforms import Augmentation, augment, to_input
from fer_models.zoo import ModelSpec, build
from server.run_folder import write_bytes

DECAY, CLIP, AVERAGE, BATCH, RISE = 0.05, 5.0, 0.998, 64, 0.2
"""Weight decay, longest gradient, decay of the average, pictures a step, share of the time on the way up."""

KEEP = 30.0
"""Processor seconds after which the state of a training is kept again."""

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


def changed(recipe: Recipe) -> list[str]:
    """Return the words of what a recipe has otherwise than the plain one; a net's own rate is among them."""
    own = asdict(Recipe())
    return [
        f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in asdict(recipe).items()
        if value != own[key]
    ]


def new_net(name: str, samples: Samples, recipe: Recipe) -> tuple[FlatModel, ModelSpec]:
    """Return a net with its initial weights, and its specification."""
    dropout = 0.0 if name == "hog_linear" else recipe.dropout
    norm = "gn" if name == "hog_linear" else recipe.norm
    spec = ModelSpec(name, norm=norm, classes=len(samples.labels), size=samples.size, dropout=dropout)
    return FlatModel(build(spec, 0)), spec


class Training:
    """A net in training: what a killed process would lose, and what is kept of it.

    Parameters
    ----------
    flat : the net, trained in place; :meth:`run` leaves the averaged weights in it.
    peak : largest learning rate.
    kept : file of the state, from which an earlier, killed training goes on; None keeps nothing.
    """

    def __init__(
        self, flat: FlatModel, samples: Samples, recipe: Recipe, peak: float, kept: Path | None = None
    ) -> None:
        self._flat, self._samples, self._recipe, self._peak, self._kept = flat, samples, recipe, peak, kept
        self._rows = samples.rows("train")
        self._targets = torch.from_numpy(samples.targets(self._rows))
        self._average = flat.full_vector.clone()
        self._optimizer = torch.optim.AdamW([flat.vector], peak, weight_decay=DECAY)
        self._drawing, self._order = (torch.Generator().manual_seed(seed) for seed in (1, 2))
        self._queue = torch.zeros(0, dtype=torch.int64)
        self.steps, self.spent = 0, 0.0
        if kept is not None and kept.is_file():
            self._go_on(kept)

    @property
    def pictures(self) -> int:
        """Pictures seen, repeats counted."""
        return self.steps * BATCH

    def run(self, seconds: float) -> None:
        """Train until so many seconds of the process on the processor are spent, whatever the clock says."""
        start, told = time.process_time() - self.spent, self.spent
        while self.spent < seconds:
            if len(self._queue) < BATCH:
                more = torch.randperm(len(self._rows), generator=self._order)
                self._queue = torch.cat([self._queue, more])
            chosen, self._queue = self._queue[:BATCH], self._queue[BATCH:]
            self._optimizer.param_groups[0]["lr"] = one_cycle(self.spent / seconds, self._peak)
            self._step(chosen)
            self.spent = time.process_time() - start
            if self._kept is not None and self.spent - told >= KEEP:
                told = self.spent
                self._keep(self._kept)
        self._flat.load_(self._average)

    def _step(self, chosen: torch.Tensor) -> None:
        stored = to_input(self._samples.pictures[self._rows[chosen.numpy()]])
        x = augment(stored, self._drawing, Augmentation(erase=self._recipe.erase))
        _descend(self._flat, self._optimizer, x, self._targets[chosen], self._recipe)
        self.steps += 1
        share = 1 - min(AVERAGE, (1 + self.steps) / (10 + self.steps))
        self._average.lerp_(self._flat.full_vector, share)

    def _keep(self, path: Path) -> None:
        state = self._optimizer.state[self._flat.vector]
        tensors = {"weights": self._flat.full_vector, "average": self._average, "queue": self._queue.clone()}
        tensors |= {f"adam.{name}": state[name] for name in ("step", "exp_avg", "exp_avg_sq")}
        tensors |= {"drawing": self._drawing.get_state(), "order": self._order.get_state()}
        tensors |= {"torch": torch.get_rng_state()}
        tensors["spent"] = torch.tensor([self.spent, self.steps], dtype=torch.float64)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, save({name: tensor.detach().contiguous() for name, tensor in tensors.items()}))

    def _go_on(self, path: Path) -> None:
        found = load(path.read_bytes())
        self._flat.load_(found["weights"])
        self._average.copy_(found["average"])
        state = {name: found[f"adam.{name}"] for name in ("step", "exp_avg", "exp_avg_sq")}
        self._optimizer.state[self._flat.vector] = state
        self._drawing.set_state(found["drawing"])
        self._order.set_state(found["order"])
        torch.set_rng_state(found["torch"])
        self._queue = found["queue"]
        self.spent, self.steps = found["spent"][0].item(), int(found["spent"][1])


def _descend(
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
