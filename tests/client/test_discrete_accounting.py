"""The theorem behind distributed noise, tried in numbers where every probability can be added up."""

import math

import numpy as np
import pytest
from opacus.accountants.analysis import rdp
from scipy import stats

from client.accounting import epsilon_of, noise_for
from client.discrete_accounting import FAILURE, KEPT, slack
from client.mechanisms import Mechanism, gaussian, merged


def discrete(deviation, reach):
    x = np.arange(-reach, reach + 1, dtype=float)
    weights = np.exp(-(x**2) / (2 * deviation**2))
    return x, weights / weights.sum()


def rounded(deviation, x):
    upper = np.abs(x) + 0.5  # differences of the upper tail keep their digits
    return stats.norm.sf((upper - 1) / deviation) - stats.norm.sf(upper / deviation)


@pytest.mark.parametrize("deviation", [2.0, 5.0, 20.0])
def test_discrete_and_rounded_noise_are_as_near_as_the_proof_says(deviation):
    x, g = discrete(deviation, int(8 * deviation))
    r = rounded(deviation, x)
    wave = 3 * math.exp(-2 * (math.pi * deviation) ** 2)
    assert np.all(np.log(g / r) <= 1 / (24 * deviation**2) + 1e-12)
    assert np.all(np.log(r / g) <= x**2 / (24 * deviation**4) + wave + 1e-12)
    assert np.max(np.log(g / r)) > 0.9 / (24 * deviation**2), "and no nearer"


@pytest.mark.parametrize(("share", "shares"), [(1.0, 2), (1.0, 5), (1.3, 3)])
def test_a_sum_of_shares_is_as_near_to_one_discrete_gaussian_as_the_proof_says(share, shares):
    reach = int(9 * share)
    _, one = discrete(share, reach)
    total = one
    for _ in range(shares - 1):
        total = np.convolve(total, one)
    x, g = discrete(share * math.sqrt(shares), reach * shares)
    near = np.abs(x) <= 4 * share
    tau = 10 * sum(math.exp(-2 * math.pi**2 * share**2 * k / (k + 1)) for k in range(1, shares))
    assert np.all(np.abs(np.log(total / g))[near] <= tau / 2 + 1e-12)
    assert np.abs(np.log(total / g))[near].max() > 1e-6 * tau


@pytest.mark.parametrize("epsilon", [0.1, 0.5, 1.0, 2.0])
@pytest.mark.parametrize(("sensitivity", "share", "shares", "rate"), [(4, 3.0, 1, 0.3), (6, 2.0, 4, 0.1)])
def test_one_step_holds_what_the_gaussian_mechanism_holds(epsilon, sensitivity, share, shares, rate):
    """delta at epsilon of a step in one coordinate, added up over all whole numbers, both ways."""
    deviation = share * math.sqrt(shares)
    _, one = discrete(share, int(12 * share))
    noise = one
    for _ in range(shares - 1):
        noise = np.convolve(noise, one)
    without, moved = np.pad(noise, (0, sensitivity)), np.pad(noise, (sensitivity, 0))
    mixed = (1 - rate) * without + rate * moved
    grid = np.linspace(-14 * deviation, 14 * deviation + sensitivity, 400_001)
    p, q = (stats.norm.pdf(grid, mean, deviation) * (grid[1] - grid[0]) for mean in (0, sensitivity))
    center = (1 - rate) * p + rate * q
    lost = slack(1, share, shares)
    for a, b, c, d in ((mixed, without, center, p), (without, mixed, p, center)):
        found = np.maximum(a - math.exp(epsilon + lost) * b, 0).sum()
        gaussian = np.maximum(c - math.exp(epsilon) * d, 0).sum()
        assert found <= math.exp(lost) * gaussian + 1e-9


