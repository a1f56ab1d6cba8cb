"""The statistics of the audit, against closed forms, sums by hand, and what they promise."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulations.privacy_audit.bounds import (
    WAYS,
    canaries_needed,
    epsilon_lower_bound,
    guessed,
    largest,
    most_provable,
    p_value,
    rates_bound,
    ways_to_guess,
)


def by_hand(canaries, guesses, correct, chance, delta):
    """Theorem 5.2 of Steinke et al. (2023), term by term, in fractions."""
    mass = [math.comb(guesses, k) * chance**k * (1 - chance) ** (guesses - k) for k in range(guesses + 1)]
    found = sum(mass[correct:])
    beside = [sum(mass[correct - i : correct]) / i for i in range(1, correct + 1)]
    return min(Fraction(1), found + 2 * canaries * delta * max(beside, default=Fraction(0)))


@pytest.mark.parametrize(
    ("canaries", "guesses", "correct"), [(10, 6, 5), (10, 10, 10), (7, 7, 4), (5, 3, 0), (5, 0, 0)]
)
@pytest.mark.parametrize("delta", [0, 0.01])
def test_the_p_value_is_the_theorem_s(canaries, guesses, correct, delta):
    expected = by_hand(canaries, guesses, correct, Fraction(3, 4), Fraction(delta))
    assert p_value(canaries, guesses, correct, math.log(3), delta) == pytest.approx(float(expected))


@pytest.mark.parametrize(("canaries", "error"), [(20, 0.05), (300, 0.05), (1000, 0.001)])
def test_if_all_are_right_and_delta_is_0_the_bound_has_a_closed_form(canaries, error):
    """Randomized response is right each time with probability p^m, so the p with p^m = error is the bound's."""
    p = error ** (1 / canaries)
    found = epsilon_lower_bound(canaries, canaries, canaries, 0.0, error)
    assert found == pytest.approx(math.log(p / (1 - p)), abs=1e-5)
    assert most_provable(canaries, 0.0, error * WAYS) == pytest.approx(found, abs=1e-5)


@settings(max_examples=60)
@given(st.integers(1, 60), st.data())
def test_more_right_guesses_prove_more_and_delta_takes_off(guesses, data):
    correct = data.draw(st.integers(0, guesses - 1))
    delta = data.draw(st.sampled_from([0.0, 1e-6, 1e-4]))
    found = epsilon_lower_bound(100, guesses, correct, delta, 0.05)
    assert found <= epsilon_lower_bound(100, guesses, correct + 1, delta, 0.05) + 1e-5
    assert epsilon_lower_bound(100, guesses, correct, delta + 1e-4, 0.05) <= found + 1e-5
    if found:
        assert p_value(100, guesses, correct, found, delta) <= 0.05


def test_nothing_is_proven_by_no_guesses_and_impossible_counts_are_refused():
    assert epsilon_lower_bound(100, 0, 0, 1e-5, 0.05) == 0.0
    with pytest.raises(ValueError, match="4 of 3 guesses"):
        p_value(10, 3, 4, 1.0, 0.0)


def test_randomized_response_is_hardly_ever_said_to_leak_more_than_it_does():
    """The mechanism that the theorem is tight for: of 300 audits at 80 % confidence some 60 may err."""
    epsilon, chance, wrong = 1.0, np.random.default_rng(0), 0
    for _ in range(300):
        coins = chance.random(200) < 0.5
        told = np.where(chance.random(200) < math.e / (1 + math.e), coins, ~coins)
        bounds = guessed(told + chance.random(200) / 2, coins, 0.0, 0.2)
        wrong += largest(bounds) > epsilon
    assert wrong <= 60
    coins = np.arange(400) % 2 == 0
    assert largest(guessed(coins + 0.0, coins, 1e-6, 0.05)) > 3


def test_how_many_canaries_it_takes():
    needed = canaries_needed(2.0, 1e-5, 0.05)
    assert most_provable(needed, 1e-5, 0.05) >= 2.0 > most_provable(needed - 1, 1e-5, 0.05)
    assert canaries_needed(9.0, 1e-5, 0.05) is None  # 2 delta e^epsilon alone is above the error
    assert canaries_needed(9.0, 1e-9, 0.05) is not None


def test_guesses_are_the_extreme_scores_and_counted_right():
    scores, coins = np.array([5.0, 4.0, 3.0, 2.0, 1.0, 0.0]), np.array([1, 1, 0, 1, 0, 0], bool)
    found = guessed(scores, coins, 0.0, 0.05)
    assert [(each.said_in, each.said_out, each.correct) for each in found] == [
        (3, 3, 4),
        (3, 0, 2),
        (2, 0, 2),
        (3, 3, 4),
    ]
    assert len(ways_to_guess(1000, 0.5)) == WAYS
    assert ways_to_guess(1000, 0.2)[2] == (70, 0)


def test_rates_give_the_larger_of_both_sides():
    """Jagielski et al. (2020): log of the ratio of one limit to the other, here at zero false alarms of 1,000."""
    low, high = 0.025 ** (1 / 1000), 1 - 0.025 ** (1 / 1000)
    found = rates_bound(1000, 1000, 0, 1000, delta=0.0, confidence=0.95)
    assert found == pytest.approx(math.log(low / high), rel=1e-6)
    assert rates_bound(500, 1000, 500, 1000, delta=0.0, confidence=0.95) == 0.0
    assert rates_bound(0, 0, 0, 5, delta=0.0, confidence=0.95) == 0.0
    sure_out = rates_bound(500, 1000, 0, 1000, delta=0.0, confidence=0.95)
    turned = rates_bound(1000, 1000, 500, 1000, delta=0.0, confidence=0.95)
    assert sure_out == pytest.approx(turned)
    assert sure_out > 4
