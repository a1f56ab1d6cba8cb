"""Discrete Gaussian noise: the exact distribution, from tables that can be checked."""

import hashlib
import math

import numpy as np
import pytest
from scipy import stats

from client.discrete import BLOCK, DiscreteGaussian, discrete_gaussian
from client.randomness import KeyedStream


def exact(deviation, largest):
    """Probabilities of -largest..largest, summed over a wider range."""
    wide = np.arange(-largest - 50, largest + 51, dtype=float)
    weights = np.exp(-(wide**2) / (2 * deviation**2))
    return weights[50:-50] / weights.sum()


def drawn(deviation, count, key=b"k"):
    return DiscreteGaussian(deviation).draw(KeyedStream(hashlib.sha256(key).digest()), count)


class Words(KeyedStream):
    """A stream of given words."""

    def __init__(self, *words):
        self.left = list(words)

    def words(self, count):
        taken, self.left = self.left[:count], self.left[count:]
        return np.array(taken, np.uint64)


def ends(table):
    """The cumulative distribution of a table in 2^-128, from its two halves."""
    return [(int(a) << 64) + b for a, b in zip(table._upper, table._lower, strict=True)]


@pytest.mark.parametrize("deviation", [1.0, 3.3, 17.0, 255.9])
def test_a_table_holds_the_distribution(deviation):
    table = DiscreteGaussian(deviation)._tables[0]
    found = np.diff([0, *ends(table), 1 << 128]) / 2.0**128
    assert np.allclose(found.astype(float), exact(deviation, table.largest), rtol=1e-9, atol=1e-30)
    assert table.largest >= 12 * deviation
    left = [0, *ends(table)]
    right = [(1 << 128) - end for end in [*ends(table), 1 << 128]][::-1]
    assert max(abs(a - b) for a, b in zip(left, right, strict=True)) <= 4, "symmetric to the last bits"


@pytest.mark.parametrize("deviation", [256.0, 264.5, 1000.3])
def test_two_tables_together_are_one_discrete_gaussian(deviation):
    """All probabilities of a + k b, added up from those of the tables, where floats still show them."""
    noise = DiscreteGaussian(deviation)
    a, b = (np.diff([0, *ends(t), 1 << 128]).astype(float) / 2.0**128 for t in noise._tables)
    spread = np.zeros((len(b) - 1) * noise._step + 1)
    spread[:: noise._step] = b
    found = np.convolve(a, spread)
    assert len(found) == 2 * noise.largest + 1
    near = slice(noise.largest - int(6 * deviation), noise.largest + int(6 * deviation) + 1)
    expected = exact(deviation, noise.largest)
    assert np.allclose(found[near], expected[near], rtol=1e-10, atol=0)
    assert np.abs(found - expected).sum() < 1e-12
    assert noise.largest <= 14 * deviation, "the room that finest() leaves"


@pytest.mark.parametrize("deviation", [1.5, 40.0, 700.0, 2.0**17, 2.0**24])
def test_draws_follow_the_distribution(deviation):
    """Chi-square over 60 classes of about equal probability; and mean, variance, fourth moment."""
    count = 400_000
    x = drawn(deviation, count)
    assert x.dtype == np.int64
    if deviation < 20:
        edges = np.arange(-4, 5) + 0.5
    else:
        edges = np.unique(np.floor(deviation * stats.norm.ppf(np.arange(1, 60) / 60))) + 0.5
    # A sum over whole numbers is the integral up to terms that no sample of this size sees at deviation 40.
    if deviation < 1000:
        reach = int(12 * deviation)
        below = np.cumsum(exact(deviation, reach))[(np.floor(edges) + reach).astype(int)]
    else:
        below = stats.norm.cdf(edges / deviation)
    expected = np.diff([0, *below, 1]) * count
    found = np.bincount(np.searchsorted(edges, x), minlength=len(edges) + 1)
    assert stats.chisquare(found, expected).pvalue > 1e-4
    z = x / deviation
    for power, moment, spread in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((z**power).mean() - moment) < 5 * math.sqrt(spread / count)


def test_draws_show_no_lattice_and_no_period():
    """Remainders modulo the second table's step are even, and neighbours do not depend on each other."""
    noise = DiscreteGaussian(2.0**17)
    x = drawn(2.0**17, 400_000)
    for modulus in (2, 16, noise._step):
        counts = np.bincount(x % modulus, minlength=modulus)
        assert stats.chisquare(counts).pvalue > 1e-4, modulus
    z = x / 2.0**17
    for lag in (1, 2, BLOCK, 2 * BLOCK):
        assert abs((z[lag:] * z[:-lag]).mean()) < 5 / math.sqrt(len(z) - lag), lag
    assert abs((x > 0).mean() - (x < 0).mean()) < 5 / math.sqrt(len(x))


def test_known_answers():
    """A change of these is a change of every simulated run with distributed noise."""
    assert drawn(3.3, 8).tolist() == [-2, 1, 3, -1, -2, 3, 0, -3]
    assert drawn(2.0**17, 4).tolist() == [-80631, 127945, 18196, -112277]


def test_the_extreme_words_give_the_extreme_numbers():
    table = DiscreteGaussian(2.0)._tables[0]
    low, high = 0, (1 << 64) - 1
    assert table.draw(Words(low, 0), 1).tolist() == [-table.largest]
    assert table.draw(Words(high, high), 1).tolist() == [table.largest]
    largest = DiscreteGaussian(300.0)
    found = largest.draw(Words(high, high, high, high), 1)
    assert found.tolist() == [largest.largest]


def test_a_word_on_the_edge_is_decided_by_64_more_bits():
    table = DiscreteGaussian(2.0)._tables[0]
    at = int(np.searchsorted(table._upper, 1 << 63)) - 3
    upper, lower = int(table._upper[at]), table._lower[at]
    value = at - table.largest
    assert 0 < lower < (1 << 64) - 1
    for second, expected in ((lower - 1, value), (lower, value + 1), (0, value), ((1 << 64) - 1, value + 1)):
        stream = Words(upper, second)
        assert table.draw(stream, 1).tolist() == [expected]
        assert not stream.left
    stream = Words(upper - 1, upper + 1, 77)
    assert table.draw(stream, 2).tolist() == [value, value + 1]
    assert stream.left == [77], "only an edge takes more bits"


def test_the_guide_agrees_with_a_search():
    table = DiscreteGaussian(250.0)._tables[0]
    words = KeyedStream(bytes(32)).words(50_000)
    found = table.draw(KeyedStream(bytes(32)), 50_000)
    assert np.array_equal(found, np.searchsorted(table._upper, words, "right") - table.largest)


def test_keys_decide():
    noise = discrete_gaussian(5000.0)
    assert noise is discrete_gaussian(5000.0)
    one, again, other = (noise.draw(KeyedStream(bytes([k]) * 32), BLOCK + 3) for k in (1, 1, 2))
    assert np.array_equal(one, again)
    assert (one == other).mean() < 0.01
    assert noise.draw(KeyedStream(bytes(32)), 0).shape == (0,)
