"""Layers that a finished net no longer needs: weight standardisation and normalisation become plain convolutions."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fer_models.backbones import WSConv2d


def folded(module: nn.Module) -> nn.Module:
    """Return a copy of a net, in evaluation mode, with the same answers and fewer layers.

    Standardised convolutions become plain ones with the filters as they are used. A BatchNorm after a convolution in
    an ``nn.Sequential`` goes into its filters. Both are exact up to rounding. GroupNorm stays: it reckons with the
    picture's own numbers; :func:`fer_models.edge.shrinking.with_fixed_norms` says what can be done.
    """
    net = replaced(copy.deepcopy(module).eval(), _plain)
    for part in net.modules():
        if isinstance(part, nn.Sequential):
            _fuse(part)
    return net


def replaced(module: nn.Module, change: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """Return a net, itself changed, with every layer as ``change`` gives it; one used at two places stays one."""
    seen: dict[nn.Module, nn.Module] = {}

    def visit(part: nn.Module) -> nn.Module:
        if part not in seen:
            seen[part] = change(part)
            if seen[part] is part:
                for name, child in list(part.named_children()):
                    setattr(part, name, visit(child))
        return seen[part]

    return visit(module)


def _plain(part: nn.Module) -> nn.Module:
    if not isinstance(part, WSConv2d):
        return part
    form: tuple[Any, ...] = (part.kernel_size, part.stride, part.padding)
    conv = nn.Conv2d(part.in_channels, part.out_channels, *form)
    with torch.no_grad():
        conv.weight.copy_(part.standardised())
        assert conv.bias is not None and part.bias is not None
        conv.bias.copy_(part.bias)
    return conv.eval()


def _fuse(parts: nn.Sequential) -> None:
    """Fold every BatchNorm of a sequence into the convolution before it, keeping the numbering of the layers."""
    for place in range(1, len(parts)):
        before, norm = parts[place - 1], parts[place]
        if isinstance(before, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and norm.track_running_stats:
            parts[place - 1], parts[place] = fuse_conv_bn_eval(before, norm), nn.Identity()
