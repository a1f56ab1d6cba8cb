"""A site's limit: the round at which a plan would pass it, against trying every round."""

import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.accounting import epsilon_of
from client.limits import Limit, cost_of_round, first_round_over, over_limit, rounds_that_fit, with_rounds
from client.mechanisms import Mechanism, gaussian, merged, repeated
from fer_models.errors import ConfigError

DELTA = 1e-5


@pytest.mark.parametrize("epsilon", [0.0, -1.0, math.nan, math.inf])
def test_a_limit_that_is_none_is_refused(epsilon):
    with pytest.raises(
        ConfigError, match=r"\(privacy\.site_epsilon_limit\)\. Give a positive number, or null"
    ):
        Limit(epsilon, DELTA)


def test_the_delta_of_a_limit_has_to_be_one():
    with pytest.raises(ConfigError, match="delta 1 is not"):
        Limit(1.0, 1.0)


def brute(history, plan, limit, rounds):
    """The first round over the limit, by trying one after the other."""
    for done, number in enumerate(rounds, 1):
        spent = merged((*history, *repeated(cost_of_round(plan), done)))
        if epsilon_of(spent, limit.delta).value > limit.epsilon:
            return number
    return None


BEFORE = st.sampled_from(
    [(), gaussian(8.0, 0.3, 5), (Mechanism("discrete_gaussian", 9.0),), gaussian(30.0, 1.0, 2, "subject")]
)


@settings(deadline=None, max_examples=6)
@given(st.integers(1, 6), st.floats(0.3, 3.0), st.sampled_from([6.0, 12.0]), BEFORE, st.integers(0, 2))
def test_the_round_is_the_right_one(plan_of, rounds, epsilon, noise, history, skipped):
    plan = plan_of(
        local={"rate": 0.5, "amount": 3}, server={"rounds": rounds}, privacy={"noise_multiplier": noise}
    )
    limit, taken = Limit(epsilon, DELTA), list(range(1 + skipped, rounds + 1, 1 + skipped))
    assert first_round_over(history, plan, limit, taken) == brute(history, plan, limit, taken)
    found = first_round_over(history, plan, limit)
    assert found == brute(history, plan, limit, range(1, rounds + 1))
    last = rounds if found is None else found - 1
    if limit.holds(merged(history)):
        assert limit.holds(with_rounds(history, plan, last))
    assert found is None or not limit.holds(with_rounds(history, plan, found))


def test_a_full_ledger_lets_no_round_pass(plan_of):
    plan, limit = plan_of(privacy={}), Limit(1.0, DELTA)
    assert first_round_over(gaussian(4.0, 1.0, 10), plan, limit) == 1
    assert rounds_that_fit(gaussian(4.0, 1.0, 10), cost_of_round(plan), limit, 9) == 0
    assert first_round_over((), plan, limit, []) is None


def test_few_accountants_are_asked(plan_of, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "client.limits.epsilon_of", lambda history, delta: asked.append(history) or epsilon_of(history, delta)
    )
    plan = plan_of(local={"amount": 1}, server={"rounds": 4000}, privacy={"noise_multiplier": 20.0})
    assert first_round_over((), plan, Limit(50.0, DELTA)) is None
    assert len(asked) == 1
    assert first_round_over((), plan, Limit(0.5, DELTA)) > 1
    assert len(asked) <= 2 + 2 * math.log2(4000)


def test_a_round_costs_what_the_plan_says(plan_of):
    plan = plan_of(local={"amount": 5}, privacy={"noise_multiplier": 3.0})
    assert cost_of_round(plan) == gaussian(3.0, 0.2, 5)
    assert cost_of_round(dataclasses.replace(plan, privacy=None)) == ()
    said = str(over_limit(37, plan_of(server={"rounds": 60}, privacy={}), Limit(8.0, DELTA), "clinic"))
    assert said.startswith("round 37 of 60 would pass the site's limit of epsilon 8 (clinic). ")
