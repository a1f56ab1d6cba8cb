"""Facial action units: which ones make an expression, and how strongly they contract in one picture.

Numbers follow the Facial Action Coding System (Ekman & Friesen 1978), the sets of units an expression its
investigator's guide (EMFACS). L and R are the left and the right half of the picture.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

UNITS = (
    "1",  # inner brow raiser
    "2",  # outer brow raiser
    "4",  # brow lowerer
    "5",  # upper lid raiser
    "6",  # cheek raiser
    "7",  # lid tightener
    "9",  # nose wrinkler
    "12L",  # lip corner puller
    "12R",
    "14L",  # dimpler
    "14R",
    "15",  # lip corner depressor
    "16",  # lower lip depressor
    "20",  # lip stretcher
    "23",  # lip tightener
    "26",  # jaw drop
)
"""Action units in the order of the columns of :func:`contractions`."""

EXPRESSION_UNITS: Mapping[str, tuple[str, ...]] = {
    "neutral": (),
    "happiness": ("6", "12L", "12R"),
    "sadness": ("1", "4", "15"),
    "surprise": ("1", "2", "5", "26"),
    "fear": ("1", "2", "4", "5", "7", "20", "26"),
    "anger": ("4", "5", "7", "23"),
    "disgust": ("9", "15", "16"),
    "contempt": ("12L", "14L"),  # one-sided; half of the pictures show it on the right
}
"""Units that an expression is made of."""

VARIATION = (0.7, 1.2)
"""Range of a unit's contraction relative to the intensity of the expression."""

ABSENT = 0.08
"""Probability that a unit of the expression hardly shows in a picture."""

HABIT = 0.12
"""Probability that a unit contracts for another reason than the expression, at crosstalk 1."""

HABIT_STRENGTH = 0.45
"""Strongest such contraction, at crosstalk 1."""

DRAWS = 4 * len(UNITS) + 2
"""Uniform numbers that :func:`contractions` uses a picture."""

_TWIN = np.array([UNITS.index(u.translate(str.maketrans("LR", "RL"))) for u in UNITS])


def expression_table(labels: tuple[str, ...]) -> NDArray[np.float32]:
    """Return which units make each label, float32 (len(labels), len(UNITS)) of 0 and 1."""
    return np.array([[unit in EXPRESSION_UNITS[name] for unit in UNITS] for name in labels], np.float32)


def intensities(draws: NDArray[np.float32], mean: NDArray[np.float64], spread: float) -> NDArray[np.float32]:
    """Return the intensity of the expression, float32 (n,) in 0..1, from bell-shaped ``draws`` (n,).

    The deviation is relative to the mean, so that a mean of 0 draws no expression at all.
    """
    deviation = 1 + spread * draws
    return np.clip(mean * deviation, 0, 1).astype(np.float32)


def contractions(
    expression: NDArray[np.float32],
    intensity: NDArray[np.float32],
    crosstalk: float,
    draws: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return how strongly every unit contracts, float32 (n, len(UNITS)) in 0..1.

    Parameters
    ----------
    expression : float32 (n, len(UNITS)), the rows of :func:`expression_table` of the labels.
    intensity : float32 (n,), 0 to 1.
    crosstalk : strength of contractions that have nothing to do with the label.
    draws : float32 (n, DRAWS), uniform in 0..1.
    """
    k = len(UNITS)
    vary, absent, habit, strength = (draws[:, i * k : (i + 1) * k] for i in range(4))
    side = draws[:, -1:] < 0.5
    expression = np.where(side, expression, expression[:, _TWIN])
    low, high = VARIATION
    amount = expression * intensity[:, None] * (low + (high - low) * vary)
    amount *= np.where(absent < ABSENT, 0.3, 1)
    paired = np.where(draws[:, -2:-1] < 0.7, np.minimum(habit, habit[:, _TWIN]), habit)
    other = (paired < HABIT * min(crosstalk, 1.5)) * (HABIT_STRENGTH * crosstalk) * strength
    return np.clip(amount + other, 0, 1).astype(np.float32)
