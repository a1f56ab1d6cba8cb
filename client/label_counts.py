"""How many of a site's training pictures show each class, with noise: what shares of the classes can be made of.

Discrete Laplace noise (Ghosh et al. 2012): the whole number x has probability proportional to exp(-epsilon |x|). One
picture more or less changes one count by one, so all counts of a site together are epsilon-differentially private. It
is drawn exactly, with whole numbers alone (Canonne, Kamath and Steinke 2020, algorithm 2): no floating-point number
comes near the counts.

Where a person is the unit, one picture of each person is drawn at random and the others do not count; a person more or
less again changes one count by one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from client.randomness import KeyedStream

FINENESS = 1 << 16
"""Epsilon is rounded down to a multiple of 1 / this."""


def exact(epsilon: float) -> Fraction:
    """Return the epsilon that noise is drawn for: the given one rounded down, so never more."""
    return Fraction(int(Fraction(epsilon) * FINENESS), FINENESS)


def noisy_counts(
    label: NDArray[np.integer], classes: int, epsilon: float, stream: KeyedStream
) -> NDArray[np.int64]:
    """Return counts int64 (classes,) with discrete Laplace noise; they can be negative.

    Parameters
    ----------
    label : (n,), the class of each unit.
    """
    true = np.bincount(label, minlength=classes).astype(np.int64)
    return true + np.array([discrete_laplace(exact(epsilon), stream) for _ in range(classes)], np.int64)


def one_each(people: Sequence[NDArray[np.intp]], stream: KeyedStream) -> NDArray[np.intp]:
    """Return the position of one picture of each person, each as likely as that person's others."""
    return np.array([own[_below(len(own), stream)] for own in people], np.intp)


def shares(counts: NDArray[np.int64]) -> tuple[float, ...]:
    """Return the shares of the classes, all positive, from the sum of everybody's noisy counts (classes,).

    A count below 1 is taken for 1: a share of 0 has no logarithm.
    """
    kept = np.maximum(counts, 1)
    return tuple((kept / kept.sum()).tolist())


def discrete_laplace(epsilon: Fraction, stream: KeyedStream) -> int:
    """Draw a whole number x with probability proportional to exp(-epsilon |x|)."""
    while True:
        size, negative = _geometric(epsilon, stream), _below(2, stream) == 1
        if size or not negative:
            return -size if negative else size


def laplace_share(epsilon: Fraction, shares: int, stream: KeyedStream) -> int:
    """Draw one of so many independent numbers whose sum is discrete Laplace noise of that epsilon.

    *Proof.* Write q = exp(-epsilon), and NB(r) for the negative binomial distribution with generating function
    ((1 - q) / (1 - q z))^r. Discrete Laplace noise is the difference of two independent geometric numbers, each NB(1),
    and NB(1) is the sum of m independent NB(1 / m). So a share is the difference of two of these. To draw NB(1 / m):
    draw a geometric number of balls, and give the i-th of them to the share with probability
    (1 / m + those it has) / i, as in Polya's urn. The share's part of g balls is then binomial with a chance drawn from
    the beta distribution with parameters 1 / m and 1 - 1 / m. A geometric number is Poisson with an exponential mean;
    thinned by that chance it is Poisson with a mean that is the product of the two, which has the gamma distribution
    of shape 1 / m: NB(1 / m). All chances are fractions, so whole numbers draw it exactly.

    More shares than m make the noise larger by an independent number, and the guarantee no weaker.

    Parameters
    ----------
    shares : m.
    """
    up, down = _polya(epsilon, shares, stream), _polya(epsilon, shares, stream)
    return up - down


def _polya(epsilon: Fraction, shares: int, stream: KeyedStream) -> int:
    own = 0
    for ball in range(1, _geometric(epsilon, stream) + 1):
        own += _below(shares * ball, stream) < 1 + shares * own
    return own


def _geometric(epsilon: Fraction, stream: KeyedStream) -> int:
    """Draw a whole number x from 0 on with probability proportional to exp(-epsilon x)."""
    scale, steps = epsilon.denominator, epsilon.numerator
    while True:
        rest = _below(scale, stream)
        if not _bernoulli_exp(Fraction(rest, scale), stream):
            continue
        whole = 0
        while _bernoulli_exp(Fraction(1), stream):
            whole += 1
        return (rest + scale * whole) // steps


def variance_of(epsilon: float) -> float:
    """Return the variance of :func:`discrete_laplace`: 2 q / (1 - q)^2 with q = exp(-epsilon)."""
    return 2 * math.exp(-epsilon) / math.expm1(-epsilon) ** 2


def _bernoulli_exp(x: Fraction, stream: KeyedStream) -> bool:
    """Return True with probability exp(-x), 0 <= x <= 1 (Canonne et al. 2020, algorithm 1)."""
    tries = 1
    while _below(x.denominator * tries, stream) < x.numerator:
        tries += 1
    return tries % 2 == 1


def _below(limit: int, stream: KeyedStream) -> int:
    """Return a whole number from 0 to ``limit`` - 1, each as likely."""
    most = (1 << 64) // limit * limit
    while (word := int(stream.words(1)[0])) >= most:
        pass
    return word % limit
