"""Published vectors of every primitive, through the functions that the protocol calls; and what each must refuse."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from client.identity import Identity, Roster
from client.secagg.agreement import derive, digest, exchanger, open_sealed, public_key, seal
from client.secagg.masks import add_masks, keystream
from fer_models.errors import SecureAggregationError

VECTORS = json.loads((Path(__file__).parent / "vectors" / "primitives.json").read_text())
bytes_of = bytes.fromhex


def cases(name):
    return [{key: bytes_of(value) if key not in ("source", "why", "low") else value for key, value in case.items()}
            for case in VECTORS[name]]  # fmt: skip


def aes(key, block):
    return Cipher(algorithms.AES256(key), modes.ECB()).encryptor().update(block)


@pytest.mark.parametrize("case", cases("x25519"))
def test_x25519(case):
    assert exchanger(case["private"])(case["public"]) == case["secret"]


def test_x25519_iterated():
    scalar = point = (9).to_bytes(32, "little")
    for count in range(1, 1001):
        scalar, point = exchanger(scalar)(point), scalar
        if str(count) in VECTORS["x25519_iterated"]:
            assert scalar.hex() == VECTORS["x25519_iterated"][str(count)]


@pytest.mark.parametrize("case", cases("x25519_keys"))
def test_x25519_public_keys(case):
    assert public_key(case["private"]) == case["public"]


@pytest.mark.parametrize("case", cases("bad_x25519"))
@pytest.mark.parametrize("private", [b"\x01" * 32, b"\xff" * 32])
def test_a_public_key_whose_secret_anybody_knows_is_refused(case, private):
    with pytest.raises(SecureAggregationError) as caught:
        exchanger(private)(case["public"])
    assert caught.value.code == "bad_key"


@pytest.mark.parametrize("case", cases("hkdf_sha256"))
def test_hkdf(case):
    assert derive(case["secret"], case["salt"], case["info"]) == case["key"]


@pytest.mark.parametrize("case", cases("ed25519"))
def test_ed25519(case):
    identity = Identity(case["private"])
    assert identity.public == case["public"]
    assert identity.sign(case["message"]) == case["signature"]
    Roster({"site": case["public"]}).verify(0, case["signature"], case["message"])


@pytest.mark.parametrize("case", cases("bad_ed25519"), ids=lambda case: case["why"])
def test_a_signature_that_is_not_the_sites_is_refused(case):
    with pytest.raises(SecureAggregationError) as caught:
        Roster({"site": case["public"]}).verify(0, case["signature"], case["message"])
    assert (caught.value.code, caught.value.culprit) == ("bad_signature", 0)


@pytest.mark.parametrize("case", cases("aes256"))
def test_the_block_cipher_that_other_tests_build_on(case):
    assert aes(case["key"], case["block"]) == case["cipher"]


@pytest.mark.parametrize("case", cases("aes256_ctr"))
def test_masks_are_the_published_blocks(case):
    assert keystream(case["key"]).update(bytes(len(case["stream"]))) == case["stream"]
    body = bytearray(len(case["stream"]))
    add_masks(body, 1, [case["key"]], [1])
    assert body == case["stream"]


@pytest.mark.parametrize("start", [0, 255, 65535])
def test_the_counter_is_the_whole_block_and_carries(start):
    key = bytes(range(32))
    stream = keystream(key).update(bytes(16 * (start + 2)))
    blocks = b"".join((start + step).to_bytes(16, "big") for step in range(2))
    assert stream[16 * start :] == aes(key, blocks)


def doubled(block):
    return (block >> 1) ^ (0xE1 << 120 if block & 1 else 0)


def times(one, other):
    product = 0
    for bit in range(127, -1, -1):
        product ^= one if other >> bit & 1 else 0
        one = doubled(one)
    return product


def gcm(key, nonce, data, label):
    """AES-GCM by its definition (SP 800-38D)."""
    start = int.from_bytes(nonce + b"\x00\x00\x00\x01", "big")
    stream = aes(key, b"".join((start + 1 + k).to_bytes(16, "big") for k in range(len(data) // 16 + 1)))
    cipher = bytes(a ^ b for a, b in zip(data, stream, strict=False))
    hashed, subkey = 0, int.from_bytes(aes(key, bytes(16)), "big")
    lengths = (8 * len(label)).to_bytes(8, "big") + (8 * len(cipher)).to_bytes(8, "big")
    for part in (label, cipher, lengths):
        for at in range(0, len(part), 16):
            hashed = times(hashed ^ int.from_bytes(part[at : at + 16].ljust(16, b"\x00"), "big"), subkey)
    tag = hashed ^ int.from_bytes(aes(key, start.to_bytes(16, "big")), "big")
    return cipher + tag.to_bytes(16, "big")


@pytest.mark.parametrize("case", cases("aes256_gcm"))
def test_gcm(case):
    assert seal(case["key"], case["low"], case["data"], case["label"]) == case["box"]
    assert open_sealed(case["key"], case["low"], case["box"], case["label"]) == case["data"]
    assert gcm(case["key"], bytes(12), case["data"], case["label"]) == case["box"]


@pytest.mark.parametrize("low", [False, True])
@pytest.mark.parametrize("size", [0, 1, 16, 68])
def test_a_box_is_gcm_with_the_direction_as_nonce(low, size):
    key, data, label = bytes(range(32)), bytes(range(size)), bytes(range(36))
    assert seal(key, low, data, label) == gcm(key, bytes(11) + bytes([low]), data, label)


@pytest.mark.parametrize("bit", range(0, 8 * 20, 7))
def test_a_box_with_any_bit_changed_does_not_open(bit):
    key = bytes(range(32))
    box = bytearray(seal(key, True, b"abcd", b"label"))
    box[bit // 8] ^= 1 << bit % 8
    assert open_sealed(key, True, bytes(box), b"label") is None


@pytest.mark.parametrize("size", [0, 15, 16, 19, 21])
def test_a_box_of_another_length_does_not_open(size):
    key = bytes(range(32))
    box = seal(key, True, b"abcd", b"label") + b"\x00"
    assert open_sealed(key, True, box[:size], b"label") is None


def test_a_box_opens_for_its_direction_label_and_key_alone():
    key = bytes(range(32))
    box = seal(key, True, b"abcd", b"label")
    assert open_sealed(key, True, box, b"label") == b"abcd"
    assert open_sealed(key, False, box, b"label") is None
    assert open_sealed(key, True, box, b"labem") is None
    assert open_sealed(bytes(32), True, box, b"label") is None


def test_no_two_lists_of_parts_have_one_digest():
    lists = [("a", b"bc"), ("ab", b"c"), ("a", b"b", b"c"), ("a", b"", b"bc"), ("a", b"bc", b"")]
    assert len({digest(*parts) for parts in lists}) == len(lists)
