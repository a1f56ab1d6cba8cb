"""How a net behaves while it is tried: nothing left to chance, no values read, nothing remembered.

:mod:`client.guards` compares what a net does with made-up pictures, alone and in company. That tells of other pictures
only if the net does the same sums for all. So while it is tried, what it does must not follow from the values of
tensors (then Python takes the same way for every picture), from random numbers besides dropout's, which is switched
off, or from anything that it keeps from one batch to the next.
"""

from __future__ import annotations

import functools
import hashlib
import types
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from fer_models.errors import PrivacyError

DROPOUTS = frozenset(
    (
        *(functional.dropout, functional.dropout1d, functional.dropout2d, functional.dropout3d),
        *(functional.alpha_dropout, functional.feature_alpha_dropout, torch.dropout),
    )
)
"""What drops parts of its first argument at random."""

READS = frozenset(
    (
        *(Tensor.item, Tensor.tolist, Tensor.numpy, Tensor.__array__, Tensor.__contains__),
        *(Tensor.__bool__, Tensor.__int__, Tensor.__float__, Tensor.__index__, Tensor.__complex__),
        *(torch.equal, Tensor.equal, torch.allclose, Tensor.allclose, torch.is_nonzero, Tensor.is_nonzero),
        *(torch.nonzero, Tensor.nonzero, torch.argwhere, Tensor.argwhere),
        *(torch.masked_select, Tensor.masked_select, torch.unique, Tensor.unique),
        *(torch.unique_consecutive, Tensor.unique_consecutive),
    )
)
"""What makes numbers or shapes of Python out of the values of a tensor."""

DEEPEST = 6
"""How many objects within objects are looked into for what a net remembers."""


class WithoutChance(TorchFunctionMode):
    """Switches dropout off while it is active, however it is called: its draws differ from batch to batch."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Answer a call of a torch function."""
        facts = dict(kwargs or {})
        if func in DROPOUTS:
            return args[0]
        if func is Tensor.bernoulli_:  # how layers draw what they keep
            return args[0].fill_(1)
        if func is functional.scaled_dot_product_attention and "dropout_p" in facts:
            facts["dropout_p"] = 0.0
        return func(*args, **facts)


class OnTrial(WithoutChance):
    """Switches dropout off, and refuses a net whose way through its code follows from the values of tensors.

    Raises
    ------
    PrivacyError : what one picture is could decide what is done with another.
    """

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Answer a call of a torch function."""
        if func in READS or _chooses(func, args, kwargs):
            raise PrivacyError(
                f"the net reads the values of a tensor ({func.__name__}), by which pictures could meet",
                where="model",
                cure="Write it with torch.where on each picture, or choose another net.",
            )
        return super().__torch_function__(func, types, args, kwargs)


def _chooses(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any] | None) -> bool:
    """Whether a call gives a tensor whose shape follows from values: a mask as an index, ``where`` without choices."""
    if func in (torch.where, Tensor.where):
        return len(args) + len(kwargs or {}) == 1
    if func is not Tensor.__getitem__:
        return False
    index = args[1] if isinstance(args[1], tuple) else (args[1],)
    return any(isinstance(each, Tensor) and each.dtype in (torch.bool, torch.uint8) for each in index)


def digest(tensor: Tensor) -> bytes:
    """Return a fingerprint of a tensor's bits, the same for the same bits alone."""
    values = tensor.detach().cpu().contiguous().reshape(-1)
    numbers = values.view(torch.uint8).numpy()
    return hashlib.blake2b(numbers.tobytes(), digest_size=16).digest()


def numbers_of(module: nn.Module) -> dict[str, bytes]:
    """Return name -> fingerprint of every parameter and buffer."""
    named = [*module.named_parameters(), *module.named_buffers()]
    return {name: digest(tensor) for name, tensor in named}


def chance(device: torch.device) -> bytes:
    """Return the state of torch's global random numbers, which any draw changes."""
    state = torch.get_rng_state().numpy().tobytes()
    return state + (torch.cuda.get_rng_state(device).numpy().tobytes() if device.type == "cuda" else b"")


def remembered(module: nn.Module) -> dict[str, object]:
    """Return what the layers of a net keep besides parameters, buffers and layers: attribute -> something comparable.

    Looks into lists, dictionaries, objects and closures. What lies in a module's globals or on disk is not seen.
    """
    found: dict[str, object] = {}
    seen: set[int] = {id(layer) for layer in module.modules()}
    for name, layer in module.named_modules():
        for key, value in vars(layer).items():
            if key not in ("_parameters", "_buffers", "_modules"):
                found[f"{name}.{key}".removeprefix(".")] = _token(value, seen, DEEPEST)
    return found


def _token(value: object, seen: set[int], depth: int) -> object:
    if value is None or isinstance(value, int | float | complex | str | bytes):
        return repr(value)
    if isinstance(value, Tensor):  # functorch keeps tensors without numbers, which tell nothing
        return tuple(value.shape), None if value.is_meta else digest(value)
    if isinstance(value, np.ndarray):
        return value.shape, value.tobytes()
    if isinstance(value, torch.Generator):
        return digest(value.get_state())
    if depth == 0 or id(value) in seen:
        return id(value)
    seen = seen | {id(value)}
    if isinstance(value, Mapping):
        return tuple((repr(key), _token(each, seen, depth - 1)) for key, each in value.items())
    return id(value), tuple(_token(each, seen, depth - 1) for each in _inside(value))


def _inside(value: object) -> Iterator[object]:
    if isinstance(value, list | tuple | deque):
        yield from value
    elif isinstance(value, set | frozenset):
        yield from sorted(value, key=repr)
    elif isinstance(value, types.FunctionType):
        for cell in value.__closure__ or ():
            try:
                yield cell.cell_contents
            except ValueError:  # not filled yet
                yield None
    elif not isinstance(value, type | types.ModuleType | types.MethodType | functools.partial):
        yield from getattr(value, "__dict__", {}).values()
