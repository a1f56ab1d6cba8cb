"""The study of :mod:`simulations.bench.audit_coverage` where every site adds noise to its counts of test pictures.

As under ``privacy.audit_epsilon``: discrete Laplace noise of each site in every cell of the table, only the sum over
the sites is seen, and it is made counts again before anything is worked out from it.
"""

from __future__ import annotations

import math

import numpy as np

from fer_models.labels import EXPRESSIONS
from fer_models.noisy_counts import cleaned, variance_of_cell
from fer_models.noisy_intervals import Noise
from simulations.bench.audit_coverage import GROUPS, Tally, chances, compare, limits_at, summary

SITES, EPSILON = 10, 1.0
"""Sites of a test set, and what each spends on its one table."""

SIZES = (3068, 20_000)
"""Rows of all sites together: those of RAF-DB's test part, and many."""


def study_noise(draws: int, seed: int = 0) -> dict[str, float]:
    """Return ``noise.coverage``, ``noise.false_alarm`` and so on, as :func:`summary` names them.

    Over ``draws`` test sets of each size, with a gap and without.
    """
    tally, rng = Tally(), np.random.default_rng(seed)
    q = math.exp(-EPSILON)
    variance = SITES * 2 * q / (1 - q) ** 2
    noise = Noise(math.sqrt(variance), math.sqrt(variance_of_cell([len(GROUPS)], variance)))
    for gap in (False, True):
        truth = chances(gap)
        rules = limits_at(truth)
        for size in SIZES:
            tally.test_set = f"{size} rows with noise, {'a' if gap else 'no'} gap"
            for table in rng.multinomial(size, truth.ravel(), draws):
                # The difference of two geometric numbers is discrete Laplace, and a sum of such is that of their sums.
                parts = rng.negative_binomial(SITES, 1 - q, (2, table.size))
                counts = cleaned(table + parts[0] - parts[1], EXPRESSIONS, {"group": GROUPS})
                compare(tally, truth, counts, rules, noise)
    found = summary(tally, draws)
    return {f"noise.{key}": rate for key, rate in found.items()}
