import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fer_models.counts import LARGEST, Counts
from fer_models.errors import DataError

LABELS = ("neutral", "happiness", "fear")
GROUPS = {"age": ("old", "undisclosed", "young"), "site type": ("clinic", "school")}


def counted(true, predicted, age, kind):
    columns = {
        "age": [GROUPS["age"][i] for i in age],
        "site type": [GROUPS["site type"][i] for i in kind],
    }
    return Counts.of(
        np.array(true, int),
        np.array(predicted, int),
        LABELS,
        {k: np.array(v, str) for k, v in columns.items()},
        GROUPS,
    )


rows = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2), st.integers(0, 1)), max_size=40
)


def of(table):
    columns = list(zip(*table, strict=True)) or [[], [], [], []]
    return counted(*columns)


def test_counts_of_five_rows_by_hand():
    counts = counted([0, 0, 1, 2, 2], [0, 1, 1, 0, 2], [0, 2, 2, 1, 1], [0, 0, 0, 1, 1])
    assert counts.rows == 5
    assert counts.overall.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 1]]
    assert counts.by_group["age"].tolist() == [
        [[1, 0, 0], [0, 0, 0], [0, 0, 0]],
        [[0, 0, 0], [0, 0, 0], [1, 0, 1]],
        [[0, 1, 0], [0, 1, 0], [0, 0, 0]],
    ]
    assert counts.by_group["site type"].sum((1, 2)).tolist() == [3, 2]


def test_label_counts_put_every_row_on_the_diagonal():
    truth = counted([0, 0, 1, 2], [1, 2, 0, 2], [0, 0, 2, 1], [0, 0, 0, 1]).label_counts()
    assert truth.overall.tolist() == [[2, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert truth.by_group["age"][0].tolist() == [[2, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_groups_default_to_the_values_of_the_columns_and_may_be_absent():
    assert Counts.of([0], [1], LABELS, {"age": np.array(["old"])}).groups == {"age": ("old",)}
    assert Counts.of([0], [1], LABELS).by_group == {}


@settings(deadline=None, max_examples=30)
@given(rows, rows, rows)
def test_counts_are_a_commutative_monoid(first, second, third):
    a, b, c = of(first), of(second), of(third)
    assert (a + b) + c == a + (b + c)
    assert a + b == b + a == of(first + second)
    assert a + Counts.zero(LABELS, GROUPS) == a


@settings(deadline=None, max_examples=30)
@given(rows, rows)
def test_vectors_add_like_counts_and_survive_json(first, second):
    a, b = of(first), of(second)
    assert Counts.from_vector(a.to_vector() + b.to_vector(), LABELS, GROUPS) == a + b
    assert Counts.from_json(json.loads(json.dumps(a.to_json()))) == a


def test_the_vector_is_overall_then_each_attribute():
    vector = counted([2], [1], [2], [0]).to_vector()
    assert vector.dtype == np.int64
    assert np.flatnonzero(vector).tolist() == [7, 9 + 2 * 9 + 7, 9 + 27 + 7]
    assert len(vector) == 9 + 27 + 18


@pytest.mark.parametrize(
    "spoil",
    [
        lambda v: v[:-1],
        lambda v: np.append(v, 0),
        lambda v: v.astype(float),
        lambda v: v.reshape(2, -1),
        lambda v: -v,
        lambda v: v + np.eye(len(v), dtype=int)[0],
        lambda v: v + np.eye(len(v), dtype=int)[-1],
        lambda v: np.where(v == 0, v, LARGEST + 1),
        lambda v: np.full_like(v, 2**64 - 1, dtype=np.uint64),
    ],
)
def test_a_vector_that_cannot_be_counts_is_refused(spoil):
    vector = counted([2, 1], [1, 1], [2, 0], [0, 1]).to_vector()
    with pytest.raises(DataError):
        Counts.from_vector(spoil(vector), LABELS, GROUPS)


@pytest.mark.parametrize(
    "change",
    [
        {"labels": None},
        {"labels": [0, 1, 2]},
        {"groups": []},
        {"groups": {"age": ["old", "old", "young"], "site type": ["clinic", "school"]}},
        {"counts": ["1"]},
        {"counts": [1.0] * 54},
        {"counts": [True] * 54},
        {"counts": [2**70] * 54},
        {"counts": 3},
    ],
)
def test_json_that_is_no_counts_is_refused(change):
    with pytest.raises(DataError):
        Counts.from_json({**of([]).to_json(), **change})
    with pytest.raises(DataError):
        Counts.from_json({key: value for key, value in of([]).to_json().items() if key not in change})


def test_counts_of_other_labels_or_groups_do_not_add():
    a = of([])
    for other in (
        Counts.zero(LABELS[::-1], GROUPS),
        Counts.zero(LABELS),
        Counts.zero(LABELS, {**GROUPS, "age": ("a", "b", "c")}),
    ):
        with pytest.raises(DataError, match="cannot be added"):
            _ = a + other
        assert a != other
    assert a != "counts"


@pytest.mark.parametrize(
    ("true", "predicted", "columns", "values", "message"),
    [
        ([0, 3], [0, 0], {}, {}, "outside the 3 labels"),
        ([0, -1], [0, 0], {}, {}, "outside the 3 labels"),
        ([0.5], [0], {}, {}, "expected a row of integers"),
        ([[0]], [0], {}, {}, "expected a row of integers"),
        ([0], [0, 0], {}, {}, "different lengths"),
        ([0], [0], {"age": ["old", "old"]}, {"age": ["old"]}, "different lengths"),
        ([0], [0], {"age": ["old"]}, {}, "attributes of columns"),
        ([0], [0], {"age": ["ancient"]}, {"age": ["old"]}, "group 'ancient' is none of old"),
    ],
)
def test_rows_that_cannot_be_counted_are_refused(true, predicted, columns, values, message):
    with pytest.raises(DataError, match=message):
        Counts.of(true, predicted, LABELS, columns, values)


def test_tables_that_do_not_fit_are_refused():
    good = of([(0, 0, 0, 0)])
    with pytest.raises(DataError, match="add up"):
        Counts(LABELS, GROUPS, good.overall, Counts.zero(LABELS, GROUPS).by_group)
    with pytest.raises(DataError, match="attributes of names and counts"):
        Counts(LABELS, {}, good.overall, good.by_group)
    with pytest.raises(DataError, match="expected int64"):
        Counts(LABELS, {}, np.zeros((2, 3), np.int64))
