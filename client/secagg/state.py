"""What a site holds in one session; plain data, so that a simulated site can move between processes."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any


@dataclass
class State:
    """Everything a site holds in one session; what it needs no longer is empty again.

    Attributes
    ----------
    stage : how many exchanges have been answered, -1 after a complaint or when all is forgotten.
    offer : the offer as it came.
    seal_key, mask_key, seed : the secrets that the site drew.
    advert : what the site answered the offer with.
    session : the session's id.
    listed, members, survivors : ids of the sites that advertised, shared, and sent their vectors.
    seal_keys, mask_secrets : of each peer, the key that seals parcels and the secret that masks come from.
    held : owner -> its key's share and its seed's share.
    question : digest of what was asked.
    subject : digest of what the vector counts exactly, nothing where noise hides it; see :mod:`client.secagg.journal`.
    replies : exchange -> digest of the request, and the answer; nothing for a vector that is not kept.
    """

    stage: int = 0
    offer: bytes = b""
    seal_key: bytes = b""
    mask_key: bytes = b""
    seed: bytes = b""
    advert: bytes = b""
    session: bytes = b""
    listed: tuple[int, ...] = ()
    members: tuple[int, ...] = ()
    survivors: tuple[int, ...] = ()
    seal_keys: dict[int, bytes] = field(default_factory=dict)
    mask_secrets: dict[int, bytes] = field(default_factory=dict)
    held: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    question: bytes = b""
    subject: bytes = b""
    replies: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)

    def erase(self) -> None:
        """Forget every secret, as far as Python lets go of memory."""
        self.seal_key = self.mask_key = self.seed = b""
        self.seal_keys, self.mask_secrets, self.held = {}, {}, {}

    def to_bytes(self) -> bytes:
        """Return the state as JSON, without the masked vector: what was sent of it cannot be sent again."""
        held = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        held["replies"] = {
            k: (asked, b"" if k == "inbox" else sent) for k, (asked, sent) in self.replies.items()
        }
        return json.dumps({name: _plain(value) for name, value in held.items()}).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> State:
        """Return the state of :meth:`to_bytes`."""
        held, empty = json.loads(data), cls()
        return cls(**{name: _like(getattr(empty, name), name, value) for name, value in held.items()})


def _plain(value: Any) -> Any:
    """Return a value as JSON knows it: bytes in hexadecimal, keys as text."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _like(empty: Any, name: str, value: Any) -> Any:
    """Return a value of JSON as the kind that the field has."""
    if isinstance(empty, bytes):
        return bytes.fromhex(value)
    if isinstance(empty, tuple):
        return tuple(value)
    if not isinstance(empty, dict):
        return value
    keyed = {key if name == "replies" else int(key): item for key, item in value.items()}
    if name in ("held", "replies"):
        return {key: (bytes.fromhex(one), bytes.fromhex(other)) for key, (one, other) in keyed.items()}
    return {key: bytes.fromhex(item) for key, item in keyed.items()}
