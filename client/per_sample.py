"""Per-sample gradients by Opacus's hooks: which nets have them, and a proof that they are right.

Opacus has a formula for each kind of layer. A formula that is wrong in some case fails without a word, so a net is
tried on made-up pictures before it sees a real one.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from opacus.grad_sample.grad_sample_module import GradSampleHooks
from opacus.validators import ModuleValidator

from fer_models.errors import PrivacyError
from fer_models.norms import find_batch_coupled

TOLERANCE = 1e-3
"""Share of a parameter's gradient by which two ways to compute it may differ; rounding gives about 1e-6."""

CURE = "Choose another net, or train without privacy (privacy=none)."


def require_private(module: torch.nn.Module) -> None:
    """Refuse a net with a layer for which DP-SGD's guarantee does not hold.

    Raises
    ------
    PrivacyError : names the layers and the cure.
    """
    coupled = find_batch_coupled(module)
    if coupled:
        raise PrivacyError(
            f"{len(coupled)} layers mix the pictures of a batch, so no record's gradient can be bounded",
            where=", ".join(coupled[:3]) + (", ..." if len(coupled) > 3 else ""),
            cure="Use model.norm=gn (or ws), which normalises each picture by itself.",
        )
    errors = ModuleValidator.validate(module, strict=False)
    if errors:
        raise PrivacyError(
            f"Opacus refuses the net: {errors[0]}",
            where=type(module).__name__,
            cure=CURE,
        )


class ContiguousHooks(GradSampleHooks):
    """Opacus's hooks, which hand its formulas tensors in the one memory layout that they are right for.

    Opacus unfolds the input of a convolution with ``as_strided`` as if it were contiguous. In ``channels_last``,
    which the weights of a FlatModel bring about, it reads other pixels and says nothing.
    """

    def rearrange_grad_samples(
        self, *, module: torch.nn.Module, backprops: torch.Tensor, loss_reduction: str, batch_first: bool
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Return a layer's inputs and the gradients of its outputs, contiguous."""
        inputs, gradients = super().rearrange_grad_samples(
            module=module, backprops=backprops, loss_reduction=loss_reduction, batch_first=batch_first
        )
        return [each.contiguous() for each in inputs], gradients.contiguous()


def attach(module: torch.nn.Module) -> GradSampleHooks:
    """Make every backward leave ``grad_sample`` (batch, *shape) at each trainable parameter, until :func:`detach`.

    Raises
    ------
    PrivacyError : Opacus has no formula for a layer.
    """
    try:
        return ContiguousHooks(module, loss_reduction="sum")
    except RuntimeError as error:  # a trainable layer with buffers, for one
        reasons = error.args[0] if error.args and isinstance(error.args[0], list) else [error]
        raise PrivacyError(
            f"Opacus has no per-sample gradients for the net: {reasons[0]}",
            where=type(module).__name__,
            cure=CURE,
        ) from error


def detach(module: torch.nn.Module, hooks: GradSampleHooks) -> None:
    """Take the hooks off, and with them all gradients and all that a broken step has left behind."""
    hooks.cleanup()
    for layer in module.modules():
        for kept in ("activations", "max_batch_len"):
            layer.__dict__.pop(kept, None)
    for parameter in module.parameters():
        parameter.grad = parameter.summed_grad = None  # type: ignore[attr-defined]


@contextmanager
def quiet_hooks() -> Iterator[None]:
    """Silence torch's warning that the first layer's input needs no gradient; Opacus needs none there."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Full backward hook is firing")
        yield


def prove_private(module: torch.nn.Module, x: torch.Tensor) -> None:
    """Refuse a net whose per-sample gradients are wrong on made-up pictures ``x`` (B, C, H, W), B at least 2.

    They must add up to the gradient that torch computes, and a sample's must not depend on the other samples. The net
    is left without gradients.

    Raises
    ------
    PrivacyError : they are not, or they cannot be computed.
    """
    require_private(module)
    first, sums = _tried(module, x)
    second, _ = _tried(module, torch.cat([x[:-1], -x[-1:]]))
    scale = float(torch.stack([each.norm() for each in first.values()]).norm())
    for name, each in first.items():
        most = TOLERANCE * max(float(each.norm()), float(sums[name].norm())) + 1e-2 * TOLERANCE * scale
        if len(each) != len(x):
            raise PrivacyError(
                f"gradients of {len(each)} samples for {len(x)} pictures", where=name, cure=CURE
            )
        if not float((each.sum(0) - sums[name]).norm()) <= most:
            raise PrivacyError(
                "the per-sample gradients do not add up to the gradient", where=name, cure=CURE
            )
        if not float((each - second[name])[:-1].norm()) <= most:
            raise PrivacyError("one picture changes the gradient of another", where=name, cure=CURE)


def _tried(
    module: torch.nn.Module, x: torch.Tensor
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return per-sample gradients and the gradient of each trainable parameter, with the same dropout each time."""
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    accelerators = [x.device] if x.device.type == "cuda" else []
    hooks = attach(module)
    try:
        with torch.random.fork_rng(devices=accelerators), quiet_hooks():
            torch.default_generator.manual_seed(0)
            if accelerators:
                torch.cuda.manual_seed(0)
            for parameter in trained.values():
                parameter.grad = None
            (-module(x).log_softmax(1)[:, 0].sum()).backward()
        idle = [name for name, p in trained.items() if not isinstance(p.grad_sample, torch.Tensor)]  # type: ignore[attr-defined]
        if idle:
            raise PrivacyError("a parameter has no part in the answer, or several", where=idle[0], cure=CURE)
        samples = {name: p.grad_sample.clone() for name, p in trained.items()}  # type: ignore[attr-defined]
        return samples, {name: p.grad.clone() for name, p in trained.items()}  # type: ignore[union-attr]
    except RuntimeError as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise PrivacyError(
            f"Opacus's hooks fail on the net: {reason}", where=type(module).__name__, cure=CURE
        ) from error
    finally:
        detach(module, hooks)
