"""Balance and Cramer's V by hand, against scipy, and by simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats.contingency import association as scipy_association

from fer_models.bias import association, balance, bias
from fer_models.counts import Counts


def test_balance_by_hand():
    found = balance(("a", "b", "c", "d"), np.array([50, 25, 25, 0]))
    assert found["shares"] == {"a": 0.5, "b": 0.25, "c": 0.25, "d": 0.0}
    assert found["evenness"] == pytest.approx(1.5 / 2)  # 1.5 bits of 2
    assert (found["imbalance_ratio"], found["most"], found["fewest"]) == (None, "a", "d")
    even = balance(("a", "b"), np.array([7, 7]))
    assert (even["evenness"], even["imbalance_ratio"]) == (pytest.approx(1), 1.0)
    assert balance(("a", "b"), np.array([9, 0]))["evenness"] == 0
    assert balance(("a",), np.array([9]))["evenness"] is balance(("a", "b"), np.array([0, 0]))["most"] is None


def test_association_by_hand():
    """Rows 30, 20 and 20, 30: all cells expected 25, chi squared 4, phi sqrt(4 / 100)."""
    found = association(np.array([[30, 20], [20, 30]]))
    assert found["cramers_v"] == pytest.approx(0.2)
    fewer = 2 - 1 / 99 - 1
    assert found["cramers_v_corrected"] == pytest.approx(((0.04 - 1 / 99) / fewer) ** 0.5)
    assert found["cramers_v_interval"][0] == 0  # 4 or more has a chance of .046 without association
    low, high = association(np.array([[60, 20], [20, 60]]))["cramers_v_interval"]
    assert low == pytest.approx(
        0.5 - 1.959964 / 160**0.5, abs=1e-3
    )  # the root of chi squared is nearly normal
    assert high == pytest.approx(0.5 + 1.959964 / 160**0.5, abs=1e-3)
    assert association(np.array([[30], [20]]))["cramers_v"] is None
    perfect = association(np.array([[40, 0], [0, 40]]))
    assert (perfect["cramers_v"], perfect["cramers_v_interval"][1]) == (1, 1)
    assert association(np.array([[40, 40], [40, 40]]))["cramers_v_interval"][0] == 0
    even = association(np.array([[10, 10, 9], [9, 10, 10], [10, 9, 10]]))  # evener than by chance
    assert even["cramers_v_interval"] == [0, even["cramers_v"]]


@given(arrays(np.int64, st.tuples(st.integers(2, 5), st.integers(2, 5)), elements=st.integers(1, 300)))
def test_association_equals_scipys_and_lies_in_its_interval(table):
    found = association(table)
    assert found["cramers_v"] == pytest.approx(scipy_association(table, "cramer"), abs=1e-12)
    low, high = found["cramers_v_interval"]
    assert 0 <= low <= high <= 1
    assert low <= found["cramers_v"] + 1e-9
    assert found["cramers_v"] <= high
    assert found["cramers_v_corrected"] <= found["cramers_v"] + 1e-9


@pytest.mark.parametrize("lean", [0.0, 0.04, 0.15])
def test_the_interval_of_the_association_covers(lean):
    """Two groups, three labels, 400 rows; the truth is V of the chances."""
    chances = np.array([[0.3 + lean, 0.2, 0.1], [0.2 - lean, 0.15, 0.05]])
    expected = np.outer(chances.sum(1), chances.sum(0))
    truth = float((((chances - expected) ** 2 / expected).sum()) ** 0.5)
    tables = np.random.default_rng(0).multinomial(400, chances.ravel(), 400).reshape(-1, 2, 3)
    limits = np.array([association(table)["cramers_v_interval"] for table in tables])
    assert ((limits[:, 0] <= truth) & (truth <= limits[:, 1])).mean() >= 0.93


def test_only_groups_that_disclosed_and_are_shown_go_in():
    table = np.zeros((4, 2, 2), np.int64)
    table[:, 0, 0], table[:, 1, 1] = [30, 20, 9, 500], [20, 30, 0, 0]
    counts = Counts(("no", "yes"), {"sex": ("f", "m", "x", "undisclosed")}, table.sum(0), {"sex": table})
    found = bias(counts)
    sex = found["attributes"]["sex"]
    assert sex["cramers_v"] == pytest.approx(0.2)
    assert sex["shares"] == {"f": 0.5, "m": 0.5}
    assert found["classes"]["shares"]["yes"] == 50 / 609
    assert bias(Counts(("a", "b", "tie"), {}, np.diag([3, 3, 0])))["classes"]["evenness"] == pytest.approx(1)
    few = Counts(("no", "yes"), {"sex": ("f", "m")}, table[1:3].sum(0), {"sex": table[1:3]})
    assert bias(few)["attributes"]["sex"]["cramers_v"] is None
