"""Masks: the keystream itself, what cancels, and what is left looking like noise."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from client.secagg.masks import CHUNK, add_masks, keystream

KEYS = st.binary(min_size=32, max_size=32)
VECTORS = st.tuples(st.integers(0, 5), st.integers(0, 9)).flatmap(
    lambda words: st.tuples(
        st.just(words[0]),
        st.binary(min_size=8 * words[0] + 4 * words[1], max_size=8 * words[0] + 4 * words[1]),
    )
)


def key(name):
    return hashlib.sha256(repr(name).encode()).digest()


@pytest.mark.parametrize("words64", [0, 3, CHUNK // 8, CHUNK // 8 + 1])
@pytest.mark.parametrize("words32", [0, 7, CHUNK // 4, CHUNK // 2 + 5])
def test_one_keystream_runs_through_both_parts_and_all_pieces(words64, words32):
    body = bytearray(8 * words64 + 4 * words32)
    add_masks(body, words64, [key(1)], [1])
    assert body == keystream(key(1)).update(bytes(len(body)))


def test_numbers_wrap_around_in_the_ring_of_their_part():
    body = bytearray(b"\xff" * 12)
    stream = keystream(key(2)).update(bytes(12))
    add_masks(body, 1, [key(2)], [1])
    wide = (2**64 - 1 + int.from_bytes(stream[:8], "little")) % 2**64
    narrow = (2**32 - 1 + int.from_bytes(stream[8:], "little")) % 2**32
    assert body == wide.to_bytes(8, "little") + narrow.to_bytes(4, "little")


@given(VECTORS, KEYS, KEYS)
def test_what_one_side_adds_the_other_takes_off(vector, one, other):
    words64, start = vector
    body = bytearray(start)
    add_masks(memoryview(body), words64, [one, other], [1, -1])
    add_masks(memoryview(body), words64, [other, one], [1, -1])
    assert body == start


@given(st.integers(2, 6), VECTORS)
def test_masks_of_pairs_are_gone_from_the_sum(sites, vector):
    words64, start = vector
    split = 8 * words64
    total = bytearray(len(start))
    for site in range(sites):
        body = bytearray(start)
        peers = [peer for peer in range(sites) if peer != site]
        keys = [key((min(site, peer), max(site, peer))) for peer in peers]
        add_masks(body, words64, keys, [1 if site < peer else -1 for peer in peers])
        for kind, cut in (("<u8", slice(0, split)), ("<u4", slice(split, None))):
            part = np.frombuffer(memoryview(total)[cut], kind)
            np.add(part, np.frombuffer(body[cut], kind), out=part)
    wide = [word * sites % 2**64 for word in np.frombuffer(start[:split], "<u8").tolist()]
    narrow = [word * sites % 2**32 for word in np.frombuffer(start[split:], "<u4").tolist()]
    assert total == np.array(wide, "<u8").tobytes() + np.array(narrow, "<u4").tobytes()


@pytest.mark.parametrize("content", [0x00, 0xFF])
def test_masked_words_look_uniform_byte_by_byte(content):
    words64, words32 = 1000, 50_000
    body = bytearray([content]) * (8 * words64 + 4 * words32)
    add_masks(body, words64, [key("left"), key("right")], [1, -1])
    columns = np.frombuffer(body[8 * words64 :], np.uint8).reshape(-1, 4)
    for column in columns.T:
        counts = np.bincount(column, minlength=256)
        statistic = float(((counts - words32 / 256) ** 2).sum() / (words32 / 256))
        assert chi2.ppf(1e-5, 255) < statistic < chi2.ppf(1 - 1e-5, 255)


def test_unmasked_words_of_a_small_number_do_not_pass_for_uniform():
    column = np.zeros(50_000, np.uint8)
    counts = np.bincount(column, minlength=256)
    assert float(((counts - 50_000 / 256) ** 2).sum() / (50_000 / 256)) > chi2.ppf(1 - 1e-5, 255)


def test_masked_vectors_of_different_keys_have_no_word_in_common_with_the_vector():
    plain = np.arange(5000, dtype="<u4")
    masked = bytearray(plain.tobytes())
    add_masks(masked, 0, [key("one")], [1])
    assert np.count_nonzero(np.frombuffer(masked, "<u4") == plain) < 3


@pytest.mark.parametrize(
    ("size", "words64", "keys", "signs"),
    [(12, 2, [bytes(32)], [1]), (12, 1, [bytes(16)], [1]), (12, 1, [bytes(32)], [])],
)
def test_a_mask_that_cannot_be_is_refused(size, words64, keys, signs):
    with pytest.raises(ValueError, match=r"buffer|key|shorter"):
        add_masks(bytearray(size), words64, keys, signs)
