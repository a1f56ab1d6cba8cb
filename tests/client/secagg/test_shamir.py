"""Sharing secrets: any t shares make the secret, t - 1 fit every secret alike, and what is no share is refused."""

import hashlib
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.secagg import shamir
from client.secagg.shamir import PRIME, SHARE, combine, split

SECRETS = st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=3)
KEYS = st.binary(min_size=32, max_size=32)


def elements(share):
    high = int.from_bytes(share[32:], "big")
    return [
        int.from_bytes(share[2 * k : 2 * k + 2], "little") + ((high >> 15 - k & 1) << 16) for k in range(16)
    ]


def share_of(values):
    high = sum((value >> 16) << 15 - k for k, value in enumerate(values))
    return b"".join((value & 0xFFFF).to_bytes(2, "little") for value in values) + high.to_bytes(2, "big")


@given(SECRETS, KEYS, st.data())
def test_any_threshold_of_shares_makes_the_secrets(secrets, key, data):
    points = data.draw(st.integers(1, 12))
    threshold = data.draw(st.integers(1, points))
    shares = split(secrets, points, threshold, key)
    chosen = data.draw(st.permutations(range(1, points + 1)))[:threshold]
    assert combine(chosen, [shares[point - 1] for point in chosen]) == secrets
    assert all(len(share) == SHARE for row in shares for share in row)


def test_two_hundred_sites_share_exactly():
    secrets = [hashlib.sha256(bytes([k])).digest() for k in range(5)]
    secrets[0] = b"\xff" * 32
    shares = split(secrets, 200, 134, b"k" * 32)
    chosen = range(200, 66, -1)
    assert combine(list(chosen), [shares[point - 1] for point in chosen]) == secrets


def test_shares_lie_on_polynomials_of_the_right_degree():
    threshold, secret = 4, hashlib.sha256(b"secret").digest()
    shares = split([secret], 9, threshold, b"p" * 32)
    columns = np.array([elements(row[0]) for row in shares])
    words = np.frombuffer(secret, "<u2")
    for column, word in zip(columns.T.tolist(), words.tolist(), strict=True):
        values = [word, *column]
        for _ in range(threshold):  # the t-th differences of a polynomial of degree t - 1 are zero
            values = [(b - a) % PRIME for a, b in itertools.pairwise(values)]
        assert not any(values)


def test_coefficients_are_the_keystream_without_its_one_biased_word(monkeypatch):
    words = np.array([0xFFFF_FFFF, 65537, 65536, 0xFFFF_FFFE, 5, *range(6, 99)], "<u4")
    left = bytearray(words.tobytes())

    class Stream:
        def update(self, zeros):
            part = bytes(left[: len(zeros)])
            del left[: len(zeros)]
            return part

    monkeypatch.setattr(shamir, "keystream", lambda _: Stream())
    # 2^32 - 1 is 65537 times 65535: without the word 2^32 - 1 itself, all remainders are equally likely.
    assert shamir._elements(bytes(32), 5).tolist() == [0, 65536, 65536, 5, 6]


def test_fewer_shares_than_the_threshold_fit_every_secret_alike():
    """Two shares, t = 3: each secret word has as many polynomials through both as any other, counted by combine."""
    rng = np.random.default_rng(0)
    known = [share_of(rng.integers(0, PRIME, 16).tolist()) for _ in range(2)]
    thirds = np.arange(0, PRIME, 1).reshape(-1, 1)
    # What the third share says decides the secret alone; over all thirds every element comes once.
    words = [shamir._unpacked(np.frombuffer(share, np.uint8)[None]) for share in known]
    factors = shamir._lagrange((2, 5, 7))
    secrets = (factors[0] * words[0] + factors[1] * words[1] + factors[2] * thirds) % PRIME
    for column in secrets.T:
        assert (np.bincount(column.astype(int), minlength=PRIME) == 1).all()


def test_the_shares_of_any_secret_are_spread_alike():
    """t - 1 shares of two very different secrets, under many keys, have the same distribution (chi-square)."""
    counts = []
    for secret in (bytes(32), b"\xff" * 32):
        seen = np.zeros(16, int)
        for n in range(400):
            shares = split([secret], 3, 2, hashlib.sha256(bytes([n % 256, n // 256])).digest())
            seen += np.bincount(np.array(elements(shares[1][0])) * 16 // PRIME, minlength=16)
        counts.append(seen)
    expected = 400
    for seen in counts:
        assert ((seen - expected) ** 2 / expected).sum() < 44.3  # chi-square of 15 degrees, 1e-4
    assert not (counts[0] == counts[1]).all()


def test_the_largest_element_travels():
    assert combine([2, 3], [[share_of([65536] * 16)], [share_of([65535] * 16)]]) == [
        np.full(16, (3 * 65536 - 2 * 65535) % PRIME, "<u2").tobytes()
    ]


def test_a_number_out_of_the_field_is_refused():
    for value in (65537, 65538, 131071):
        with pytest.raises(ValueError, match="outside the field"):
            combine([1], [[share_of([0] * 15 + [value])]])


def test_shares_that_make_no_secret_are_refused():
    with pytest.raises(ValueError, match="make no secret"):
        combine([1], [[share_of([65536] + [0] * 15)]])


@pytest.mark.parametrize(
    ("points", "sizes"),
    [([1, 1], [34, 34]), ([0, 1], [34, 34]), ([1, PRIME], [34, 34]), ([1, 2], [34]), ([1], [33]), ([], [])],
)
def test_points_and_shares_that_cannot_be_are_refused(points, sizes):
    with pytest.raises(ValueError, match=r"points|share|row"):
        combine(points, [[bytes(size)] for size in sizes])


def test_the_secrets_of_a_site_are_shared_apart():
    both = split([bytes(32), bytes(32)], 3, 2, b"x" * 32)
    assert {row[0] for row in both}.isdisjoint(row[1] for row in both)
