"""What must hold before a site's first private step; each guard refuses with the reason and the cure.

DP-SGD clips what one record or person adds to a sum. That bounds their influence only where nobody's gradient depends
on anybody else. No list of good layers and losses can promise that, so the net and the loss, as they will be used, are
tried on made-up pictures, alone and in company.

What rests on trust: the code of a net is the site's own, and a trial sees what it does with a few made-up batches. A
net that is written to behave until then is not found out: one that mixes only batches of a size that was not tried, or
from its thousandth call, that keeps things in globals or files, or whose own backward decides by values. Each later
step only checks that the layers are called as they were on trial.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from client.bookkeeping.book import NOTHING, flat_order
from client.bookkeeping.gradients import OPACUS_KEEPS, PrivateGradients, unknown_parameters
from client.bookkeeping.layers import CURE
from client.bookkeeping.units import Units
from client.trial import OnTrial, chance, numbers_of, remembered
from fer_models.errors import PrivacyError
from fer_models.norms import find_batch_coupled

TOLERANCE = 1e-3
"""Share of a gradient by which two ways to compute it may differ; rounding gives about 1e-6."""

SAME = 1e-5
"""Share of a loss by which it may differ between two batches of one size; the sums are the same, number by number."""

COMPANY = (0, 1, 2, 1, 0, 2, 0, 1)
"""The samples of a larger batch: what is done only with more than three, or with pairs, shows there."""

STRANGERS = ((0, float("nan")), (7, float("nan")), (4, 1e3))
"""(the one of the larger batch that stays as it is, by what all others are multiplied). NaN passes through any sum."""

PICTURES, AGAIN = 4, 2
"""With how many samples a net is tried at most, where the first stood at a kink, and how many of the others must do."""

NEIGHBOUR = 1e-5
"""Share of the samples' deviation within which a kink is looked for; rounding moves activations by some 1e-7."""

Losses = Callable[[Tensor, Tensor], Tensor]
"""(pictures (B, ...), targets (B, ...)) -> losses (B,)."""


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


def prove(gradients: PrivateGradients, losses: Losses, x: Tensor, targets: Tensor) -> None:
    """Refuse a net and a loss whose clipped sums would not be right, tried on made-up samples.

    The clipped sum must be the sum of what each sample gives alone by a plain backward, over three samples and over
    more, whatever the others are; losses must not react to each other; and nothing may be read, drawn or remembered
    (:mod:`client.trial`). What the net did is noted, and a later batch with which it does anything else is refused.

    Where gradients differ and a sample stands at a kink of an activation, other samples are tried, of which two have to
    pass: deep nets of ReLUs often stand at one, so a kink must not make of one chance four.

    Parameters
    ----------
    gradients : of the net; layers that the book does not know are given to Opacus, where that is allowed.
    losses : the net's losses, as training will compute them.
    x, targets : made-up samples, (3, ...).

    Raises
    ------
    PrivacyError : with what went wrong and where.
    """
    require_separate(gradients.module)
    needed = 1
    for seed in range(PICTURES):
        given = x if seed == 0 else _moved(x, seed, 0.1)
        try:
            _try_waiting(gradients, losses, given, targets)
        except UnequalError as error:
            needed = AGAIN if seed == 0 else needed
            if PICTURES - 1 - seed < needed or not _at_a_kink(gradients, losses, given, targets, error.where):
                raise
        else:
            needed -= 1
            if not needed:
                return


class UnequalError(PrivacyError):
    """A sample's gradient is another in company."""


def _moved(x: Tensor, seed: int, share: float) -> Tensor:
    """Return samples with noise of a share of their deviation, alike for both signs of ``share``."""
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype)
    layout = torch.channels_last if x.dim() == 4 else torch.contiguous_format
    return x + share * x.std() * noise.to(x.device, memory_format=layout)


def _at_a_kink(gradients: PrivateGradients, losses: Losses, x: Tensor, targets: Tensor, where: str) -> bool:
    """Return whether a sample that is alone has another gradient next to where it is, as at the kink of a ReLU.

    There rounding takes either side, and which one depends on how many samples are summed up together, though none
    reacts to another. Company is no part of this.

    Parameters
    ----------
    where : the parameter whose gradient was another; of another word, all are looked at.
    """
    here = _alone(gradients, losses, x, targets)
    for share in (NEIGHBOUR, -NEIGHBOUR):
        for each, other in zip(here, _alone(gradients, losses, _moved(x, 0, share), targets), strict=True):
            looked_at = {where: each[where]} if where in each else each
            jumps = (_length(other[name] - own) > TOLERANCE * _length(own) for name, own in looked_at.items())
            if any(jumps):
                return True
    return False


def _try_waiting(gradients: PrivateGradients, losses: Losses, x: Tensor, targets: Tensor) -> None:
    """Try a net whose first convolution waits for its norm, and without that where something else looks at it."""
    try:
        _try(gradients, losses, x, targets, wait=True)
    except PrivacyError:
        if not gradients.waits:
            raise
        _try(gradients, losses, x, targets, wait=False)


