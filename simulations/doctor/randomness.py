"""What keys, masks and noise come from: the operating system's randomness, and generators against known answers."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from client.randomness import KeyedStream
from client.secagg.masks import add_masks
from simulations.doctor.finding import Finding

AREA = "randomness"
KEYS = 4096
"""Keys of 32 bytes that are drawn to look at."""

STREAM = bytes.fromhex(
    "dc95c078a2408989ad48a21492842087530f8afbc74536b9a963b4f1c4cb738bcea7403d4d606b6e074ec5d3baf39d18"
)
"""AES-256 under the key of zeros, counters 0 to 2: McGrew and Viega, The Galois/Counter Mode of Operation, test cases
13 and 14 (H, the tag of 13, the ciphertext of 14)."""

PRIVATE = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
PUBLIC = bytes.fromhex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
SECRET = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
"""X25519: RFC 7748, section 6.1, Alice's key, Bob's public key and their secret."""

BROKEN = (
    "Do not train or mask here: install cryptography and numpy anew with constraints.txt, and look again."
)


def look(draw: Callable[[int], bytes] = os.urandom) -> Iterator[Finding]:
    """Look at all sources of randomness.

    Parameters
    ----------
    draw : the operating system's randomness, so many bytes at a time.
    """
    yield of_system(draw)
    answers = {
        "AES-256 stream": KeyedStream(bytes(32)).words(6).tobytes() == STREAM,
        "normal noise": _noise_is_right(),
        "masks": _masks_are_right(),
        "X25519": _exchange(PRIVATE, PUBLIC) == SECRET,
    }
    wrong = [name for name, right in answers.items() if not right]
    if wrong:
        yield Finding(AREA, "error", f"other than the known answer: {', '.join(wrong)}", BROKEN)
    else:
        yield Finding(AREA, "ok", f"the known answers: {', '.join(answers)}")


def of_system(draw: Callable[[int], bytes]) -> Finding:
    """Look whether the operating system's generator is ready, never repeats and draws ones as often as zeros.

    Such tests find a generator that is stuck or stubbed out. None can show that one is unpredictable.
    """
    if hasattr(os, "getrandom"):
        try:
            os.getrandom(32, os.GRND_NONBLOCK)
        except BlockingIOError:
            cure = "Wait until the system has gathered randomness, or give a virtual machine a virtio-rng device."
            return Finding(AREA, "error", "the operating system's generator is not seeded yet", cure)
    keys = [draw(32) for _ in range(KEYS)]
    bits = np.unpackbits(np.frombuffer(b"".join(keys), np.uint8))
    off = abs(int(bits.sum()) - bits.size / 2) / math.sqrt(bits.size / 4)
    if len(set(keys)) < KEYS or off > 6:
        cure = (
            "Keys and noise would be foreseeable: do not use this machine before its owner has repaired it."
        )
        return Finding(AREA, "error", "the operating system's generator repeats itself, or is lopsided", cure)
    return Finding(AREA, "ok", f"the operating system's generator: {KEYS:,} keys, all different, bits even")


def _noise_is_right() -> bool:
    """Work three normal numbers out once more, one at a time, from the words behind them.

    Of a block of 2 n words the first n make radii, the others angles: sqrt(-2 ln u) cos(2 pi v), with half the angle's
    tangent in place of its cosine, whose tangent pi v is of the same numbers.
    """
    words = [int(word) for word in KeyedStream(bytes(32)).words(6)]
    uniform = [((word >> 12) + 0.5) / 2.0**52 for word in words]
    radii = [math.sqrt(-2 * math.log(each)) for each in uniform[:3]]
    angles = [2 * math.pi * each for each in uniform[3:]]
    pairs = list(zip(radii, angles, strict=True))
    expected = [r * math.cos(a) for r, a in pairs] + [r * math.sin(a) for r, a in pairs]
    return bool(
        np.allclose(np.sort(KeyedStream(bytes(32)).normal(6)), np.sort(expected), rtol=1e-9, atol=1e-12)
    )


def _masks_are_right() -> bool:
    body = bytearray(len(STREAM))
    add_masks(body, 2, [bytes(32)], [1])
    masked = bytes(body)
    add_masks(body, 2, [bytes(32)], [-1])
    # The stream covers the words of 64 bits first; those of 32 bits take what follows.
    return masked == STREAM and not any(body)


def _exchange(private: bytes, public: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))
