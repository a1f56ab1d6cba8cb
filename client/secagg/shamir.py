"""Shamir's secret sharing (1979) over F_65537, for many secrets of 32 bytes at once.

A secret is 16 words of 16 bits, each the constant term of a polynomial of its own. A share at point x holds the 16
values, of 17 bits each: 32 bytes of lower halves and 2 bytes of upper bits. Numbers of the field are exact in float64,
and so are sums of up to 2^20 of their products, so that numpy's matrix product does the work.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from client.secagg.masks import keystream

PRIME = 65537
WORDS = 16
SECRET, SHARE = 2 * WORDS, 2 * WORDS + WORDS // 8
MOST = 1 << 20
"""Largest threshold: the products of that many pairs of field elements add up below 2^53."""

_FAIR = 2**32 // PRIME * PRIME
"""Words of 32 bits below this are spread evenly over the field."""


def split(secrets: Sequence[bytes], points: int, threshold: int, key: bytes) -> list[tuple[bytes, ...]]:
    """Divide secrets among the points 1 to ``points``: any ``threshold`` shares give them back, fewer tell nothing.

    Parameters
    ----------
    secrets : 32 bytes each.
    key : 32 random bytes, used for nothing else; the polynomials are drawn with it.

    Returns
    -------
    For every point one share of each secret, 34 bytes each.
    """
    assert 1 <= threshold <= points < PRIME and threshold <= MOST
    words = np.frombuffer(b"".join(secrets), "<u2")
    assert words.size == WORDS * len(secrets)
    drawn = _elements(key, (threshold - 1) * words.size).reshape(threshold - 1, words.size)
    values = _reduced(_powers(points, threshold) @ np.vstack([words.astype(np.float64), drawn]))
    packed = _packed(values.reshape(points, len(secrets), WORDS))
    return [tuple(share.tobytes() for share in row) for row in packed]


def combine(points: Sequence[int], shares: Sequence[Sequence[bytes]]) -> list[bytes]:
    """Return the secrets that shares make.

    Parameters
    ----------
    points : where the shares were taken, each once; as many as the threshold.
    shares : ``shares[i][k]`` is the share of secret k at ``points[i]``.

    Raises
    ------
    ValueError : something that is no share, a point that is none or comes twice, or values that make no secret.
    """
    if len(set(points)) != len(points) or not all(0 < point < PRIME for point in points):
        raise ValueError("points that are none, or one that comes twice")
    if len(shares) != len(points) or not points or len({len(row) for row in shares}) != 1:
        raise ValueError("not one row of shares a point")
    secrets = len(shares[0])
    if any(len(share) != SHARE for row in shares for share in row):
        raise ValueError("a share of another length")
    joined = b"".join(share for row in shares for share in row)
    values = _unpacked(np.frombuffer(joined, np.uint8).reshape(len(points), secrets, SHARE))
    found = _reduced(_lagrange(tuple(points)) @ values.reshape(len(points), -1).astype(np.float64))
    if found.size and found.max() > 0xFFFF:
        raise ValueError("values that make no secret")
    words = found.astype("<u2").reshape(secrets, WORDS)
    return [secret.tobytes() for secret in words]


def _reduced(values: NDArray[np.float64]) -> NDArray[np.int64]:
    return values.astype(np.int64) % PRIME


def _elements(key: bytes, count: int) -> NDArray[np.float64]:
    """Return ``count`` numbers drawn evenly from the field, by rejection."""
    stream, found = keystream(key), np.zeros(0, np.uint32)
    while len(found) < count:
        more = np.frombuffer(stream.update(bytes(4 * (count - len(found) + 4))), "<u4")
        found = np.concatenate([found, more[more < _FAIR]])
    return (found[:count] % PRIME).astype(np.float64)


@functools.lru_cache(maxsize=16)
def _powers(points: int, threshold: int) -> NDArray[np.float64]:
    """Return x^k for x from 1 to ``points`` and k from 0, modulo the prime."""
    x = np.arange(1, points + 1, dtype=np.int64)
    powers = np.ones((points, threshold), np.int64)
    for k in range(1, threshold):
        powers[:, k] = powers[:, k - 1] * x % PRIME
    return powers.astype(np.float64)


@functools.lru_cache(maxsize=64)
def _lagrange(points: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the factors that make the value at 0 of the values at ``points``."""
    x = np.array(points, np.int64)
    above, below = np.ones_like(x), np.ones_like(x)
    for i, point in enumerate(points):
        others = (point - x) % PRIME
        others[i] = 1
        below = below * others % PRIME
        factors = np.full_like(x, point)
        factors[i] = 1
        above = above * factors % PRIME
    inverse = np.array([pow(int(each), -1, PRIME) for each in below], np.int64)
    return (above * inverse % PRIME).astype(np.float64)


def _packed(values: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return elements (..., 16) as shares (..., 34)."""
    lower = np.ascontiguousarray(values & 0xFFFF).astype("<u2").view(np.uint8)
    upper = np.packbits((values >> 16).astype(np.uint8), axis=-1)
    return np.concatenate([lower, upper], axis=-1)


def _unpacked(shares: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return shares (..., 34) as elements (..., 16)."""
    lower = np.ascontiguousarray(shares[..., : 2 * WORDS]).view("<u2").astype(np.int64)
    upper = np.unpackbits(shares[..., 2 * WORDS :], axis=-1).astype(np.int64)
    if (lower[upper == 1] != 0).any():
        raise ValueError("a value outside the field")
    return lower + (upper << 16)
