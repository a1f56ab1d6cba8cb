"""Expected calibration error from binned counts, which add up over blocks and sites as counts do.

Guo et al., "On calibration of modern neural networks", ICML 2017: rows in bins of equal width by the probability
of the predicted class; the error is the mean distance between accuracy and mean probability of a bin, weighted
by its rows. It is above 0 by chance alone, the more so the fewer the rows: compare groups of like size.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fer_models.parity import SMALLEST

BINS = 15
"""Bins between 0 and 1, as in the source."""


def binned(
    chance: NDArray[np.float64], right: NDArray[np.bool_], group: NDArray[np.int64], groups: int
) -> NDArray[np.float64]:
    """Return float64 (G, BINS, 3): rows, right ones, and the sum of probabilities.

    Parameters
    ----------
    chance : (N,), 0 to 1, of the predicted class.
    right : (N,), whether that is the true class.
    group : (N,), below ``groups``.
    """
    cell = group * BINS + np.minimum((chance * BINS).astype(np.int64), BINS - 1)
    columns = [np.bincount(cell, weight, groups * BINS) for weight in (None, right, chance)]
    return np.stack(columns, -1).reshape(groups, BINS, 3).astype(np.float64)


def calibration_error(table: NDArray[np.float64]) -> float | None:
    """Return the error of one group's bins (BINS, 3), 0 to 1; None with fewer than ten rows."""
    rows, right, chance = table.T
    if rows.sum() < SMALLEST:
        return None
    return float(np.abs(right - chance).sum() / rows.sum())
