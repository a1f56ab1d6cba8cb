"""Gradients of a convolution's weight by sample, from one product a row of the kernel.

A band is what a row of the kernel reads across the width of the maps: for each row of the padded input and each output
column, the kernel's width of pixels. The output rows that the kernel's row ``i`` meets lie next to each other in it,
so its share of the gradient is one product, without the copies that patches of the whole kernel take: a third of them
for 3 x 3 at stride 1. Where the convolution leaves rows out, bands of every stride's phase are kept apart.

The gradients come as (height, width, in, out), in which the long side of the product is the one that BLAS likes to
go along; their norms and their weighted sum need no other order.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from client.bookkeeping.kernels import Shape
from client.bookkeeping.products import Floats, multiply, squared_norms
from client.bookkeeping.units import Units

CACHED = 1 << 17
"""Numbers of bands that are held at a time; with what they are multiplied by and give, a core's cache holds them."""

MOST_PLACES = 640
"""Output places up to which bands beat a pass of oneDNN a sample."""


def serves(x: Tensor, g: Tensor, shape: Shape, units: Units) -> bool:
    """Return whether bands are the way to each unit's gradient, for the ``x`` and ``g`` of :func:`gradients`."""
    plain = shape.groups == 1 and not shape.pointwise and x.shape[1] > 1
    return plain and units.size == 1 and g.shape[2] * g.shape[3] <= MOST_PLACES and not x.is_cuda


def gradients(x: Tensor, g: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
    """Return each sample's gradient of the weight, and their squared norms (n,).

    Parameters
    ----------
    x, g : (n, C, H, W) and (n, O, H', W').

    Returns the gradients as (n, kh kw C O); :func:`in_flat_order` brings a sum of them into the flat order.
    """
    n, fan_out, down, right = g.shape
    (kh, kw), (sh, _), (dh, _) = shape.weight[2:], shape.stride, shape.dilation
    pixels, places = x.permute(0, 2, 3, 1), g.permute(0, 2, 3, 1).reshape(n, down * right, fan_out)
    _, height, width, channels = pixels.shape
    (top, left), wide = shape.padding, kw * channels
    deep = -(-(height + 2 * top) // sh)
    step = min(n, max(1, CACHED // (sh * deep * right * wide)))
    framed = x.new_zeros(step, sh * deep, width + 2 * left, channels).numpy()
    bands = x.new_empty(step, sh, deep, right, kw, channels).numpy()
    seen, met = _seen(framed, bands.shape, shape), bands.reshape(step, sh, deep * right, wide)
    found = g.new_empty(n, kh, wide, fan_out)
    # Views by numpy, each of which costs torch some microseconds.
    inner, given, into = framed[:, top : top + height, left : left + width], places.numpy(), found.numpy()
    pixels = pixels.numpy()
    for start in range(0, n, step):
        count = min(step, n - start)
        own = slice(start, start + count)
        inner[:count] = pixels[own]
        bands[:count] = seen[:count]
        for i in range(kh):
            first = i * dh // sh * right
            part = met[:count, i * dh % sh, first : first + down * right]
            multiply(part.transpose(0, 2, 1), given[own], into[own, i])
    flat = found.flatten(1)
    return flat, squared_norms(flat)


def _seen(framed: Floats, form: tuple[int, ...], shape: Shape) -> Floats:
    """Return padded maps (n, H, W, C) as (n, phase, row, output column, kernel's width, C)."""
    sample, row, column, number = framed.strides
    down, across = shape.stride
    strides = (sample, row, down * row, across * column, shape.dilation[1] * column, number)
    return np.lib.stride_tricks.as_strided(framed, form, strides, writeable=False)


def in_flat_order(summed: Tensor, shape: Shape) -> Tensor:
    """Return a sum (P,) of what :func:`gradients` gives in the order (out, height, width, in)."""
    return summed.view(-1, shape.weight[0]).t().reshape(-1)
