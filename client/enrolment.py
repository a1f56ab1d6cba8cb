"""A site's request to be enrolled: its name and public keys, signed, with a fingerprint to compare by phone."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from client.identity import Identity, has_signed
from client.reading import read_record
from client.secagg.agreement import digest
from fer_models.errors import ConfigError, IdentityError

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
"""What a site may be called."""

LARGEST = 1 << 14
"""Bytes of a request; one has some hundreds."""


def require_name(name: str) -> str:
    """Return a site's name.

    Raises
    ------
    ConfigError : it is none.
    """
    if NAME.fullmatch(name) is None:
        raise ConfigError(
            f"{name!r} is no name of a site",
            where="--name",
            cure="Give up to 63 small letters, digits, dots, dashes and underscores.",
        )
    return name


def fingerprint(*parts: bytes) -> str:
    """Return 128 bits of a SHA-256 in groups of four hexadecimal digits, to be read out."""
    found = digest("fedfer fingerprint", *parts).hex()[:32]
    return " ".join(found[i : i + 4] for i in range(0, 32, 4))


@dataclass(frozen=True)
class Request:
    """What a site sends to be enrolled.

    Attributes
    ----------
    site : its name.
    signing_key : Ed25519 public key, hexadecimal.
    node_key : public key of its node, a line as OpenSSH writes it.
    signature : of all that by the signing key, hexadecimal.
    version : of this form.
    """

    site: str
    signing_key: str
    node_key: str
    signature: str
    version: int = 1

    @property
    def fingerprint(self) -> str:
        """What both sides compare: it stands for the name and both keys."""
        return fingerprint(*self._parts)

    @property
    def _parts(self) -> tuple[bytes, ...]:
        return self.site.encode(), bytes.fromhex(self.signing_key), self.node_key.encode()

    @property
    def text(self) -> str:
        """The request as a file holds it."""
        return json.dumps(asdict(self), indent=1) + "\n"

    def verify(self) -> None:
        """Refuse a request whose keys are none, or that its signing key has not signed.

        Raises
        ------
        IdentityError : it is damaged or forged.
        """
        try:
            public, signature = bytes.fromhex(self.signing_key), bytes.fromhex(self.signature)
            signed = has_signed(public, signature, digest("fedfer request", *self._parts))
            node = load_ssh_public_key(self.node_key.encode())
            good = signed and isinstance(node, ec.EllipticCurvePublicKey) and "\n" not in self.node_key
        except (ValueError, UnsupportedAlgorithm):
            good = False
        if not good or NAME.fullmatch(self.site) is None or self.version != 1:
            raise IdentityError(
                "this request is damaged: the signature does not fit its keys",
                where=f"request of {self.site!r}",
                cure="Ask the site to send the file of fedfer site enrol again.",
            )


def make_request(site: str, identity: Identity, node_key: str) -> Request:
    """Return a site's signed request."""
    unsigned = Request(require_name(site), identity.public.hex(), node_key, "")
    signature = identity.sign(digest("fedfer request", *unsigned._parts))
    return Request(site, unsigned.signing_key, node_key, signature.hex())


def read_request(path: Path) -> Request:
    """Return the verified request of a file.

    Raises
    ------
    IdentityError : it holds none.
    """
    found = read_record(
        Request, path, LARGEST, "this file holds no request", "Give the file that fedfer site enrol wrote."
    )
    found.verify()
    return found
