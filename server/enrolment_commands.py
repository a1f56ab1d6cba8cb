"""What the coordinator types to found a federation and to let sites into it: ``fedfer server init`` and its kin."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from client.certificates import read_certificate
from client.enrolment import fingerprint, read_request
from client.strict import nearest
from client.words import read_words
from fer_models.errors import ConfigError, IdentityError
from server.authority import SOON
from server.coordinator import PORT, Coordinator

INIT = "Write: fedfer server init DIR hosts=NAME,ADDRESS [port=9443] [name=NAME]."
APPROVE = 'Write: fedfer server approve DIR REQUEST.json [--fingerprint "WHAT THE SITE READS OUT"].'


def init(words: Sequence[str]) -> int:
    """Found a coordinator."""
    path, given = folder_and_settings(words)
    port = given.get("port", str(PORT))
    if not port.isdecimal():
        raise ConfigError(f"port {port!r} is no number", where="port", cure=INIT)
    if "hosts" not in given:
        raise ConfigError("hosts is missing", where="command line", cure=INIT)
    hosts = [host.strip() for host in given["hosts"].split(",") if host.strip()]
    made = Coordinator.make(path, given.get("name", path.absolute().name), hosts, int(port), _now())
    _say(f"made {path}: authority, certificate and list of sites of {made.name}")
    _say(f"sites connect to {made.address}; the certificate is for {', '.join(made.hosts)}")
    _say(f"fingerprint of {made.name}: {_fingerprint(made)}")
    _say("Read it out when a site calls you before it joins.")
    _say(f"Move {made.authority[0]} to a safe place off this machine: only fedfer server renew needs it.")
    return 0


def approve(words: Sequence[str]) -> int:
    """Let a site take part, once both sides have compared the fingerprint."""
    found = read_words(words, APPROVE, valued=("--fingerprint",))
    if len(found.others) != 2:
        raise ConfigError("approve needs a folder and a request", where="command line", cure=APPROVE)
    coordinator, path = Coordinator.open(Path(found.others[0])), Path(found.others[1])
    request = read_request(path)
    coordinator.enrolled().approve(request, "")  # before anybody is called
    _say(f"site {request.site}")
    _say(f"fingerprint {request.fingerprint}")
    _compare(request.fingerprint, found.options.get("--fingerprint"), path)
    coordinator.approve(request, _now())
    _say(f"approved; send every site {coordinator.path / 'study.json'}")
    return 0


def _compare(shown: str, heard: str | None, path: Path) -> None:
    """Hold a fingerprint against what the site reads out.

    Raises
    ------
    IdentityError : they differ, or nobody has compared them.
    """
    if heard is None:
        if not sys.stdin.isatty():
            raise IdentityError(
                "nobody has compared the fingerprint",
                where=str(path),
                cure='Call the site, and write what it reads out as --fingerprint "...".',
            )
        _say(
            "Call the site on a number that you know, and let it read out the fingerprint of fedfer site enrol."
        )
        heard = input("What does it read out? ")
    if "".join(heard.lower().split()) != "".join(shown.split()):
        raise IdentityError(
            "this is not what the site reads out",
            where=str(path),
            cure="Do not approve it: somebody has changed the file on its way. Ask for it by another way.",
        )


def revoke(words: Sequence[str]) -> int:
    """Let a site take part no longer."""
    usage = "Write: fedfer server revoke DIR SITE."
    found = read_words(words, usage)
    if len(found.others) != 2:
        raise ConfigError("revoke needs a folder and a site", where="command line", cure=usage)
    coordinator = Coordinator.open(Path(found.others[0]))
    coordinator.revoke(found.others[1], _now())
    _say(f"revoked {found.others[1]}; its keys will never be taken again")
    _say(f"send every site {coordinator.path / 'study.json'}")
    return 0


def renew(words: Sequence[str]) -> int:
    """Make the server's certificate anew, by the same authority."""
    coordinator = _opened(words, "renew")
    coordinator.renew(_now())
    _say(f"made a new certificate, until {_end_of(coordinator):%Y-%m-%d}; sites need nothing new")
    return 0


def sites(words: Sequence[str]) -> int:
    """Print who takes part, and whether the certificates are good."""
    coordinator = _opened(words, "sites")
    enrolled = coordinator.enrolled()
    table = Table("site", "fingerprint", "approved", "revoked")
    for each in sorted(enrolled.sites, key=lambda site: (site.site, site.approved)):
        table.add_row(each.site, each.fingerprint, _day(each.approved), _day(each.revoked))
    console = Console(highlight=False)
    (console if console.is_terminal else Console(highlight=False, width=120)).print(table)
    _say(f"fingerprint of {coordinator.name}: {_fingerprint(coordinator)}")
    if (roster := enrolled.roster) is not None:
        _say(f"fingerprint of the {len(roster)} sites' keys: {fingerprint(roster.digest)}")
    coordinator.check(_now())
    end = _end_of(coordinator)
    soon = "; run fedfer server renew" if end - _now() < SOON else ""
    _say(f"keys and certificates are good; the server's ends {end:%Y-%m-%d}{soon}")
    return 0


def _opened(words: Sequence[str], command: str) -> Coordinator:
    usage = f"Write: fedfer server {command} DIR."
    return Coordinator.open(Path(read_words(words, usage).one(f"server {command} needs a folder", usage)))


def folder_and_settings(words: Sequence[str]) -> tuple[Path, dict[str, str]]:
    """Return the folder, and what is given as KEY=VALUE."""
    known = ("hosts", "port", "name")
    folders, given = [], {}
    for word in read_words(words, INIT).others:
        key, equals, value = word.partition("=")
        if not equals:
            folders.append(word)
        elif key not in known:
            raise ConfigError(f"unknown key {key!r}", where="command line", cure=nearest(key, known))
        else:
            given[key] = value
    if len(folders) != 1:
        raise ConfigError("server init needs a new folder", where="command line", cure=INIT)
    return Path(folders[0]), given


def _fingerprint(coordinator: Coordinator) -> str:
    return coordinator.study(coordinator.enrolled()).fingerprint


def _end_of(coordinator: Coordinator) -> datetime.datetime:
    return read_certificate(coordinator.certificate[1]).not_valid_after_utc


def _day(stamp: str | None) -> str:
    return stamp[:10] if stamp else "–"


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
