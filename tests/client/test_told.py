"""What the coordinator tells with a question: one text, back again, and what is no such text."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.plan import LONGEST
from client.question import Question, read_question
from client.told import NOTHING, Told, read_told
from fer_models.errors import ConfigError, EngineError

WEIGHT = st.floats(1e-3, 1.0)


def test_nothing_is_told_in_no_words():
    assert (NOTHING.text, NOTHING.binding, NOTHING.steers) == ("", b"", False)


def test_shares_alone_bind_noise_as_they_always_did():
    told = Told((0.25, 0.75))
    assert told.binding == b"(0.25, 0.75)"
    assert read_told(told.text, LONGEST) == told


@given(
    st.lists(WEIGHT, min_size=2, max_size=3),
    st.floats(0, 100),
    st.lists(st.lists(WEIGHT, min_size=3, max_size=3), min_size=3, max_size=3),
    st.lists(WEIGHT, min_size=2, max_size=2),
)
def test_text_and_back(prior, strength, weights, balance):
    told = Told(tuple(prior), strength, tuple(map(tuple, weights)), tuple(balance), (0.5, 0.25))
    assert read_told(told.text, LONGEST) == told
    assert told.binding == told.text.encode()


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "3",
        '"many"',
        "[0.5, 0]",
        "[0.5, -1]",
        '{"strength": -1}',
        '{"strength": NaN}',
        '{"weights": [[1.5]]}',
        '{"weights": [[0]]}',
        '{"balance": [2]}',
        '{"means": [0.0, 1.0]}',
        '{"means": [1.0]}',
        '{"lambda": 1}',
        "[" * 100_000,
    ],
)
def test_what_is_none(text):
    with pytest.raises(EngineError, match="none"):
        read_told(text, LONGEST)


def test_too_long_a_text():
    with pytest.raises(EngineError):
        read_told(" " * 100 + "[]", 50)


def test_weights_of_other_groups_are_refused():
    told = Told(weights=((0.5, 1.0),) * 3, balance=(1.0, 1.0))
    told.require_shape(2, 2)
    for groups, classes in ((1, 2), (3, 2), (2, 3)):
        with pytest.raises(ConfigError, match="weights for other than"):
            told.require_shape(groups, classes)
    with pytest.raises(ConfigError):
        Told(balance=(1.0,)).require_shape(2, 2)


def test_it_travels_with_the_question(plan_of):
    told = Told((0.2, 0.3, 0.5), 0.5, ((1.0, 0.5, 0.5),) * 3, (0.5, 1.0), (0.75, 0.5))
    vector = np.zeros(5, np.float32)
    content = Question(plan_of(), 3, vector, told).content()
    assert read_question(content).told == told
    assert "told" not in json.loads(Question(plan_of(), 3, vector).content()["facts"]["json"])
