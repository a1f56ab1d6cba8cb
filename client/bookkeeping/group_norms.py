"""Group normalisation (Wu and He 2018), forward and backward, with sums for each sample.

With s and d the sums over places of g and of g x, ``x' = (x - mean) scale`` and N numbers a group, the gradients are

    of weight w   (d - mean s) scale
    of bias       s
    of x          scale (w g - (B + x' A) / N),  A and B the sums over a group of w times the gradients of w and bias

so that one pass over the pictures gives the sums, and one the gradient of the input. What lies between is small, and
its calls cost more than its numbers: it works on (n, C) throughout, to which a matrix of zeros and ones widens groups.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

LANES = 8
"""Channels of a group from which torch's own forward is fast in ``channels_last``."""

LONG_ROW = 1024
"""Numbers of a row from which the loop over rows costs nothing."""

CACHED = 1 << 19
"""Numbers up to which a product that is written and read again is still in the cache."""


@functools.lru_cache(maxsize=256)
def membership(groups: int, channels: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return which channel is in which group, (groups, C) of 0 and 1."""
    with torch.inference_mode(False):
        return torch.eye(groups, dtype=dtype, device=device).repeat_interleave(channels // groups, 1)


def forward_last(x: Tensor, groups: int, w: Tensor, b: Tensor, eps: float) -> tuple[Tensor, Sequence[Tensor]]:
    """Return the output for ``x`` (n, C, H, W) in ``channels_last``, and what the backward needs.

    That is the mean and 1 / deviation, (n, groups) where torch's own forward is taken, else (n, C).
    """
    n, channels, height, width = x.shape
    into = membership(groups, channels, x.dtype, x.device)
    if channels >= LANES * groups:
        y, *kept = torch.native_group_norm(x, w, b, n, channels, height * width, groups, eps)
        return y, kept
    rows = x.permute(0, 2, 3, 1).reshape(n, -1, channels)
    sums = torch.cat([rows.sum(1), dots(rows, rows)]).mm(into.t())
    mean, energy = sums.div_(height * width * channels // groups).mm(into).split(n)
    scale = torch.addcmul(energy, mean, mean, value=-1).clamp_(min=0).add_(eps).rsqrt_()
    factor = scale * w
    y = torch.addcmul(torch.addcmul(b, mean, factor, value=-1)[:, None], rows, factor[:, None])
    return y.view(n, height, width, channels).permute(0, 3, 1, 2), (mean, scale)


def backward_last(
    g: Tensor, x: Tensor, kept: Sequence[Tensor], w: Tensor, groups: int, *, to_input: bool
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Return the gradients of input, weight (n, C) and bias (n, C) in ``channels_last``."""
    n, channels, height, width = x.shape
    g = g.contiguous(
        memory_format=torch.channels_last
    )  # a mean over places gives one that is alike in all of them
    gs, xs = (each.permute(0, 2, 3, 1).reshape(n, -1, channels) for each in (g, x))
    into = membership(groups, channels, x.dtype, x.device)
    mean, scale = torch.cat(list(kept)).mm(into).split(n) if kept[0].shape[1] < channels else kept
    to_bias = gs.sum(1)
    to_weight = torch.addcmul(dots(gs, xs), mean, to_bias, value=-1).mul_(scale)
    if not to_input:
        return None, to_weight, to_bias
    if mean is not kept[0]:
        facts = (*kept, w, n, channels, height * width, groups, [True, False, False])
        return torch.ops.aten.native_group_norm_backward(g, x, *facts)[0], to_weight, to_bias
    share = w / -(height * width * channels // groups)
    sums = torch.cat([to_weight, to_bias]).mul_(share).mm(into.t()).mm(into).view(2, n, channels)
    by_weight, by_bias = sums.mul_(scale)
    linear = by_weight.mul_(scale)
    factor = scale * w
    moved = torch.addcmul(by_bias.addcmul_(linear, mean, value=-1)[:, None], gs, factor[:, None])
    moved.addcmul_(xs, linear[:, None])
    return moved.view(n, height, width, channels).permute(0, 3, 1, 2), to_weight, to_bias


def dots(a: Tensor, b: Tensor) -> Tensor:
    """Return the sum over places of ``a * b``, (n, C), of contiguous (n, places, C).

    Where the product would not stay in the cache, numpy's einsum adds it up row by row without writing it; rows are
    joined until they are long enough for that.
    """
    n, places, channels = a.shape
    if a.is_cuda or a.numel() <= CACHED:
        return torch.linalg.vecdot(a, b, dim=1)
    joined = 1
    while joined * channels < LONG_ROW and places % (2 * joined) == 0:
        joined *= 2
    rows = [each.reshape(n, places // joined, joined * channels).numpy() for each in (a, b)]
    return torch.from_numpy(np.einsum("npc,npc->nc", *rows)).view(n, joined, channels).sum(1)


def backward_folded(
    g: Tensor, x: Tensor, kept: Sequence[Tensor], w: Tensor, groups: int, *, to_input: bool
) -> tuple[Tensor | None, Tensor, Tensor]:
    """The same where places lie together: with the batch folded into the channels, torch's sums are per sample.

    Kept are the mean and 1 / deviation, (n, groups).
    """
    n, channels = x.shape[:2]
    places = x.numel() // max(1, n * channels)
    mean, scale = (each.view(1, -1) for each in kept)
    one = (g.contiguous().view(1, -1, places), x.view(1, -1, places), mean, scale)
    found, to_weight, to_bias = torch.ops.aten.native_group_norm_backward(
        *one, w.repeat(n), 1, n * channels, places, n * groups, [to_input, True, True]
    )
    return found.view_as(x) if to_input else None, to_weight.view(n, -1), to_bias.view(n, -1)
