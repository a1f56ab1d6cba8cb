"""The layers whose gradients the book knows by unit: what replaces each torch function while a book is open.

Each is an autograd function that computes the same output, hands the same gradient on to its input, and writes the
gradient of its own parameters into the book instead of adding it up.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from client.bookkeeping import bands, folds, group_norms, kernels
from client.bookkeeping.book import SHORT, Book, Source, flat_order
from client.bookkeeping.kernels import Shape
from client.bookkeeping.units import Units
from fer_models.errors import PrivacyError

CURE = "Choose another net, freeze the layer, or train without privacy (privacy=none)."


Pair = tuple[Source | None, Source | None]
"""Where the gradients of a layer's weight and bias belong; None for one that does not learn."""


def clean(units: Units, broken: Tensor | None, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Return tensors (n, ...) with zeros for samples of broken units: a weight of 0 does not take away a NaN."""
    if broken is None:
        return tensors
    broken = units.spread(broken)
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
        own_x, own_g = clean(units, broken, x, g)
        return kernels.weighted_sum(own_x, own_g, w, shape, units.spread(weights))

    if alone and kernels.norms_only(shape, g.shape[2] * g.shape[3], units):
        book.note(source, kernels.norms(x, g, shape, units), weighted_sum)
    elif alone and w.numel() <= kernels.KEPT_ROW and (way := _kept_way(x, g, shape, units)):
        held, squares = way.gradients(x, g, shape)
        _kept(book, source, held, squares, functools.partial(way.in_flat_order, shape=shape))
    elif alone and w.numel() > kernels.KEPT_ROW and units:
        book.note(source, kernels.row_norms(x, g, w, shape, units), weighted_sum)
    else:
        book.keep(source, kernels.rows(x, g, w, shape, units))


def _kept_way(x: Tensor, g: Tensor, shape: Shape, units: Units) -> types.ModuleType | None:
    """Return which of two modules makes rows that are kept in an order of their own, None for neither."""
    return next((way for way in (folds, bands) if way.serves(x, g, shape, units)), None)


def _kept(
    book: Book, source: Source, held: Tensor, squares: Tensor, in_flat_order: Callable[[Tensor], Tensor]
) -> None:
    units = book.units

    def weighted_sum(weights: Tensor, broken: Tensor | None) -> Tensor:
        (good,) = clean(units, broken, held)
        return in_flat_order(weights @ good)

    book.note(source, squares, weighted_sum)


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
        own_g, own_x = clean(units, broken, g, x)
        return (
            (own_g * units.spread(weights).view(-1, 1, 1)).flatten(0, 1).t() @ own_x.flatten(0, 1)
        ).flatten()

    most = max(units.sizes, default=1) * places
    worth = out * fan_in > SHORT and most * (out + fan_in) < kernels.GRAM_SHARE * out * fan_in
    if book.once(source) and worth:
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
        if ctx.last:
            y, kept = group_norms.forward_last(x, groups, weight, bias, eps)
        else:
            x, places = x.contiguous(), x.numel() // max(1, n * channels)
            y, *kept = torch.native_group_norm(x, weight, bias, n, channels, places, groups, eps)
        ctx.save_for_backward(x, weight, *kept)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Write the parameters' gradients into the book and return the input's."""
        x, w, *kept = ctx.saved_tensors
        book, (weight, bias), g = ctx.book, ctx.sources, gradients[0]
        work = group_norms.backward_last if ctx.last else group_norms.backward_folded
        to_input, to_weight, to_bias = work(g, x, kept, w, ctx.groups, to_input=ctx.needs_input_grad[0])
        if weight is not None:
            book.keep(weight, book.units.total(to_weight))
        if bias is not None:
            book.keep(bias, book.units.total(to_bias))
        return to_input, *[None] * 7


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
