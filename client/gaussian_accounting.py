"""Opacus's accountants of Gaussian steps, which keep what one step costs: a run asks again after every round.

The Renyi divergence of a step takes a hundredth of a second, and PRV asks for it twice more to lay out its mesh. It
follows from noise and rate alone, and a run changes neither. The answers are Opacus's, to the last bit.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from opacus.accountants import PRVAccountant, RDPAccountant
from opacus.accountants.analysis import rdp as analysis
from opacus.accountants.analysis.prv import Domain

Orders = tuple[int | float, ...]


@functools.lru_cache(maxsize=1024)
def divergences(noise: float, rate: float, orders: Orders) -> NDArray[np.float64]:
    """Return the Renyi divergence of one step at each order, (orders,), not to be written to."""
    found = np.asarray(
        analysis.compute_rdp(q=rate, noise_multiplier=noise, steps=1, orders=list(orders)), np.float64
    )
    found.flags.writeable = False
    return found


class KeepingRDP(RDPAccountant):
    """Opacus's accountant by Renyi divergences (Mironov et al. 2019), which computes each step's once."""

    def get_privacy_spent(
        self, *, delta: float, alphas: list[float | int] | None = None
    ) -> tuple[float, float]:
        """Return (epsilon, order that gives it) of the history."""
        if not self.history:
            return 0.0, 0.0
        orders: Orders = tuple(self.DEFAULT_ALPHAS if alphas is None else alphas)
        total = sum(divergences(noise, rate, orders) * steps for noise, rate, steps in self.history)
        found: tuple[Any, Any] = analysis.get_privacy_spent(orders=list(orders), rdp=total, delta=delta)
        return float(found[0]), float(found[1])


class KeepingPRV(PRVAccountant):
    """Opacus's accountant by privacy loss random variables (Gopi et al. 2021), which asks :class:`KeepingRDP`."""

    def _get_domain(
        self, prvs: Sequence[Any], num_self_compositions: Sequence[int], eps_error: float, delta_error: float
    ) -> Domain:
        """Return the mesh of remark 5.6, as Opacus lays it out."""
        steps = sum(num_self_compositions)
        uses = [
            (prv.noise_multiplier, prv.sample_rate, count)
            for prv, count in zip(prvs, num_self_compositions, strict=True)
        ]
        reach = [_rdp(uses, delta_error / 4), eps_error]
        reach += [_rdp([(noise, rate, 1)], delta_error / (8 * steps)) for noise, rate, _ in uses]
        cell = eps_error / np.sqrt(steps * np.log(12 / delta_error) / 2)
        return Domain.create_aligned(-max(reach) - 3, max(reach) + 3, cell)


def _rdp(uses: list[tuple[float, float, int]], delta: float) -> float:
    accountant = KeepingRDP()
    accountant.history = uses
    return accountant.get_epsilon(delta)
