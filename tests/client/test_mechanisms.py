"""Mechanisms and histories: one canonical form, and nothing that is no mechanism."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.mechanisms import (
    LONGEST,
    Mechanism,
    from_json,
    from_plain,
    gaussian,
    is_part,
    merged,
    of_unit,
    repeated,
    shared_noise,
    to_plain,
)
from fer_models.errors import ConfigError

MECHANISMS = st.builds(
    Mechanism,
    name=st.sampled_from(["gaussian", "discrete_gaussian", "laplace", "pure"]),
    noise=st.sampled_from([0.5, 1.0, 2.5]),
    rate=st.sampled_from([0.01, 1.0]),
    count=st.integers(1, 5),
    unit=st.sampled_from(["record", "subject"]),
    slack=st.sampled_from([0.0, 1e-6]),
)


@settings(deadline=None, max_examples=50)
@given(st.lists(MECHANISMS, max_size=8), st.randoms(use_true_random=False))
def test_a_history_has_one_form_in_any_order_and_survives_json(mechanisms, random):
    history = merged(mechanisms)
    mixed = list(mechanisms)
    random.shuffle(mixed)
    assert merged(mixed) == history == merged(history)
    assert from_json(json.dumps(to_plain(history))) == history
    assert sum(each.count for each in history) == sum(each.count for each in mechanisms)
    assert merged((*of_unit(history, "record"), *of_unit(history, "subject"))) == history


def test_alike_steps_are_counted_together():
    steps = (*gaussian(2.0, 0.1, 3), *gaussian(1.0, 0.1, 2), *gaussian(2.0, 0.1, 4))
    assert merged(steps) == (*gaussian(1.0, 0.1, 2), *gaussian(2.0, 0.1, 7))
    kept = merged((*gaussian(2.0, 0.1, 3), *gaussian(2.0, 0.1, 3, "subject")))
    assert [(each.unit, each.count) for each in kept] == [("record", 3), ("subject", 3)]


@settings(deadline=None, max_examples=50)
@given(st.lists(MECHANISMS, max_size=4), st.lists(MECHANISMS, max_size=4), st.integers(0, 3))
def test_parts_and_repetitions(one, two, times):
    history, both = merged(one), merged([*one, *two])
    assert is_part(history, both)
    assert is_part(both, history) == (not two)
    assert repeated(history, times) == merged(one * times)


@pytest.mark.parametrize(
    "changes",
    [
        {"noise": 0.0},
        {"slack": -1e-9},
        {"slack": math.inf},
        {"noise": -1.0},
        {"noise": math.nan},
        {"noise": math.inf},
        {"rate": 0.0},
        {"rate": 1.1},
        {"rate": math.nan},
        {"count": 0},
    ],
)
def test_what_is_no_mechanism_is_refused(changes):
    with pytest.raises(ConfigError) as error:
        Mechanism(**{"name": "gaussian", "noise": 1.0, **changes})
    assert error.value.where in changes


@pytest.mark.parametrize(
    "given",
    [
        {},
        [[1.0, 0.1, 3]],
        [{"name": "gaussian"}],
        [{"name": "uniform", "noise": 1.0}],
        [{"name": "gaussian", "noise": 1.0, "count": 1.5}],
        [{"name": "gaussian", "noise": 1.0, "more": 1}],
    ],
)
def test_what_is_no_history_is_refused(given):
    with pytest.raises(ConfigError):
        from_plain(given)


@pytest.mark.parametrize(
    "given",
    [
        "",
        "{",
        "null",
        "7",
        '"gaussian"',
        "[" * 100_000,
        '[{"name": "gaussian", "noise": NaN}]',
        '[{"name": "gaussian", "noise": 1e999}]',
        '[{"name": "gaussian", "noise": true}]',
        " " * (LONGEST + 1),
    ],
)
def test_what_is_no_history_as_json_is_refused_with_its_place(given):
    with pytest.raises(ConfigError) as error:
        from_json(given, "history of site-1")
    assert error.value.where.startswith("history of site-1")
    assert error.value.cure
    assert len(str(error.value)) < 300


def test_pure_epsilon_is_amplified_by_sampling():
    assert Mechanism("laplace", 2.0).pure_epsilon == pytest.approx(0.5)
    halved = Mechanism("pure", 1.0, rate=0.5).pure_epsilon
    assert halved == pytest.approx(math.log(1 + 0.5 * (math.e - 1)))
    assert Mechanism("pure", 1e-3).pure_epsilon == 1000
    assert Mechanism("gaussian", 2.0).pure_epsilon == math.inf


def test_noise_of_sums_that_share_a_batch():
    assert shared_noise(3.0) == pytest.approx(3.0)
    assert shared_noise(2.0, 2.0) == pytest.approx(math.sqrt(2))
    assert shared_noise(1.0, 1e6) == pytest.approx(1.0)
