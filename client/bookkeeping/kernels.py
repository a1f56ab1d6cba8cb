"""Gradients of a convolution's weight for each unit of a batch, or only their norms, or their weighted sum.

Every function works on one call of a convolution: its input ``x`` (n, C, H, W), the gradient of its output ``g``
(n, O, H', W') and its :class:`Shape`. Gradients come as rows (units, P) in the flat order of
:mod:`fer_models.flat`: (out, height, width, in).

Which way is cheapest depends on the shapes alone; the thresholds were measured on one core in ``channels_last``
(``fedfer bench private-step`` measures what comes of them). A pass of oneDNN over a whole batch is the fastest of
all, but gives the sum; for rows by unit there are batched matrix products over patches, one pass a unit, or, where
groups do not mix, one pass with the batch folded into the channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from client.bookkeeping.products import batched
from client.bookkeeping.units import Units, contracted

GRAM_SHARE = 0.4
"""Norms come from Gram matrices where those take less than this share of the products that rows take."""

PIXEL_SHARE = 0.64
"""The same where the Gram matrices of patches are added up from those of pixels, which are smaller."""

FEW_PLACES = 4
"""Output places below which adding up costs more than it saves."""

KEPT_ROW = 1 << 17
"""Numbers of a row above which rows are made a few at a time for their norms, and not kept."""

CHUNK = 8
"""Units whose long rows are held at a time."""

CACHED = 1 << 19
"""Numbers of patches that are held at a time, on the CPU, where a batch has four times as many."""

MANY_PLACES = 256
"""Output places from which one pass a unit beats patches, on the CPU."""

FOLDED = 3 << 20
"""Numbers of a grouped convolution's input up to which folding the batch into the channels pays."""


