"""Label counts with noise: the distribution, the sensitivity, one picture a person."""

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from client.label_counts import discrete_laplace, exact, noisy_counts, one_each, shares
from client.randomness import KeyedStream


def stream(number):
    return KeyedStream(number.to_bytes(32, "little"))


@pytest.mark.parametrize("epsilon", [Fraction(1, 2), Fraction(3), Fraction(2, 7)])
def test_the_noise_is_discrete_laplace(epsilon):
    draws = stream(1)
    drawn = np.array([discrete_laplace(epsilon, draws) for _ in range(4000)])
    edge = int(3 / epsilon) + 1
    values = np.arange(-edge, edge + 1)
    p = math.exp(-float(epsilon))
    expected = (1 - p) / (1 + p) * p ** np.abs(values)
    observed = (drawn[:, None] == values).sum(0)
    inside = 1 - 2 * p ** (edge + 1) / (1 + p)
    assert expected.sum() == pytest.approx(inside)
    both = np.append(observed, len(drawn) - observed.sum()), np.append(expected, 1 - expected.sum())
    assert stats.chisquare(both[0], both[1] * len(drawn)).pvalue > 1e-3


def test_neighbours_are_as_likely_up_to_a_factor():
    """The ratio of neighbouring probabilities is exactly e^epsilon, so adding 1 to a count hides behind it."""
    draws = stream(2)
    drawn = np.array([discrete_laplace(Fraction(1), draws) for _ in range(20000)])
    for value in range(-2, 2):
        one, other = (drawn == value).sum(), (drawn == value + 1).sum()
        low, high = sorted((one, other))
        assert high / low == pytest.approx(math.e, rel=0.12)


def test_epsilon_is_rounded_down():
    for epsilon in (0.5, 0.1, 1 / 3, 8.0, 1e-3):
        assert 0 < exact(epsilon) <= Fraction(epsilon)
        assert float(exact(epsilon)) == pytest.approx(epsilon, rel=0.02)


def test_counts_are_those_of_the_labels_but_for_noise():
    label = np.repeat([0, 1, 3], [500, 20, 7])
    found = noisy_counts(label, 5, 20.0, stream(3))
    assert found.tolist() == [500, 20, 0, 7, 0], "at epsilon 20 noise is 0 but once in 10^8"
    some = [noisy_counts(label, 5, 0.5, stream(number)) for number in range(4, 40)]
    assert np.abs(np.mean(some, 0) - [500, 20, 0, 7, 0]).max() < 2.5
    assert 1.5 < np.std(some, 0).mean() < 4.0, "the deviation is about sqrt(2) / epsilon"
    assert np.array_equal(some[0], noisy_counts(label, 5, 0.5, stream(4)))


def test_a_person_counts_once():
    people = [np.array([0]), np.array([1, 2, 3, 4]), np.array([5, 6])]
    found = np.array([one_each(people, stream(number)) for number in range(400)])
    assert (found[:, 0] == 0).all()
    assert set(found[:, 1]) == {1, 2, 3, 4}
    assert np.bincount(found[:, 1], minlength=5)[1:] == pytest.approx([100] * 4, abs=35)
    assert one_each([], stream(1)).shape == (0,)


def test_shares_are_positive_and_add_up():
    found = shares(np.array([30, -4, 0, 10]))
    assert found == pytest.approx((30 / 42, 1 / 42, 1 / 42, 10 / 42))
    assert shares(np.array([-3, -1])) == (0.5, 0.5)
