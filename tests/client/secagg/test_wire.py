"""Every message by known answers: its bytes part by part, and bytes that are no message."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.secagg import wire
from client.secagg.wire import (
    Advert,
    Complaint,
    Consent,
    Consents,
    Inbox,
    Masked,
    Offer,
    Parcel,
    Reveal,
    Roll,
    Shares,
    Survivors,
)  # fmt: skip
from fer_models.errors import SecureAggregationError

VECTORS = json.loads((Path(__file__).parent / "vectors" / "messages.json").read_text())
GOOD = {
    vector["name"]: bytes.fromhex("".join(part for _, part in vector["parts"]))
    for vector in VECTORS["messages"]
}
FUZZED = 100_000


def parser(kind):
    return getattr(wire, kind)


def built(vector):
    """The message that a vector's parts describe, put together from their names."""
    parts = [(name, bytes.fromhex(part)) for name, part in vector["parts"]]
    numbers = {name: int.from_bytes(part, "little") for name, part in parts}
    held, session, site = dict(parts), numbers["session"], numbers["sender"]

    def every(name):
        return [part for found, part in parts if found == name]

    def ids(name):
        return [int.from_bytes(part, "little") for part in every(name)]

    columns = (every(name) for name in ("sealed", "key_commitment", "seed_commitment"))
    parcels = tuple(Parcel(*row) for row in zip(ids("peer"), *columns, strict=True))
    keys = ("seal_key", "mask_key", "commitment", "signature")
    kinds = {
        "Offer": lambda: Offer(
            session, held["run"], wire.PURPOSES[numbers["purpose"]], numbers["round_number"],
            wire.PROFILES[numbers["profile"]], held["plan"], held["roster"], held["layout"], numbers["words64"],
            numbers["words32"], tuple(ids("site")), numbers["threshold"], numbers["least"], numbers["degree"],
            held["seed"],
        ),
        "Advert": lambda: Advert(session, site, *(held[name] for name in keys)),
        "Roll": lambda: Roll(
            session,
            tuple(Advert(session, *row) for row in zip(ids("site"), *(every(name) for name in keys), strict=True)),
        ),
        "Shares": lambda: Shares(
            session, site, (held["own_key_commitment"], held["own_seed_commitment"]), parcels, held["signature"]
        ),
        "Inbox": lambda: Inbox(session, tuple(ids("site")), parcels),
        "Masked": lambda: Masked(session, site, held["question"], held["digest"], held["signature"], held["body"]),
        "Complaint": lambda: Complaint(session, site, tuple(ids("site")), held["signature"]),
        "Survivors": lambda: Survivors(session, tuple(ids("site"))),
        "Consent": lambda: Consent(session, site, held["signature"]),
        "Consents": lambda: Consents(session, tuple(zip(ids("site"), every("signature"), strict=True))),
        "Reveal": lambda: Reveal(
            session, site, tuple(zip(ids("owner"), every("share"), strict=True)), held["signature"]
        ),
    }  # fmt: skip
    return kinds[vector["kind"]]()


@pytest.mark.parametrize("vector", VECTORS["messages"], ids=lambda vector: vector["name"])
def test_a_message_is_the_bytes_of_its_parts(vector):
    message, data = built(vector), GOOD[vector["name"]]
    assert message.encode() == data
    assert parser(vector["kind"]).parse(data) == message
    for name, found in vars(
        type(message)
    ).items():  # and no field is of a view that a later message could change
        if name in getattr(message, "__slots__", ()) and name != "body":
            assert not isinstance(getattr(message, name), memoryview), found


@pytest.mark.parametrize("vector", VECTORS["bad"], ids=lambda vector: vector["name"])
def test_bytes_that_are_no_message(vector):
    with pytest.raises(SecureAggregationError) as refused:
        parser(vector["kind"]).parse(bytes.fromhex(vector["hex"]))
    assert refused.value.code == vector["code"]


def test_every_kind_has_vectors():
    kinds = {vector["kind"] for vector in VECTORS["messages"]}
    assert kinds == {vector["kind"] for vector in VECTORS["bad"]}
    assert {kind.upper() for kind in kinds} == {kind.name for kind in wire.Kind}


def test_a_vector_longer_than_offered():
    with pytest.raises(SecureAggregationError) as refused:
        Masked.parse(GOOD["masked"], 15)
    assert refused.value.code == "oversize"
    assert Masked.parse(GOOD["masked"], 16).body.nbytes == 16


def test_the_vector_begins_where_words_can_be_read():
    assert Masked.HEAD % 8 == 0


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_refused(data):
    for kind in wire.Kind:
        parse_or_refuse(parser(kind.name.capitalize()), data)


def parse_or_refuse(message, data):
    """Whatever parses encodes to the same bytes; whatever does not is refused in one way."""
    try:
        found = message.parse(data)
    except SecureAggregationError:
        return False
    assert found.encode() == data
    return True


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in GOOD if name != "offer_sparse"])
def test_fuzzed_messages(name):
    """A hundred thousand changed messages: bytes flipped, set, cut off, put in, or all after a point replaced."""
    rng = np.random.default_rng(len(name))
    data = GOOD[name]
    message = parser(next(v["kind"] for v in VECTORS["messages"] if v["name"] == name))
    ways = rng.integers(0, 5, FUZZED).tolist()
    places = (
        (rng.random(FUZZED) ** 2 * len(data)).astype(int).tolist()
    )  # more often at the front, where lengths are
    noise = rng.bytes(4096)
    parsed = 0
    for way, at, start in zip(ways, places, rng.integers(0, 4000, FUZZED).tolist(), strict=True):
        changed = bytearray(data)
        if way == 0:
            changed[at] ^= 1 << (start & 7)
        elif way == 1:
            changed[at] = noise[start]
        elif way == 2:
            del changed[at:]
        elif way == 3:
            changed[at:at] = noise[start : start + 1 + (start & 3)]
        else:
            changed[at:] = noise[start : start + len(data) - at]
        parsed += parse_or_refuse(message, bytes(changed))
    assert 0 < parsed < FUZZED
