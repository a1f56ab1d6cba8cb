"""The key that an auditor signs with, and the one that others check against: Ed25519 (RFC 8032) in PEM files.

The private key is PKCS #8 (RFC 8410), as ``openssl pkey`` reads it; the public one beside it ends in ``.pub``.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from client.identity import KEY, Identity
from fer_models.errors import ConfigError
from server.run_folder import write_bytes, writing

LONGEST = 1 << 14
"""Bytes of a file that may be a key."""

MAKE = "Make one with: fedfer audit key FILE."


def make_key(path: Path) -> bytes:
    """Write a new private key that its owner alone can read, and the public key to ``path`` + ``.pub``.

    Returns
    -------
    The public key, 32 bytes.

    Raises
    ------
    ConfigError : the file is there already: a key that is written over is lost.
    RunFolderError : it cannot be written.
    """
    raw = secrets.token_bytes(KEY)
    private = Ed25519PrivateKey.from_private_bytes(raw)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    beside = public_beside(path)
    if os.path.lexists(path) or os.path.lexists(beside):
        taken = path if os.path.lexists(path) else beside
        raise ConfigError(
            "the file is there already", where=str(taken), cure="Give a new file for a new key."
        )
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(pem)
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    write_bytes(beside, public)
    return Identity(raw).public


def public_beside(path: Path) -> Path:
    """Return where the public key of a private one lies."""
    return path.with_name(path.name + ".pub")


def read_key(path: Path) -> Identity:
    """Return the key of a private file.

    Raises
    ------
    ConfigError : others than its owner can read or change it, or it is no Ed25519 key.
    """
    content, mode = _read(path)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        what = f"others can use this key (mode {stat.S_IMODE(mode):03o})"
        cure = f"If nobody has: chmod 600 {path}; else make a new one with: fedfer audit key FILE."
        raise ConfigError(what, where=str(path), cure=cure)
    try:
        key = serialization.load_pem_private_key(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError("this is no private key without a password", where=str(path), cure=MAKE) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError("this is a key of another kind than Ed25519", where=str(path), cure=MAKE)
    return Identity(key.private_bytes_raw())


def read_public(text: str) -> bytes:
    """Return the public key, 32 bytes, that ``key=PUBLIC`` gives: 64 hexadecimal digits, or a PEM file.

    Raises
    ------
    ConfigError : it is neither.
    """
    if re.fullmatch(f"[0-9a-fA-F]{{{2 * KEY}}}", text):
        return bytes.fromhex(text)
    cure = "Give key=FILE.pub or the 64 hexadecimal digits that fedfer audit key printed."
    try:
        key = serialization.load_pem_public_key(_read(Path(text))[0])
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError("this is no public key", where=text, cure=cure) from error
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError("this is a key of another kind than Ed25519", where=text, cure=cure)
    return key.public_bytes_raw()


def _read(path: Path) -> tuple[bytes, int]:
    """Return what a file holds, and its mode."""
    try:
        with path.open("rb") as file:
            return file.read(LONGEST), os.fstat(file.fileno()).st_mode
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(path), cure=MAKE) from error