def test_slack_by_hand():
    """P / 24 s^2 one way, about as much the other way; P far above the tail."""
    assert slack(10**6, 2.0**17, 1) == pytest.approx(2e6 / (24 * 2.0**34), rel=0.03)
    assert slack(10**6, 2.0**17, 4) == pytest.approx(slack(10**6, 2.0**18, 1), rel=1e-9)
    assert slack(1, 2.0**17, 1) < 200 / (24 * 2.0**34)
    assert slack(100, 0.5, 3) > 1, "a grid as coarse as that costs more than it gives"
    assert pytest.approx(2.0**-68, rel=1e-12) == FAILURE


def shared(sigma, rate, steps, lost=1e-7):
    return (Mechanism("discrete_gaussian", sigma, rate, steps, "record", lost),)


@pytest.mark.parametrize(("sigma", "rate", "steps"), [(1.2, 0.2, 60), (3.0, 0.2, 120), (6.0, 0.5, 60)])
def test_renyi_accounting_at_whole_orders_agrees(sigma, rate, steps):
    """It is a theorem for discrete noise by itself (Mironov, Talwar and Zhang 2019), and a little looser."""
    orders = range(2, 256)
    spent = rdp.compute_rdp(q=rate, noise_multiplier=sigma, steps=steps, orders=list(orders))
    bound, _ = rdp.get_privacy_spent(orders=list(orders), rdp=spent, delta=1e-5)
    ours = epsilon_of(shared(sigma, rate, steps, slack(14_120, sigma * 2**18, 1)), 1e-5)
    assert ours.accountant == "prv"
    assert 0.85 * bound < ours.value < bound


def test_discrete_noise_costs_what_continuous_noise_does_and_its_slack():
    plain = epsilon_of(gaussian(1.2, 0.2, 60), 1e-5).value
    found = epsilon_of(shared(1.2, 0.2, 60), 1e-5).value
    assert plain < found < plain + 60 * 1e-7 + 1e-3
    dear = epsilon_of(shared(1.2, 0.2, 60, 1e-2), 1e-5).value
    assert found + 0.6 < dear < found + 1, "slack is paid, and the factor that it takes off delta"
    both = epsilon_of(merged((*shared(1.2, 0.2, 30), *gaussian(1.2, 0.2, 30))), 1e-5).value
    assert plain <= both <= found
    counts = epsilon_of(merged((*shared(1.2, 0.2, 60), Mechanism("pure", 2.0))), 1e-5)
    assert counts.accountant == "pld"
    assert found < counts.value < found + 0.5


def test_an_epsilon_at_which_the_comparison_could_fail_is_none():
    sure = epsilon_of(shared(0.7, 0.2, 60), 1e-5)
    assert 10 < sure.value < 100
    assert FAILURE * 60 * math.exp(20) < (1 - KEPT) * 1e-5
    found = epsilon_of(shared(0.3, 1.0, 600), 1e-5)
    assert (found.value, found.accountant) == (math.inf, "none")
    assert found.note.endswith(".")
    assert math.isfinite(epsilon_of(gaussian(0.3, 1.0, 600), 1e-5).value)


def test_a_person_who_is_replaced_pays_the_slack_twice():
    persons = (Mechanism("discrete_gaussian", 5.0, 0.2, 60, "subject", 1e-3),)
    pictures = gaussian(5.0, 0.2, 60)
    with_slack = epsilon_of(merged((*pictures, *persons)), 1e-5).value
    free = (Mechanism("discrete_gaussian", 5.0, 0.2, 60, "subject", 0.0),)
    assert with_slack - epsilon_of(merged((*pictures, *free)), 1e-5).value >= 2 * 60 * 1e-3 * 0.999


def test_the_target_is_kept_with_the_grid_paid_for():
    lost = 60 * 1e-3
    sigma = noise_for(3.0 - lost, KEPT * 1e-5 * math.exp(-lost), 0.2, 60)
    assert 2.9 < epsilon_of(shared(sigma, 0.2, 60, 1e-3), 1e-5).value <= 3.0