def _try(gradients: PrivateGradients, losses: Losses, x: Tensor, targets: Tensor, *, wait: bool) -> None:
    module = gradients.module
    gradients.proven = None
    gradients.let_wait(frozenset())
    numbers, drawn = numbers_of(module), chance(x.device)
    try:
        with gradients.unrecorded():  # whoever serves slowly has his hooks there in a second try
            require_apart(lambda given: _plain(losses, given, targets), x, "the loss")
        found = _recorded(gradients, losses, x, targets)
        waiting = gradients.may_wait if wait else frozenset()
        served = tuple(f"{owner}." for owner in gradients.slow)  # whose ordinary gradients stay
        unknown = [each for each in unknown_parameters(gradients, found) if not each.startswith(served)]
        if unknown:
            gradients.serve_slowly(unknown)
        gradients.let_wait(waiting)
        kept = remembered(module)
        alone = _alone(gradients, losses, x, targets)
        norms = [math.hypot(*map(_length, each.values())) for each in alone]
        for clip in (0.5 * min(norms) or 1.0, 2.0 * max(norms) or 1.0):  # all are clipped, none is
            tried = _recorded(gradients, losses, x, targets)
            calls = gradients.calls
            _require_equal(gradients.settle(tried.sum(), clip).sums, alone, norms, clip)
        _try_company(gradients, losses, (x, targets), alone, norms, calls)
        _require_still(module, numbers, drawn, kept, chance(x.device))
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


def _plain(losses: Losses, x: Tensor, targets: Tensor) -> Tensor:
    with OnTrial():
        return losses(x, targets)


def _recorded(gradients: PrivateGradients, losses: Losses, x: Tensor, targets: Tensor) -> Tensor:
    with OnTrial(), gradients.recording(Units.single(len(x))):
        return losses(x, targets)


def _try_company(
    gradients: PrivateGradients,
    losses: Losses,
    samples: tuple[Tensor, Tensor],
    alone: list[dict[str, Tensor]],
    norms: list[float],
    calls: object,
) -> None:
    """Try a larger batch, then with strangers in it, which must not reach one sample's loss or gradient."""
    x, targets = (each[list(COMPANY)] for each in samples)
    clip = 0.5 * min(norms) or 1.0
    values = _recorded(gradients, losses, x, targets)
    if gradients.calls != calls:
        raise PrivacyError(
            f"the net does not do with {len(x)} samples what it does with 3", where="model", cure=CURE
        )
    if gradients.waits:  # while it waits its output is NaN, of which every comparison is false
        with gradients.unrecorded(), torch.no_grad():
            plain = _plain(losses, x, targets)
        if bool(((values.detach() - plain).abs() > TOLERANCE * plain.abs()).any()):
            raise UnequalError(
                "a loss is another where a convolution waits for its norm", where="model", cure=CURE
            )
    sums = gradients.settle(values.sum(), clip).sums
    _require_equal(sums, [alone[i] for i in COMPANY], [norms[i] for i in COMPANY], clip)
    for own, factor in STRANGERS:
        strangers = _but_one(x, own, factor), _but_one(targets, own, factor)
        found = _recorded(gradients, losses, *strangers)
        value, expected = float(found[own].detach()), float(values[own].detach())
        settled = gradients.settle(found.sum(), clip)
        norm = float(settled.norms[own])
        same = abs(value - expected) <= SAME * abs(expected) or value == expected
        near = abs(norm - norms[COMPANY[own]]) <= TOLERANCE * norms[COMPANY[own]]
        finite = math.isfinite(norm) and all(bool(torch.isfinite(e).all()) for e in settled.sums.values())
        if not (same and near and finite):
            kind = UnequalError if same and finite else PrivacyError
            raise kind(
                "what one picture is reaches the loss or the gradient of another", where="model", cure=CURE
            )


def _but_one(values: Tensor, own: int, factor: float) -> Tensor:
    """Multiply all samples but one; labels, which are whole numbers, are all made that one's."""
    if not values.is_floating_point():
        return values[own : own + 1].expand(values.shape).contiguous()
    changed = values * factor
    changed[own] = values[own]
    return changed


def _require_still(
    module: nn.Module, numbers: dict[str, bytes], drawn: bytes, kept: dict[str, object], now: bytes
) -> None:
    """Refuse a net that the trial has changed, or that drew random numbers."""
    later = numbers_of(module)
    for name in [*numbers, *later]:
        if numbers.get(name) != later.get(name):
            kind = "buffer" if name in dict(module.named_buffers()) else "parameter"
            raise PrivacyError(
                f"a {kind} of the net changes in training, and would carry pictures out unprotected",
                where=name,
                cure=CURE,
            )
    if drawn != now:
        raise PrivacyError(
            "the net draws random numbers besides those of dropout, so it cannot be tried",
            where="model",
            cure=CURE,
        )
    found = remembered(module)
    for name in [*kept, *found]:
        if kept.get(name) != found.get(name) and name.rpartition(".")[2] not in OPACUS_KEEPS:
            raise PrivacyError(
                "the net remembers something from batch to batch, by which pictures could meet",
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
            _plain(losses, x[own], targets[own]).sum().backward()
        each = {n: p.grad for n, p in gradients.parameters.items() if p.grad is not None}
        found.append({name: flat_order(grad[None])[0].clone() for name, grad in each.items()})
        gradients.forget()
    return found


def _length(numbers: Tensor) -> float:
    """Return the 2-norm. In float32 torch's sum of squares loses digits: 3e-4 of the norm of ten million numbers."""
    return float(torch.linalg.vector_norm(numbers, dtype=torch.float64))


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
        missed = _length(found - (expected if expected is not None else 0))
        if not missed <= TOLERANCE * (_length(found) + 1e-2 * clip):
            raise UnequalError(
                "a sample's gradient is not what it is when the sample is alone", where=name, cure=CURE
            )
