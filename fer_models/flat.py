"""A net whose parameters are views of one flat vector, and whose gradients are views of another.

Updates, optimizers, clipping, masks and messages then work on one array with one operation each.

The canonical order of the vector, the same on every machine: parameters in the order of
``module.named_parameters()``, each in C order, except that weights with 4 dimensions are laid out as
(out, height, width, in). Seen as (out, in, height, width) such a weight is contiguous in ``channels_last``,
the layout that torch's CPU convolutions compute in, so no convolution has to reorder its weight.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fer_models.errors import ModelError
from fer_models.weights import copy_state


@dataclass(frozen=True)
class Slot:
    """Where one tensor lies: its name, its usual shape, and the half-open range of its numbers."""

    name: str
    shape: tuple[int, ...]
    start: int
    stop: int

    def view(self, flat: Tensor) -> Tensor:
        """Return this tensor as a view of ``flat`` (..., length): leading dimensions, then ``shape``."""
        part, lead = flat[..., self.start : self.stop], flat.shape[:-1]
        if len(self.shape) != 4:
            return part.view(*lead, *self.shape)
        fan_out, fan_in, height, width = self.shape
        if fan_in == 1:  # alike in both layouts: these strides leave the choice to the pictures
            return part.view(*lead, *self.shape)
        return part.view(*lead, fan_out, height, width, fan_in).movedim(-1, -3)


@dataclass(frozen=True)
class Ranges:
    """Which numbers of a vector are meant: half-open ranges, ascending, none touching the next.

    Attributes
    ----------
    ranges : (start, stop) of each.
    length : of the whole vector.
    """

    ranges: tuple[tuple[int, int], ...]
    length: int

    def __len__(self) -> int:
        return sum(stop - start for start, stop in self.ranges)

    @functools.cached_property
    def whole(self) -> bool:
        """Whether every number is meant."""
        return len(self) == self.length

    def parts(self, values: Any) -> list[Any]:
        """Return the views of ``values`` (..., length), a tensor or an array."""
        return [values] if self.whole else [values[..., start:stop] for start, stop in self.ranges]

    def take(self, values: Any) -> Any:
        """Return the numbers that are meant of ``values`` (..., length), one after the other: a view, if one range."""
        found = self.parts(values)
        if len(found) == 1:
            return found[0]
        return torch.cat(found, -1) if isinstance(values, Tensor) else np.concatenate(found, -1)

    def put(self, values: Any, part: Any) -> None:
        """Write ``part`` (..., len(self)), as :meth:`take` returns it, to its places in ``values`` (..., length)."""
        at = 0
        for view in self.parts(values):
            view[...] = part[..., at : at + view.shape[-1]]
            at += view.shape[-1]


def _slots(tensors: Mapping[str, Tensor], start: int = 0) -> tuple[Slot, ...]:
    slots = []
    for name, tensor in tensors.items():
        slots.append(Slot(name, tuple(tensor.shape), start, start + tensor.numel()))
        start += tensor.numel()
    return tuple(slots)


class FlatModel:
    """Own ``module`` and keep its numbers in flat vectors.

    The module is changed in place: its parameters and persistent floating buffers become views. Move it to
    its device and dtype first; ``module.to(...)`` afterwards would cut the views (:meth:`is_intact` tells).

    Buffers that learn (BatchNorm's running mean and variance) follow the parameters in ``full_vector``, so
    that averaging ``full_vector`` over sites averages them too, as is usual; optimizers and gradients know
    ``vector`` only. Integer buffers (BatchNorm's count of batches) stay where they are. For nets without
    BatchNorm, ``full_vector`` and ``vector`` are the same numbers.

    Attributes
    ----------
    module : the net; calling the FlatModel calls it.
    full_vector : float (P + Q,), everything that a site sends or receives.
    vector : float (P,), the parameters, a view of ``full_vector``. Its ``.grad`` is ``gradient``, so any
        elementwise torch optimizer takes ``[flat.vector]`` and steps once for the whole net.
    gradient : float (P,); every parameter's ``.grad`` is a view of it, and backward adds to it in place.
    buffers_vector : float (Q,), the buffers, a view of ``full_vector``.
    slots, buffer_slots : names, shapes and ranges within ``full_vector``.
    trained : the numbers of ``full_vector`` that can change: parameters with ``requires_grad``, and the buffers.

    Raises
    ------
    ModelError : the module mixes dtypes or devices.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        parameters, buffers = dict(module.named_parameters()), _learning_buffers(module)
        like = _common(parameters | buffers)
        self.slots = _slots(parameters)
        count = self.slots[-1].stop
        self.buffer_slots = _slots(buffers, count)
        length = self.buffer_slots[-1].stop if buffers else count
        self.full_vector = torch.empty(length, dtype=like.dtype, device=like.device)
        self.vector, self.buffers_vector = self.full_vector[:count], self.full_vector[count:]
        self.gradient = torch.zeros_like(self.vector)
        self.vector.grad = self.gradient
        self._pairs: list[tuple[nn.Parameter, Tensor]] = []
        for slot, parameter in zip(self.slots, parameters.values(), strict=True):
            view = slot.view(self.full_vector)
            view.copy_(parameter.data)
            parameter.data = view
            self._pairs.append((parameter, slot.view(self.gradient)))
        for slot, buffer in zip(self.buffer_slots, buffers.values(), strict=True):
            view = slot.view(self.full_vector)
            view.copy_(buffer)
            buffer.data = view
        self._attach()

    def __call__(self, x: Tensor) -> Tensor:
        """Return the module's answer to ``x``."""
        return self.module(x)

    def __len__(self) -> int:
        return len(self.full_vector)

    @functools.cached_property
    def trained(self) -> Ranges:
        """What of ``full_vector`` local work can change; asked for once the parameters that learn are chosen."""
        learning = [slot for slot, (p, _) in zip(self.slots, self._pairs, strict=True) if p.requires_grad]
        return _joined([*learning, *self.buffer_slots], len(self))

    @functools.cached_property
    def learning(self) -> Ranges:
        """What of ``vector`` an optimizer moves: ``trained`` without the buffers."""
        count = len(self.vector)
        within = [(start, min(stop, count)) for start, stop in self.trained.ranges if start < count]
        return Ranges(tuple(within), count)

    def _attach(self) -> None:
        for parameter, gradient in self._pairs:
            if parameter.grad is not gradient and parameter.requires_grad:
                parameter.grad = gradient

    def zero_grad(self) -> None:
        """Set the gradient to zero with one fill, and give it back to parameters that lost their view."""
        self.gradient.zero_()
        self._attach()

    def gather_gradient(self) -> Tensor:
        """Copy gradients that another engine put into ``.grad`` to their place, and return ``gradient``.

        Needed after code that assigns ``parameter.grad`` instead of adding to it, such as Opacus's optimizer;
        after a plain backward it copies nothing. A parameter whose ``.grad`` is None counts as zero.
        """
        for parameter, gradient in self._pairs:
            if parameter.grad is None:
                gradient.zero_()
            elif parameter.grad is not gradient:
                gradient.copy_(parameter.grad)
        self._attach()
        return self.gradient

    def load_(self, values: Tensor | NDArray[np.floating]) -> None:
        """Overwrite ``full_vector`` with ``values`` (P + Q,), in canonical order.

        Raises
        ------
        ModelError : the length or the dtype differs.
        """
        given = torch.as_tensor(values)
        if given.shape != self.full_vector.shape or given.dtype != self.full_vector.dtype:
            raise ModelError(
                f"{tuple(given.shape)} numbers of {given.dtype} for a model of {len(self)} numbers of "
                f"{self.full_vector.dtype}",
                cure="Use the vector of a model with the same specification.",
            )
        self.full_vector.copy_(given)

    def views(self, values: Tensor) -> dict[str, Tensor]:
        """Return name -> view of ``values`` (..., P + Q), for ``torch.func.functional_call`` and for vmap.

        Leading dimensions stay in front: (sites, P + Q) gives each tensor a first dimension of sites.
        """
        return {slot.name: slot.view(values) for slot in (*self.slots, *self.buffer_slots)}

    def to_state(self) -> dict[str, Tensor]:
        """Return copies of all tensors by name, contiguous in torch's usual (out, in, height, width)."""
        state = self.module.state_dict()
        return {
            name: tensor.detach().clone(memory_format=torch.contiguous_format)
            for name, tensor in state.items()
        }

    def from_state(self, state: Mapping[str, Tensor]) -> None:
        """Copy tensors by name into the flat vectors; names, shapes and dtypes must agree exactly.

        Raises
        ------
        ModelError : they do not, or a value is not finite.
        """
        copy_state(self.module, state, where="state")

    def is_intact(self) -> bool:
        """Return whether parameters, buffers and gradients still lie in the flat vectors."""
        full, grad = self.full_vector.data_ptr(), self.gradient.data_ptr()
        width = self.full_vector.element_size()
        buffers = dict(self.module.named_buffers())
        return (
            all(
                p.data_ptr() == full + width * s.start
                for (p, _), s in zip(self._pairs, self.slots, strict=True)
            )
            and all(
                p.grad is not None and p.grad.data_ptr() == grad + width * s.start
                for (p, _), s in zip(self._pairs, self.slots, strict=True)
                if p.requires_grad
            )
            and all(buffers[s.name].data_ptr() == full + width * s.start for s in self.buffer_slots)
        )


def _joined(slots: list[Slot], length: int) -> Ranges:
    """Return the ranges of ``slots``, in their order, those that touch made one."""
    found: list[tuple[int, int]] = []
    for slot in slots:
        if found and found[-1][1] == slot.start:
            found[-1] = (found[-1][0], slot.stop)
        else:
            found.append((slot.start, slot.stop))
    return Ranges(tuple(found), length)


def _learning_buffers(module: nn.Module) -> dict[str, Tensor]:
    """Return the persistent floating buffers; constants are registered as non-persistent."""
    persistent = module.state_dict().keys()
    return {name: b for name, b in module.named_buffers() if name in persistent and b.is_floating_point()}


def _common(tensors: Mapping[str, Tensor]) -> Tensor:
    """Return one tensor that stands for the dtype and device of all."""
    kinds = {(tensor.dtype, tensor.device) for tensor in tensors.values()}
    if len(kinds) != 1:
        raise ModelError(
            f"the model mixes {len(kinds)} kinds of numbers or devices",
            cure="Convert the module to one floating dtype and one device first.",
        )
    return next(iter(tensors.values()))
