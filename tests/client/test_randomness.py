"""Where randomness comes from: the cipher against published vectors, distributions, and who shares what."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from client.randomness import BLOCK, BoundEntropy, KeyedStream, SeededEntropy, SystemEntropy, torch_generator

KEY = bytes(range(32))


def test_the_stream_is_aes_256_in_counter_mode():
    """Under the zero key: the hash subkey, the tag mask and the ciphertext of zeros of test cases 13 and 14 of
    McGrew and Viega, "The Galois/Counter Mode of Operation" (2005), are the cipher of counters 0, 1 and 2."""
    published = (
        "dc95c078a2408989ad48a21492842087530f8afbc74536b9a963b4f1c4cb738bcea7403d4d606b6e074ec5d3baf39d18"
    )
    assert KeyedStream(bytes(32)).words(6).tobytes().hex() == published


def test_the_stream_equals_the_standards_cipher_at_its_counter():
    """NIST SP 800-38A, F.5.5: its first output block proves a block cipher, and that cipher the stream's blocks.

    F.5.5 begins at counter f0f1...ff, which no stream reaches.
    """
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    key = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    ecb = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    assert (
        ecb.update(bytes.fromhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")).hex()
        == "0bdf7df1591716335e9a8b15c860c502"
    )
    blocks = b"".join(ecb.update(i.to_bytes(16, "big")) for i in range(300))
    assert KeyedStream(key).words(600).tobytes() == blocks


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 50), max_size=6))
def test_a_stream_goes_on_however_it_is_cut(cuts):
    stream, whole = KeyedStream(KEY), KeyedStream(KEY).words(sum(cuts))
    parts = [stream.words(count) for count in cuts]
    assert np.array_equal(np.concatenate([np.zeros(0, np.uint64), *parts]), whole)


class Fixed(KeyedStream):
    """A stream of one word."""

    def __init__(self, word):
        self.word = word

    def words(self, count):
        return np.full(count, self.word, np.uint64)


@pytest.mark.parametrize("word", [0, 1, 2**63, 2**64 - 2**11, 2**64 - 1])
def test_uniform_numbers_lie_strictly_between_0_and_1(word):
    (u,) = Fixed(word).uniform(1)
    assert 0 < u < 1
    assert abs(u - word / 2**64) < 2**-51
    assert np.isfinite(Fixed(word).normal(2)).all()
    assert np.abs(Fixed(word).normal(2)).max() < 8.6


def test_uniform_numbers_are_uniform():
    u = KeyedStream(KEY).uniform(200_000)
    assert u.min() > 0
    assert u.max() < 1
    assert stats.kstest(u, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < 0.01


def test_normal_numbers_are_those_of_box_and_muller():
    stream = KeyedStream(KEY)
    radius, angle = np.sqrt(-2 * np.log(stream.uniform(5000))), 2 * np.pi * stream.uniform(5000)
    expected = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
    np.testing.assert_allclose(KeyedStream(KEY).normal(10_000), expected, rtol=0, atol=1e-14)


def test_blocks_are_drawn_one_after_the_other():
    """Each from as many words as it has numbers, its angles behind its radii, the last one as long as is left."""
    stream, counts = KeyedStream(KEY), (BLOCK, 4465)
    expected = []
    for count in counts:
        half = (count + 1) // 2
        radius, angle = np.sqrt(-2 * np.log(stream.uniform(half))), 2 * np.pi * stream.uniform(half)
        expected += [radius * np.cos(angle), (radius * np.sin(angle))[: count // 2]]
    blocks = list(KeyedStream(KEY).normals(sum(counts), 2.5))
    assert [len(block) for block in blocks] == list(counts)
    np.testing.assert_allclose(np.concatenate(blocks), 2.5 * np.concatenate(expected), rtol=0, atol=1e-13)


def test_normal_numbers_are_normal():
    z = KeyedStream(KEY).normal(200_001)
    assert len(z) == 200_001
    assert stats.kstest(z, "norm").pvalue > 1e-3
    # Four standard errors of each moment of 200,000 normal numbers: 1, sqrt 2, sqrt 6, sqrt 24.
    error = 4 / np.sqrt(len(z))
    assert abs(z.mean()) < error
    assert abs(z.var() - 1) < error * np.sqrt(2)
    assert abs(stats.skew(z)) < error * np.sqrt(6)
    assert abs(stats.kurtosis(z)) < error * np.sqrt(24)
    # The two halves of a block come from the sine and the cosine of one angle.
    half = BLOCK // 2
    assert abs(np.corrcoef(z[:half], z[half : 2 * half])[0, 1]) < 0.025
    tails = (np.abs(z) > 4).sum()
    assert abs(tails - 200_001 * 2 * stats.norm.sf(4)) < 4 * np.sqrt(12.7)


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_any_number_of_normal_numbers(count):
    assert KeyedStream(KEY).normal(count).shape == (count,)


def test_keys_repeat_with_the_seed_and_differ_in_everything_else():
    asked = [
        SeededEntropy(seed, site).key(number, purpose)
        for seed in (0, 1)
        for site in ("site-0", "site-1")
        for number in (1, 2, 12)
        for purpose in ("noise", "poisson", "augment")
    ]
    assert all(len(key) == 32 for key in asked)
    assert len(set(asked)) == len(asked)
    assert SeededEntropy(1, "site-1").key(12, "augment") == asked[-1]


def test_two_sites_draw_unrelated_noise():
    one, two = (KeyedStream(SeededEntropy(0, f"site-{i}").key(1, "noise")).normal(50_000) for i in range(2))
    assert abs(np.corrcoef(one, two)[0, 1]) < 4 / np.sqrt(50_000)
    assert not np.intersect1d(one, two).size


def test_system_keys_never_repeat():
    source = SystemEntropy()
    assert len({source.key(1, "noise") for _ in range(1000)}) == 1000


@pytest.mark.parametrize("source", [SeededEntropy(0, "a"), SystemEntropy()])
def test_a_bound_key_is_drawn_once(source):
    bound = BoundEntropy(source, b"plan and weights")
    assert bound.key(1, "noise") == bound.key(1, "noise")
    assert len({bound.key(n, p) for n in (1, 2) for p in ("noise", "poisson")}) == 4
    assert len(bound.key(1, "noise")) == 32


def test_a_bound_key_depends_on_the_question_and_the_source():
    def key(seed, question):
        return BoundEntropy(SeededEntropy(seed, "a"), question).key(1, "noise")

    assert key(0, b"x") == key(0, b"x")
    assert len({key(0, b"x"), key(0, b"y"), key(1, b"x"), SeededEntropy(0, "a").key(1, "noise")}) == 4


def test_bound_system_keys_never_repeat():
    assert len({BoundEntropy(SystemEntropy(), b"x").key(1, "noise") for _ in range(100)}) == 100


def test_torch_generators_follow_the_key_and_leave_the_global_one():
    state = torch.get_rng_state()
    one, two = torch_generator(KEY), torch_generator(KEY)
    assert torch.equal(torch.rand(5, generator=one), torch.rand(5, generator=two))
    assert one.initial_seed() == int.from_bytes(KEY[:8], "little") >> 1
    assert torch_generator(b"\xff" * 32).initial_seed() == 2**63 - 1
    assert torch.equal(torch.get_rng_state(), state)
