"""From noisy tables to counts: what fits comes back, what is cut is cut last, and nothing leans to one side."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fer_models.counts import Counts
from fer_models.noisy_counts import cleaned, onto_simplex, variance_of_cell

GROUPS = {"gender": ("f", "m"), "age": ("old", "young", "undisclosed")}


def counted(seed=0, rows=400, labels=("a", "b", "c")):
    rng = np.random.default_rng(seed)
    true = rng.choice(3, rows, p=[0.6, 0.3, 0.1])
    said = np.where(rng.random(rows) < 0.7, true, rng.integers(0, 3, rows))
    columns = {name: rng.choice(values, rows) for name, values in GROUPS.items()}
    return Counts.of(true, said, labels, columns, GROUPS)


def tables(counts):
    return np.concatenate([table.ravel() for table in counts.by_group.values()])


def test_tables_without_noise_come_back():
    counts = counted()
    found = cleaned(tables(counts), counts.labels, counts.groups)
    assert found.to_json() == counts.to_json()


@settings(deadline=None)
@given(arrays(np.int64, 5 * 9, elements=st.integers(-50, 200)))
def test_whatever_the_noise_the_counts_fit_each_other(total):
    """The class checks itself that no count is below 0 and that groups add up to all rows."""
    found = cleaned(total, ("a", "b", "c"), GROUPS)
    assert dict(found.groups) == GROUPS


def test_the_totals_of_classes_are_the_least_squares_ones():
    """By hand: tables of 2 and 3 groups say 10 and 20 of a cell; weights 1/2 and 1/3 make 14."""
    total = np.zeros(5 * 4, np.int64)
    total[0 : 2 * 4 : 4], total[2 * 4 :: 4] = 5, [6, 7, 7]
    found = cleaned(total, ("a", "b"), GROUPS)
    assert found.overall.tolist() == [[14, 0], [0, 0]]
    assert found.by_group["gender"][:, 0, 0].tolist() == [7, 7]
    assert sorted(found.by_group["age"][:, 0, 0].tolist()) == [4, 5, 5]


def test_rare_classes_are_not_raised_by_the_cut():
    """Over much noise the mean number of rows of the rarest class is what it is; cutting first would double it."""
    counts, rng = counted(1), np.random.default_rng(0)
    true = tables(counts)
    noise = [rng.geometric(0.1, len(true)) - rng.geometric(0.1, len(true)) for _ in range(300)]
    rare = [cleaned(true + each, counts.labels, GROUPS).overall[2].sum() for each in noise]
    cut = [np.maximum(true + each, 0)[: 2 * 9].reshape(2, 3, 3)[:, 2].sum() for each in noise]
    own = counts.overall[2].sum()
    assert np.mean(rare) == pytest.approx(own, abs=5)
    assert np.mean(cut) > own + 5


def test_small_groups_are_not_given_errors_by_the_cut():
    """A group of 60 rows, 48 of them told right, beside one of 2,000; divided cell by cell, it would have many more."""
    labels, groups = tuple("abcdef"), {"ward": ("few", "many")}
    share = np.full((6, 6), 0.04)
    np.fill_diagonal(share, 0.8)
    table = np.stack([np.full((6, 6), 0), np.rint(share * 2000 / 6)]).astype(np.int64)
    table[0] = 8 * np.eye(6, dtype=int) + 2 * np.eye(6, k=1, dtype=int) + 2 * np.eye(6, k=-5, dtype=int)
    rng = np.random.default_rng(0)
    noise = [rng.geometric(0.5, table.shape) - rng.geometric(0.5, table.shape) for _ in range(300)]
    few = [cleaned((table + each).ravel(), labels, groups).by_group["ward"][0] for each in noise]
    cut = [np.maximum(table + each, 0)[0] for each in noise]
    assert np.mean([each.sum() for each in few]) == pytest.approx(60, abs=2)
    assert np.mean([each.trace() for each in few]) == pytest.approx(48, abs=2)
    assert np.mean([each.sum() for each in cut]) > 75


def test_the_variance_of_all_rows_is_that_of_the_estimate():
    rng, size = np.random.default_rng(0), 4000
    tables = [rng.normal(0, 2, (size, len(values))).sum(1) for values in GROUPS.values()]
    weight = np.array([1 / 2, 1 / 3])
    estimate = (weight[0] * tables[0] + weight[1] * tables[1]) / weight.sum()
    assert estimate.var() == pytest.approx(variance_of_cell([2, 3], 4.0), rel=0.1)
    assert variance_of_cell([], 4.0) == 4.0


@settings(deadline=None)
@given(arrays(np.float64, (4, 5), elements=st.floats(-20, 20)), st.integers(0, 30))
def test_the_projection_is_the_nearest_point(values, total):
    """Its distance along any move between two entries that keeps the sum does not fall (the condition of a minimum)."""
    found = onto_simplex(values, np.full(4, float(total)))
    assert (found >= 0).all()
    assert found.sum(1) == pytest.approx(np.full(4, float(total)), abs=1e-6)
    slope = found - values
    for row, point in zip(slope, found, strict=True):
        if (point > 1e-9).any():
            assert row[point > 1e-9].max() <= row.min() + 1e-6
