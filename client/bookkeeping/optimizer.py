"""Opacus's optimizer for sums that the book has clipped, made safe against loops that do not do all of their steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from opacus.optimizers import DPOptimizerFastGradientClipping
from opacus.utils.uniform_sampler import UniformWithReplacementSampler

from fer_models.errors import PrivacyError


class BookKeepingOptimizer(DPOptimizerFastGradientClipping):
    """Takes each clipped sum once, and never one that belongs to a batch which a loop has left.

    Opacus's ``BatchMemoryManager`` hands a batch on in parts, and the optimizer adds up their sums until the last. A
    loop that breaks off before that leaves a sum behind, and Opacus would add it to the next batch: a record that is in
    both would count twice what it is clipped to.

    Attributes
    ----------
    has_gradients : whether a backward has left clipped sums that no step has taken yet.
    """

    has_gradients = False

    def begin_pass(self) -> None:
        """Drop what is left of a pass over the data that was broken off."""
        self._step_skip_queue.clear()
        self._is_last_step_skipped = False
        for parameter in self.params:
            parameter.summed_grad = None  # type: ignore[attr-defined]

    def accumulate(self) -> None:
        """Add the clipped sums of a backward to those of the batch's earlier parts.

        Raises
        ------
        PrivacyError : there was no backward since the last step, whose sums would enter a second one.
        """
        if not self.has_gradients:
            raise PrivacyError(
                "there are no new gradients, and a record must not enter two steps with one clip",
                where="optimizer.step",
                cure="Call loss(net(x), y).backward() once before each optimizer.step().",
            )
        self.has_gradients = False
        if not self._is_last_step_skipped:
            for parameter in self.params:
                parameter.summed_grad = None  # type: ignore[attr-defined]
        super().accumulate()


class Passes(UniformWithReplacementSampler):
    """Opacus's Poisson sampler of a loader, which tells the optimizer when a pass over the data begins."""

    def __init__(self, sampler: UniformWithReplacementSampler, optimizer: BookKeepingOptimizer) -> None:
        facts: dict[str, Any] = {"sample_rate": sampler.sample_rate, "steps": sampler.steps}
        super().__init__(num_samples=sampler.num_samples, generator=sampler.generator, **facts)
        self._optimizer = optimizer

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the rows of each Poisson batch."""
        self._optimizer.begin_pass()
        yield from super().__iter__()
