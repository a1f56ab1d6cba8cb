"""Certificates as a site and a coordinator read them: who signed one, and whether it is valid by this clock."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization

from client.enrolment import fingerprint
from fer_models.errors import IdentityError


def read_certificate(path: Path) -> x509.Certificate:
    """Return the certificate in a PEM file.

    Raises
    ------
    IdentityError : it holds none.
    """
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise IdentityError(
            "this file holds no certificate", where=str(path), cure="Put the right file back."
        ) from error


def require_valid(path: Path, certificate: x509.Certificate, now: datetime.datetime) -> None:
    """Refuse a certificate that has ended, or that has not begun by this machine's clock.

    Raises
    ------
    IdentityError : with both times.
    """
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < begins:
        raise IdentityError(
            f"this certificate begins at {_time(begins)}, and the clock of this machine says {_time(now)}",
            where=str(path),
            cure="Set the clock of this machine (NTP).",
        )
    if now >= ends:
        raise IdentityError(
            f"this certificate ended at {_time(ends)}, and the clock of this machine says {_time(now)}",
            where=str(path),
            cure="If the clock is right, the coordinator runs: fedfer server renew DIR.",
        )


def require_issued(path: Path, certificate: x509.Certificate, root: x509.Certificate) -> None:
    """Refuse a certificate that another authority has signed.

    Raises
    ------
    IdentityError : it is foreign.
    """
    try:
        certificate.verify_directly_issued_by(root)
    except (InvalidSignature, ValueError, TypeError) as error:
        raise IdentityError(
            "this certificate is of another authority",
            where=str(path),
            cure="Keep the files of one coordinator together, or run: fedfer server renew DIR.",
        ) from error


def certificate_fingerprint(certificate: x509.Certificate) -> str:
    """Return what two people compare of a certificate."""
    return fingerprint(certificate.public_bytes(serialization.Encoding.DER))


def _time(when: datetime.datetime) -> str:
    return when.strftime("%Y-%m-%d %H:%M UTC")
