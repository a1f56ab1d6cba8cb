"""A coordinator is a folder; this is the only code that knows what lies in it.

::

    server.json          the coordinator's name, and where sites reach its server
    ca/ca.key, ca.crt    its certificate authority
    tls/server.key, .crt the server's certificate
    superexec.secret     by which the process that runs the coordinator's app proves itself to the SuperLink
    signing.pem          the key by which sites know what is the coordinator's
    sites.json           every site that was ever approved
    study.json           what every site is sent: address, authority and everybody's keys, signed
    roster.json          the public signing keys among that, to verify rounds with
    requests/SITE.json   what a site had asked
    audit.jsonl          who did what when
    state/               the SuperLink's database, and what each process writes

Only its owner may enter it.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from client.alone import locked
from client.audit_log import AuditLog
from client.audit_view import FILE
from client.certificates import certificate_fingerprint, read_certificate, require_issued, require_valid
from client.enrolment import Request
from client.identity import Identity
from client.keys import (
    make_folder,
    make_signing_key,
    read_private,
    read_signing_key,
    write_own,
    write_private,
)
from client.strict import parse
from client.study import Study
from fer_models.errors import ConfigError, IdentityError, RunFolderError
from server.authority import (
    general_name,
    make_authority,
    make_server_certificate,
    read_authority_key,
    require_pair,
)
from server.enrolled import Enrolled

PORT = 9443
"""Where sites reach the server, unless another port is asked for."""


@dataclass(frozen=True)
class _Facts:
    name: str
    hosts: tuple[str, ...]
    port: int
    version: int = 1


@dataclass(frozen=True)
class Coordinator:
    """The folder of one coordinator.

    Attributes
    ----------
    path : the folder.
    name : the coordinator's name.
    hosts : names and addresses by which sites reach the server; the first stands in what they are sent.
    port : of the server.
    """

    path: Path
    name: str
    hosts: tuple[str, ...]
    port: int

    @classmethod
    def make(
        cls, path: Path, name: str, hosts: Sequence[str], port: int, now: datetime.datetime
    ) -> Coordinator:
        """Make a new coordinator: authority, certificate and secret.

        Raises
        ------
        ConfigError : the folder holds something, or a host or the port is none.
        """
        hosts = tuple(dict.fromkeys(hosts))
        _require_hosts(hosts, port)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ConfigError(
                "the folder is not empty", where=str(path), cure="Give a new one; keys are never overwritten."
            )
        for folder in (path, path / "ca", path / "tls", path / "requests"):
            make_folder(folder)
            folder.chmod(0o700)
        made = cls(path, name, hosts, port)
        make_authority(*made.authority, name, now)
        root = certificate_fingerprint(read_certificate(made.authority[1]))
        made.log.write("founded", owner=name, fingerprint=root)
        made.renew(now)
        write_private(made.secret_path, secrets.token_bytes(32))
        make_signing_key(path / "signing.pem")
        made._keep(Enrolled(), made.study(Enrolled()))
        facts = _Facts(name, hosts, port)
        write_own(path / "server.json", json.dumps(asdict(facts), indent=1) + "\n")  # last
        return made

    @classmethod
    def open(cls, path: Path) -> Coordinator:
        """Return the coordinator of a folder.

        Raises
        ------
        ConfigError : it holds none.
        """
        try:
            facts = parse(_Facts, json.loads((path / "server.json").read_text()))
            if facts.version != 1:
                raise ValueError("another version")
            _require_hosts(facts.hosts, facts.port)
        except (OSError, ValueError, RecursionError, ConfigError) as error:
            raise ConfigError(
                "this folder holds no coordinator",
                where=str(path),
                cure="Make one with fedfer server init DIR hosts=NAME.",
            ) from error
        return cls(path, facts.name, facts.hosts, facts.port)

    @property
    def authority(self) -> tuple[Path, Path]:
        """Key and certificate of the authority."""
        return self.path / "ca" / "ca.key", self.path / "ca" / "ca.crt"

    @property
    def certificate(self) -> tuple[Path, Path]:
        """Key and certificate of the server."""
        return self.path / "tls" / "server.key", self.path / "tls" / "server.crt"

    @property
    def log(self) -> AuditLog:
        """Who did what when."""
        return AuditLog(self.path / FILE)

    @property
    def inner_port(self) -> int:
        """Where the SuperLink listens, on this machine alone."""
        return self.port + 1

    @property
    def state_path(self) -> Path:
        """The folder of what its processes remember and write."""
        return self.path / "state"

    @property
    def secret_path(self) -> Path:
        """The file of the secret of the SuperLink's helper processes."""
        return self.path / "superexec.secret"

    @property
    def address(self) -> str:
        """HOST:PORT that sites connect to."""
        host = self.hosts[0]
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    def renew(self, now: datetime.datetime) -> None:
        """Make the server's key and certificate anew."""
        # The SuperLink and the commands on this machine talk to each other by its own addresses.
        hosts = dict.fromkeys((*self.hosts, "localhost", "127.0.0.1"))
        make_server_certificate(self.authority, *self.certificate, tuple(hosts), now)
        made = read_certificate(self.certificate[1])
        until = _stamp(made.not_valid_after_utc)
        self.log.write("certificate_made", fingerprint=certificate_fingerprint(made), until=until)

    def check(self, now: datetime.datetime) -> None:
        """Look at the keys and certificates that the server needs.

        Raises
        ------
        IdentityError : the first that cannot be used.
        """
        root = read_certificate(self.authority[1])
        require_valid(self.authority[1], root, now)
        key, path = self.certificate
        certificate = read_certificate(path)
        require_pair(key, read_authority_key(key), certificate)
        require_issued(path, certificate, root)
        require_valid(path, certificate, now)
        self.identity()
        if len(read_private(self.secret_path)) < 32:
            raise IdentityError(
                "this secret is too short", where=str(self.secret_path), cure="Put 32 random bytes there."
            )

    def enrolled(self) -> Enrolled:
        """Return the list of sites.

        Raises
        ------
        IdentityError : it is damaged.
        """
        try:
            return Enrolled.of((self.path / "sites.json").read_text())
        except (OSError, ValueError, RecursionError) as error:
            raise IdentityError(
                "the list of sites is damaged",
                where=str(self.path / "sites.json"),
                cure="Put a copy back; without it nobody knows who was revoked.",
            ) from error

    def study(self, enrolled: Enrolled) -> Study:
        """Return what every site is sent, signed.

        Raises
        ------
        IdentityError : the signing key cannot be used.
        """
        keys = {each.site: each.signing_key for each in enrolled.active}
        authority = self.authority[1].read_text(encoding="ascii")
        unsigned = Study(enrolled.serial, "", self.address, authority, keys, "")
        return unsigned.signed(self.identity())

    def identity(self) -> Identity:
        """Return the key by which sites know what is the coordinator's.

        Raises
        ------
        IdentityError : it cannot be used.
        """
        return read_signing_key(self.path / "signing.pem")

    def approve(self, request: Request, now: datetime.datetime) -> None:
        """Let a site take part.

        Raises
        ------
        IdentityError : the request shares its name or a key with a site.
        """
        with self._alone():
            enrolled = self.enrolled().approve(request, _stamp(now))
            study = self.study(enrolled)  # before anything is said or changed
            self.log.write("site_approved", site=request.site, fingerprint=request.fingerprint)
            write_own(self.path / "requests" / f"{request.site}.json", request.text)
            self._keep(enrolled, study)

    def revoke(self, name: str, now: datetime.datetime) -> None:
        """Let a site take part no longer.

        Raises
        ------
        IdentityError : it does not take part.
        """
        with self._alone():
            enrolled = self.enrolled().revoke(name, _stamp(now))
            study = self.study(enrolled)
            self.log.write("site_revoked", site=name)
            self._keep(enrolled, study)

    def _keep(self, enrolled: Enrolled, study: Study) -> None:
        """Write the list, then what follows from it."""
        write_own(self.path / "sites.json", enrolled.text)
        write_own(self.path / "study.json", study.text)
        roster = enrolled.roster
        path = self.path / "roster.json"
        if roster is None:
            path.unlink(missing_ok=True)
        else:
            write_own(path, roster.to_json() + "\n")

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other commands from the list meanwhile."""
        try:
            with locked(self.path / ".lock", wait=True):
                yield
        except PermissionError as error:
            raise RunFolderError(
                f"cannot write: {error.strerror}", where=str(self.path), cure="Run as the folder's owner."
            ) from error


def _require_hosts(hosts: Sequence[str], port: int) -> None:
    for host in hosts:
        general_name(host)
    if not hosts:
        raise ConfigError(
            "no host", where="hosts", cure="Give the names or addresses by which sites reach the server."
        )
    if not 0 < port < 65535:
        raise ConfigError(f"port {port}", where="port", cure="Give 1 to 65534; the next one is used, too.")


def _stamp(now: datetime.datetime) -> str:
    return now.isoformat(timespec="seconds")