@dataclass(frozen=True)
class Shape:
    """What a convolution is: its weight's shape (O, C / groups, kh, kw) and how it moves over the input."""

    weight: torch.Size
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    @property
    def patch(self) -> int:
        """Numbers of the input that one output number reads."""
        return self.weight[1] * self.weight[2] * self.weight[3]

    @property
    def pointwise(self) -> bool:
        """Whether every place is by itself."""
        return tuple(self.weight[2:]) == (1, 1) and self.padding == (0, 0)

    def places(self, x: Tensor) -> tuple[int, int]:
        """Return the height and width of the output for an input (n, C, H, W)."""
        along = zip(x.shape[2:], self.weight[2:], self.stride, self.padding, self.dilation, strict=True)
        down, right = ((size + 2 * p - d * (k - 1) - 1) // s + 1 for size, k, s, p, d in along)
        return down, right

    def backward(
        self, g: Tensor, x: Tensor, w: Tensor, *, to_input: bool, groups: int | None = None
    ) -> Tensor:
        """Return torch's gradient with regard to the input or to the weight, (n, C, H, W) or (O, C, kh, kw)."""
        mask = [to_input, not to_input, False]
        place = (list(self.stride), list(self.padding), list(self.dilation))
        found = torch.ops.aten.convolution_backward(
            g, x, w, None, *place, False, [0, 0], groups or self.groups, mask
        )
        return found[0 if to_input else 1]


def flat_rows(gradients: Tensor) -> Tensor:
    """Return gradients (rows, O, C, kh, kw) as rows in the flat order."""
    return gradients.permute(0, 1, 3, 4, 2).flatten(1)


def norms_only(shape: Shape, places: int, units: Units) -> bool:
    """Return whether norms from Gram matrices are cheaper than rows; ``places`` is H' W'."""
    if shape.groups > 1 or not units.size:
        return False
    fan_out, patch = shape.weight[0], shape.patch
    share = PIXEL_SHARE if by_pixels(shape, places, units) else GRAM_SHARE
    return places * units.size * (patch + fan_out) < share * fan_out * patch


def by_pixels(shape: Shape, places: int, units: Units) -> bool:
    """Return whether the Gram matrices of patches are added up from those of pixels."""
    many = shape.weight[2] * shape.weight[3] > shape.stride[0] * shape.stride[1]
    return many and units.size == 1 and places >= FEW_PLACES


def norms(x: Tensor, g: Tensor, shape: Shape, units: Units) -> Tensor:
    """Return the squared norm of each unit's gradient (units,), by Gram matrices; see :func:`norms_only`."""
    a = _places(g)
    places = g.shape[2] * g.shape[3]
    if by_pixels(shape, places, units):
        own = _samples_last(torch.bmm(a, a.transpose(1, 2))).permute(2, 0, 1)
        return contracted(_patch_gram(x, g.shape, shape), own)
    return units.gram(a, patches(x, shape))


def _patch_gram(x: Tensor, out: torch.Size, shape: Shape) -> Tensor:
    """Return the Gram matrices of the patches (n, places, places), added up from those of the pixels.

    Two patches meet in one pair of pixels for each place of the kernel, so the sum goes along diagonals, first of rows
    and then of columns. Pixels of one place are those of one phase of the stride: only these need to meet. The samples
    lie together in memory, as there are more of them than rows or columns.
    """
    n, channels, height, width = x.shape
    (sh, sw), down, right = shape.stride, out[2], out[3]
    pixels = functional.pad(x.permute(0, 2, 3, 1), (0, 0, 0, -width % sw, 0, -height % sh))
    high, wide = pixels.shape[1] // sh, pixels.shape[2] // sw
    phases = pixels.reshape(n, high, sh, wide, sw, channels).permute(0, 2, 4, 1, 3, 5)
    phases = phases.reshape(n * sh * sw, high * wide, channels)
    grams = torch.bmm(phases, phases.transpose(1, 2)).view(n, -1, high * wide)
    gram = _samples_last(grams).view(sh, sw, high, wide, high, wide, n)
    rows = gram.new_zeros(sw, down, wide, down, wide, n)
    for phase, own, met in _meetings(down, high, shape, 0):
        rows[:, own, :, own].add_(gram[phase][:, met, :, met])
    total = gram.new_zeros(down, right, down, right, n)
    for phase, own, met in _meetings(right, wide, shape, 1):
        total[:, own, :, own].add_(rows[phase][:, met, :, met])
    return total.view(down * right, down * right, n).permute(2, 0, 1)


def _meetings(out: int, length: int, shape: Shape, along: int) -> Iterator[tuple[int, slice, slice]]:
    """Yield phase, outputs and pixels that meet along a dimension, for each place of the kernel."""
    for place in range(shape.weight[2 + along]):
        offset = place * shape.dilation[along] - shape.padding[along]
        shift, phase = divmod(offset, shape.stride[along])
        first, last = max(0, -shift), min(out, length - shift)
        if first < last:
            yield phase, slice(first, last), slice(first + shift, last + shift)


def _samples_last(grams: Tensor) -> Tensor:
    """Return matrices (n, A, B) as (A, B, n), contiguous."""
    return grams.flatten(1).t().contiguous().view(*grams.shape[1:], len(grams))


def rows(x: Tensor, g: Tensor, w: Tensor, shape: Shape, units: Units) -> Tensor:
    """Return each unit's gradient of the weight, (units, P) in the flat order."""
    if shape.groups > 1:
        return _grouped_rows(x, g, w, shape, units)
    if shape.pointwise:
        return units.products(_places(g), patches(x, shape)).flatten(1)
    if x.shape[1] == 1:
        return units.products(planes(x, shape), _places(g)).transpose(1, 2).flatten(1)
    if g.shape[2] * g.shape[3] >= MANY_PLACES and not x.is_cuda:
        return _pass_a_unit(x, g, w, shape, units)
    return _by_patches(x, g, shape, units)


def row_norms(x: Tensor, g: Tensor, w: Tensor, shape: Shape, units: Units) -> Tensor:
    """Return the squared norm of each unit's gradient (units,), from rows made a few at a time."""
    found = []
    for start in range(0, len(units), CHUNK):
        chosen = slice(start, start + CHUNK)
        own = slice(units.slices[start].start, units.slices[min(start + CHUNK, len(units)) - 1].stop)
        part = rows(x[own], g[own], w, shape, Units(units.sizes[chosen]))
        found.append(part.square().sum(1))
    return torch.cat(found)


def weighted_sum(x: Tensor, g: Tensor, w: Tensor, shape: Shape, weights: Tensor) -> Tensor:
    """Return the gradient (P,) of the sum of losses times ``weights`` (n,), in the flat order."""
    found = shape.backward(g * weights.view(-1, 1, 1, 1), x, w, to_input=False)
    return found.permute(0, 2, 3, 1).reshape(-1)


def _places(g: Tensor) -> Tensor:
    """Return (n, O, H, W) as (n, H W, O), without a copy in ``channels_last``."""
    return g.permute(0, 2, 3, 1).reshape(len(g), -1, g.shape[1])


def _padded(x: Tensor, shape: Shape) -> Tensor:
    """Return (n, C, H, W) with its frame of zeros as (n, H, W, C), contiguous."""
    n, channels, height, width = x.shape
    (top, left), inner = shape.padding, x.permute(0, 2, 3, 1)
    if not top and not left:
        return inner.contiguous()
    whole = x.new_zeros(n, height + 2 * top, width + 2 * left, channels)
    whole[:, top : top + height, left : left + width] = inner
    return whole


def patches(x: Tensor, shape: Shape) -> Tensor:
    """Return what each output place reads, (n, H' W', kh kw C)."""
    if shape.pointwise:
        return _places(x[:, :, :: shape.stride[0], :: shape.stride[1]])
    whole = _padded(x, shape)
    n, height, width, channels = whole.shape
    (kh, kw), (sh, sw), (dh, dw) = shape.weight[2:], shape.stride, shape.dilation
    down, right = (height - dh * (kh - 1) - 1) // sh + 1, (width - dw * (kw - 1) - 1) // sw + 1
    by = whole.stride()
    strides = (by[0], sh * by[1], sw * by[2], dh * by[1], dw * by[2], 1)
    found = whole.as_strided((n, down, right, kh, kw, channels), strides)
    return found.reshape(n, down * right, kh * kw * channels)


def planes(x: Tensor, shape: Shape) -> Tensor:
    """Return the patches (n, H' W', kh kw) of one channel, such that places lie together in memory."""
    return windows(x, shape).reshape(len(x), shape.patch, -1).transpose(1, 2)


def windows(x: Tensor, shape: Shape) -> Tensor:
    """Return what each number of the kernel meets, (n, kh, kw, H', W'), a view of one padded channel."""
    height, width = shape.padding
    whole = functional.pad(x.contiguous(), (width, width, height, height))
    (kh, kw), (sh, sw), (dh, dw) = shape.weight[2:], shape.stride, shape.dilation
    by = whole.stride()
    strides = (by[0], dh * by[2], dw * by[3], sh * by[2], sw * by[3])
    return whole.as_strided((len(x), kh, kw, *shape.places(x)), strides)


def _by_patches(x: Tensor, g: Tensor, shape: Shape, units: Units) -> Tensor:
    """Rows from products over patches, some units at a time, so that their patches are still in the cache."""
    numbers = g.shape[2] * g.shape[3] * shape.patch
    step = max(1, CACHED // (numbers * units.size)) if units.size else len(units)
    if x.is_cuda or 4 * step > len(units):
        return units.products(_places(g), patches(x, shape)).flatten(1)
    a, found = _places(g), g.new_empty(len(units), shape.weight[0], shape.patch)
    for start in range(0, len(units), step):
        own, chosen = units.slices[start : start + step], slice(start, start + step)
        samples = slice(own[0].start, own[-1].stop)
        part, b = Units(units.sizes[chosen]), patches(x[samples], shape)
        batched(part.joined(a[samples]).transpose(1, 2), part.joined(b), found[chosen])
    return found.flatten(1)


def _pass_a_unit(x: Tensor, g: Tensor, w: Tensor, shape: Shape, units: Units) -> Tensor:
    found = units.each(lambda own: shape.backward(g[own], x[own], w, to_input=False))
    return flat_rows(found)


def _grouped_rows(x: Tensor, g: Tensor, w: Tensor, shape: Shape, units: Units) -> Tensor:
    """Rows of a convolution whose groups do not mix, depthwise ones above all."""
    depthwise = shape.weight[1] == 1 and shape.weight[0] == x.shape[1]
    if x.is_cuda or not depthwise:
        return units.total(_folded(x, g, shape))
    if max(shape.weight[2:]) > 3:
        return units.total(_shifted(x, g, shape))
    if x.numel() >= FOLDED:
        return _pass_a_unit(x, g, w, shape, units)
    return units.total(_folded(x, g, shape))


def _folded(x: Tensor, g: Tensor, shape: Shape) -> Tensor:
    """Per-sample rows from one pass in which every sample is a group of channels of its own."""
    return flat_rows(one_pass(x, g, shape, last=g.is_contiguous(memory_format=torch.channels_last)))


def one_pass(x: Tensor, g: Tensor, shape: Shape, *, last: bool) -> Tensor:
    """Return each sample's gradient of the weight (n, O, C / groups, kh, kw), from one pass over folded samples.

    ``last`` tells the layout in which the pass is made: ``channels_last``, or torch's default.
    """
    n, (fan_out, *rest) = len(x), shape.weight
    layout = torch.channels_last if last else torch.contiguous_format
    # Of the weight the pass reads shape and layout alone.
    like = torch.empty((n * fan_out, *rest), dtype=x.dtype, device=x.device, memory_format=layout)
    if last:
        one_g, one_x = (each.permute(2, 3, 0, 1).flatten(2)[None].permute(0, 3, 1, 2) for each in (g, x))
    else:
        one_g, one_x = (each.contiguous().flatten(0, 1)[None] for each in (g, x))
    found = shape.backward(one_g, one_x, like, to_input=False, groups=n * shape.groups)
    return found.view(n, *shape.weight)


def _shifted(x: Tensor, g: Tensor, shape: Shape) -> Tensor:
    """Per-sample rows of a depthwise convolution, one product a place of the kernel."""
    whole, out = _padded(x, shape), g.permute(0, 2, 3, 1)
    (kh, kw), (sh, sw), (dh, dw) = shape.weight[2:], shape.stride, shape.dilation
    found = x.new_empty(len(x), x.shape[1], kh, kw)
    for i in range(kh):
        down = slice(i * dh, i * dh + (out.shape[1] - 1) * sh + 1, sh)
        for j in range(kw):
            right = slice(j * dw, j * dw + (out.shape[2] - 1) * sw + 1, sw)
            found[:, :, i, j] = (whole[:, down, right] * out).sum((1, 2))
    return found.flatten(1)
