"""What must hold before a site's first private step; each guard refuses with the reason and the cure.

DP-SGD clips what one record or person adds to a sum. That bounds their influence only where nobody's gradient depends
on anybody else. No list of good layers and losses can promise that, so the net and the loss, as they will be used, are
tried on made-up pictures, alone and in company.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from client.bookkeeping.book import NOTHING, flat_order
from client.bookkeeping.gradients import PrivateGradients, unknown_parameters
from client.bookkeeping.layers import CURE
from client.bookkeeping.units import Units
from fer_models.errors import PrivacyError
from fer_models.norms import find_batch_coupled

TOLERANCE = 1e-3
"""Share of a gradient by which two ways to compute it may differ; rounding gives about 1e-6."""

Losses = Callable[[Tensor, Tensor], Tensor]
"""(pictures (B, ...), targets (B, ...)) -> losses (B,)."""

DROPOUTS = (
    *(functional.dropout, functional.dropout1d, functional.dropout2d, functional.dropout3d),
    *(functional.alpha_dropout, functional.feature_alpha_dropout, torch.dropout),
)
"""What drops parts of its first argument at random."""


def require_separate(module: nn.Module) -> None:
    """Refuse layers that mix the pictures of a batch: BatchNorm in any mode, also frozen, also timm's.

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


def require_apart(function: Callable[[Tensor], Tensor], x: Tensor, what: str) -> None:
    """Probe the Jacobian of a function of a batch: sample j's answer must not react to sample i.

    Catches attention across the batch, mixup, contrasts and batch statistics, in inputs, nets and losses.

    Parameters
    ----------
    function : (B, ...) -> (B, ...), differentiable.
    x : made-up input, B at least 2.

    Raises
    ------
    PrivacyError : an entry off the diagonal is not exactly 0, or the answer has no entry for each sample.
    """
    x = x.detach().clone().requires_grad_()
    answer = function(x)
    if answer.dim() == 0 or len(answer) != len(x):
        raise PrivacyError(
            f"{what} gives {tuple(answer.shape)} for {len(x)} samples, so they cannot be clipped one by one",
            where="privacy",
            cure="Give one value a sample, without a mean or a sum over the batch.",
        )
    for index in range(len(x)):
        (found,) = torch.autograd.grad(answer[index].sum(), x, retain_graph=True, allow_unused=True)
        others = torch.arange(len(x), device=x.device) != index
        # A kink's NaN is no reaction; that answers are those of a sample alone is compared besides.
        if found is not None and bool((found[others].nan_to_num(0.0) != 0).any()):
            raise PrivacyError(
                f"{what} of one picture reacts to another picture of the batch", where="privacy", cure=CURE
            )


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
        if func in DROPOUTS:
            return args[0]
        if func is Tensor.bernoulli_:  # how layers draw what they keep
            return args[0].fill_(1)
        return func(*args, **(kwargs or {}))


def prove(gradients: PrivateGradients, losses: Losses, x: Tensor, targets: Tensor) -> None:
    """Refuse a net and a loss whose clipped sums would not be right, tried on made-up samples.

    The clipped sum over three samples must be the sum of what each gives alone by a plain backward; no buffer may
    change; losses must not react to each other. What the net did is remembered, and a later batch with which it does
    anything else is refused.

    Parameters
    ----------
    gradients : of the net; layers that the book does not know are given to Opacus, where that is allowed.
    losses : the net's losses, as training will compute them.
    x, targets : made-up samples, (3, ...).

    Raises
    ------
    PrivacyError : with what went wrong and where.
    """
    module = gradients.module
    require_separate(module)
    gradients.proven = None
    try:
        with WithoutChance():
            _require_still(module, lambda: losses(x, targets))
            require_apart(lambda given: losses(given, targets), x, "the loss")
            units = Units.single(len(x))
            with gradients.recording(units):
                tried = losses(x, targets)
            unknown = unknown_parameters(gradients, tried)
            if unknown:
                gradients.serve_slowly(unknown)
            alone = _alone(gradients, losses, x, targets)
            norms = [float(torch.cat([g.flatten() for g in each.values()]).norm()) for each in alone]
            for clip in (0.5 * min(norms) or 1.0, 2.0 * max(norms) or 1.0):  # all are clipped, none is
                with gradients.recording(units):
                    tried = losses(x, targets)
                calls = gradients.calls
                _require_equal(gradients.settle(tried.sum(), clip).sums, alone, norms, clip)
    except RuntimeError as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise PrivacyError(
            f"the net fails when its gradients are told apart: {reason}",
            where=type(module).__name__,
            cure=CURE,
        ) from error
    finally:
        gradients.forget()
    gradients.proven = calls


def _require_still(module: nn.Module, run: Callable[[], Tensor]) -> None:
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    with torch.no_grad():
        run()
    for name, buffer in module.named_buffers():
        if name not in before or not torch.equal(before[name], buffer):
            raise PrivacyError(
                "a buffer of the net changes in training, and would carry pictures out unprotected",
                where=name,
                cure=CURE,
            )


def _alone(
    gradients: PrivateGradients, losses: Losses, x: Tensor, targets: Tensor
) -> list[dict[str, Tensor]]:
    """Return each sample's gradient by name, in the flat order, from plain backwards over one sample each."""
    found = []
    for index in range(len(x)):
        own = slice(index, index + 1)
        with gradients.unrecorded():
            losses(x[own], targets[own]).sum().backward()
        each = {n: p.grad for n, p in gradients.parameters.items() if p.grad is not None}
        found.append({name: flat_order(grad[None])[0].clone() for name, grad in each.items()})
        gradients.forget()
    return found


def _require_equal(
    sums: dict[str, Tensor], alone: list[dict[str, Tensor]], norms: list[float], clip: float
) -> None:
    """Compare a clipped sum with what each sample gives alone."""
    for name in dict.fromkeys([*sums, *(name for each in alone for name in each)]):
        parts = [
            each[name] * min(1.0, clip / (norm + NOTHING))
            for each, norm in zip(alone, norms, strict=True)
            if name in each
        ]
        expected = torch.stack(parts).sum(0) if parts else None
        found = sums.get(name)
        if found is None:
            found = torch.zeros_like(expected)  # type: ignore[arg-type]
        missed = float((found - (expected if expected is not None else 0)).norm())
        if not missed <= TOLERANCE * (float(found.norm()) + 1e-2 * clip):
            raise PrivacyError(
                "a sample's gradient is not what it is when the sample is alone", where=name, cure=CURE
            )
