"""frames between node and agent: what goes in comes out, and anything else is refused."""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from client.frames import LENGTH, Frame, from_bytes, to_bytes
from client.messages import facts_of, pack, tell, vector_of
from fer_models.errors import EngineError

FACTS = st.dictionaries(st.text(max_size=8), st.one_of(st.integers(), st.text(max_size=20)), max_size=4)
VECTORS = arrays.arrays(st.sampled_from([np.float32, np.uint8, np.int64]), st.integers(0, 50))


@given(VECTORS, FACTS, st.text(max_size=20))
def test_a_message_is_the_same_after_its_way(vector, facts, kind):
    found = from_bytes(to_bytes(Frame(kind, pack(vector, facts))))
    assert found.kind == kind
    assert facts_of(found.content) == facts
    assert vector_of(found.content, vector.dtype.type).tobytes() == vector.tobytes()


@given(FACTS)
def test_a_message_without_a_vector_too(facts):
    content = from_bytes(to_bytes(Frame("query", tell(facts)))).content
    assert set(content) == {"facts"}
    assert facts_of(content) == facts
    assert len(from_bytes(to_bytes(Frame("query", RecordDict()))).content) == 0


@given(st.integers(0, 2000), st.text(max_size=50))
def test_an_error_travels_as_it_is(code, reason):
    found = from_bytes(to_bytes(Frame(error=Error(code, reason))))
    assert (found.error.code, found.error.reason) == (code, reason)
    assert found.content is None


@pytest.mark.parametrize(
    "content",
    [
        RecordDict({"more": ConfigRecord({"json": "{}"})}),
        RecordDict({"facts": ConfigRecord({"json": "{}", "more": 1})}),
        RecordDict({"facts": MetricRecord({"json": 1})}),
        RecordDict({"vector": ArrayRecord({"other": Array(np.zeros(2))})}),
    ],
)
def test_other_records_are_refused(content):
    with pytest.raises(EngineError, match="a message with a record"):
        to_bytes(Frame("train", content))


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_read(data):
    try:
        from_bytes(data)
    except EngineError as error:
        assert "damaged" in error.what


@given(st.data())
def test_a_frame_that_was_changed_is_refused_or_read(data):
    whole = bytearray(to_bytes(Frame("train", pack(np.arange(4, dtype=np.float32), {"round": 1}))))
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        found = from_bytes(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    except EngineError:
        return
    assert set(found.content) <= {"facts", "vector"}


@pytest.mark.parametrize(
    "head",
    [
        b"[]",
        b"{}",
        b"null",
        b'{"type": 3}',
        b'{"type": "", "more": 1}',
        b'{"type": "", "error": [1, 2]}',
        b'{"type": "", "error": [1, "a"], "facts": "{}"}',
        b'{"type": "", "facts": 3}',
        b'{"type": "", "vector": {"dtype": "float32", "shape": [1, 2], "stype": "x"}}',
        b'{"type": "", "vector": {"dtype": 3, "shape": [1], "stype": "x"}}',
        b'{"type": "", "vector": {"dtype": "a", "shape": [1], "stype": "x", "more": 1}}',
        b"[" * 100_000,
    ],
)
def test_other_heads_are_refused(head):
    with pytest.raises(EngineError, match="damaged"):
        from_bytes(LENGTH.pack(len(head)) + head)


def test_bytes_without_an_array_are_refused():
    with pytest.raises(EngineError, match="damaged"):
        from_bytes(to_bytes(Frame("query", tell({}))) + b"more")
