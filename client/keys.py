"""A site's private keys as files: for their owner's eyes only, or they are not used."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.identity import Identity
from fer_models.errors import IdentityError, RunFolderError

K = TypeVar("K")

PEM, OPENSSH = serialization.Encoding.PEM, serialization.Encoding.OpenSSH
PKCS8, SSH = serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.OpenSSH
BARE = serialization.NoEncryption()


def make_folder(path: Path) -> None:
    """Make a folder that only its owner may enter, where it is missing.

    Raises
    ------
    RunFolderError : it cannot be made.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(
            f"cannot make a folder: {error.strerror}", where=str(path), cure="Give one that you may write to."
        ) from error


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner may read, synced; one that is there already is never overwritten.

    Raises
    ------
    IdentityError : it is there.
    RunFolderError : it cannot be written.
    """
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(handle)
    except FileExistsError as error:
        raise IdentityError(
            "there is a key already", where=str(path), cure="Keep it: a new one would have to be enrolled."
        ) from error
    except OSError as error:
        path.unlink(missing_ok=True)
        raise _unwritable(path, error) from error


def write_own(path: Path, content: str | bytes) -> None:
    """Write a file so that it is there whole or not at all, for its owner's eyes.

    Raises
    ------
    RunFolderError : it cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)  # which may hold secrets, and fills what is full already
        raise _unwritable(path, error) from error


def sync_folder(path: Path) -> None:
    """Sync a folder, without which a new file's name may not outlive a loss of power."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _unwritable(path: Path, error: OSError) -> RunFolderError:
    what, cure = f"cannot write: {error.strerror}", "Free disk space, or give another folder."
    return RunFolderError(what, where=str(path), cure=cure)


def read_private(path: Path) -> bytes:
    """Return a private file's bytes.

    Raises
    ------
    IdentityError : it is missing, or others than its owner may read or write it.
    """
    try:
        with path.open("rb") as file:
            facts = os.fstat(file.fileno())
            if stat.S_IMODE(facts.st_mode) & 0o077:
                raise IdentityError(
                    f"others may use this key (mode {stat.S_IMODE(facts.st_mode):03o})",
                    where=str(path),
                    cure=f"Run chmod 600 {path}, and make new keys if others had access to this machine.",
                )
            if facts.st_uid != os.geteuid():
                raise IdentityError(
                    "this key belongs to another user", where=str(path), cure="Run as the user who made it."
                )
            return file.read()
    except OSError as error:
        raise IdentityError(
            f"a key cannot be read: {error.strerror}",
            where=str(path),
            cure="Put it back, or make new ones in another folder and enrol again.",
        ) from error


def read_key(path: Path, kind: type[K], load: Callable[..., object]) -> K:
    """Return the private key in a file.

    Parameters
    ----------
    kind : of key that it has to be.
    load : of cryptography, for the form of the file.

    Raises
    ------
    IdentityError : it cannot be used.
    """
    data = read_private(path)
    try:
        key = load(data, password=None)
        if isinstance(key, kind):
            return key
        raise ValueError("another kind of key")
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise IdentityError(
            "this file holds no key of that kind", where=str(path), cure="Put the right file back."
        ) from error


def make_signing_key(path: Path) -> Identity:
    """Make an Ed25519 key, which signs what the site sends, and keep it in a PEM file."""
    key = Ed25519PrivateKey.generate()
    write_private(path, key.private_bytes(PEM, PKCS8, BARE))
    return Identity(key.private_bytes_raw())


def read_signing_key(path: Path) -> Identity:
    """Return the key of :func:`make_signing_key`.

    Raises
    ------
    IdentityError : it cannot be used.
    """
    key = read_key(path, Ed25519PrivateKey, serialization.load_pem_private_key)
    return Identity(key.private_bytes_raw())


def make_node_key(path: Path) -> str:
    """Make an elliptic-curve key, by which a site signs its requests to the server, and return its public half.

    Flower takes OpenSSH files of a NIST curve.
    """
    key = ec.generate_private_key(ec.SECP384R1())
    write_private(path, key.private_bytes(PEM, SSH, BARE))
    return _public(key)


def read_node_key(path: Path) -> str:
    """Return the public half of the key of :func:`make_node_key`, as OpenSSH writes it.

    Raises
    ------
    IdentityError : it cannot be used.
    """
    return _public(read_key(path, ec.EllipticCurvePrivateKey, serialization.load_ssh_private_key))


def _public(key: ec.EllipticCurvePrivateKey) -> str:
    return key.public_key().public_bytes(OPENSSH, serialization.PublicFormat.OpenSSH).decode()
