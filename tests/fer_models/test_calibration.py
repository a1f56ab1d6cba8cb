"""Calibration by hand, and that bins add up."""

import numpy as np
import pytest

from fer_models.calibration import BINS, binned, calibration_error


def test_error_by_hand():
    chance = np.array([0.9] * 10 + [0.5] * 10 + [1.0] * 20)
    right = np.array([True] * 6 + [False] * 4 + [True] * 5 + [False] * 5 + [True] * 20)
    table = binned(chance, right, np.zeros(40, int), 1)
    assert table.shape == (1, BINS, 3)
    assert calibration_error(table[0]) == pytest.approx((10 * 0.3 + 10 * 0 + 20 * 0) / 40)


def test_groups_are_apart_and_blocks_add_up():
    rng = np.random.default_rng(0)
    chance, right, group = rng.random(200), rng.random(200) < 0.5, rng.integers(0, 3, 200)
    whole = binned(chance, right, group, 3)
    parts = [binned(chance[at], right[at], group[at], 3) for at in (slice(0, 70), slice(70, 200))]
    np.testing.assert_allclose(whole, sum(parts))
    own = group == 1
    np.testing.assert_allclose(whole[1], binned(chance[own], right[own], np.zeros(own.sum(), int), 1)[0])


def test_few_rows_have_no_error():
    assert calibration_error(binned(np.full(9, 0.7), np.ones(9, bool), np.zeros(9, int), 1)[0]) is None
