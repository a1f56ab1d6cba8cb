"""The private step: clipped sums of a net's gradients, keyed noise, and the local optimizer.

The sums come from :mod:`client.bookkeeping`; the step itself is Opacus's optimizer, with noise from a
:class:`KeyedStream` instead of a torch generator, because two sites with one torch seed would draw the same noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from opacus.optimizers import DPOptimizerFastGradientClipping

from client.bookkeeping.gradients import PrivateGradients
from client.bookkeeping.units import Units, parts_of
from client.guards import require_separate
from client.plan import LocalWork, Privacy
from client.randomness import KeyedStream
from fer_models.errors import PrivacyError
from fer_models.flat import FlatModel

PHYSICAL_BATCH = 64
"""Pictures whose gradients are taken in one pass; a larger Poisson batch is taken in parts, whole units in each."""

LossOf = Callable[[NDArray[np.intp]], torch.Tensor]
"""Rows of the site -> their losses, one value a sample, with a graph."""

Weights = Sequence[NDArray[np.float32] | None] | None
"""For each part (units,) in [0, 1], None for ones; None for ones everywhere."""

ROUNDING = 1e-9
"""Share of a noise multiplier that computing it may lose."""


@dataclass(frozen=True)
class Part:
    """Parameters that are clipped together and apart from the others, and get noise of their own.

    Attributes
    ----------
    prefix : their names begin with it; the first part that fits a name has it.
    clip : longest gradient of a unit in this part.
    deviation : of the Gaussian noise on each coordinate of the part's sum.
    """

    prefix: str
    clip: float
    deviation: float


def part_of(parts: Sequence[Part]) -> Callable[[str], int]:
    """Return the way from a parameter's name to its part's index, for :class:`PrivateGradients`; 0 without parts.

    Raises
    ------
    PrivacyError : when asked for a name that no part has.
    """

    def index(name: str) -> int:
        for at, part in enumerate(parts):
            if name.startswith(part.prefix):
                return at
        raise PrivacyError(
            "a parameter that no part has would get no noise",
            where=name,
            cure="Freeze it, or give a part whose prefix it has.",
        )

    return index if parts else lambda _: 0


def multiplier_of(parts: Sequence[Part]) -> float:
    """Return the noise multiplier of releasing the noisy sums of all parts together.

    Divide each part's coordinates by its deviation: the noise is then that of a standard normal vector, and a unit
    moves part j by C_j / s_j at most, the whole by the root of the sum of their squares. That is one Gaussian
    mechanism of multiplier (sum_j (C_j / s_j)^2)^(-1/2) (Dwork and Roth 2014, Theorem A.1, on the joint vector).
    """
    if any(part.deviation <= 0 for part in parts):
        return 0.0
    return 1 / math.hypot(*(part.clip / part.deviation for part in parts))


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
    deviations: list[float]

    def accumulate(self) -> None:
        """Do nothing: the trainer adds clipped sums to ``grad`` itself."""

    def add_noise(self) -> None:
        """Add noise of its part's deviation to each coordinate of the sum of clipped gradients."""
        parameters = [p for group in self.param_groups for p in group["params"]]
        for parameter, scale in zip(parameters, self.deviations, strict=True):
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
    gradients : of the net, tried by :func:`client.guards.prove`; None takes them untried. Made with
        :func:`part_of` the same parts.
    parts : of the parameters, each with its clip and noise; none clips everything as one to ``privacy.clip``, with
        noise of ``privacy.noise_multiplier`` times that.
    penalise : adds what follows from the parameters alone to the step's gradient, in place, after the noise.

    Raises
    ------
    PrivacyError : the parts' noise is together less than ``privacy.noise_multiplier`` accounts for, or the gradients
        are divided otherwise.
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
        parts: Sequence[Part] = (),
        penalise: Callable[[torch.Tensor], None] | None = None,
    ) -> None:
        require_separate(flat.module)
        self._flat, self._divisor, self._penalise = flat, divisor, penalise
        self._clip = [part.clip for part in parts] if parts else privacy.clip
        own_part = part_of(parts)
        self._gradients = gradients or PrivateGradients(flat.module, part_of=own_part)
        self._owns = gradients is None
        _require_parts(self._gradients, parts, privacy)
        self._slots = {slot.name: slice(slot.start, slot.stop) for slot in flat.slots}
        flat.gradient.zero_()
        deviation = privacy.noise_multiplier * privacy.clip
        ranges = [
            (own, parts[index].deviation if parts else deviation)
            for own, index in joined(self._slots, self._gradients.parts)
        ]
        # Opacus passes over what does not require a gradient, and would add no noise to it.
        self._ranges = [flat.vector[own].detach().requires_grad_() for own, _ in ranges]
        for part, (own, _) in zip(self._ranges, ranges, strict=True):
            part.grad = flat.gradient[own]
        self._proximal = work.proximal
        self._start = [part.detach().clone() for part in self._ranges] if work.proximal > 0 else []
        self._optimizer = KeyedOptimizer(
            optimizer_of(self._ranges, work),
            noise_multiplier=privacy.noise_multiplier,
            max_grad_norm=privacy.clip,
            expected_batch_size=None,
            loss_reduction="sum",
        )
        self._optimizer.stream, self._optimizer.deviations = stream, [each for _, each in ranges]
        self._optimizer.attach_step_hook(lambda _: self._after_noise())

    @torch.no_grad()
    def _after_noise(self) -> None:
        """Divide by the public constant, add FedProx's pull and a penalty; all only look at what is already noisy."""
        for index, part in enumerate(self._ranges):
            assert part.grad is not None
            part.grad.div_(self._divisor)
            if self._start:
                part.grad.add_(part - self._start[index], alpha=self._proximal)
        if self._penalise is not None:
            self._penalise(self._flat.gradient)  # of which the parts' gradients are views

    def step(
        self,
        rows: NDArray[np.intp],
        losses: LossOf,
        sizes: Sequence[int] | None = None,
        weights: Weights = None,
    ) -> float:
        """Take one step on a Poisson batch, which may be empty; return the sum of its units' losses.

        Parameters
        ----------
        rows : (n,), rows of one unit next to each other.
        sizes : rows of each unit, one each when None.
        weights : for each part what its units' gradients are multiplied by after the clip, see
            :meth:`client.bookkeeping.book.Book.settle`.

        Raises
        ------
        PrivacyError : a weight that is no share, or not one for each part and unit.
        """
        total = self._accumulate(rows, losses, sizes, weights)
        self._optimizer.step()  # what stays in the gradient has its noise, and the next step writes over all of it
        return total

    def clipped_sum(
        self,
        rows: NDArray[np.intp],
        losses: LossOf,
        sizes: Sequence[int] | None = None,
        weights: Weights = None,
    ) -> torch.Tensor:
        """Return the sum of the batch's clipped gradients, float (P,), without noise and in the flat order.

        It is not private: whoever asks for it adds the noise, or hides it under others' before it leaves the site.
        Parameters and errors are those of :meth:`step`.
        """
        self._accumulate(rows, losses, sizes, weights)
        found = self._flat.gradient.clone()
        self._flat.gradient.zero_()
        return found

    def _accumulate(
        self, rows: NDArray[np.intp], losses: LossOf, sizes: Sequence[int] | None, weights: Weights
    ) -> float:
        """Leave the clipped sum in the flat gradient; return the sum of the units' losses."""
        gradient, waiting, total = self._flat.gradient, dict(self._slots), 0.0
        _require_weights(weights, len(rows) if sizes is None else len(sizes))
        done = 0
        for part, units in parts(rows, sizes):
            with self._gradients.recording(units):
                loss = losses(part)
            if units.size != 1:
                loss = loss / torch.tensor(units.sizes, device=loss.device)[units.index.to(loss.device)]
            summed, own = loss.sum(), _weights_of(weights, slice(done, done + len(units)))
            done += len(units)
            self._take(self._gradients.settle(summed, self._clip, own).sums, waiting)
            total += float(summed.detach())
        for untouched in waiting.values():
            gradient[untouched].zero_()
        return total

    def _take(self, sums: dict[str, torch.Tensor], waiting: dict[str, slice]) -> None:
        """Add sums to the flat gradient; what is ``waiting`` for its first has older numbers, which are overwritten."""
        gradient = self._flat.gradient
        if list(sums) == list(waiting):  # all of them, in the order of the vector
            torch.cat(list(sums.values()), out=gradient)
            waiting.clear()
            return
        for name, clipped in sums.items():
            if waiting.pop(name, None) is not None:
                gradient[self._slots[name]] = clipped
            else:
                gradient[self._slots[name]].add_(clipped)

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


