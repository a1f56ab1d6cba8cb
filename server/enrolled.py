"""Which sites a coordinator has approved, and which of them it has revoked since; no files, no clock."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

from client.enrolment import Request
from client.identity import Roster
from client.strict import nearest, parse
from fer_models.errors import ConfigError, IdentityError


@dataclass(frozen=True)
class Site:
    """A site that was approved once.

    Attributes
    ----------
    site, signing_key, node_key : as in its request.
    fingerprint : that was compared.
    approved, revoked : when, in UTC; None while it takes part.
    """

    site: str
    signing_key: str
    node_key: str
    fingerprint: str
    approved: str
    revoked: str | None = None


@dataclass(frozen=True)
class Enrolled:
    """All sites that were ever approved, the oldest first. A key that was revoked never comes back.

    Example::

        enrolled = Enrolled().approve(request, "2026-01-01T00:00:00+00:00")
        enrolled.roster.names  # ("clinic-a",)
        enrolled.revoke("clinic-a", "2026-02-01T00:00:00+00:00").active  # ()
    """

    sites: tuple[Site, ...] = ()

    @property
    def active(self) -> tuple[Site, ...]:
        """Those that take part, in the order of their names."""
        return tuple(sorted((s for s in self.sites if s.revoked is None), key=lambda each: each.site))

    @property
    def roster(self) -> Roster | None:
        """The public signing keys of those that take part, None while there are none."""
        keys = {each.site: bytes.fromhex(each.signing_key) for each in self.active}
        return Roster(keys) if keys else None

    @property
    def serial(self) -> int:
        """How often the list was changed, from 1."""
        return 1 + len(self.sites) + sum(each.revoked is not None for each in self.sites)

    def approve(self, request: Request, now: str) -> Enrolled:
        """Return the list with one more site.

        Parameters
        ----------
        request : verified.

        Raises
        ------
        IdentityError : its name or one of its keys is there already, or was revoked.
        """
        for each in self.sites:
            _require_new(each, request)
        site = Site(
            request.site, request.signing_key.lower(), _line(request.node_key), request.fingerprint, now
        )
        return Enrolled((*self.sites, site))

    def revoke(self, name: str, now: str) -> Enrolled:
        """Return the list where a site no longer takes part.

        Raises
        ------
        IdentityError : no such site takes part.
        """
        names = [each.site for each in self.active]
        if name not in names:
            cure = nearest(name, names) if names else "No site takes part."
            raise IdentityError(f"no site {name!r} takes part", where="revoke", cure=cure)
        return Enrolled(
            tuple(
                replace(each, revoked=now) if each.site == name and each.revoked is None else each
                for each in self.sites
            )
        )

    @property
    def text(self) -> str:
        """The list as a file holds it."""
        return json.dumps({"version": 1, "sites": [asdict(each) for each in self.sites]}, indent=1) + "\n"

    @classmethod
    def of(cls, text: str) -> Enrolled:
        """Return the list that :attr:`text` holds.

        Raises
        ------
        ValueError : it is none.
        """
        held = json.loads(text)
        try:
            if held["version"] != 1:
                raise ValueError("another version")
            found = cls(tuple(parse(Site, each) for each in held["sites"]))
            _ = found.roster
        except (TypeError, KeyError, ConfigError) as error:
            raise ValueError("no list of sites") from error
        return found


def _require_new(known: Site, request: Request) -> None:
    """Refuse a request that shares its name or a key with a site."""
    same_keys = known.signing_key == request.signing_key.lower() or known.node_key == _line(request.node_key)
    where = f"request of {request.site!r}"
    if known.revoked is not None:
        if same_keys:
            raise IdentityError(
                f"these are keys of {known.site}, revoked at {known.revoked}",
                where=where,
                cure="Let the site make new keys with fedfer site init in a new folder.",
            )
        return
    if known.fingerprint == request.fingerprint:
        raise IdentityError(
            f"{known.site} is approved already, since {known.approved}",
            where=where,
            cure="Nothing is to be done.",
        )
    if same_keys:
        raise IdentityError(
            f"these are keys of {known.site}",
            where=where,
            cure="Let every site make keys of its own with fedfer site init.",
        )
    if known.site == request.site:
        raise IdentityError(
            f"a site {known.site} with other keys takes part",
            where=where,
            cure="Ask who sent this. If that site lost its keys, revoke it first: fedfer server revoke DIR NAME.",
        )


def _line(node_key: str) -> str:
    """Return an OpenSSH key without its comment."""
    return " ".join(node_key.split()[:2])
