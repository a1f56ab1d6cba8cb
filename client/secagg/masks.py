"""Masks: one keystream of AES-256 in counter mode a key, added to a vector in place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import NDArray

CHUNK = 1 << 18
"""Bytes masked at a time with all keys, so that vector and keystream stay in the processor's cache."""

_ZEROS = bytes(CHUNK)


def keystream(key: bytes) -> CipherContext:
    """Return AES-256-CTR (SP 800-38A) from counter 0; each key makes one stream only."""
    return Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()


def add_masks(
    body: memoryview | bytearray, words64: int, keys: Sequence[bytes], signs: Sequence[int]
) -> None:
    """Add the masks of some keys to a vector in place, or subtract them.

    Parameters
    ----------
    body : ``words64`` numbers of 64 bits, then numbers of 32 bits, all little-endian; each part counts modulo its own
        power of two.
    keys : 32 bytes each; the stream of a key covers the whole vector.
    signs : 1 adds, -1 subtracts.
    """
    streams = [keystream(key) for key in keys]
    buffer = bytearray(CHUNK)
    wide = np.frombuffer(body, "<u8", words64)
    _add(wide, buffer, streams, signs)
    _add(np.frombuffer(body, "<u4", offset=8 * words64), buffer, streams, signs)


def _add(
    part: NDArray[np.unsignedinteger],
    buffer: bytearray,
    streams: Sequence[CipherContext],
    signs: Sequence[int],
) -> None:
    size = CHUNK // part.itemsize
    for start in range(0, len(part), size):
        chunk = part[start : start + size]
        mask = np.frombuffer(buffer, part.dtype, len(chunk))
        zeros = memoryview(_ZEROS)[: chunk.nbytes]
        target = memoryview(buffer)[: chunk.nbytes]
        for stream, sign in zip(streams, signs, strict=True):
            stream.update_into(zeros, target)
            (np.add if sign > 0 else np.subtract)(chunk, mask, out=chunk)
