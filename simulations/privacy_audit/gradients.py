"""Gradients of single pictures, for an auditor.

Made with torch's own derivatives, apart from the book-keeping that trains: a fault there must not hide itself here.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from client.workbench import Workbench
from fer_models.features import TwoStage
from fer_models.transforms import to_input

BLOCK = 32
"""Pictures whose gradients are made at a time."""


@dataclass(frozen=True)
class Units:
    """Pictures of a site, as an auditor knows them; the canaries come first.

    Attributes
    ----------
    pictures : uint8 (n, H, W) or (n, H, W, 3).
    targets : float32 (n, C).
    sizes : pictures of each unit of privacy, which stand next to each other.
    canaries : how many of the units are canaries, of one picture each.
    """

    pictures: NDArray[np.uint8]
    targets: NDArray[np.float32]
    sizes: Sequence[int]
    canaries: int

    def __len__(self) -> int:
        return len(self.sizes)


class Rows(Protocol):
    """Gradients g_i of some pictures, whatever they are made of."""

    def gram(self) -> Tensor:
        """Return <g_i, g_j> (n, n)."""
        ...

    def along(self, direction: Tensor) -> Tensor:
        """Return <g_i, direction> (n,) for a direction (T,)."""
        ...

    def total(self, weights: Tensor) -> Tensor:
        """Return sum_i weights_i g_i (T,)."""
        ...


class Gradients(Protocol):
    """The gradients of pictures at the weights that the bench holds."""

    def of(self, first: int, last: int) -> Rows:
        """Return those of the pictures from ``first`` to ``last``."""
        ...


@dataclass(frozen=True)
class Dense:
    """Gradients as they are, (n, T)."""

    values: Tensor

    def gram(self) -> Tensor:
        """Return <g_i, g_j> (n, n)."""
        return self.values @ self.values.T

    def along(self, direction: Tensor) -> Tensor:
        """Return <g_i, direction> (n,)."""
        return self.values @ direction

    def total(self, weights: Tensor) -> Tensor:
        """Return sum_i weights_i g_i (T,)."""
        return weights @ self.values


@dataclass(frozen=True)
class Outer:
    """Gradients of one linear layer with a bias: ``left_i`` (n, C) outer ``right_i`` (n, F + 1).

    ``right`` ends in ones, for the bias. A direction is the weights' part (C, F), then the bias's (C,).
    """

    left: Tensor
    right: Tensor

    def gram(self) -> Tensor:
        """Return <g_i, g_j> (n, n)."""
        return (self.left @ self.left.T).mul_(self.right @ self.right.T)

    def along(self, direction: Tensor) -> Tensor:
        """Return <g_i, direction> (n,)."""
        classes = self.left.shape[1]
        table = torch.cat([direction[:-classes].view(classes, -1), direction[-classes:, None]], 1)
        return ((self.right @ table.T) * self.left).sum(1)

    def total(self, weights: Tensor) -> Tensor:
        """Return sum_i weights_i g_i (T,)."""
        table = (self.left * weights[:, None]).T @ self.right
        return torch.cat([table[:, :-1].reshape(-1), table[:, -1]])


class _Losses(nn.Module):
    """A bench's losses as a module, so that its parameters can be replaced for a call."""

    def __init__(self, bench: Workbench) -> None:
        super().__init__()
        self.net, self._bench = bench.flat.module, bench

    def forward(self, x: Tensor, targets: Tensor) -> Tensor:
        return self._bench.losses(x, targets)


class AnyNet:
    """Gradients of all that learns in a net, by torch.func."""

    def __init__(self, bench: Workbench, units: Units) -> None:
        self._units, self._device = units, bench.device
        self._losses = _Losses(bench)
        self._targets = torch.from_numpy(units.targets).to(bench.device)

    def of(self, first: int, last: int) -> Dense:
        """Return those of the pictures from ``first`` to ``last``."""
        self._losses.eval()
        learning = {n: p.detach() for n, p in self._losses.named_parameters() if p.requires_grad}

        def loss(weights: dict[str, Tensor], x: Tensor, targets: Tensor) -> Tensor:
            return functional_call(self._losses, weights, (x[None], targets[None])).sum()

        each, found = vmap(grad(loss), in_dims=(None, 0, 0)), []
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "There is a performance drop"
            )  # an operation without a batched form
            for start in range(first, last, BLOCK):
                own = slice(start, min(start + BLOCK, last))
                made = each(learning, to_input(self._units.pictures[own], self._device), self._targets[own])
                found.append(torch.cat([made[name].flatten(1) for name in learning], 1).detach())
        return Dense(torch.cat(found))


class HeadAlone:
    """Gradients of a net whose last layer alone learns; features are made once."""

    def __init__(self, bench: Workbench, units: Units) -> None:
        net = bench.flat.module
        assert isinstance(net, TwoStage)
        self._bench, self._net = bench, net
        self._targets = torch.from_numpy(units.targets).to(bench.device)
        with torch.no_grad():
            blocks = range(0, len(units.pictures), 256)
            made = [net.features(to_input(units.pictures[at : at + 256], bench.device)) for at in blocks]
        self._features = torch.cat(made)

    @staticmethod
    def serves(net: nn.Module) -> bool:
        """Whether a net is of this kind, its layer having a weight and a bias."""
        learning = [name for name, p in net.named_parameters() if p.requires_grad]
        return (
            isinstance(net, TwoStage)
            and net.keeps_features()
            and learning == [f"{net.last}.weight", f"{net.last}.bias"]
        )

    def of(self, first: int, last: int) -> Outer:
        """Return those of the pictures from ``first`` to ``last``."""
        self._net.eval()
        features, seen = self._features[first:last], []
        layer = self._net.get_submodule(self._net.last)
        hook = layer.register_forward_hook(lambda _, __, logits: seen.append(logits))
        try:
            losses = self._bench.losses(features, self._targets[first:last])
            (left,) = torch.autograd.grad(losses.sum(), seen[0])
        finally:
            hook.remove()
        return Outer(left, torch.cat([features, torch.ones_like(features[:, :1])], 1))
