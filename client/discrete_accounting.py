"""What distributed noise costs beyond the Gaussian mechanism: the theorem behind ``privacy.noise: distributed``.

*Setting.* In a round every record of every site is sampled by itself with the public rate q. A site adds up the
clipped gradients of its sampled records, rounds the sum to whole steps of a grid, and adds discrete Gaussian noise of
deviation u in steps. Whoever the guarantee is against sees the sum over the sites, and knows all of the shares of up
to ``colluders`` of them; the noise of the m other sites is secret. f is the sum of the rounded sums, and D its
sensitivity: adding or removing a record changes f by at most D in 2-norm (:mod:`client.grid` proves it). Write
s = u sqrt(m) and sigma = s / D.

*Theorem.* What T steps in P coordinates release together is (epsilon + a, exp(a) delta + b)-differentially private,
where (epsilon, delta) is what T steps of the Poisson-subsampled *continuous* Gaussian mechanism with noise multiplier
sigma and rate q give by any accountant, a = T slack, and b = T (1 + exp(epsilon)) FAILURE.

*Proof.* (1) Continuous noise rounded to whole numbers would do: f is whole, so f + round(y) = round(f + y) for
y ~ N(0, s^2), which computes from the Gaussian mechanism's answer. Given the sampled records, f changes by at most D
when one more joins, so mixing over the sampling gives the pair (1 - q) N(0) + q N(D) against N(0) at worst, as for
DP-SGD. (2) Compare, at a whole x, g(x), the discrete Gaussian of deviation s, with r(x), the rounded one. With
g(x) = exp(-x^2 / 2 s^2) / Z and r(x) the integral of the density over [x - 1/2, x + 1/2],

    log g(x) / r(x)  <=  1 / (24 s^2)                             (Jensen; Z >= s sqrt(2 pi)),
    log r(x) / g(x)  <=  x^2 / (24 s^4) + 3 exp(-2 pi^2 s^2)      (sinh(a) / a <= exp(a^2 / 6); Poisson summation).

(3) The sum of m discrete Gaussians is within a factor exp(+-tau / 2) of one discrete Gaussian at every x, where
tau = 10 sum_{k=1}^{m-1} exp(-2 pi^2 u^2 k / (k + 1)) (Kairouz, Liu and Steinke 2021). (4) The noise of all steps and
coordinates is independent of the records and of the sampling, and the whole transcript, however adaptive, is a
function of the three. So the transcript's probabilities with the real noise and with the rounded one differ by at
most the product of the factors of (2) and (3): by exp of P (1 / (24 s^2) + tau / 2) a step one way, and the other way
by exp of X / (24 s^4) + P (3 exp(-2 pi^2 s^2) + tau / 2) where X is the squared 2-norm of a step's rounded noise. As
rounding moves a coordinate by at most 1/2, X <= (s sqrt(K) + sqrt(P) / 2)^2 with K = P + 2 sqrt(P L) + 2 L, except
with probability exp(-L) (Laurent and Massart 2000). Going from one set of records to its neighbour uses each way
once; the sum of the exponents is :func:`slack`, and the probabilities exp(-L) and the distance of the sampler
(:data:`client.discrete.TOTAL_VARIATION`) are :data:`FAILURE`.

*Assumptions.* At most ``colluders`` sites give their noise away, and all others add it, sample and clip as the plan
says; nobody sees a share of these others by itself; noise and sampling are secret (in a simulation they follow from
the seed); the float sum of clipped gradients moves by no more than the margin that :mod:`client.grid` leaves
for rounding, which is measured and not proved.

With a grid as fine as plans use, slack is some 1e-6 of epsilon, so distributed noise needs the sigma of a trusted
curator. Renyi accounting at whole orders (Mironov, Talwar and Zhang 2019; the moments of a discrete Gaussian under
whole shifts are those of the continuous one) proves nearly the same with 4 to 8 % more noise.
"""

from __future__ import annotations

import math

from client.discrete import TOTAL_VARIATION

TAIL = 100 * math.log(2)
"""L of the proof: a step's noise is longer than accounted for with probability 2^-100."""

MOST_DRAWS = 2**30
"""Noise numbers that one step may take from all sites together; see :data:`FAILURE`."""

FAILURE = 4 * MOST_DRAWS * TOTAL_VARIATION
"""Probability, a step and a unit of 1 + exp(epsilon), at which the comparison of the proof fails: 2^-68."""

KEPT = 1 - 2.0**-10
"""Share of delta that is asked of the Gaussian mechanism; the rest pays for exp(a) and b of the theorem."""


def slack(parameters: int, share: float, shares: int) -> float:
    """Return the epsilon of one step beyond the Gaussian mechanism of the same noise multiplier.

    Parameters
    ----------
    parameters : P, coordinates that noise is added to, 1 or more.
    share : u, deviation of one site's noise in steps of the grid.
    shares : m, number of sites whose noise is secret.
    """
    deviation = share * math.sqrt(shares)
    tau = 10 * sum(_wave(share * math.sqrt(k / (k + 1))) for k in range(1, shares))
    longest = parameters + 2 * math.sqrt(parameters * TAIL) + 2 * TAIL
    squared = (math.sqrt(longest) + math.sqrt(parameters) / (2 * deviation)) ** 2
    return (parameters + squared) / (24 * deviation**2) + parameters * (3 * _wave(deviation) + tau)


def _wave(deviation: float) -> float:
    """Return exp(-2 pi^2 s^2), by which a Gaussian on the whole numbers depends on where its centre lies."""
    return math.exp(-2 * (math.pi * deviation) ** 2)
