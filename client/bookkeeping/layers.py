"""The layers whose gradients the book knows by unit: what replaces each torch function while a book is open.

Each is an autograd function that computes the same output, hands the same gradient on to its input, and writes the
gradient of its own parameters into the book instead of adding it up.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from client.bookkeeping import kernels
from client.bookkeeping.book import Book, Source, flat_order
from client.bookkeeping.kernels import Shape
from fer_models.errors import PrivacyError

CURE = "Choose another net, freeze the layer, or train without privacy (privacy=none)."


Pair = tuple[Source | None, Source | None]
"""Where the gradients of a layer's weight and bias belong; None for one that does not learn."""

LONG_ROW = 256
"""Numbers of a row from which the loop over rows costs nothing."""


LANES = 8
"""Channels of a group from which torch's forward of a group norm is fast in ``channels_last``."""


def clean(broken: Tensor | None, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Return tensors (n, ...) with zeros for broken samples: a weight of 0 does not take away a NaN."""
    if broken is None:
        return tensors
    return tuple(each.masked_fill(broken.view(-1, *[1] * (each.dim() - 1)), 0) for each in tensors)


class Convolution(torch.autograd.Function):
    """``conv2d`` of any stride, padding, dilation and number of groups."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        _anchor: Tensor,
        book: Book,
        weight: Tensor,
        bias: Tensor | None,
        shape: Shape,
        sources: Pair,
    ) -> Tensor:
        """Return the output."""
        ctx.book, ctx.shape, ctx.sources = book, shape, sources
        ctx.save_for_backward(x, weight)
        return torch.conv2d(x, weight, bias, shape.stride, shape.padding, shape.dilation, shape.groups)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Write the parameters' gradients into the book and return the input's."""
        x, w = ctx.saved_tensors
        book, shape, (weight, bias) = ctx.book, ctx.shape, ctx.sources
        g = _laid_out(gradients[0])
        if weight is not None:
            _convolution_rows(book, weight, x, g, w, shape)
        if bias is not None:
            book.keep(bias, book.units.total(g.sum((2, 3))))
        to_input = shape.backward(g, x, w, to_input=True) if ctx.needs_input_grad[0] else None
        return to_input, *[None] * 6


def _laid_out(g: Tensor) -> Tensor:
    """Return a gradient in one of the two layouts that kernels know; a broadcast one has neither."""
    if g.is_contiguous() or g.is_contiguous(memory_format=torch.channels_last):
        return g
    return g.contiguous()


def _convolution_rows(book: Book, source: Source, x: Tensor, g: Tensor, w: Tensor, shape: Shape) -> None:
    units, alone = book.units, book.once(source)

    def weighted_sum(weights: Tensor, broken: Tensor | None) -> Tensor:
        own_x, own_g = clean(broken, x, g)
        return kernels.weighted_sum(own_x, own_g, w, shape, weights)

    if alone and kernels.norms_only(shape, g.shape[2] * g.shape[3], units):
        book.note(source, kernels.norms(x, g, shape, units), weighted_sum)
    elif alone and w.numel() > kernels.KEPT_ROW and units:
        book.note(source, kernels.row_norms(x, g, w, shape, units), weighted_sum)
    else:
        book.keep(source, kernels.rows(x, g, w, shape, units))


class Linear(torch.autograd.Function):
    """``linear`` on (n, in) or (n, ..., in)."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        _anchor: Tensor,
        book: Book,
        weight: Tensor,
        bias: Tensor | None,
        sources: Pair,
    ) -> Tensor:
        """Return the output."""
        ctx.book, ctx.sources = book, sources
        ctx.save_for_backward(x, weight)
        return functional.linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Write the parameters' gradients into the book and return the input's."""
        x, w = ctx.saved_tensors
        book, (weight, bias), g = ctx.book, ctx.sources, gradients[0]
        a, b = (each.reshape(book.units.samples, -1, each.shape[-1]) for each in (g, x))
        if weight is not None:
            _linear_rows(book, weight, a, b)
        if bias is not None:
            book.keep(bias, book.units.total(a.sum(1)))
        return g @ w if ctx.needs_input_grad[0] else None, *[None] * 5


def _linear_rows(book: Book, source: Source, g: Tensor, x: Tensor) -> None:
    """Write the rows of ``g`` (n, places, out) and ``x`` (n, places, in), or their norms where those are cheaper."""
    units, (places, out, fan_in) = book.units, (g.shape[1], g.shape[2], x.shape[2])

    def weighted_sum(weights: Tensor, broken: Tensor | None) -> Tensor:
        own_g, own_x = clean(broken, g, x)
        return ((own_g * weights.view(-1, 1, 1)).flatten(0, 1).t() @ own_x.flatten(0, 1)).flatten()

    most = max(units.sizes, default=1) * places
    if book.once(source) and most * (out + fan_in) < kernels.GRAM_SHARE * out * fan_in:
        book.note(source, units.gram(g, x), weighted_sum)
    else:
        book.keep(source, units.products(g, x).flatten(1))


class GroupNorm(torch.autograd.Function):
    """``group_norm`` on (n, C, ...) (Wu and He 2018).

    In ``channels_last`` the backward is written out, because the sums over places that it needs are the per-sample
    gradients of scale and shift; so is the forward for groups that are too small for torch's kernel there.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        _anchor: Tensor,
        book: Book,
        groups: int,
        weight: Tensor,
        bias: Tensor,
        eps: float,
        sources: Pair,
    ) -> Tensor:
        """Return the output."""
        ctx.book, ctx.groups, ctx.sources = book, groups, sources
        n, channels = x.shape[:2]
        ctx.last = (
            x.dim() == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
        )
        if ctx.last and channels < LANES * groups:
            y, mean, scale = _normalised_last(x, groups, weight, bias, eps)
        else:
            x = x if ctx.last else x.contiguous()
            places = x.numel() // max(1, n * channels)
            y, mean, scale = torch.native_group_norm(x, weight, bias, n, channels, places, groups, eps)
        ctx.save_for_backward(x, mean, scale, weight)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Write the parameters' gradients into the book and return the input's."""
        x, mean, scale, w = ctx.saved_tensors
        book, (weight, bias), g = ctx.book, ctx.sources, gradients[0]
        work = _group_norm_last if ctx.last else _group_norm_folded
        to_input, to_weight, to_bias = work(g, x, mean, scale, w, ctx.groups, ctx.needs_input_grad[0])
        if weight is not None:
            book.keep(weight, book.units.total(to_weight))
        if bias is not None:
            book.keep(bias, book.units.total(to_bias))
        return to_input, *[None] * 7


def _normalised_last(
    x: Tensor, groups: int, w: Tensor, b: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the output, and the mean and 1 / deviation (n, groups), of ``x`` in ``channels_last``."""
    n, channels, height, width = x.shape
    rows = x.permute(0, 2, 3, 1).reshape(n, -1, channels)
    count = height * width * channels // groups
    mean = rows.sum(1).view(n, groups, -1).sum(2) / count
    squares = _dots(rows, rows).view(n, groups, -1).sum(2) / count
    scale = torch.rsqrt((squares - mean.square()).clamp(min=0) + eps)
    by_channel = (scale[:, :, None] * w.view(groups, -1)).reshape(n, 1, channels)
    shift = b - (mean[:, :, None] * by_channel.view(n, groups, -1)).reshape(n, 1, channels)
    y = torch.addcmul(shift, rows, by_channel)
    return y.view(n, height, width, channels).permute(0, 3, 1, 2), mean, scale


