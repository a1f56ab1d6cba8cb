"""A site's signing key, and the roster of everybody's public keys that a site has pinned."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from client.secagg.agreement import digest
from client.secagg.refusals import refuse
from client.strict import require
from fer_models.errors import ConfigError

KEY = 32
"""Bytes of a key, private or public (RFC 8032)."""

MOST_SITES = 1 << 16
LONGEST_NAME = 200

REMEMBERED = 4096
"""Good signatures that a roster remembers, so that a process checks each once."""


class Identity:
    """A site's Ed25519 key (RFC 8032).

    Parameters
    ----------
    private : 32 bytes, random and the site's alone.
    """

    def __init__(self, private: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(private)
        self.public = self._key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """Return a signature, 64 bytes."""
        return self._key.sign(message)


def has_signed(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether a signature is of the message and by that key; not either where one of them is malformed."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


class Roster:
    """Who takes part in a run, with their public keys; a site's id is its place in the order of the names.

    Parameters
    ----------
    keys : name -> public key, 32 bytes.

    Attributes
    ----------
    names : in their order.
    digest : 32 bytes.

    Raises
    ------
    ConfigError : no names or too many, a key that is none, or one of two sites.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        require(
            0 < len(keys) < MOST_SITES, f"{len(keys)} sites in a roster", "roster", "Give some thousands."
        )
        self.names = tuple(sorted(keys))
        for name in self.names:
            known = 0 < len(name) <= LONGEST_NAME and len(keys[name]) == KEY
            require(known, "a name or a public key that is none", f"roster, {name}", "Give 32 bytes.")
        self._raw = [keys[name] for name in self.names]
        self._ids = {public: i for i, public in enumerate(self._raw)}
        require(
            len(self._ids) == len(self._raw),
            "two sites with one key",
            "roster",
            "Let every site make its own key.",
        )
        self._keys = [Ed25519PublicKey.from_public_bytes(public) for public in self._raw]
        self._good: set[tuple[int, bytes, bytes]] = (
            set()
        )  # a simulation's sites share a roster, and check the same
        parts = (part for name in self.names for part in (name.encode(), keys[name]))
        self.digest = digest("fedfer roster", *parts)

    def __len__(self) -> int:
        return len(self.names)

    def site_of(self, identity: Identity) -> int:
        """Return the id of the site that signs with an identity.

        Raises
        ------
        SecureAggregationError : (unknown_site) the roster does not know its key.
        """
        if identity.public not in self._ids:
            raise refuse("unknown_site", "a site whose key is not in the roster")
        return self._ids[identity.public]

    def id_of(self, name: str) -> int:
        """Return the id of a site by its name.

        Raises
        ------
        SecureAggregationError : (unknown_site) the roster does not know it.
        """
        if name not in self.names:
            raise refuse("unknown_site", f"the site {name}, which is not in the roster")
        return self.names.index(name)

    def company(self, sites: Iterable[int]) -> bytes:
        """Return what some sites are known by together, 32 bytes: the same in any roster that has their keys."""
        return digest("fedfer company", *sorted(self._raw[site] for site in sites))

    def verify(self, site: int, signature: bytes, message: bytes) -> None:
        """Check a site's signature.

        Raises
        ------
        SecureAggregationError : (unknown_site, bad_signature) it is not that site's.
        """
        if not 0 <= site < len(self._keys):
            raise refuse("unknown_site", "a site that the roster does not know", site)
        if (site, signature, message) in self._good:
            return
        try:
            self._keys[site].verify(signature, message)
        except InvalidSignature as error:
            raise refuse("bad_signature", "a signature that is not the site's", site) from error
        if len(self._good) >= REMEMBERED:
            self._good.clear()
        self._good.add((site, bytes(signature), bytes(message)))

    def to_json(self) -> str:
        """Return the roster as a file holds it: name -> public key in hexadecimal."""
        return json.dumps(
            {name: key.hex() for name, key in zip(self.names, self._raw, strict=True)}, indent=1
        )

    @classmethod
    def from_json(cls, text: str) -> Roster:
        """Return the roster that :meth:`to_json` wrote.

        Raises
        ------
        ConfigError : it is none.
        """
        try:
            pairs = {str(name): bytes.fromhex(key) for name, key in json.loads(text).items()}
        except (ValueError, AttributeError, TypeError, RecursionError) as error:
            raise ConfigError(
                "a roster that is none",
                where="roster",
                cure="Give the file that lists every site's public key.",
            ) from error
        return cls(pairs)
