"""Where a site's randomness comes from.

Noise and sampling that a privacy guarantee rests on come from AES-256 in counter mode: keyed by the operating
system in deployment, by a hash of (seed, site, round, purpose) in a simulation, so that a simulation repeats bit
for bit and two sites never draw the same noise. The order of batches and the augmentation are no part of any
guarantee without privacy; they come from torch generators that are seeded through the same hash.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

BLOCK = 1 << 16
"""Normal numbers that are drawn together; part of what a key stands for, as half of its words are angles."""


class Entropy(Protocol):
    """A source of 32-byte keys, one for every (round, purpose) of a site."""

    def key(self, round_number: int, purpose: str) -> bytes:
        """Return 32 bytes."""
        ...


class SystemEntropy:
    """Fresh keys from the operating system: what a deployed site uses."""

    def key(self, round_number: int, purpose: str) -> bytes:  # noqa: ARG002
        """Return 32 bytes that nobody can foresee; a key is never drawn twice."""
        return os.urandom(32)


class SeededEntropy:
    """Keys from a seed: what a simulated site uses, so that runs repeat."""

    def __init__(self, seed: int, site: str) -> None:
        self._prefix = f"fedfer simulation|{seed}|{site}|"

    def key(self, round_number: int, purpose: str) -> bytes:
        """Return the SHA-256 of (seed, site, round, purpose)."""
        return hashlib.sha256(f"{self._prefix}{round_number}|{purpose}".encode()).digest()


class BoundEntropy:
    """Keys of another source, bound to one question (a plan and weights) and each drawn once.

    A seeded source gives the same keys whenever a round is asked for; bound, a round that is repeated with other
    weights gets other noise, so that no two answers can be subtracted to take the noise off.
    """

    def __init__(self, source: Entropy, question: bytes) -> None:
        self._source, self._question = source, hashlib.sha256(question).digest()
        self._keys: dict[tuple[int, str], bytes] = {}

    def key(self, round_number: int, purpose: str) -> bytes:
        """Return 32 bytes, the same ones each time."""
        if (round_number, purpose) not in self._keys:
            drawn = b"fedfer question|" + self._question + self._source.key(round_number, purpose)
            self._keys[round_number, purpose] = hashlib.sha256(drawn).digest()
        return self._keys[round_number, purpose]


def torch_generator(key: bytes, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a torch generator seeded with the first 63 bits of ``key``; not for noise or sampling under DP."""
    generator = torch.Generator(device)
    return generator.manual_seed(int.from_bytes(key[:8], "little") >> 1)


class KeyedStream:
    """Uniform and normal numbers from AES-256-CTR under one key.

    Parameters
    ----------
    key : 32 bytes, used for this stream alone.
    """

    def __init__(self, key: bytes) -> None:
        self._encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()

    def words(self, count: int) -> NDArray[np.uint64]:
        """Return ``count`` uniform 64-bit words."""
        memory = bytearray(8 * count)
        self._encryptor.update_into(memory, memory)
        return np.frombuffer(memory, np.dtype("<u8"))

    def uniform(self, count: int) -> NDArray[np.float64]:
        """Return ``count`` numbers in the open interval (0, 1), multiples of 2^-52 shifted by half a step.

        With one bit more, half a step above the largest multiple would round to 1.
        """
        # 52 random bits behind the exponent of 1 are a number from 1 to below 2.
        bits = self.words(count)
        bits >>= np.uint64(12)
        bits |= np.uint64(0x3FF0_0000_0000_0000)
        numbers = bits.view(np.float64)
        numbers -= 1.0 - 2.0**-53
        return numbers

    def normal(self, count: int) -> NDArray[np.float64]:
        """Return ``count`` standard normal numbers; see :meth:`normals`."""
        return np.concatenate([np.zeros(0), *self.normals(count)])

    def normals(self, count: int, deviation: float = 1.0) -> Iterator[NDArray[np.float64]]:
        """Yield ``count`` normal numbers of mean 0, some thousands at a time, by Box and Muller's transform (1958).

        With t the tangent of half the angle, its cosine is 2 / (1 + t^2) - 1 and its sine 2 t / (1 + t^2): numpy works
        out tangents many at a time, and neither of the others. A block stays in the cache from word to number.

        Parameters
        ----------
        deviation : standard deviation.
        """
        for start in range(0, count, BLOCK):
            size = min(BLOCK, count - start)
            half = (size + 1) // 2
            numbers = self.uniform(2 * half)
            radius, tangent = numbers[:half], numbers[half:]
            np.log(radius, out=radius)
            radius *= -2.0 * deviation**2
            np.sqrt(radius, out=radius)
            tangent *= np.pi
            np.tan(tangent, out=tangent)
            share = tangent * tangent
            share += 1.0
            np.divide(radius, share, out=share)
            share *= 2.0
            tangent *= share
            np.subtract(share, radius, out=radius)
            yield numbers[:size]
