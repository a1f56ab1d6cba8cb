"""The private step: per-sample gradients, clip, sum, keyed noise.

Opacus computes the per-sample gradients and clips them; the noise comes from a :class:`KeyedStream` instead of a
torch generator, because two sites with one torch seed would draw the same noise. This module is the only one that
knows how a private gradient is made, so that a faster way can take its place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from opacus.optimizers import DPOptimizer

from client.per_sample import attach, detach, quiet_hooks, require_private
from client.plan import LocalWork, Privacy
from client.randomness import KeyedStream
from fer_models.flat import FlatModel

PHYSICAL_BATCH = 64
"""Pictures whose per-sample gradients are held at a time; a larger Poisson batch is taken in parts."""

LossOf = Callable[[NDArray[np.intp]], torch.Tensor]
"""Rows of the site -> their losses, one value a sample, with a graph."""


def optimizer_of(parameters: Sequence[torch.Tensor], work: LocalWork) -> torch.optim.Optimizer:
    """Return the local optimizer that a plan asks for, with a fresh state."""
    if work.optimizer == "adamw":
        return torch.optim.AdamW(parameters, work.learning_rate, weight_decay=work.weight_decay)
    return torch.optim.SGD(
        parameters, work.learning_rate, momentum=work.momentum, weight_decay=work.weight_decay
    )


class KeyedOptimizer(DPOptimizer):
    """Opacus's optimizer with noise from a keyed stream, parameter by parameter."""

    stream: KeyedStream

    def clip_and_accumulate(self) -> None:
        """Clip and add up; a record whose gradient is not finite counts as none.

        Otherwise one record could make the whole sum NaN, which no noise hides: whoever chooses the weights could
        ask whether it is there.
        """
        samples = self.grad_samples
        if len(samples[0]):
            # What is not finite stays so under addition.
            sums = torch.stack([each.reshape(len(each), -1).sum(1) for each in samples]).sum(0)
            bad = ~torch.isfinite(sums)
            if bool(bad.any()):
                for each in samples:
                    each[bad] = 0
        super().clip_and_accumulate()

    def add_noise(self) -> None:
        """Add N(0, (sigma C)^2) to each coordinate of the sum of clipped gradients."""
        scale = self.noise_multiplier * self.max_grad_norm
        for parameter in self.params:
            total: torch.Tensor = parameter.summed_grad  # type: ignore[attr-defined]
            noise = torch.from_numpy(scale * self.stream.normal(total.numel()))
            parameter.grad = (total + noise.view(total.shape).to(total)).view_as(parameter)


class PrivateTrainer:
    """DP-SGD steps on one net.

    Parameters
    ----------
    flat : the net; its parameters are updated in place and hooks stay attached until :meth:`close`.
    privacy : noise multiplier and clip.
    divisor : public constant by which the noisy sum is divided.
    work : the optimizer and its settings, and FedProx's pull, which sees no data and needs no noise;
        ``gradient_clip`` is not used.
    stream : where the noise comes from.
    """

    def __init__(
        self,
        flat: FlatModel,
        privacy: Privacy,
        *,
        divisor: float,
        work: LocalWork,
        stream: KeyedStream,
    ) -> None:
        self._flat, module = flat, flat.module
        require_private(module)
        self._parameters = [p for p in module.parameters() if p.requires_grad]
        self._module, self._hooks = module, attach(module)
        self._divisor, self._proximal = divisor, work.proximal
        self._start = [p.detach().clone() for p in self._parameters] if work.proximal > 0 else []
        self._optimizer = KeyedOptimizer(
            optimizer_of(self._parameters, work),
            noise_multiplier=privacy.noise_multiplier,
            max_grad_norm=privacy.clip,
            expected_batch_size=None,
            loss_reduction="sum",
        )
        self._optimizer.stream = stream
        self._optimizer.attach_step_hook(lambda _: self._after_noise())

    def _after_noise(self) -> None:
        """Divide by the public constant and add FedProx's pull; both only look at what is already noisy."""
        for index, parameter in enumerate(self._parameters):
            assert parameter.grad is not None
            parameter.grad.div_(self._divisor)
            if self._start:
                parameter.grad.add_(parameter.detach() - self._start[index], alpha=self._proximal)

    def step(self, rows: NDArray[np.intp], losses: LossOf) -> float:
        """Take one step on a Poisson batch, which may be empty; return the sum of its losses."""
        total = self._accumulate(rows, losses)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return total

    def clipped_sum(self, rows: NDArray[np.intp], losses: LossOf) -> torch.Tensor:
        """Return the sum of the batch's clipped gradients, float (P,), without noise and in the flat order.

        It is not private: whoever asks for it adds the noise, or hides it under others' before it leaves the site.
        """
        self._accumulate(rows, losses)
        self._optimizer.clip_and_accumulate()
        sums = {id(p): p.summed_grad for p in self._parameters}  # type: ignore[attr-defined]
        found = torch.zeros_like(self._flat.vector)
        for slot, parameter in zip(self._flat.slots, self._flat.module.parameters(), strict=True):
            if id(parameter) in sums:
                slot.view(found).copy_(sums[id(parameter)].view_as(parameter))
        self._optimizer.zero_grad(set_to_none=True)
        return found

    def _accumulate(self, rows: NDArray[np.intp], losses: LossOf) -> float:
        """Leave the per-sample gradients of the last part, the clipped sum of all before; return the losses' sum."""
        total = 0.0
        parts = [rows[i : i + PHYSICAL_BATCH] for i in range(0, len(rows), PHYSICAL_BATCH)]
        for index, part in enumerate(parts):
            with quiet_hooks():
                loss = losses(part).sum()
                loss.backward()
            total += float(loss.detach())
            if index + 1 < len(parts):
                self._optimizer.signal_skip_step(do_skip=True)
                self._optimizer.step()
                self._optimizer.zero_grad(set_to_none=True)
        self._optimizer.signal_skip_step(do_skip=False)
        if not parts:
            for parameter in self._parameters:
                parameter.grad_sample = torch.zeros((0, *parameter.shape), device=parameter.device)  # type: ignore[attr-defined]
        return total

    def close(self) -> None:
        """Take the hooks off the module, and with them all that a broken step has left behind."""
        detach(self._module, self._hooks)
