"""Whose gradients are clipped together: the units of privacy in one batch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from client.bookkeeping.products import batched

ROUNDINGS = 32
"""Units of rounding by which a sum of products may be off, as a share of the sum of their sizes."""


@dataclass(frozen=True)
class Units:
    """How a batch divides into units: a picture, its augmented views, or all pictures of a person.

    Samples of one unit stand next to each other in the batch.

    Attributes
    ----------
    sizes : samples of each unit, in the batch's order.
    """

    sizes: tuple[int, ...]

    @classmethod
    def single(cls, samples: int) -> Units:
        """Return units of one sample each."""
        return cls((1,) * samples)

    def __len__(self) -> int:
        return len(self.sizes)

    @functools.cached_property
    def samples(self) -> int:
        """Samples of the batch."""
        return sum(self.sizes)

    @functools.cached_property
    def size(self) -> int:
        """Samples of every unit where all have as many, else 0."""
        return self.sizes[0] if len(set(self.sizes)) == 1 else 0

    @functools.cached_property
    def slices(self) -> tuple[slice, ...]:
        """Where each unit stands in the batch."""
        found, start = [], 0
        for size in self.sizes:
            found.append(slice(start, start + size))
            start += size
        return tuple(found)

    @functools.cached_property
    def index(self) -> Tensor:
        """int64 (samples,): the unit of each sample."""
        return torch.repeat_interleave(torch.arange(len(self)), torch.tensor(self.sizes))

    def total(self, values: Tensor) -> Tensor:
        """Add up (samples, ...) to (units, ...)."""
        if self.size == 1:
            return values
        if self.size:
            return values.view(len(self), self.size, *values.shape[1:]).sum(1)
        out = values.new_zeros(len(self), *values.shape[1:])
        return out.index_add_(0, self.index.to(values.device), values)

    def spread(self, values: Tensor) -> Tensor:
        """Give every sample the value of its unit: (units,) to (samples,)."""
        return values if self.size == 1 else values[self.index.to(values.device)]

    def joined(self, a: Tensor) -> Tensor:
        """Lay the places of equal units' samples one behind the other: (samples, places, A) to (units, ..., A)."""
        return a if self.size == 1 else a.reshape(len(self), -1, a.shape[2])

    def products(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the sum over a unit's samples and places of ``a`` outer ``b``, (units, A, B).

        Parameters
        ----------
        a, b : (samples, places, A) and (samples, places, B).
        """
        if self.size:
            return batched(self.joined(a).transpose(1, 2), self.joined(b))
        return self.each(lambda own: a[own].flatten(0, 1).t() @ b[own].flatten(0, 1))

    def gram(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the squared norms (units,) of what :meth:`products` gives, without making it.

        ``||sum_p a_p b_p^T||^2 = sum_pq <a_p, a_q> <b_p, b_q>`` (Goodfellow 2015; Rochette et al. 2019), plus what
        rounding can have taken away, see :func:`contracted`.
        """
        if self.size:
            a, b = self.joined(a), self.joined(b)
            return contracted(torch.bmm(a, a.transpose(1, 2)), torch.bmm(b, b.transpose(1, 2)))
        return self.each(lambda own: _gram(a[own].flatten(0, 1), b[own].flatten(0, 1)))

    def each(self, work: Callable[[slice], Tensor]) -> Tensor:
        """Stack what ``work`` returns for each unit's place in the batch."""
        return torch.stack([work(own) for own in self.slices])


def _gram(a: Tensor, b: Tensor) -> Tensor:
    return contracted((a @ a.t())[None], (b @ b.t())[None])[0]


def contracted(a: Tensor, b: Tensor) -> Tensor:
    """Return the sums of the products of Gram matrices (n, places, places), (n,), never too small by rounding.

    The terms can cancel, and then a rounded sum may lie far below the squared norm, even below 0; a unit clipped by it
    would not be clipped. No term is larger than the product of the norms on its two diagonals, so the sum of all these
    products, times some units of rounding, bounds what is lost.
    """
    lengths = (a.diagonal(dim1=1, dim2=2) * b.diagonal(dim1=1, dim2=2)).clamp(min=0).sqrt().sum(1)
    lost = ROUNDINGS * torch.finfo(a.dtype).eps * lengths.square()
    return a.mul_(b).sum((1, 2)).clamp_(min=0).add_(lost)


def parts_of(sizes: Sequence[int], most: int) -> list[slice]:
    """Divide units of these sizes into runs of at most ``most`` samples, a larger unit by itself."""
    parts, start, held = [], 0, 0
    for index, size in enumerate(sizes):
        if held and held + size > most:
            parts.append(slice(start, index))
            start, held = index, 0
        held += size
    if start < len(sizes):
        parts.append(slice(start, len(sizes)))
    return parts
