"""What an auditor works out of a site's gradients: inner products with each other and with an update."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from client.workbench import Workbench
from simulations.privacy_audit.evidence import Products, Round
from simulations.privacy_audit.gradients import AnyNet, Gradients, HeadAlone, Rows, Units

KEPT_BYTES = 1 << 30
"""Bytes of gradients that are held at once."""

MOST_UNITS = 2048
"""Units that are told apart, unless there are more canaries; of the others only the expected sum is taken off."""


class Lens:
    """Inner products of a site's gradients at any weights.

    Parameters
    ----------
    bench : the net and the loss of the plan.
    units : who may have been in.
    """

    def __init__(self, bench: Workbench, units: Units) -> None:
        self._flat, self._units = bench.flat, units
        head = HeadAlone.serves(bench.flat.module)
        self._gradients: Gradients = HeadAlone(bench, units) if head else AnyNet(bench, units)
        self._starts = np.concatenate([[0], np.cumsum(units.sizes)]).tolist()
        width = 4 * len(bench.flat.learning)
        fits = MOST_UNITS if head else min(MOST_UNITS, KEPT_BYTES // width)
        self._kept = max(units.canaries, min(len(units), fits))

    def products(
        self, vector: NDArray[np.float32], update: NDArray[np.floating], mechanism: Round
    ) -> Products:
        """Return the inner products that :func:`simulations.privacy_audit.evidence.log_odds` asks for.

        Parameters
        ----------
        vector : float32 (P + Q,), the round's weights.
        update : (T,), what was sent of what learns.
        """
        self._flat.load_(torch.from_numpy(vector.copy()))
        along = self._in_order(torch.from_numpy(update.astype(np.float32)))
        held = self._gradients.of(0, self._starts[self._kept])
        rest = torch.zeros_like(along)
        for first in range(self._kept, len(self._units), self._kept):
            rest += self._expected(first, min(first + self._kept, len(self._units)), mechanism)
        toward, beside = (self._by_unit(held.along(each), 0, self._kept) for each in (along, rest))
        products = map(_array, (self._gram(held, 0, self._kept), toward, beside))
        return Products(*products, energy=float(along.double().square().sum()), size=len(along))

    def _in_order(self, update: Tensor) -> Tensor:
        """Return an update (T,) in the order in which gradients are made: parameter by parameter, in C order."""
        moved = torch.zeros_like(self._flat.full_vector)
        self._flat.trained.put(moved, update.to(moved))
        views, own = self._flat.views(moved), self._flat.module.named_parameters()
        return torch.cat([views[name].reshape(-1) for name, p in own if p.requires_grad])

    def _by_unit(self, values: Tensor, first: int, last: int) -> Tensor:
        """Return means (last - first, ...) over the pictures of each unit."""
        sizes = torch.tensor(self._units.sizes[first:last], device=values.device)
        if int(sizes.sum()) == len(sizes):
            return values
        unit = torch.repeat_interleave(torch.arange(len(sizes), device=values.device), sizes)
        total = torch.zeros((len(sizes), *values.shape[1:]), dtype=values.dtype, device=values.device)
        return total.index_add_(0, unit, values) / sizes.view(-1, *[1] * (values.ndim - 1))

    def _gram(self, rows: Rows, first: int, last: int) -> Tensor:
        return self._by_unit(self._by_unit(rows.gram(), first, last).T, first, last)

    def _expected(self, first: int, last: int, mechanism: Round) -> Tensor:
        """Return the expected sum (T,) of the clipped gradients of some units."""
        rows = self._gradients.of(self._starts[first], self._starts[last])
        norms = self._gram(rows, first, last).diagonal().clamp(min=1e-24).sqrt()
        visits = mechanism.steps * mechanism.rate * (mechanism.clip / norms).clamp(max=1.0)
        sizes = torch.tensor(self._units.sizes[first:last], device=norms.device)
        return rows.total(torch.repeat_interleave(visits / sizes, sizes))


def _array(values: Tensor) -> NDArray[np.float64]:
    return values.detach().cpu().numpy().astype(np.float64)
