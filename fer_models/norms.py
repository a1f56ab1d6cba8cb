"""Keep samples apart: find layers that couple a batch, and replace BatchNorm by GroupNorm.

BatchNorm shares statistics between the samples of a batch. That voids differential privacy (one sample moves
the gradients of the others), and its running statistics drift apart between sites with different data.
GroupNorm (Wu and He 2018, arXiv:1803.08494) normalises every sample by itself.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

COUPLED_NAMES = ("EvoNorm2dB0", "EvoNorm2dB1", "EvoNorm2dB2", "InplaceAbn")
"""Layers of timm that use batch statistics without being a BatchNorm, by class name: timm loads slowly."""

FROZEN_NAMES = ("FrozenBatchNorm2d", "FrozenBatchNormAct2d")
"""BatchNorm with constant statistics (torchvision's and timm's), by class name."""


class ConvertedNorm(nn.Sequential):
    """What replaces a BatchNorm that had an activation: GroupNorm, then its drop layer, then its activation.

    The GroupNorm is a plain :class:`torch.nn.GroupNorm`, child ``norm``, because engines for per-sample
    gradients choose the formula by the layer's type and need the gradient right behind the affine map.
    """

    def __init__(self, norm: nn.GroupNorm, drop: nn.Module, act: nn.Module) -> None:
        super().__init__(OrderedDict(norm=norm, drop=drop, act=act))


def group_count(width: int) -> int:
    """Return the number of groups for ``width`` channels: at most 32 groups, of 8 channels or a few more.

    The channels a group are the smallest divisor of ``width`` that is at least ``max(8, width / 32)``;
    widths below 8 get one group.
    """
    least = max(8, -(-width // 32))
    return next((width // each for each in range(least, width + 1) if width % each == 0), 1)


def _class_names(module: nn.Module) -> set[str]:
    return {kind.__name__ for kind in type(module).__mro__}


def _is_batch_norm(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) or not _class_names(module).isdisjoint(FROZEN_NAMES)


def _replacement(old: nn.Module) -> nn.Module:
    """Return a GroupNorm with the affine map of ``old``, and its drop layer and activation if it had them."""
    weight, bias = getattr(old, "weight", None), getattr(old, "bias", None)
    like = weight if weight is not None else getattr(old, "running_mean", None)
    width = int(getattr(old, "num_features", 0) or (0 if like is None else len(like)))
    place = {} if like is None else {"device": like.device, "dtype": like.dtype}
    norm = nn.GroupNorm(
        group_count(width), width, eps=float(getattr(old, "eps", 1e-5)), affine=weight is not None, **place
    )
    if weight is not None and bias is not None:
        with torch.no_grad():
            norm.weight.copy_(weight)
            norm.bias.copy_(bias)
    drop, act = getattr(old, "drop", None), getattr(old, "act", None)
    new = (
        norm
        if act is None and drop is None
        else ConvertedNorm(norm, drop or nn.Identity(), act or nn.Identity())
    )
    return new.train(old.training)


def convert_batch_norm(module: nn.Module) -> nn.Module:
    """Replace every BatchNorm in ``module`` by a GroupNorm and turn in-place activations off.

    Caught are torch's BatchNorm of every dimension and SyncBatchNorm, timm's ``BatchNormAct2d``,
    ``SyncBatchNormAct`` and ``SplitBatchNorm2d`` (all subclasses of torch's), and the frozen ones of timm and
    torchvision. GroupNorm, LayerNorm and their relatives stay as they are. Weight and bias are kept; running
    statistics have no place in a GroupNorm. A layer used at two places stays one layer.

    Returns ``module`` itself, changed in place, or its replacement when ``module`` is a BatchNorm.
    """
    seen: dict[nn.Module, nn.Module] = {}

    def convert(node: nn.Module) -> nn.Module:
        if node not in seen:
            seen[node] = _replacement(node) if _is_batch_norm(node) else node
            for name, child in list(seen[node].named_children()):
                setattr(seen[node], name, convert(child))
        return seen[node]

    return disable_inplace(convert(module))


def disable_inplace(module: nn.Module) -> nn.Module:
    """Set ``inplace`` to False on every layer that has it, and return ``module``.

    An in-place activation overwrites the output that the layer before it kept for per-sample gradients.
    """
    for layer in module.modules():
        if getattr(layer, "inplace", False) is True:
            layer.inplace = False  # type: ignore[assignment]
    return module


def _is_batch_coupled(module: nn.Module) -> bool:
    if isinstance(module, _InstanceNorm):
        return bool(module.track_running_stats)
    return isinstance(module, _BatchNorm) or not _class_names(module).isdisjoint(COUPLED_NAMES)


def find_batch_coupled(module: nn.Module) -> list[str]:
    """Return the names of the layers that read or keep statistics over the batch, in the module's order.

    Every BatchNorm counts, in training and in evaluation mode, frozen parameters or not; so does an instance
    norm with running statistics. A BatchNorm with constant statistics (``FrozenBatchNorm2d``) does not.
    The name of ``module`` itself is the empty string.
    """
    return [name for name, layer in module.named_modules() if _is_batch_coupled(layer)]
