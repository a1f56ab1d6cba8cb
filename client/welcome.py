"""What a coordinator sends an approved site: where its server is, and the authority that its certificate comes from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography import x509

from client.certificates import certificate_fingerprint
from client.strict import parse
from fer_models.errors import ConfigError, IdentityError

LARGEST = 1 << 14
"""Bytes of such a file; one has about a thousand."""


@dataclass(frozen=True)
class Welcome:
    """The answer to a request to be enrolled. It holds nothing secret.

    Attributes
    ----------
    coordinator : its name.
    site : whom it is for.
    address : HOST:PORT of the server.
    authority : certificate of the coordinator's authority, PEM.
    version : of this form.
    """

    coordinator: str
    site: str
    address: str
    authority: str
    version: int = 1

    @property
    def certificate(self) -> x509.Certificate:
        """The authority's certificate."""
        return x509.load_pem_x509_certificate(self.authority.encode())

    @property
    def fingerprint(self) -> str:
        """What both sides compare: it stands for the authority's certificate."""
        return certificate_fingerprint(self.certificate)

    @property
    def text(self) -> str:
        """The answer as a file holds it."""
        return json.dumps(asdict(self), indent=1) + "\n"


def read_welcome(path: Path) -> Welcome:
    """Return the answer in a file.

    Raises
    ------
    IdentityError : it holds none.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise ValueError("too long")
        found = parse(Welcome, json.loads(data))
        host, _, port = found.address.rpartition(":")
        if found.version != 1 or not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
            raise ValueError("no address")
        _ = found.certificate
    except (OSError, ValueError, RecursionError, ConfigError) as error:
        raise IdentityError(
            "this file holds no answer of a coordinator",
            where=str(path),
            cure="Give the file that fedfer server approve wrote for this site.",
        ) from error
    return found
