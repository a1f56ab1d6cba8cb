"""How many messages make a unit: enough for the caches, few enough for the memory and for all workers."""

import numpy as np
import pytest
from flwr.app import Message, MessageType, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from client.messages import pack
from simulations.grid import take_identity
from simulations.units import MOST_EVALUATED, UNITS, UPDATE_BYTES, Units


def asked(kind, count, numbers=100):
    take_identity(1)
    content = pack(np.zeros(numbers, np.float32), {"round": 1})
    return [Message(content, node + 1, kind) for node in range(count)]


@pytest.mark.parametrize(("pictures", "size"), [(20, 50), (200, 5), (1100, 1), (512, 2), (0, 50), (0.5, 50)])
def test_sites_with_few_pictures_are_trained_in_a_row(pictures, size):
    assert Units(pictures, 5)(asked(MessageType.TRAIN, 400)) == size


def test_large_updates_are_handed_on_at_once():
    assert Units(20, 5)(asked(MessageType.TRAIN, 400, UPDATE_BYTES // 4)) == 1
    assert Units(20, 5)(asked(MessageType.TRAIN, 400, UPDATE_BYTES // 16)) == 3


def test_sites_trained_in_one_pass_are_the_unit():
    assert Units(20, 5, together=25)(asked(MessageType.TRAIN, 30, UPDATE_BYTES)) == 25


@pytest.mark.parametrize(("pictures", "size"), [(5, 51), (256, 1), (1000, 1), (0, MOST_EVALUATED)])
def test_test_pictures_fill_a_batch(pictures, size):
    assert Units(20, pictures)(asked(MessageType.EVALUATE, 30)) == size


def test_questions_are_answered_one_by_one():
    take_identity(1)
    assert Units(20, 5, together=25)([Message(RecordDict(), 1, MessageType.QUERY)] * 30) == 1


@given(st.integers(1, 300), st.floats(0, 500))
def test_every_worker_finds_work(messages, pictures):
    size = Units(pictures, 5)(asked(MessageType.TRAIN, messages, 4))
    assert size >= 1
    assert size == 1 or messages // size >= UNITS
