"""Scores of canaries: a log likelihood ratio, on sums that the claimed mechanism makes."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from simulations.privacy_audit.evidence import Products, Round, log_odds, round_of

ONE_STEP = Round(steps=1, rate=1.0, clip=1.0, noise=1.0, factor=1.0)


def products_of(gradients, update):
    return Products(
        gradients @ gradients.T,
        gradients @ update,
        np.zeros(len(gradients)),
        float(update @ update),
        len(update),
    )


def test_the_score_of_one_canary_without_company_is_the_exact_ratio():
    """x = z g + N(0, 1) along a unit gradient: log N(x; 1, 1) / N(x; 0, 1)."""
    gradient = np.array([[1.0]])
    for x in (-1.0, 0.0, 0.4, 3.0):
        found = log_odds(products_of(gradient, np.array([x])), 1, replace(ONE_STEP, noise=1.0))
        assert found[0] == pytest.approx(norm.logpdf(x, 1) - norm.logpdf(x, 0), abs=1e-6)


def test_canaries_that_are_in_score_higher_and_clipping_is_known_of():
    chance = np.random.default_rng(0)
    gradients = chance.normal(size=(40, 400)) * chance.uniform(0.5, 5, (40, 1)) / 20
    coins = np.arange(40) < 20
    clipped = gradients / np.maximum(1, np.linalg.norm(gradients, axis=1, keepdims=True))
    update = coins @ clipped + 0.05 * chance.normal(size=400)
    found = log_odds(products_of(gradients, update), 40, replace(ONE_STEP, noise=0.05))
    assert found[coins].min() > 0 > found[~coins].max()


def test_what_others_add_is_taken_off():
    """Two orthogonal canaries that are out, and a stranger whose gradient leans on the first and is in."""
    gradients = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.8, 0.0, 0.6]])
    update = gradients[2]
    mechanism = replace(ONE_STEP, noise=0.1)
    found = log_odds(products_of(gradients, update), 2, mechanism)
    alone = log_odds(products_of(gradients[:2], update), 2, mechanism)
    assert found[0] < 0 < alone[0]


def test_a_private_round_is_what_the_plan_claims(plan_of):
    plan = plan_of(private=True, local={"amount": 4, "learning_rate": 0.5, "momentum": 0.0})
    found = round_of(plan)
    assert (found.steps, found.rate, found.clip) == (4, 0.3, 1.0)
    assert found.noise == pytest.approx(2.0)  # noise multiplier 1 in each of four steps
    assert found.factor == pytest.approx(-0.3 * 20 / 0.5)
    assert round_of(plan_of(private=True, local={"optimizer": "adamw"})).factor is None
    # With momentum 0.5 two steps count 1.5 and 1 times.
    moved = round_of(plan_of(private=True, local={"amount": 2, "learning_rate": 1.0, "momentum": 0.5}))
    assert moved.factor == pytest.approx(-6 / 1.25)
