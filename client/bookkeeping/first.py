"""A net's first convolution and the group norm behind it, whose gradients follow from patches of the pictures.

Pictures need no gradient, and gray ones have one channel. So nothing of the gradient of the convolution's output has
to be made place by place. With patches ``p`` of K numbers, less their mean over the P places of a picture, and the
output ``y = w p + m``, the norm's statistics follow from the sums of ``p p^T`` (K, K), and with g, the gradient of the
norm's output, all that is asked of the backward from the sums of ``g p^T`` (O, K) and of g: of scale and shift, and of
the weight, because the gradient of y is linear in g, y and 1 (:mod:`client.bookkeeping.group_norms`). Maps are the
largest at the first layer, and what is saved are passes over them. Where a net was seen to call the norm straight after
the convolution, not even the convolution's output is made: the norm's follows from the patches by one product.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from client.bookkeeping import kernels
from client.bookkeeping.book import Book, Source
from client.bookkeeping.group_norms import membership
from client.bookkeeping.kernels import Shape

MOST = 32
"""Numbers of a patch up to which products with patches cost less than passes over the maps."""


@dataclass(frozen=True)
class First:
    """A convolution of pictures, held until the next layer is called.

    Attributes
    ----------
    output : refers to what it gave, float (n, O, H', W') in ``channels_last``; ``version`` is torch's count of changes
        in place.
    x, weight, shape, source : of :class:`client.bookkeeping.layers.Convolution`.
    waits : ``output`` holds no numbers, see :meth:`waiting`.
    position : torch functions called before it.
    """

    output: weakref.ref[Tensor]
    version: int
    x: Tensor
    weight: Tensor
    shape: Shape
    source: Source
    position: int
    waits: bool = False

    @classmethod
    def of(
        cls, y: Tensor, x: Tensor, weight: Tensor, shape: Shape, source: Source | None, position: int
    ) -> First | None:
        """Return it for a convolution without bias that gave ``y``, None where patches would not pay."""
        fits = x.shape[1] == 1 and shape.patch <= MOST and not x.requires_grad and y.numel() > 0
        fits = fits and y.requires_grad  # else the net wants no gradient of the weight through this call
        last = y.is_contiguous(memory_format=torch.channels_last) and not y.is_contiguous()
        if source is None or not (fits and last):
            return None
        return cls(weakref.ref(y), y._version, x.detach(), weight, shape, source, position)

    @classmethod
    def waiting(
        cls, x: Tensor, weight: Tensor, shape: Shape, source: Source, position: int
    ) -> tuple[Tensor, First]:
        """Return an output in place of a convolution that the norm behind it makes, and what the norm needs.

        Every number of it is NaN, at no cost. Whatever else used it would have no finite gradient, and be refused when
        the net is tried, or later count as none.
        """
        down, right = shape.places(x)
        y = x.new_full((), torch.nan).expand(len(x), shape.weight[0], down, right)
        return y, cls(weakref.ref(y), y._version, x.detach(), weight, shape, source, position, waits=True)

    def gave(self, y: Tensor) -> bool:
        """Return whether ``y`` is its output, unchanged."""
        return self.output() is y and y._version == self.version

    def patches(self) -> tuple[Tensor, Tensor]:
        """Return the means (n, K) of what output places read, and what each reads beyond them, (n, H' W', K)."""
        windows = kernels.windows(self.x, self.shape).clone(memory_format=torch.contiguous_format)
        planes = windows.view(len(self.x), self.shape.patch, -1)
        means = planes.mean(2)
        return means, planes.sub_(means[:, :, None]).transpose(1, 2)


class FirstGroupNorm(torch.autograd.Function):
    """``group_norm`` on the output of a :class:`First`, which gets its gradient from here and none by itself."""

    @staticmethod
    def forward(
        ctx: Any,
        y: Tensor,
        _anchor: Tensor,
        book: Book,
        first: First,
        groups: int,
        weight: Tensor,
        bias: Tensor,
        eps: float,
        sources: tuple[Source | None, Source | None],
    ) -> Tensor:
        """Return the output; ``y`` comes without its graph, and where the convolution waits without its numbers."""
        n, channels, height, width = y.shape
        ctx.book, ctx.source, ctx.sources, ctx.groups = book, first.source, sources, groups
        w = first.weight.permute(0, 2, 3, 1).reshape(channels, -1)
        means, centred = first.patches()
        spread = torch.bmm(centred.transpose(1, 2), centred).div_(height * width)  # (n, K, K)
        into = membership(groups, channels, y.dtype, y.device)
        size = channels // groups
        turned = w @ spread  # (n, O, K), the covariance of outputs and patches
        own = means @ w.t()
        mean = own.mm(into.t()).div_(size).mm(into)
        apart = own - mean
        energy = (turned * w).sum(2).addcmul_(apart, apart)
        scale = energy.mm(into.t()).div_(size).mm(into).clamp_(min=0).add_(eps).rsqrt_()
        factor = scale * weight
        ctx.save_for_backward(centred, means, turned, apart, scale, w, weight)
        if first.waits:
            moved = torch.addcmul(bias, apart, factor)[:, None]
            rows = torch.baddbmm(moved, centred, (factor[:, :, None] * w).transpose(1, 2))
            return rows.view(n, height, width, channels).permute(0, 3, 1, 2)
        shift = torch.addcmul(bias, mean, factor, value=-1)
        return torch.addcmul(shift[:, :, None, None], y, factor[:, :, None, None])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Write the gradients of weight, scale and shift into the book."""
        centred, means, turned, apart, scale, w, weight = ctx.saved_tensors
        (n, places, _), book, g = centred.shape, ctx.book, gradients[0]
        rows = g.permute(0, 2, 3, 1).reshape(n, places, -1)
        to_bias = rows.sum(1)
        met = torch.bmm(centred.transpose(1, 2), rows).transpose(1, 2)  # (n, O, K): the sums of g p^T
        to_weight = (met * w).sum(2).addcmul_(apart, to_bias).mul_(scale)
        of_weight, of_bias = ctx.sources
        if of_weight is not None:
            book.keep(of_weight, book.units.total(to_weight))
        if of_bias is not None:
            book.keep(of_bias, book.units.total(to_bias))
        into = membership(ctx.groups, w.shape[0], w.dtype, w.device)
        share = weight / -(places * w.shape[0] // ctx.groups)
        sums = torch.cat([to_weight, to_bias]).mul_(share).mm(into.t()).mm(into).view(2, *scale.shape)
        by_weight, by_bias = sums.mul_(scale)
        linear = by_weight.mul_(scale)
        # The gradient of y is factor g + linear (y - mean) + by_bias.
        factor = scale * weight
        total = by_bias.addcmul_(linear, apart).mul_(places).addcmul_(factor, to_bias)  # of it, over places
        found = (linear * places)[:, :, None] * turned
        found.addcmul_(factor[:, :, None], met).addcmul_(total[:, :, None], means[:, None])
        book.keep(ctx.source, book.units.total(found.flatten(1)))
        return (None,) * 9
