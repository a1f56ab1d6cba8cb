"""The private step: clipped sums of a net's gradients, keyed noise, and the local optimizer.

The sums come from :mod:`client.bookkeeping`; the step itself is Opacus's optimizer, with noise from a
:class:`KeyedStream` instead of a torch generator, because two sites with one torch seed would draw the same noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from opacus.optimizers import DPOptimizerFastGradientClipping

from client.bookkeeping.gradients import PrivateGradients
from client.bookkeeping.units import Units, parts_of
from client.guards import require_separate
from client.plan import LocalWork, Privacy
from client.randomness import KeyedStream
from fer_models.flat import FlatModel

PHYSICAL_BATCH = 64
"""Pictures whose gradients are taken in one pass; a larger Poisson batch is taken in parts, whole units in each."""

LossOf = Callable[[NDArray[np.intp]], torch.Tensor]
"""Rows of the site -> their losses, one value a sample, with a graph."""


def optimizer_of(parameters: Sequence[torch.Tensor], work: LocalWork) -> torch.optim.Optimizer:
    """Return the local optimizer that a plan asks for, with a fresh state."""
    if work.optimizer == "adamw":
        return torch.optim.AdamW(parameters, work.learning_rate, weight_decay=work.weight_decay)
    return torch.optim.SGD(
        parameters, work.learning_rate, momentum=work.momentum, weight_decay=work.weight_decay
    )


class KeyedOptimizer(DPOptimizerFastGradientClipping):
    """Opacus's optimizer over parts of a flat vector whose ``grad`` is a clipped sum; noise from a keyed stream."""

    stream: KeyedStream

    def accumulate(self) -> None:
        """Do nothing: the trainer adds clipped sums to ``grad`` itself."""

    def add_noise(self) -> None:
        """Add N(0, (sigma C)^2) to each coordinate of the sum of clipped gradients."""
        scale = self.noise_multiplier * self.max_grad_norm
        for parameter in (p for group in self.param_groups for p in group["params"]):
            assert parameter.grad is not None
            start = 0
            for drawn in self.stream.normals(parameter.numel(), scale):
                noise = torch.from_numpy(drawn).to(parameter.grad)
                parameter.grad[start : start + len(drawn)].add_(noise)
                start += len(drawn)


class PrivateTrainer:
    """DP-SGD steps on one net.

    A batch is given as rows and, where several rows are one unit of privacy, the sizes of the units: the losses of a
    unit are averaged, so that its gradient is the mean over its pictures and views (De et al. 2022), and clipped as
    one.

    Parameters
    ----------
    flat : the net; its parameters are updated in place. Until :meth:`close` its parameters have no ``grad``.
    privacy : noise multiplier and clip.
    divisor : public constant by which the noisy sum is divided.
    work : the optimizer and its settings, and FedProx's pull, which sees no data and needs no noise;
        ``gradient_clip`` is not used.
    stream : where the noise comes from.
    gradients : of the net, tried by :func:`client.guards.prove`; None takes them untried.
    """

    def __init__(
        self,
        flat: FlatModel,
        privacy: Privacy,
        *,
        divisor: float,
        work: LocalWork,
        stream: KeyedStream,
        gradients: PrivateGradients | None = None,
    ) -> None:
        require_separate(flat.module)
        self._flat, self._clip, self._divisor = flat, privacy.clip, divisor
        self._gradients, self._owns = gradients or PrivateGradients(flat.module), gradients is None
        self._slots = {slot.name: slice(slot.start, slot.stop) for slot in flat.slots}
        flat.gradient.zero_()
        ranges = joined(self._slots, self._gradients.parameters)
        # Opacus passes over what does not require a gradient, and would add no noise to it.
        self._parts = [flat.vector[own].detach().requires_grad_() for own in ranges]
        for part, own in zip(self._parts, ranges, strict=True):
            part.grad = flat.gradient[own]
        self._proximal = work.proximal
        self._start = [part.detach().clone() for part in self._parts] if work.proximal > 0 else []
        self._optimizer = KeyedOptimizer(
            optimizer_of(self._parts, work),
            noise_multiplier=privacy.noise_multiplier,
            max_grad_norm=privacy.clip,
            expected_batch_size=None,
            loss_reduction="sum",
        )
        self._optimizer.stream = stream
        self._optimizer.attach_step_hook(lambda _: self._after_noise())

    @torch.no_grad()
    def _after_noise(self) -> None:
        """Divide by the public constant and add FedProx's pull; both only look at what is already noisy."""
        for index, part in enumerate(self._parts):
            assert part.grad is not None
            part.grad.div_(self._divisor)
            if self._start:
                part.grad.add_(part - self._start[index], alpha=self._proximal)

    def step(self, rows: NDArray[np.intp], losses: LossOf, sizes: Sequence[int] | None = None) -> float:
        """Take one step on a Poisson batch, which may be empty; return the sum of its units' losses.

        Parameters
        ----------
        rows : (n,), rows of one unit next to each other.
        sizes : rows of each unit, one each when None.
        """
        total = self._accumulate(rows, losses, sizes)
        self._optimizer.step()
        self._flat.gradient.zero_()
        return total

    def clipped_sum(
        self, rows: NDArray[np.intp], losses: LossOf, sizes: Sequence[int] | None = None
    ) -> torch.Tensor:
        """Return the sum of the batch's clipped gradients, float (P,), without noise and in the flat order.

        It is not private: whoever asks for it adds the noise, or hides it under others' before it leaves the site.
        """
        self._accumulate(rows, losses, sizes)
        found = self._flat.gradient.clone()
        self._flat.gradient.zero_()
        return found

    def _accumulate(self, rows: NDArray[np.intp], losses: LossOf, sizes: Sequence[int] | None) -> float:
        """Leave the clipped sum in the flat gradient; return the sum of the units' losses."""
        gradient, waiting, total = self._flat.gradient, dict(self._slots), 0.0
        for part, units in parts(rows, sizes):
            with self._gradients.recording(units):
                loss = losses(part)
            if units.size != 1:
                loss = loss / torch.tensor(units.sizes, device=loss.device)[units.index.to(loss.device)]
            summed = loss.sum()
            for name, clipped in self._gradients.settle(summed, self._clip).sums.items():
                if waiting.pop(name, None) is not None:
                    gradient[self._slots[name]] = clipped
                else:
                    gradient[self._slots[name]].add_(clipped)
            total += float(summed.detach())
        for untouched in waiting.values():
            gradient[untouched].zero_()
        return total

    def close(self) -> None:
        """Drop all that a broken step has left behind."""
        if self._owns:
            self._gradients.close()
        else:
            self._gradients.forget()
        self._flat.gradient.zero_()


def parts(rows: NDArray[np.intp], sizes: Sequence[int] | None) -> Iterator[tuple[NDArray[np.intp], Units]]:
    """Divide a batch into parts of at most :data:`PHYSICAL_BATCH` rows; a unit is never divided."""
    if sizes is None:
        sizes = (1,) * len(rows)
    start = 0
    for chosen in parts_of(sizes, PHYSICAL_BATCH):
        units = Units(tuple(sizes[chosen]))
        yield rows[start : start + units.samples], units
        start += units.samples


def joined(slots: dict[str, slice], names: Sequence[str] | dict[str, torch.nn.Parameter]) -> list[slice]:
    """Return the ranges of the flat vector that some parameters fill, neighbours joined."""
    found: list[slice] = []
    for name, own in slots.items():
        if name not in names:
            continue
        if found and found[-1].stop == own.start:
            found[-1] = slice(found[-1].start, own.stop)
        else:
            found.append(own)
    return found
