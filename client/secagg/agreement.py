"""Keys between two sites: X25519 (RFC 7748), HKDF-SHA-256 (RFC 5869), AES-256-GCM; and digests that tell of what."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from client.secagg.refusals import refuse

NONCE = 12
"""Bytes of a nonce of AES-GCM."""


def digest(tag: str, *parts: bytes) -> bytes:
    """Return the SHA-256 of a tag and parts, each behind its length, so that no two lists of parts are one text."""
    found = hashlib.sha256()
    for part in (tag.encode(), *parts):
        found.update(len(part).to_bytes(8, "little"))
        found.update(part)
    return found.digest()


def public_key(private: bytes) -> bytes:
    """Return the public X25519 key, 32 bytes, of 32 random bytes."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def exchanger(private: bytes) -> Callable[[bytes], bytes]:
    """Return the function that makes, of another site's public key, the secret of 32 bytes that both share.

    The secret is to be put through :func:`derive`. A private key costs as much to take up as a secret to work out,
    so that a site takes it up once for all its peers.

    Raises
    ------
    SecureAggregationError : (bad_key) a key of another length, or one of low order, whose secret anybody knows.
    """
    try:
        key = X25519PrivateKey.from_private_bytes(private)
    except ValueError as error:
        raise refuse("bad_key", "a private key of another length") from error

    def secret(public: bytes) -> bytes:
        try:
            return key.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError as error:
            raise refuse("bad_key", "a public key that gives no secret") from error

    return secret


def derive(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """Return a key of 32 bytes for one use, named by ``info``."""
    return HKDF(SHA256(), 32, salt, info).derive(secret)


def seal(key: bytes, low: bool, data: bytes, label: bytes) -> bytes:
    """Return ``data`` sealed with AES-256-GCM, 16 bytes longer; ``label`` is authenticated with it.

    A key seals once in each direction, so the direction makes the nonce.

    Parameters
    ----------
    low : whether the sender has the smaller id.
    """
    return AESGCM(key).encrypt(_nonce(low), data, label)


def open_sealed(key: bytes, low: bool, box: bytes, label: bytes) -> bytes | None:
    """Return what was sealed, None where box, label, direction or key are others."""
    try:
        return AESGCM(key).decrypt(_nonce(low), box, label)
    except (InvalidTag, ValueError):
        return None


def _nonce(low: bool) -> bytes:
    return bytes(NONCE - 1) + bytes([low])
