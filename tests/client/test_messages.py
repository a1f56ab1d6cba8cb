# pyright: reportAttributeAccessIssue=false
"""Messages: what was packed is read again, and nothing else is."""

import io
import json

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import fer_models.errors as errors
from client.failures import ERROR_CODES, error_from_wire, error_to_wire
from client.messages import FACTS, facts_of, pack, scalar, tensor_of, text, vector_of
from fer_models.errors import EngineError, FedferError, PrivacyError

VECTOR = np.arange(7, dtype=np.float32)
KINDS = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, FedferError)]


@settings(deadline=None, max_examples=30)
@given(
    st.sampled_from([np.float32, np.int64, np.float64]).flatmap(
        lambda kind: arrays.arrays(kind, st.integers(0, 40), fill=st.nothing())
    )
)
def test_vectors_survive_bit_for_bit(vector):
    found = vector_of(pack(vector, {}), vector.dtype.type, len(vector))
    assert found.dtype == vector.dtype
    assert found.tobytes() == vector.tobytes()


def test_a_vector_is_what_flower_and_numpy_read():
    array = pack(VECTOR, {})["vector"]["vector"]
    assert np.array_equal(array.numpy(), VECTOR)
    assert np.array_equal(np.load(io.BytesIO(array.data), allow_pickle=False), VECTOR)
    theirs = RecordDict({"vector": ArrayRecord({"vector": Array(VECTOR)})})
    assert np.array_equal(vector_of(theirs, np.float32), VECTOR)


def test_a_slice_with_steps_is_packed_as_its_values():
    assert vector_of(pack(np.arange(20, dtype=np.float32)[::3], {}), np.float32).tolist() == [
        0,
        3,
        6,
        9,
        12,
        15,
        18,
    ]


def test_a_vector_read_is_no_copy_and_cannot_be_written():
    content = pack(VECTOR, {})
    found = vector_of(content, np.float32)
    assert not found.flags.writeable
    tensor = tensor_of(found)
    assert tensor.data_ptr() == found.ctypes.data
    assert tensor.tolist() == VECTOR.tolist()


def test_numbers_and_texts():
    content = pack(VECTOR, {"round": 3, "loss": 0.5, "site": "a"})
    assert scalar(content, "round") == 3
    assert type(scalar(content, "round")) is int
    assert scalar(content, "loss") == 0.5
    assert text(content, "site") == "a"


HUGE = pytest.param(10**400, id="huge")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), HUGE, "3", {"b": 3}, [3], None])
def test_what_is_no_finite_number_is_refused(value):
    content = pack(VECTOR, {} if value is None else {"round": value})
    with pytest.raises(EngineError, match="a message without round"):
        scalar(content, "round")


@pytest.mark.parametrize("value", [3, True, ["a"], {"b": "c"}, None])
def test_what_is_no_text_is_refused(value):
    content = pack(VECTOR, {} if value is None else {"site": value})
    with pytest.raises(EngineError, match="a message without site"):
        text(content, "site")


@pytest.mark.parametrize(
    "record",
    [
        MetricRecord({"round": 3}),
        ConfigRecord({"round": 3}),
        *(
            ConfigRecord({FACTS: told})
            for told in ("", "{", '["round"]', "[" * 100_000, "3", 3, b'{"round": 3}')
        ),
    ],
    ids=range(9),
)
def test_facts_of_another_kind_are_none(record):
    content = RecordDict({"facts": record})
    assert facts_of(content) == {}
    with pytest.raises(EngineError, match="without round"):
        scalar(content, "round")


def changed(**changes):
    array = pack(VECTOR, {})["vector"]["vector"]
    facts = {"dtype": array.dtype, "shape": array.shape, "stype": array.stype, "data": array.data, **changes}
    return RecordDict({"vector": ArrayRecord({"vector": Array(**facts)})})


def npy(array, **options):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, **options)
    return file.getvalue()


