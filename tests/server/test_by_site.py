"""Weights of sites, by hand and for whatever sites say."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.debiasing.by_site import (
    accuracy,
    fairfed_weights,
    misses,
    onto_simplex,
    q_factors,
    recall_gap,
)

SHARES = st.lists(st.floats(0.01, 1), min_size=1, max_size=8).map(lambda each: np.array(each) / sum(each))


def near(found, expected):
    assert np.allclose(found, expected, rtol=1e-9, atol=1e-9)


# q-FFL


def test_q_factors_by_hand():
    """F = 1 and 3, q = 1, L = 2: Delta = 2 d and 6 d, h = 4 |d|^2 + 2 F."""
    found = q_factors(np.array([1.0, 3.0]), np.array([0.5, 2.0]), np.array([0.5, 0.5]), 1.0, 0.5)
    near(found, np.array([2.0, 6.0]) / ((4 * 0.5 + 2) + (4 * 2 + 6)))


@settings(deadline=None)
@given(SHARES, st.integers(0, 99))
def test_q_of_0_is_the_plain_mean_and_equal_losses_differ_by_shares_alone(shares, seed):
    rng = np.random.default_rng(seed)
    losses, squares = rng.uniform(0.1, 3, len(shares)), rng.uniform(0, 1, len(shares))
    near(q_factors(losses, squares, shares, 0.0, 0.1), shares)
    alike = q_factors(np.full(len(shares), 0.7), squares, shares, 2.0, 0.1)
    near(alike / alike.sum(), shares)


@settings(deadline=None)
@given(st.floats(0.1, 5), st.floats(0.1, 5), st.floats(0.1, 3))
def test_a_site_with_a_higher_loss_counts_more(one, other, q):
    found = q_factors(np.array([one, other]), np.ones(2), np.full(2, 0.5), q, 0.1)
    assert (found[0] > found[1]) == (one > other) or math.isclose(one, other, rel_tol=1e-6)


def test_a_site_without_loss_divides_by_nothing():
    assert np.isfinite(q_factors(np.zeros(2), np.ones(2), np.full(2, 0.5), 0.5, 0.1)).all()


# Agnostic federated learning


def test_the_nearest_point_of_the_simplex_by_hand():
    near(onto_simplex(np.array([0.5, 0.5])), [0.5, 0.5])
    near(onto_simplex(np.array([1.0, 1.0, 0.4])), [0.5, 0.5, 0.0])
    near(onto_simplex(np.array([0.2, 0.4, 0.6])), [2 / 15, 1 / 3, 8 / 15])
    near(onto_simplex(np.array([-7.0])), [1.0])


@settings(deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=2, max_size=6), st.integers(0, 99))
def test_no_other_point_of_the_simplex_is_nearer(given_, seed):
    x = np.array(given_)
    found = onto_simplex(x)
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1)
    others = np.random.default_rng(seed).dirichlet(np.ones(len(x)), 50)
    assert (np.linalg.norm(others - x, axis=1) >= np.linalg.norm(found - x) - 1e-9).all()


# FairFed


def table(*groups):
    """(G, C, C) of two classes: for each group ((right, wrong) of class 0, (right, wrong) of class 1)."""
    return np.array([[[one[0], one[1]], [two[1], two[0]]] for one, two in groups])


def test_the_gap_in_recall_by_hand():
    """Recall .8 and .5 in class 0, .9 and .4 in class 1; and of class 0 alone, where one group has no class 1."""
    assert recall_gap(table(((8, 2), (9, 1)), ((5, 5), (4, 6)))) == pytest.approx((0.3 + 0.5) / 2)
    assert recall_gap(table(((8, 2), (9, 1)), ((5, 5), (0, 0)))) == pytest.approx(0.3)
    assert recall_gap(table(((8, 2), (9, 1)), ((0, 0), (0, 0)))) is None
    assert accuracy(table(((8, 2), (9, 1)), ((5, 5), (4, 6)))) == pytest.approx(26 / 40)
    assert accuracy(table(((0, 0), (0, 0)))) == 0


def test_a_site_of_one_group_goes_by_its_accuracy_and_the_undisclosed_are_no_group():
    even = table(((8, 2), (8, 2)), ((6, 4), (6, 4)), ((0, 10), (0, 10)))
    single = table(((9, 1), (9, 1)), ((0, 0), (0, 0)), ((0, 0), (0, 0)))
    whole = even + single  # recall 17/20 and .6; accuracy 46/80
    near(misses([even, single]), [abs(0.2 - 0.25), abs(0.9 - 46 / 80)])
    assert recall_gap(whole[:-1]) == pytest.approx(0.25)


def test_fairfed_weights_by_hand():
    near(fairfed_weights(np.array([0.5, 0.5]), np.array([0.1, 0.3]), 1.0), [0.6, 0.4])
    near(fairfed_weights(np.array([0.5, 0.5]), np.array([0.0, 4.0]), 1.0), [1.0, 0.0])
    near(fairfed_weights(np.array([0.3, 0.7]), np.array([0.2, 0.2]), 1.0), [0.3, 0.7])


@settings(deadline=None)
@given(SHARES, st.floats(0, 10), st.integers(0, 99))
def test_fairfed_weights_are_shares(before, beta, seed):
    found = fairfed_weights(before, np.random.default_rng(seed).uniform(0, 1, len(before)), beta)
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1)
