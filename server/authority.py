"""The coordinator's own certificate authority, and the certificate by which sites know its server.

Sites trust this one authority and no other, so no public authority, and nobody who fooled one, can stand in for the
server. Both keys are on the curve P-384; the forms follow RFC 5280.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from client.certificates import read_certificate, require_valid
from client.keys import BARE, PEM, PKCS8, read_key, write_own
from fer_models.errors import ConfigError, IdentityError

AUTHORITY_DAYS, SERVER_DAYS = 3650, 397
"""How long certificates are valid; public authorities give a server as long."""

EARLIER = datetime.timedelta(hours=1)
"""How much before its making a certificate begins, for sites whose clock is slow."""

SOON = datetime.timedelta(days=30)
"""Before the end of a certificate, from which on its renewal is asked for."""

HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")


def general_name(host: str) -> x509.GeneralName:
    """Return a host as a certificate names it: an address, or a name in small letters.

    Raises
    ------
    ConfigError : it is neither.
    """
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        if HOST.fullmatch(host) is None:
            raise ConfigError(
                f"{host!r} is no host",
                where="hosts",
                cure="Give the names or addresses by which sites reach the server: hosts=fl.example.org,10.0.0.5.",
            ) from None
        return x509.DNSName(host)


def make_authority(key: Path, certificate: Path, name: str, now: datetime.datetime) -> None:
    """Make an authority: a key for its owner's eyes alone, and a certificate for everybody.

    Parameters
    ----------
    name : of the coordinator; stands in the certificate.
    """
    private = ec.generate_private_key(ec.SECP384R1())
    subject = _named(f"{name} certificate authority")
    built = (
        _builder(subject, subject, private.public_key(), private.public_key(), now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(private, hashes.SHA384())
    )
    _keep(key, private, certificate, built)


def make_server_certificate(
    authority: tuple[Path, Path], key: Path, certificate: Path, hosts: Sequence[str], now: datetime.datetime
) -> None:
    """Make a server's key and certificate; those that are there are replaced.

    Parameters
    ----------
    authority : its key and its certificate.
    hosts : names and addresses by which the server is reached.

    Raises
    ------
    ConfigError : a host is none.
    IdentityError : the authority cannot be used.
    """
    names = [general_name(host) for host in hosts]
    signing, root = read_authority_key(authority[0]), read_certificate(authority[1])
    require_pair(authority[0], signing, root)
    require_valid(authority[1], root, now)
    private = ec.generate_private_key(ec.SECP384R1())
    built = (
        _builder(_named(hosts[0]), root.subject, private.public_key(), signing.public_key(), now, SERVER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(signing, hashes.SHA384())
    )
    _keep(key, private, certificate, built)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])  # the most that RFC 5280 allows


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    signer: ec.EllipticCurvePublicKey,
    now: datetime.datetime,
    days: int,
) -> x509.CertificateBuilder:
    """Return what both kinds of certificate have in common."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _keep(key: Path, private: ec.EllipticCurvePrivateKey, certificate: Path, built: x509.Certificate) -> None:
    """Write both files; a pair that a kill leaves half replaced is found by :func:`require_pair`."""
    for path, data in (
        (key, private.private_bytes(PEM, PKCS8, BARE)),
        (certificate, built.public_bytes(PEM)),
    ):
        write_own(path, data.decode())


def read_authority_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Return the private key of an authority or a server, from a PEM file that its owner alone may read.

    Raises
    ------
    IdentityError : it cannot be used.
    """
    return read_key(path, ec.EllipticCurvePrivateKey, serialization.load_pem_private_key)


def require_pair(path: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    """Refuse a key that is not its certificate's.

    Raises
    ------
    IdentityError : it is another's.
    """
    if key.public_key() != certificate.public_key():
        raise IdentityError(
            "this key and the certificate beside it are not a pair",
            where=str(path),
            cure="Run fedfer server renew; for the authority's own key, put both files of one authority back.",
        )


def hosts_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the names and addresses that a server's certificate is for."""
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return tuple(str(name.value) for name in found)
