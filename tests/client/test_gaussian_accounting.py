"""Accountants that remember what a step costs say what Opacus's say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants import PRVAccountant, RDPAccountant

import client.gaussian_accounting as kept
from client.accounting import epsilon_of
from client.gaussian_accounting import KeepingPRV, KeepingRDP, divergences
from client.mechanisms import gaussian

STEP = st.tuples(st.floats(0.6, 20), st.sampled_from([0.001, 0.02, 0.3, 1.0]), st.integers(1, 3000))
pytestmark = pytest.mark.filterwarnings(
    "ignore:Optimal order is the", "ignore:divide by zero encountered in log"
)


def answer(accountant, history, delta):
    accountant.history = list(history)
    return accountant.get_epsilon(delta=delta)


@settings(max_examples=8, deadline=None)
@given(history=st.lists(STEP, min_size=1, max_size=3), delta=st.sampled_from([1e-3, 1e-5, 1e-7]))
def test_renyi_divergences_are_opacuss(history, delta):
    assert answer(KeepingRDP(), history, delta) == answer(RDPAccountant(), history, delta)


@pytest.mark.parametrize("history", [[(1.13, 0.0223, 60)], [(2.0, 0.1, 7), (0.9, 1.0, 2)], [(1.0, 0.01, 1)]])
@pytest.mark.parametrize("delta", [1e-3, 1e-5])
def test_privacy_loss_variables_are_opacuss(history, delta):
    expected = answer(PRVAccountant(), history, delta)
    assert answer(KeepingPRV(), history, delta) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_orders_may_be_chosen():
    accountant, orders = KeepingRDP(), [1.5, 2.0, 3.0, 8.0, 32.0]
    assert accountant.get_privacy_spent(delta=1e-5) == (0, 0)
    accountant.history = [(1.0, 0.1, 10)]
    theirs = RDPAccountant()
    theirs.history = [(1.0, 0.1, 10)]
    expected = theirs.get_privacy_spent(delta=1e-5, alphas=orders)
    assert accountant.get_privacy_spent(delta=1e-5, alphas=orders) == expected


def test_a_run_computes_a_steps_divergences_once(monkeypatch):
    asked = []
    compute = kept.analysis.compute_rdp

    def counted(**facts):
        asked.append(facts["steps"])
        return compute(**facts)

    monkeypatch.setattr(kept.analysis, "compute_rdp", counted)
    found = [epsilon_of(gaussian(1.23456, 0.02345, steps), 1e-5).value for steps in (3, 6, 9, 12)]
    assert found == sorted(found)
    assert len(set(found)) == 4
    assert asked == [1]


def test_what_is_kept_cannot_be_changed():
    found = divergences(1.0, 0.1, (2.0, 3.0))
    with pytest.raises(ValueError, match="read-only"):
        np.add(found, 1, out=found)