def _dots(a: Tensor, b: Tensor) -> Tensor:
    """Return the sum over places of ``a * b``, (n, C), of contiguous (n, places, C).

    numpy's einsum adds up row by row without a temporary array; rows are joined until they are long enough for that.
    """
    n, places, channels = a.shape
    if a.is_cuda:
        return torch.linalg.vecdot(a, b, dim=1)
    joined = 1
    while joined * channels < LONG_ROW and places % (2 * joined) == 0:
        joined *= 2
    rows = [each.reshape(n, places // joined, joined * channels).numpy() for each in (a, b)]
    return torch.from_numpy(np.einsum("npc,npc->nc", *rows)).view(n, joined, channels).sum(1)


def _group_norm_last(
    g: Tensor, x: Tensor, mean: Tensor, scale: Tensor, w: Tensor, groups: int, to_input: bool
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Return the gradients of input, weight (n, C) and bias (n, C) in ``channels_last``."""
    n, channels, height, width = x.shape
    g, x = (each.permute(0, 2, 3, 1).reshape(n, -1, channels) for each in (g, x))
    to_bias, products = g.sum(1), _dots(g, x)
    by_group = to_bias.view(n, groups, -1)
    to_weight = ((products.view(n, groups, -1) - mean[:, :, None] * by_group) * scale[:, :, None]).view(n, -1)
    if not to_input:
        return None, to_weight, to_bias
    count = height * width * channels // groups
    weighted = (to_weight * w).view(n, groups, -1).sum(2) / count
    linear = -weighted * scale.square()
    constant = -linear * mean - (by_group * w.view(groups, -1)).sum(2) * scale / count
    spread = channels // groups
    by_channel = (scale[:, :, None] * w.view(groups, -1)).reshape(n, 1, channels)
    found = torch.addcmul(constant.repeat_interleave(spread, 1)[:, None], g, by_channel)
    found.addcmul_(x, linear.repeat_interleave(spread, 1)[:, None])
    return found.view(n, height, width, channels).permute(0, 3, 1, 2), to_weight, to_bias


def _group_norm_folded(
    g: Tensor, x: Tensor, mean: Tensor, scale: Tensor, w: Tensor, groups: int, to_input: bool
) -> tuple[Tensor | None, Tensor, Tensor]:
    """The same where places lie together: with the batch folded into the channels, torch's sums are per sample."""
    n, channels = x.shape[:2]
    places = x.numel() // max(1, n * channels)
    one = (g.contiguous().view(1, -1, places), x.view(1, -1, places), mean.view(1, -1), scale.view(1, -1))
    found, to_weight, to_bias = torch.ops.aten.native_group_norm_backward(
        *one, w.repeat(n), 1, n * channels, places, n * groups, [to_input, True, True]
    )
    return found.view_as(x) if to_input else None, to_weight.view(n, -1), to_bias.view(n, -1)


class LayerNorm(torch.autograd.Function):
    """``layer_norm`` over the last dimensions of (n, ..., *shape)."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        _anchor: Tensor,
        book: Book,
        shape: list[int],
        weight: Tensor,
        bias: Tensor | None,
        eps: float,
        sources: Pair,
    ) -> Tensor:
        """Return the output."""
        ctx.book, ctx.shape, ctx.sources = book, shape, sources
        y, mean, scale = torch.native_layer_norm(x, shape, weight, bias, eps)
        ctx.save_for_backward(x, mean, scale, weight, bias)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Write the parameters' gradients into the book and return the input's."""
        x, mean, scale, w, b = ctx.saved_tensors
        book, (weight, bias), g = ctx.book, ctx.sources, gradients[0]
        form = (book.units.samples, -1, w.numel())
        if weight is not None:
            book.keep(weight, book.units.total((g * ((x - mean) * scale)).reshape(form).sum(1)))
        if bias is not None:
            book.keep(bias, book.units.total(g.reshape(form).sum(1)))
        to_input = None
        if ctx.needs_input_grad[0]:
            arguments = (g.contiguous(), x.contiguous(), ctx.shape, mean, scale, w, b)
            to_input = torch.ops.aten.native_layer_norm_backward(*arguments, [True, False, False])[0]
        return to_input, *[None] * 7


class Repeated(torch.autograd.Function):
    """A trainable tensor, repeated for every sample: a layer's scale, a position's embedding."""

    @staticmethod
    def forward(
        ctx: Any,
        _anchor: Tensor,
        book: Book,
        values: Tensor,
        source: Source,
        dims: int,
    ) -> Tensor:
        """Return the output."""
        ctx.book, ctx.source = book, source
        lead = [1] * (dims - 1 - values.dim())
        return values.view(1, *lead, *values.shape).expand(book.units.samples, *lead, *values.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Write the parameters' gradients into the book and return the input's."""
        shape = ctx.source.tensor.shape
        each = gradients[0].reshape(ctx.book.units.samples, *shape)
        ctx.book.keep(ctx.source, flat_order(ctx.book.units.total(each)))
        return (None,) * 5


def require_samples(book: Book, x: Tensor, what: str, *, folded: bool = False) -> None:
    """Refuse an input whose first dimension is not the batch, or (``folded``) a multiple of it.

    Raises
    ------
    PrivacyError : it is not.
    """
    n = book.units.samples
    if x.dim() and (x.shape[0] == n or (folded and n and x.shape[0] % n == 0)):
        return
    raise PrivacyError(
        f"{what} takes in {tuple(x.shape)} where {n} samples should come first", where="model", cure=CURE
    )
