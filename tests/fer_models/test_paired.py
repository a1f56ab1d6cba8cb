"""Paired differences: by hand, antisymmetric, covering, and wider where a person has many rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multinomial

from fer_models.intervals import newcombe_difference, wilson
from fer_models.paired import Rows, by_class, by_group, by_group_and_class, everywhere, newcombe_paired

TABLES = st.lists(st.integers(0, 30), min_size=4, max_size=4).filter(any)


def rows(right, true=None, group=None, person=None, classes=2):
    """Rows whose first and second system are right or wrong as pairs of ``right`` say."""
    a, b = np.array(right, bool).T
    truth = np.zeros(len(a), np.int64) if true is None else np.array(true)
    said = [np.where(each, truth, (truth + 1) % classes) for each in (a, b)]
    column = np.zeros(len(a), np.int64) if group is None else np.array(group)
    who = None if person is None else np.array(person)
    return Rows(truth, *said, ("p", "q"), {"sex": column}, {"sex": ("f", "m")}, who)


def table(neither, second, first, both):
    return np.array([[[neither, second], [first, both]]])


def test_rows_are_counted_by_who_is_right():
    found = rows([(1, 1), (1, 0), (1, 0), (0, 1), (0, 0)], [0, 0, 1, 1, 1], [0, 1, 1, 1, 0])
    assert everywhere(found).table.tolist() == [[[1, 1], [2, 1]]]
    assert by_class(found).n.tolist() == [2, 3]
    assert by_group(found, "sex").table.tolist() == [[[1, 0], [0, 1]], [[0, 1], [2, 0]]]
    assert by_group_and_class(found, "sex").n.tolist() == [1, 1, 1, 2]
    assert everywhere(found).change.tolist() == [pytest.approx(-0.2)]


def test_the_limits_are_newcombe_s_by_hand():
    # 20 both, 12 the second alone, 2 the first alone, 16 neither: p 22/50, q 32/50, product 20*16 - 12*2 = 296.
    (low_p, high_p), (low_q, high_q) = wilson([22, 32], [50, 50]).tolist()
    phi = (296 - 25) / np.sqrt(32 * 18 * 22 * 28)
    below = (0.64 - low_q) ** 2 - 2 * phi * (0.64 - low_q) * (high_p - 0.44) + (high_p - 0.44) ** 2
    above = (high_q - 0.64) ** 2 - 2 * phi * (high_q - 0.64) * (0.44 - low_p) + (0.44 - low_p) ** 2
    low, high = newcombe_paired(table(16, 12, 2, 20))[0]
    assert (low, high) == (pytest.approx(0.2 - below**0.5), pytest.approx(0.2 + above**0.5))
    assert 0.05 < low < 0.2 < high < 0.35


@given(TABLES)
def test_exchanging_the_systems_turns_the_interval_round(cells):
    neither, second, first, both = cells
    low, high = newcombe_paired(table(neither, second, first, both))[0]
    assert newcombe_paired(table(neither, first, second, both))[0] == pytest.approx([-high, -low])
    n = sum(cells)
    assert -1 - 1e-9 <= low <= (second - first) / n <= high <= 1 + 1e-9


@given(TABLES)
def test_pairs_that_tell_nothing_of_each_other_are_as_if_independent(cells):
    neither, second, first, both = cells
    if not 0 <= both * neither - first * second <= sum(cells) / 2:
        return
    n = sum(cells)
    limits = newcombe_difference(both + second, n, both + first, n)
    assert newcombe_paired(table(*cells))[0] == pytest.approx(limits)


def test_an_empty_cell_allows_everything():
    assert newcombe_paired(table(0, 0, 0, 0)).tolist() == [[-1, 1]]
    assert by_class(rows([(1, 1)])).limits()[1].tolist() == [-1, 1]


@pytest.mark.parametrize("chances", [(0.2, 0.1, 0.1, 0.6), (0.4, 0.15, 0.05, 0.4), (0.02, 0.03, 0.01, 0.94)])
def test_the_interval_covers(chances):
    """Exactly, over every table of 20 pairs: .95 is meant, and no table of chances falls far below."""
    n = 20
    grid = np.array([(a, b, c) for a in range(n + 1) for b in range(n + 1 - a) for c in range(n + 1 - a - b)])
    cells = np.column_stack([grid, n - grid.sum(1)])
    limits = newcombe_paired(cells.reshape(-1, 2, 2))
    true = chances[1] - chances[2]
    hit = (limits[:, 0] <= true) & (true <= limits[:, 1])
    assert multinomial.pmf(cells, n, chances)[hit].sum() >= 0.94


# Persons


def test_the_deviation_over_persons_is_that_of_their_means():
    """With equally many rows a person it is the deviation of the mean of the persons' mean changes."""
    right = [(0, 1), (0, 1), (1, 1), (0, 1), (1, 0), (1, 0), (0, 0), (1, 1)]
    found = everywhere(rows(right, person=[0, 0, 1, 1, 2, 2, 3, 3]))
    means = np.array([1.0, 0.5, -1.0, 0.0])
    assert found.people is not None
    assert found.people.tolist() == [4]
    assert found.deviation()[0] == pytest.approx(means.std(ddof=1) / 2)


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=30))
def test_persons_with_many_like_rows_count_once(right):
    """Each row ten times, by one person: not ten times the evidence."""
    once = everywhere(rows(right, person=range(len(right)))).limits()[0]
    many = everywhere(rows(right * 10, person=list(range(len(right))) * 10)).limits()[0]
    alone = everywhere(rows(right * 10)).limits()[0]
    assert many[0] <= alone[0]
    assert alone[1] <= many[1]
    assert np.ptp(many) >= np.ptp(alone)
    assert np.ptp(once) >= np.ptp(many) - 1e-9
    if len({tuple(each) for each in right}) > 1 and len(right) > 10:
        half = np.ptp(everywhere(rows(right, person=range(len(right))))._by_person(0.95)[0])
        assert np.ptp(many) >= half - 1e-9


def test_one_person_says_nothing_of_others():
    assert everywhere(rows([(0, 1)] * 50, person=[7] * 50)).limits()[0].tolist() == [-1, 1]
