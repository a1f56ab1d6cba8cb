"""Clipped sums of a net's gradients, unit by unit, at about the price of a plain gradient."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from opacus.grad_sample.grad_sample_module import GradSampleHooks
from torch import Tensor, nn

from client.bookkeeping.book import Book, Call, Settled, Source, flat_order
from client.bookkeeping.layers import CURE
from client.bookkeeping.mode import BookMode
from client.bookkeeping.units import Units
from fer_models.errors import PrivacyError

OPACUS_KEEPS = ("activations", "max_batch_len")
"""What Opacus's hooks leave on the layers that they serve."""


class ContiguousHooks(GradSampleHooks):
    """Opacus's hooks, which hand its formulas tensors in the one memory layout that they are right for.

    Opacus unfolds the input of a convolution with ``as_strided`` as if it were contiguous. In ``channels_last``,
    which the weights of a FlatModel bring about, it reads other pixels and says nothing.
    """

    def rearrange_grad_samples(
        self, *, module: nn.Module, backprops: Tensor, loss_reduction: str, batch_first: bool
    ) -> tuple[list[Tensor], Tensor]:
        """Return a layer's inputs and the gradients of its outputs, contiguous."""
        inputs, gradients = super().rearrange_grad_samples(
            module=module, backprops=backprops, loss_reduction=loss_reduction, batch_first=batch_first
        )
        return [each.contiguous() for each in inputs], gradients.contiguous()


