"""Certificates: what other programs take them for, and every way in which one can be wrong."""

import contextlib
import datetime
import socket
import ssl
import subprocess
import threading

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from client.certificates import certificate_fingerprint, read_certificate, require_issued, require_valid
from fer_models.errors import ConfigError, IdentityError
from server.authority import (
    general_name,
    hosts_of,
    make_authority,
    make_server_certificate,
    read_authority_key,
    require_pair,
)

NOW = datetime.datetime.now(datetime.UTC)
HOSTS = ("localhost", "fl.example.org", "10.0.0.5", "2001:db8::1")


def make(folder, hosts=HOSTS, now=NOW):
    authority = folder / "ca.key", folder / "ca.crt"
    server = folder / "server.key", folder / "server.crt"
    make_authority(*authority, "study", now)
    make_server_certificate(authority, *server, hosts, now)
    return authority, server


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make(tmp_path_factory.mktemp("authority"))


def test_openssl_takes_the_chain_strictly(made):
    (_, root), (_, certificate) = made
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", root, certificate]
    assert subprocess.run(command, capture_output=True, check=True).stdout.endswith(b": OK\n")
    text = subprocess.run(
        ["openssl", "x509", "-in", certificate, "-noout", "-text"], capture_output=True, text=True, check=True
    ).stdout
    for words in ("secp384r1", "CA:FALSE", "TLS Web Server Authentication", "DNS:fl.example.org", "10.0.0.5"):
        assert words in text


def handshake(server, root, name):
    """The name that a client which trusts ``root`` alone finds at the other end of a real connection."""
    listening = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    listening.load_cert_chain(server[1], server[0])
    calling = ssl.create_default_context(cafile=root)
    ours, theirs = socket.socketpair()

    def answer():
        with theirs, contextlib.suppress(ssl.SSLError, ConnectionError):
            listening.wrap_socket(theirs, server_side=True).close()

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        with ours, calling.wrap_socket(ours, server_hostname=name) as connected:
            return connected.version()
    finally:
        ours.close()
        thread.join(5)


@pytest.mark.parametrize("name", HOSTS)
def test_a_client_connects_by_every_host(made, name):
    (_, root), server = made
    assert handshake(server, root, name) == "TLSv1.3"


def test_a_client_refuses_other_hosts_and_other_authorities(made, tmp_path):
    (_, root), server = made
    with pytest.raises(ssl.SSLCertVerificationError, match=r"fl\.example\.com"):
        handshake(server, root, "fl.example.com")
    (_, stranger), _ = make(tmp_path)
    with pytest.raises(
        ssl.SSLCertVerificationError, match=r"unable to get local issuer|self.signed|signature"
    ):
        handshake(server, stranger, "localhost")


def test_keys_are_their_owner_s_and_certificates_are_pairs(made):
    for key, certificate in made:
        assert key.stat().st_mode & 0o777 == 0o600
        require_pair(key, read_authority_key(key), read_certificate(certificate))
    with pytest.raises(IdentityError, match="not a pair"):
        require_pair(made[1][0], read_authority_key(made[0][0]), read_certificate(made[1][1]))
    assert hosts_of(read_certificate(made[1][1])) == HOSTS


def test_a_key_that_others_may_read_signs_nothing(tmp_path):
    authority, server = make(tmp_path)
    authority[0].chmod(0o640)
    with pytest.raises(IdentityError, match="mode 640"):
        make_server_certificate(authority, *server, HOSTS, NOW)


def test_times_are_held_against_the_clock(made):
    path = made[1][1]
    certificate = read_certificate(path)
    require_valid(path, certificate, NOW)
    require_valid(path, certificate, certificate.not_valid_before_utc)
    second = datetime.timedelta(seconds=1)
    with pytest.raises(IdentityError, match="begins at") as error:
        require_valid(path, certificate, certificate.not_valid_before_utc - second)
    assert "clock" in error.value.cure
    require_valid(path, certificate, certificate.not_valid_after_utc - second)
    with pytest.raises(IdentityError, match="ended at") as error:
        require_valid(path, certificate, certificate.not_valid_after_utc)
    assert "server renew" in error.value.cure


def test_an_authority_that_has_ended_signs_nothing(tmp_path):
    authority, server = make(tmp_path)
    with pytest.raises(IdentityError, match="ended at"):
        make_server_certificate(authority, *server, HOSTS, NOW + datetime.timedelta(days=3651))


def test_a_foreign_certificate_is_told_even_where_its_issuer_has_the_same_name(made, tmp_path):
    (_, root), (_, certificate) = made
    require_issued(certificate, read_certificate(certificate), read_certificate(root))
    _, (_, foreign) = make(tmp_path)
    assert read_certificate(foreign).issuer == read_certificate(root).subject
    with pytest.raises(IdentityError, match="another authority"):
        require_issued(foreign, read_certificate(foreign), read_certificate(root))
    assert certificate_fingerprint(read_certificate(foreign)) != certificate_fingerprint(
        read_certificate(certificate)
    )


def test_a_new_certificate_replaces_the_old_one(tmp_path):
    authority, server = make(tmp_path)
    before = read_certificate(server[1])
    make_server_certificate(authority, *server, ("localhost",), NOW)
    after = read_certificate(server[1])
    assert (before.serial_number, before.public_key()) != (after.serial_number, after.public_key())
    require_pair(server[0], read_authority_key(server[0]), after)
    assert {path.name for path in tmp_path.iterdir()} == {"ca.key", "ca.crt", "server.key", "server.crt"}


@pytest.mark.parametrize("content", [b"", b"no certificate", b"\xff" * 10])
def test_other_files_are_no_certificates_and_no_keys(content, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(IdentityError, match="no certificate"):
        read_certificate(path)
    with pytest.raises(IdentityError, match="no key"):
        read_authority_key(path)
    with pytest.raises(IdentityError, match="no certificate"):
        read_certificate(tmp_path / "gone")


@pytest.mark.parametrize(
    "host", ["", "a b", "-a.org", "a..org", "A.org", "a/b", "*.org", "a:1", "a" * 64, "ä.org"]
)
def test_what_is_no_host_is_refused(host):
    with pytest.raises(ConfigError, match="no host"):
        general_name(host)


@given(st.ip_addresses())
def test_every_address_is_named(address):
    found = general_name(str(address))
    assert isinstance(found, x509.IPAddress)
    assert found.value == address
