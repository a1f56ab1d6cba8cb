"""The parts that messages of secure aggregation are made of, and how they are taken apart.

Numbers are little-endian. Every message starts with 12 bytes: ``FFSA`` and a version, the kind, the session's number,
the sender's id.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from enum import IntEnum
from itertools import pairwise
from typing import Any

from client.secagg.refusals import refuse

MAGIC = b"FFSA\x01"
COORDINATOR = 0xFFFF
"""The coordinator's id as a sender; a site's is its place in the roster."""

MOST_SITES = 4096
"""Sites that a session can name."""

HEAD = struct.Struct("<5sBIH")
COUNT = struct.Struct("<H")


class Kind(IntEnum):
    """The kind of a message."""

    OFFER = 1
    ADVERT = 2
    ROLL = 3
    SHARES = 4
    INBOX = 5
    MASKED = 6
    COMPLAINT = 7
    SURVIVORS = 8
    CONSENT = 9
    CONSENTS = 10
    REVEAL = 11


KINDS = frozenset(map(int, Kind))


def kind_of(data: bytes) -> Kind:
    """Return the kind of a message by its first bytes; the rest may still be malformed."""
    if len(data) < HEAD.size or data[:5] != MAGIC or data[5] not in KINDS:
        raise refuse("malformed", "bytes that are no message of secure aggregation")
    return Kind(data[5])


def session_of(data: bytes) -> int:
    """Return the number of the session that a message names."""
    kind_of(data)
    return HEAD.unpack_from(data)[2]


class Reader:
    """Takes a message apart from front to back."""

    def __init__(self, data: bytes, kind: Kind, most: int, *, site: bool) -> None:
        if len(data) > HEAD.size + most:
            raise refuse("oversize", f"a message of {len(data)} bytes where {HEAD.size + most} are the most")
        if kind_of(data) is not kind:
            raise refuse("out_of_order", f"a message of another kind than {kind.name.lower()}")
        _, _, self.session, self.sender = HEAD.unpack_from(data)
        if (self.sender != COORDINATOR) is not site:
            raise refuse("malformed", "a sender that does not send such messages")
        self._data, self._at = memoryview(data), HEAD.size

    def fields(self, layout: struct.Struct) -> tuple[Any, ...]:
        """Return the fields of one part of fixed size."""
        return layout.unpack(self.take(layout.size))

    def take(self, size: int) -> memoryview:
        """Return the next ``size`` bytes."""
        end = self._at + size
        if end > len(self._data):
            raise refuse("malformed", "a message that ends too early")
        part, self._at = self._data[self._at : end], end
        return part

    def entries(self, layout: struct.Struct) -> list[tuple[Any, ...]]:
        """Return a list of parts, each of which begins with a site's id; ids must increase."""
        (count,) = self.fields(COUNT)
        if count > MOST_SITES:
            raise refuse("oversize", f"a list of {count} sites where {MOST_SITES} are the most")
        found = list(layout.iter_unpack(self.take(count * layout.size)))
        if any(one[0] >= other[0] for one, other in pairwise(found)) or (
            found and found[-1][0] >= COORDINATOR
        ):
            raise refuse("malformed", "a list of sites that is not in order")
        return found

    def ids(self) -> tuple[int, ...]:
        """Return a list of sites' ids, which must increase."""
        return tuple(entry[0] for entry in self.entries(COUNT))

    def end(self) -> None:
        """Refuse bytes behind the message."""
        if self._at != len(self._data):
            raise refuse("malformed", "a message with bytes behind its end")


def head(kind: Kind, session: int, sender: int = COORDINATOR) -> bytes:
    """Return what a message starts with."""
    return HEAD.pack(MAGIC, kind, session, sender)


def entries(layout: struct.Struct, parts: Iterable[tuple[Any, ...]]) -> bytes:
    """Return a list of parts of one size as it travels: how many, then each."""
    packed = [layout.pack(*part) for part in parts]
    return b"".join((COUNT.pack(len(packed)), *packed))


def ids_to_bytes(ids: Iterable[int]) -> bytes:
    """Return a list of sites' ids as it travels: how many, then each in two bytes."""
    listed = tuple(ids)
    return struct.pack(f"<{len(listed) + 1}H", len(listed), *listed)