class PrivateGradients:
    """Makes clipped sums of one net's gradients.

    ::

        gradients = PrivateGradients(net)
        with gradients.recording(Units.single(len(x))):
            losses = loss(net(x), y)  # (samples,)
        settled = gradients.settle(losses.sum(), clip=1.0)  # one backward

    Between the two, nothing else may use the net. Parameters' ``.grad`` is None afterwards.

    Parameters
    ----------
    module : the net; parameters that do not require a gradient are left alone.
    allow_slow : let Opacus's own formulas serve layers that the book does not know.
    part_of : name of a parameter -> the part, from 0, with which :meth:`settle` may clip it apart from the others.
    """

    def __init__(
        self, module: nn.Module, *, allow_slow: bool = False, part_of: Callable[[str], int] = lambda _: 0
    ) -> None:
        self.module = module
        self.parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self.parts = {name: part_of(name) for name in self.parameters}
        self.slow: dict[str, nn.Module] = {}
        self._proven: list[Call] | None = None
        self._frozen = [p for p in module.parameters() if not p.requires_grad]
        self._allow_slow, self._hooks = allow_slow, list[GradSampleHooks]()
        self._book = Book(self.parameters, self.parts)
        self._is_recording = False
        if any(p.is_cuda for p in module.parameters()):
            # TF32 rounds to 10 bits what products are made of: a clipped sum would be longer than its norms say.
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        self._handles = [
            module.register_forward_pre_hook(self._begin),
            module.register_forward_hook(self._end),
        ]
        self._aside = [layer for layer in _without_parameters(module) if "forward" not in vars(layer)]
        for layer in self._aside:
            layer.forward = functools.partial(self._unseen, layer.forward)

    def _begin(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:  # noqa: ARG002 - torch's signature
        self._book.position = 0

    def _end(self, module: nn.Module, inputs: Any, output: Any) -> None:  # noqa: ARG002 - torch's signature
        if self._is_recording:
            self._book.end()

    @property
    def proven(self) -> list[Call] | None:
        """What the net did when it was tried; None before. Layers are looked for at these places only."""
        return self._proven

    @proven.setter
    def proven(self, calls: list[Call] | None) -> None:
        self._proven = calls
        self._book.schedule = None if calls is None else frozenset(at for at, *_ in calls)

    def _unseen(self, forward: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Run a part of a net without looking at its calls, each of which would cost some microseconds.

        While the net is being tried they are looked at, and dropout is switched off there too.
        """
        if self.proven is not None:
            with torch._C.DisableTorchFunction():
                return forward(*arguments, **named)
        position = self._book.position
        try:
            return forward(*arguments, **named)
        finally:
            self._book.position = position

    @contextmanager
    def recording(self, units: Units) -> Iterator[None]:
        """Let the book see what the net does with a batch of these units."""
        for parameter in self.parameters.values():
            parameter.grad = None
        self._book.open(units)
        self._is_recording = True
        try:
            with BookMode(self._book):
                yield
        finally:
            self._is_recording = False

    def settle(
        self,
        total: Tensor,
        clip: float | Sequence[float],
        weights: Sequence[Tensor | None] | None = None,
    ) -> Settled:
        """Go backward from the sum of losses and return the clipped sum; see :meth:`Book.settle`."""
        if self.proven is not None and self._book.calls != self.proven:
            raise PrivacyError(
                "the net does not do with this batch what it did when it was tried", where="model", cure=CURE
            )
        if any(parameter.requires_grad for parameter in self._frozen):
            raise PrivacyError(
                "layers have begun to learn that were fixed when the net was tried", where="model", cure=CURE
            )
        with quiet_hooks() if self._hooks else nullcontext():
            total.backward()
        if self._hooks:
            self._take_slow()
        return self._book.settle(clip, weights)

    @contextmanager
    def unrecorded(self) -> Iterator[None]:
        """Let the net run for a while as if nobody kept a book, Opacus's hooks included."""
        for hooks in self._hooks:
            hooks.disable_hooks()
        try:
            with quiet_hooks():
                yield
        finally:
            for hooks in self._hooks:
                hooks.enable_hooks()

    @property
    def may_wait(self) -> frozenset[int]:
        """Positions of convolutions in the batch that is being recorded that a group norm followed at once."""
        return frozenset(self._book.followed)

    @property
    def waits(self) -> bool:
        """Whether any convolution waits for its norm."""
        return bool(self._book.waiting)

    def let_wait(self, positions: frozenset[int]) -> None:
        """Let convolutions at these positions wait for their norm; see :mod:`client.bookkeeping.first`."""
        self._book.waiting = positions

    @property
    def calls(self) -> list[Call]:
        """What the net did with the batch that is being recorded."""
        return list(self._book.calls)

    def forget(self) -> None:
        """Drop what a broken step has left behind."""
        self._book.open(Units(()))
        for parameter in self.parameters.values():
            parameter.grad = None
            if hasattr(parameter, "grad_sample"):
                parameter.grad_sample = None  # type: ignore[attr-defined]

    # Layers that Opacus serves

    def serve_slowly(self, names: list[str]) -> None:
        """Let Opacus's hooks serve the modules that own these parameters.

        Raises
        ------
        PrivacyError : slow formulas are not allowed, or Opacus has none for a module.
        """
        owners = {name.rpartition(".")[0]: name for name in names}
        if not self._allow_slow:
            kinds = sorted({type(self.module.get_submodule(owner)).__name__ for owner in owners})
            raise PrivacyError(
                f"there are no per-sample gradients for {', '.join(kinds)}",
                where=", ".join(names[:3]) + (", ..." if len(names) > 3 else ""),
                cure="Freeze the layer, choose another net, or set privacy.allow_slow=true to take Opacus's formulas.",
            )
        for owner in owners:
            layer = self.module.get_submodule(owner)
            self._hooks.append(_attached(layer, owner))
            self.slow[owner] = layer
            self._book.leave_out(layer.parameters())

    def _take_slow(self) -> None:
        for name, parameter in self.parameters.items():
            rows = getattr(parameter, "grad_sample", None)
            if rows is None:
                continue
            if not isinstance(rows, Tensor) or len(rows) != self._book.units.samples:
                raise PrivacyError("a layer is used several times, or not by sample", where=name, cure=CURE)
            self._book.keep(Source(parameter, (parameter,)), self._book.units.total(flat_order(rows)))
            parameter.grad = parameter.grad_sample = None  # type: ignore[attr-defined]

    def close(self) -> None:
        """Take Opacus's hooks off the net, and leave no trace."""
        for hooks in self._hooks:
            hooks.cleanup()
        for layer in self.slow.values():
            for kept in OPACUS_KEEPS:
                layer.__dict__.pop(kept, None)
        self._hooks, self.slow = [], {}
        for handle in self._handles:
            handle.remove()
        for layer in self._aside:
            vars(layer).pop("forward", None)
        self._aside = []
        self.forget()


def _without_parameters(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the largest parts of a net in which nothing learns, save torch's own layers, which are one call."""
    if any(p.requires_grad for p in module.parameters()):
        for child in module.children():
            yield from _without_parameters(child)
    elif not type(module).__module__.startswith("torch."):
        yield module


def _attached(layer: nn.Module, name: str) -> GradSampleHooks:
    try:
        return ContiguousHooks(layer, loss_reduction="sum")
    except RuntimeError as error:
        reasons = error.args[0] if error.args and isinstance(error.args[0], list) else [error]
        raise PrivacyError(
            f"Opacus has no per-sample gradients either: {reasons[0]}", where=name, cure=CURE
        ) from error


@contextmanager
def quiet_hooks() -> Iterator[None]:
    """Silence torch's warning that the first layer's input needs no gradient; Opacus needs none there."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Full backward hook is firing")
        yield


def unknown_parameters(gradients: PrivateGradients, losses: Tensor) -> list[str]:
    """Return the names of parameters to which a backward gives an ordinary gradient, which the book cannot divide."""
    with quiet_hooks():
        losses.sum().backward()
    found = [name for name, p in gradients.parameters.items() if p.grad is not None]
    gradients.forget()
    return found
