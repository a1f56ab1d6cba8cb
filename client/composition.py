"""Composition of mechanisms of any kind, by dp-accounting: exact (privacy loss distributions), and Renyi DP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from client.mechanisms import History, Mechanism

if TYPE_CHECKING:
    from dp_accounting import DpEvent
    from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution

INTEGER_ORDERS = (*range(2, 65), *range(72, 257, 8), 320, 384, 512, 768, 1024)
"""Orders of Renyi DP at which the divergence of the discrete Gaussian is known exactly."""

FINEST, CELLS = 2e-5, 1e4
"""Cells of a privacy loss distribution: none finer than this, and about this many up to epsilon."""


def pld_epsilon(history: History, delta: float, bound: float) -> float:
    """Return epsilon by privacy loss distributions, rounded up (Koskela et al. 2020; Doroshenko et al. 2022).

    Parameters
    ----------
    bound : an upper bound of epsilon, from which follows how fine the distributions have to be; at most infinity.

    A discrete Gaussian counts as the Gaussian of the same noise, which it comes close to on a fine grid.
    """
    from dp_accounting.pld import privacy_loss_distribution as pld

    step = max(FINEST, min(bound, 1e9) / CELLS)
    total = pld.identity(value_discretization_interval=step)
    for each in history:
        total = total.compose(_distribution(each, step).self_compose(each.count))
    return float(total.get_epsilon_for_delta(delta))


def _distribution(each: Mechanism, step: float) -> PrivacyLossDistribution:
    from dp_accounting.pld import common
    from dp_accounting.pld import privacy_loss_distribution as pld

    if each.name == "pure":
        parameters = common.DifferentialPrivacyParameters(each.pure_epsilon, 0.0)
        return pld.from_privacy_parameters(parameters, value_discretization_interval=step)
    make = pld.from_laplace_mechanism if each.name == "laplace" else pld.from_gaussian_mechanism
    return make(each.noise, sampling_prob=each.rate, value_discretization_interval=step)


def rdp_epsilon(history: History, delta: float) -> float:
    """Return epsilon by Renyi DP at integer orders (Mironov 2017; Mironov et al. 2019).

    There the divergence of the subsampled discrete Gaussian is that of the Gaussian: the sum over the binomial moments
    needs E[(P/Q)^k] at integers k only, which agree for an integer shift (Canonne et al. 2020, proposition 5).
    """
    from dp_accounting.rdp import RdpAccountant

    accountant = RdpAccountant(INTEGER_ORDERS)
    for each in history:
        accountant.compose(_event(each), each.count)
    return float(accountant.get_epsilon(delta))


def _event(each: Mechanism) -> DpEvent:
    import dp_accounting

    if each.name in ("gaussian", "discrete_gaussian"):
        return dp_accounting.PoissonSampledDpEvent(each.rate, dp_accounting.GaussianDpEvent(each.noise))
    if each.name == "laplace" and each.rate == 1:
        return dp_accounting.LaplaceDpEvent(each.noise)
    return dp_accounting.ZCDpEvent(each.pure_epsilon**2 / 2)  # Bun and Steinke 2016, proposition 1.4
