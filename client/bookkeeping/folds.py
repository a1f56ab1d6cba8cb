"""Gradients of a convolution's weight by sample, from one pass of oneDNN in which every sample is a group of its own.

The batch is folded into the channels, and groups do not mix. For narrow layers on large maps that beats a product a
row of the kernel: oneDNN's loops over such groups keep their numbers in registers.
"""

from __future__ import annotations

from torch import Tensor

from client.bookkeeping.kernels import Shape, flat_rows, one_pass
from client.bookkeeping.products import squared_norms
from client.bookkeeping.units import Units

WIDEST, PLACES = 64, 144
"""Channels up to which, and output places from which, folding beats bands, at stride 1."""

LANES = 16
"""Channels that oneDNN takes together in torch's default layout; with other numbers ``channels_last`` is faster."""


def serves(x: Tensor, g: Tensor, shape: Shape, units: Units) -> bool:
    """Return whether folding is the way to each unit's gradient, for the ``x`` and ``g`` of :func:`gradients`."""
    dense = shape.groups == 1 and not shape.pointwise and x.shape[1] > 1 and shape.stride == (1, 1)
    narrow = max(shape.weight[:2]) <= WIDEST and g.shape[2] * g.shape[3] >= PLACES
    return dense and narrow and units.size == 1 and not x.is_cuda


def gradients(x: Tensor, g: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
    """Return each sample's gradient of the weight, and their squared norms (n,).

    Parameters
    ----------
    x, g : (n, C, H, W) and (n, O, H', W').

    Returns the gradients as (n, O C kh kw); :func:`in_flat_order` brings a sum of them into the flat order.
    """
    last = _last(shape)
    found = one_pass(x, g, shape, last=last)
    flat = flat_rows(found) if last else found.flatten(1)
    return flat, squared_norms(flat)


def in_flat_order(summed: Tensor, shape: Shape) -> Tensor:
    """Return a sum (P,) of what :func:`gradients` gives in the order (out, height, width, in)."""
    out, fan_in, height, width = shape.weight
    if _last(shape):
        return summed
    return summed.view(out, fan_in, height, width).permute(0, 2, 3, 1).reshape(-1)


def _last(shape: Shape) -> bool:
    """Whether the pass is made in ``channels_last``."""
    return bool(shape.weight[0] % LANES or shape.weight[1] % LANES)
