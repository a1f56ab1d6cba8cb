"""What a coordinator hands to every site of a study: where it is, how to know it, and who else takes part.

One file for all sites, signed with the coordinator's key. A site pins that key when it joins, after both have compared
the fingerprint, and from then on takes newer files of the same coordinator alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from client.certificates import require_valid
from client.enrolment import fingerprint
from client.identity import Identity, Roster, has_signed
from client.reading import read_record
from client.secagg.agreement import digest
from fer_models.errors import ConfigError, IdentityError

LARGEST = 1 << 24
"""Bytes of a study's file; a site adds about 100."""


@dataclass(frozen=True)
class Study:
    """Where a coordinator is, how to know it, and who takes part.

    Attributes
    ----------
    serial : grows with every change of the rest.
    coordinator : its Ed25519 public key, hexadecimal.
    address : host and port that the sites connect to.
    ca : the certificate, PEM, that signed the one of that host.
    sites : name -> Ed25519 public key, hexadecimal.
    signature : of all that by the coordinator's key, hexadecimal.
    version : of this form.
    """

    serial: int
    coordinator: str
    address: str
    ca: str
    sites: Mapping[str, str]
    signature: str
    version: int = 1

    @property
    def fingerprint(self) -> str:
        """What a site compares with the coordinator: it stands for its key."""
        return fingerprint(bytes.fromhex(self.coordinator))

    @property
    def roster(self) -> Roster:
        """Everybody's public keys."""
        return Roster({name: bytes.fromhex(key) for name, key in self.sites.items()})

    @property
    def text(self) -> str:
        """The study as a file holds it."""
        return json.dumps(asdict(self), indent=1) + "\n"

    def _message(self) -> bytes:
        given = asdict(replace(self, signature=""))
        return digest("fedfer study", json.dumps(given, sort_keys=True).encode())

    def signed(self, identity: Identity) -> Study:
        """Return the study with the coordinator's signature."""
        unsigned = replace(self, coordinator=identity.public.hex(), signature="")
        return replace(unsigned, signature=identity.sign(unsigned._message()).hex())

    def verify(self) -> None:
        """Refuse a study that its coordinator has not signed, or whose certificate is none or out of date.

        Raises
        ------
        IdentityError : what is wrong.
        """
        try:
            public, signature = bytes.fromhex(self.coordinator), bytes.fromhex(self.signature)
            signed = has_signed(public, signature, self._message())
            good = signed and self.version == 1 and (not self.sites or len(self.roster) > 0)
        except (ValueError, ConfigError):
            good = False
        if not good:
            raise _damaged()
        try:
            authority = x509.load_pem_x509_certificate(self.ca.encode())
        except ValueError as error:
            raise _damaged() from error
        require_valid(Path("study.json"), authority, datetime.now(UTC))


def _damaged() -> IdentityError:
    return IdentityError(
        "this study is damaged: the signature does not fit its key",
        where="study.json",
        cure="Ask the coordinator to send it again.",
    )


def read_study(path: Path) -> Study:
    """Return the verified study of a file.

    Raises
    ------
    IdentityError : it holds none.
    """
    found = read_record(
        Study, path, LARGEST, "this file holds no study", "Give the study.json that the coordinator sent."
    )
    found.verify()
    return found


def require_successor(new: Study, old: Study | None, confirmed: str | None) -> None:
    """Refuse a study of a coordinator that the site does not know, or an older one of the one that it knows.

    Parameters
    ----------
    old : what the site has joined, None where it has joined nothing.
    confirmed : the fingerprint that the coordinator read out, None where nobody did.

    Raises
    ------
    IdentityError : who it is from is not certain, or it is older.
    """
    if confirmed is not None and confirmed.split() != new.fingerprint.split():
        raise IdentityError(
            "this is not the coordinator that read the fingerprint out",
            where=new.fingerprint,
            cure="Call the coordinator at a number that you know, and compare again; do not join meanwhile.",
        )
    if old is not None and old.coordinator != new.coordinator:
        raise IdentityError(
            "this is another coordinator than the one that this site has joined",
            where=new.fingerprint,
            cure="A site takes part in one study; make another for another coordinator.",
        )
    if old is None and confirmed is None:
        raise IdentityError(
            f"nobody has compared the coordinator's fingerprint yet: {new.fingerprint}",
            where="--fingerprint",
            cure="Call the coordinator, and join with --fingerprint and what they read out.",
        )
    if old is not None and new.serial < old.serial:
        raise IdentityError(
            f"this study is older than the one that the site has joined, {new.serial} before {old.serial}",
            where="study, serial",
            cure="Ask the coordinator for the newest file.",
        )
    if old is not None and new.serial == old.serial and new != old:
        raise IdentityError(
            f"this is another study than the one that the site has joined, and both have the serial {new.serial}",
            where="study, serial",
            cure="Ask the coordinator which is the newest: each change gives a study a number of its own.",
        )
