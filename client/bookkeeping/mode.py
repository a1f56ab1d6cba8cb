"""Puts the book's layers in the place of torch's functions while a net runs.

The net's own code runs as it is; only a call that uses a trainable tensor is answered by a layer of
:mod:`client.bookkeeping.layers`. So subclasses of layers, shared layers and weights that are computed from parameters
are served alike, whatever their type. A use that is not known here gives its parameter an ordinary gradient, which the
book finds and refuses.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from client.bookkeeping.book import Book
from client.bookkeeping.first import First, FirstGroupNorm
from client.bookkeeping.kernels import Shape
from client.bookkeeping.layers import (
    Convolution,
    GroupNorm,
    LayerNorm,
    Linear,
    Repeated,
    require_samples,
)

Answer = Callable[..., Any]


class BookMode(TorchFunctionMode):
    """Active while a net runs: ``with BookMode(book): losses = ...``."""

    def __init__(self, book: Book) -> None:
        super().__init__()
        self._book = book

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Answer a call of a torch function."""
        self._book.position += 1
        answer = ANSWERS.get(func)
        if answer is None or not self._book.is_expected():
            return func(*args, **(kwargs or {}))
        found = answer(self._book, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {})) if found is None else found


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[-1]))


def _convolution(
    book: Book,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor | None:
    sources = book.source(weight), book.source(bias)
    if sources == (None, None):
        return None
    require_samples(book, input, "a convolution")
    dilation = _pair(dilation)
    if isinstance(padding, str):
        input, padding = _padded(input, weight, padding, dilation)
    shape = Shape(weight.shape, _pair(stride), _pair(padding), dilation, groups)
    data = weight.detach(), None if bias is None else bias.detach()
    if book.position in book.waiting and sources[0] is not None and len(input) and torch.is_grad_enabled():
        book.use(Convolution.__name__, sources)
        found, book.first = First.waiting(input, data[0], shape, sources[0], book.position)
        return found
    found = _used(book, sources, Convolution, input, book.anchor, book, *data, shape, sources)
    if bias is None:
        book.first = First.of(found, input, data[0], shape, sources[0], book.position)
    return found


def _padded(
    x: Tensor, weight: Tensor, word: str, dilation: tuple[int, int]
) -> tuple[Tensor, tuple[int, int]]:
    """Return the input and the padding in numbers; "same" may need one more on the right."""
    total = [d * (k - 1) if word == "same" else 0 for d, k in zip(dilation, weight.shape[2:], strict=True)]
    if any(each % 2 for each in total):
        (top, left) = (each // 2 for each in total)
        return functional.pad(x, (left, total[1] - left, top, total[0] - top)), (0, 0)
    return x, (total[0] // 2, total[1] // 2)


def _linear(book: Book, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor | None:
    sources = book.source(weight), book.source(bias)
    if sources == (None, None):
        return None
    require_samples(book, input, "a linear layer", folded=True)
    data = weight.detach(), None if bias is None else bias.detach()
    return _used(book, sources, Linear, input, book.anchor, book, *data, sources)


def _group_norm(
    book: Book,
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor | None:
    sources = book.source(weight), book.source(bias)
    if sources == (None, None) or weight is None or bias is None:
        return None
    require_samples(book, input, "a group norm")
    data = weight.detach(), bias.detach(), eps
    first, book.first = book.first, None
    if first is not None and first.gave(input):
        book.use_again(first.source)
        if book.position == first.position + 1:
            book.followed.add(first.position)
        return _used(
            book,
            sources,
            FirstGroupNorm,
            input.detach(),
            book.anchor,
            book,
            first,
            num_groups,
            *data,
            sources,
        )
    return _used(book, sources, GroupNorm, input, book.anchor, book, num_groups, *data, sources)


def _layer_norm(
    book: Book,
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor | None:
    sources = book.source(weight), book.source(bias)
    if sources == (None, None) or weight is None:
        return None
    require_samples(book, input, "a layer norm", folded=True)
    data = weight.detach(), None if bias is None else bias.detach(), eps
    return _used(book, sources, LayerNorm, input, book.anchor, book, list(normalized_shape), *data, sources)


def _used(book: Book, sources: Sequence[Any], layer: Any, *arguments: Any) -> Tensor:
    book.use(layer.__name__.removeprefix("First"), sources)
    with torch._C.DisableTorchFunction():
        return layer.apply(*arguments)


def _elementwise(func: Any, book: Book, *args: Any, **kwargs: Any) -> Tensor | None:
    """Repeat a trainable operand for every sample, where the other operand is a batch."""
    if len(args) != 2 or not all(isinstance(each, Tensor) for each in args):
        return None
    found = [book.source(each) for each in args]
    if (found[0] is None) == (found[1] is None):
        return None
    place = 0 if found[0] is not None else 1
    source, other, values = found[place], args[1 - place], args[place].detach()
    assert source is not None
    n = book.units.samples
    if not other.dim() or other.shape[0] != n or values.dim() > other.dim():
        return None  # parameters among themselves; a batch that is elsewhere is found as a leak
    if values.dim() == other.dim():
        if values.shape[0] != 1:
            return None
        values = values[0]
    with torch._C.DisableTorchFunction():
        repeated = _used(book, [source], Repeated, book.anchor, book, values, source, other.dim())
        return func(*((repeated, other) if place == 0 else (other, repeated)), **kwargs)


def _expand(book: Book, tensor: Tensor, *sizes: Any) -> Tensor | None:
    """A trainable tensor (1, ...) that is expanded to the batch, such as a class token."""
    source = book.source(tensor)
    wanted = sizes[0] if len(sizes) == 1 and not isinstance(sizes[0], int) else sizes
    if source is None or tensor.dim() != len(wanted) or tensor.shape[0] != 1:
        return None
    same = all(w in (-1, have) for w, have in zip(wanted[1:], tensor.shape[1:], strict=True))
    if wanted[0] != book.units.samples or not same:
        return None
    return _used(book, [source], Repeated, book.anchor, book, tensor.detach()[0], source, tensor.dim())


_ELEMENTWISE = (
    *(torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__, torch.multiply),
    *(torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__),
    *(torch.sub, Tensor.sub, Tensor.__sub__, Tensor.__rsub__),
    *(Tensor.mul_, Tensor.__imul__, Tensor.add_, Tensor.__iadd__, torch.div, Tensor.div, Tensor.__truediv__),
)

ANSWERS: dict[Any, Answer] = {
    torch.conv2d: _convolution,
    functional.conv2d: _convolution,
    functional.linear: _linear,
    functional.group_norm: _group_norm,
    torch.group_norm: _group_norm,
    functional.layer_norm: _layer_norm,
    torch.layer_norm: _layer_norm,
    Tensor.expand: _expand,
    **{func: functools.partial(_elementwise, func) for func in _ELEMENTWISE},
}
"""Torch function -> what answers it; None from an answer means that torch does."""