DATA = npy(VECTOR)
REFUSED = {
    "no vector": RecordDict(),
    "a record of another kind": RecordDict({"vector": ConfigRecord({"vector": 1})}),
    "another name": RecordDict({"vector": ArrayRecord({"weights": Array(VECTOR)})}),
    "another dtype": pack(VECTOR.astype(np.float64), {}),
    "a matrix": RecordDict({"vector": ArrayRecord({"vector": Array(VECTOR.reshape(7, 1))})}),
    "another serialisation": changed(stype="pickle"),
    "a dtype that is not the header's": changed(data=npy(VECTOR.astype(np.int32))),
    "another byte order": changed(data=npy(VECTOR.astype(">f4"))),
    "a shape that is not the header's": changed(shape=(6,)),
    "a longer shape": changed(shape=(8,)),
    "a huge shape": changed(shape=(2**40,)),
    "a negative shape": changed(shape=(-7,)),
    "a matrix inside": changed(data=npy(VECTOR.reshape(1, 7))),
    "Fortran order": changed(data=npy(np.asfortranarray(VECTOR.reshape(1, 7)))),
    "another version of the format": changed(data=npy(VECTOR, version=(2, 0))),
    "objects": changed(data=npy(np.array([{}] * 7, object), allow_pickle=True)),
    "no bytes": changed(data=b""),
    "a cut end": changed(data=DATA[:-1]),
    "bytes too many": changed(data=DATA + b"\0"),
    "a cut header": changed(data=DATA[:20]),
    "no magic": changed(data=b"\0" + DATA[1:]),
    "a damaged header": changed(data=DATA.replace(b"descr", b"des'r")),
    "a header that is no literal": changed(data=DATA.replace(b"False", b"f()  ")),
    "an open bracket": changed(data=DATA.replace(b"}", b"(")),
}


@pytest.mark.parametrize("kind", list(REFUSED))
def test_anything_else_than_a_flat_vector_is_refused(kind):
    with pytest.raises(EngineError) as error:
        vector_of(REFUSED[kind], np.float32)
    assert error.value.cure


def test_the_size_that_is_expected():
    content = pack(VECTOR, {})
    assert len(vector_of(content, np.float32, 7)) == 7
    with pytest.raises(EngineError, match="a vector of 7 values where 8 were expected"):
        vector_of(content, np.float32, 8)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, len(DATA) - 29), st.integers(0, 255)), min_size=1, max_size=3))
def test_no_damage_of_the_header_ends_in_anything_but_a_refusal(damage):
    data = bytearray(DATA)
    for place, value in damage:
        data[place] = value
    try:
        found = vector_of(changed(data=bytes(data)), np.float32)
    except EngineError:
        return
    assert found.tobytes() == VECTOR.tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_errors_travel_with_their_kind(kind):
    sent = kind("what went wrong", where="here: é", cure="Do this.")
    wire = error_to_wire(sent)
    assert wire.code == ERROR_CODES + kind.exit_code
    found = error_from_wire(wire, "node 3")
    assert type(found) is kind
    assert str(found) == str(sent)


def test_an_error_without_a_place_gets_the_sites():
    found = error_from_wire(error_to_wire(PrivacyError("no", cure="Yes.")), "node 3")
    assert str(found) == "no (node 3). Yes."


def wire(**parts):
    return json.dumps({"kind": "DataError", "what": "w", "where": "", "cure": "c", **parts})


FOREIGN = [
    (2, "Traceback\n\nValueError: boom", "ValueError: boom"),
    (2, None, "no reason given"),
    (2, "  \n ", "no reason given"),
    (1000, "", "no reason given"),
    (1003, None, "no reason given"),
    (1003, "no json", "no json"),
    (1003, "[" * 100_000, "[[["),
    (1003, "[1]", "[1]"),
    (1003, '{"kind": "DataError"}', "{"),
    (1003, wire(kind="SystemExit"), "{"),
    (1003, wire(kind="annotations"), "{"),
    (1003, wire(kind="_rebuild"), "{"),
    (1003, wire(what=["w"]), "{"),
    (1003, wire(where=None), "{"),
]


@pytest.mark.parametrize(("code", "reason", "shown"), FOREIGN)
def test_errors_of_another_origin_are_an_engine_error(code, reason, shown):
    found = error_from_wire(Error(code, reason), "node 3")
    assert type(found) is EngineError
    assert found.what.startswith(f"a site failed: {shown}")
    assert found.where == "node 3"
    assert "\n" not in str(found)