def joined(slots: dict[str, slice], parts: dict[str, int]) -> list[tuple[slice, int]]:
    """Return the ranges of the flat vector that some parameters fill and their parts, neighbours of a part joined."""
    found: list[tuple[slice, int]] = []
    for name, own in slots.items():
        if name not in parts:
            continue
        if found and found[-1][0].stop == own.start and found[-1][1] == parts[name]:
            found[-1] = slice(found[-1][0].start, own.stop), parts[name]
        else:
            found.append((own, parts[name]))
    return found


def _require_parts(gradients: PrivateGradients, parts: Sequence[Part], privacy: Privacy) -> None:
    """Refuse parts that the gradients are not divided into, and noise that is less than the accounting takes."""
    index = part_of(parts)
    if parts and any(index(name) != own for name, own in gradients.parts.items()):
        raise PrivacyError(
            "gradients are not divided into the parts that noise is made for",
            where="privacy",
            cure="Make them with part_of() the same parts.",
        )
    if parts and multiplier_of(parts) < privacy.noise_multiplier * (1 - ROUNDING):
        raise PrivacyError(
            f"noise of multiplier {multiplier_of(parts):.6g} on {len(parts)} parts together, where "
            f"{privacy.noise_multiplier:.6g} is accounted for",
            where="privacy.noise_multiplier",
            cure="Give the parts more noise.",
        )


def _require_weights(weights: Weights, units: int) -> None:
    """Refuse weights of other batches: the book only sees those of its own units."""
    if any(each is not None and each.shape != (units,) for each in weights or ()):
        raise PrivacyError(
            f"not one weight for each of {units} units", where="weights", cure="Give each unit one weight."
        )


def _weights_of(weights: Weights, own: slice) -> list[torch.Tensor | None] | None:
    """Return the weights of some units."""
    if weights is None:
        return None
    return [None if each is None else torch.from_numpy(each[own]) for each in weights]
