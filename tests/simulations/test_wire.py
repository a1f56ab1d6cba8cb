"""Messages cross a pipe unchanged, and an array that was just sent is not sent again."""

import json
from multiprocessing import Pipe

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from client.messages import facts_of, pack
from simulations.grid import take_identity
from simulations.wire import Receiver, Sender, reply_of


@pytest.fixture(autouse=True)
def _identity():
    take_identity(1)


@pytest.fixture
def ends():
    ours, theirs = Pipe()
    yield ours, theirs
    ours.close()
    theirs.close()


def message(content, number=1, node=7, kind="train", group="3"):
    found = Message(content, node, kind, group_id=group)
    found.metadata.__dict__["_message_id"] = str(number)
    return found


def array(*values):
    return Array(np.array(values, np.float32))


def one(ends, units):
    Sender(ends[0]).send(units)
    return Receiver(ends[1]).receive()


def test_a_message_arrives_whole(ends):
    content = pack(np.arange(5, dtype=np.float32), {"round": 3, "rate": 0.5, "plan": "{...}"})
    [[head]] = one(ends, [[message(content)]])
    assert head["content"] == content
    assert {k: head[k] for k in ("id", "to", "type", "group")} == {
        "id": "1",
        "to": 7,
        "type": "train",
        "group": "3",
    }


SINGLE = st.one_of(
    st.integers(-(2**62), 2**62),
    st.floats(allow_nan=False),
    st.text(max_size=8),
    st.binary(max_size=8),
    st.booleans(),
)
LISTS = st.one_of(
    *(st.lists(kind, max_size=3) for kind in (st.integers(-9, 9), st.floats(0, 1), st.text(max_size=3)))
)
CONFIGS = st.dictionaries(
    st.text(max_size=5), st.one_of(SINGLE, LISTS, st.lists(st.binary(max_size=3), max_size=3))
)
NUMBERS = st.one_of(st.integers(-9, 9), st.floats(allow_nan=False), st.lists(st.floats(0, 1), max_size=3))


@settings(deadline=None, max_examples=30)
@given(
    CONFIGS, st.dictionaries(st.text(max_size=5), NUMBERS), st.lists(st.floats(-9, 9, width=32), max_size=4)
)
def test_every_kind_of_record_arrives_whole(configs, metrics, values):
    ours, theirs = Pipe()
    vectors = {"a": Array(np.array(values, np.float32)), "b": Array(np.arange(3))}
    content = RecordDict(
        {
            "c": ConfigRecord(configs),
            "m": MetricRecord(metrics),
            "v": ArrayRecord(vectors),
            "n": ConfigRecord({}),
        }
    )
    [[head]] = one((ours, theirs), [[message(content)]])
    assert head["content"] == content
    kinds = {key: type(value) for key, value in configs.items()}
    assert {key: type(value) for key, value in head["content"]["c"].items()} == kinds
    ours.close()
    theirs.close()


def test_units_keep_their_bounds(ends):
    content = pack(np.zeros(2, np.float32), {})
    units = one(ends, [[message(content, 1), message(content, 2)], [message(content, 3)]])
    assert [[head["id"] for head in unit] for unit in units] == [["1", "2"], ["3"]]


def test_a_shared_array_is_sent_once(ends):
    content = pack(np.arange(4, dtype=np.float32), {})
    sender = Sender(ends[0])
    for expected in (1, 0, 0):
        sender.send([[message(content, i) for i in range(3)]])
        assert json.loads(ends[1].recv_bytes())["arrays"] == expected
        for _ in range(expected):
            ends[1].recv_bytes()
    sender.send([[message(pack(np.arange(4, dtype=np.float32), {}))]])
    assert json.loads(ends[1].recv_bytes())["arrays"] == 1, "equal values in another array are sent"


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.sampled_from("ABC"), min_size=1, max_size=5), min_size=1, max_size=5))
def test_arrays_may_come_again_in_any_order(frames):
    ours, theirs = Pipe()
    known = {name: array(ord(name)) for name in "ABC"}
    sender, receiver = Sender(ours), Receiver(theirs)
    for names in frames:
        sender.send([[message(RecordDict({"v": ArrayRecord({"v": known[name]})}))] for name in names])
        units = receiver.receive()
        assert [unit[0]["content"]["v"]["v"].numpy().tolist() for unit in units] == [[ord(n)] for n in names]
    ours.close()
    theirs.close()


def test_only_the_last_array_is_kept(ends):
    sender, receiver = Sender(ends[0]), Receiver(ends[1])
    for _ in range(5):
        sender.send([[message(RecordDict({"v": ArrayRecord({str(i): array(i) for i in range(3)})}))]])
        receiver.receive()
    assert len(receiver._data) == 1


def test_a_reply_answers_the_message_that_was_sent(ends):
    asked = message(pack(np.zeros(1, np.float32), {}), number=42)
    [[head]] = one(ends, [[Message(pack(np.ones(1, np.float32), {"loss": 0.5}), reply_to=asked)]])
    assert head["answers"] == "42"
    reply = reply_of(head, asked)
    assert reply.metadata.reply_to_message_id == "42"
    assert reply.metadata.src_node_id == 7
    assert facts_of(reply.content)["loss"] == 0.5


def test_an_error_is_a_reply_too(ends):
    asked = message(pack(np.zeros(1, np.float32), {}), number=42)
    [[head]] = one(ends, [[Message(Error(1007, '{"kind": "TrainingError"}'), reply_to=asked)]])
    reply = reply_of(head, asked)
    assert reply.has_error()
    assert (reply.error.code, reply.error.reason) == (1007, '{"kind": "TrainingError"}')
