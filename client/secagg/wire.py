"""What travels in secure aggregation: every message as bytes, and back.

A message has one encoding and no other: whatever parses encodes to the same bytes again, and everything else is
refused. Numbers are little-endian, lists of sites are in increasing order of their ids, lengths are bounded before
anything is read.

:mod:`client.secagg.codec` has the parts.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar

from client.secagg.codec import HEAD, MOST_SITES, Kind, Reader, entries, head, ids_to_bytes
from client.secagg.refusals import refuse
from client.secagg.terms import Profile

LARGEST_BODY = 1 << 30
"""Bytes that a masked vector can have: 268 million parameters."""

PURPOSES = ("train", "evaluate", "label_counts", "moments", "statistics")
PROFILES: tuple[Profile, ...] = ("malicious", "semi-honest")
SUITE = 1
"""X25519, HKDF and SHA-256, AES-256 in counter and Galois mode, Ed25519, Shamir over F_65537."""

HASH, KEY, SIGNATURE = 32, 32, 64
SHARE = 34
SEALED = 2 * SHARE + 16
"""Bytes of two shares as they are sealed, with the tag."""

_OFFER = struct.Struct("<HBBI32s32s32s32sIIHHH32s")
_ADVERT = struct.Struct("<32s32s32s64s")
_ENTRY = struct.Struct("<H32s32s32s64s")
_PARCEL = struct.Struct(f"<H{SEALED}s32s32s")
_OWN = struct.Struct("<32s32s")
_MASKED = struct.Struct("<32s32s64sI")
_SIGNED = struct.Struct("<H64s")
_SHARED = struct.Struct(f"<H{SHARE}s")


@dataclass(frozen=True, slots=True)
class Offer:
    """What a session is about: the coordinator sends it, and every site compares it with what it works out itself.

    Attributes
    ----------
    session : its number, increasing in a run.
    run : SHA-256 of the run's name.
    purpose : what the sum is for, of :data:`PURPOSES`.
    profile : "malicious", or "semi-honest" where the coordinator is trusted to follow the protocol.
    plan, roster, layout : digests of the plan, the roster, and of what stands where in the vector.
    words64, words32 : numbers of 64 and of 32 bits that the vector holds.
    invited : ids of the sites.
    threshold : how many sites it takes to unmask.
    least : how many sites a sum has at least.
    degree : neighbours of a site; 0 where everybody is everybody's.
    seed : what the graph is drawn from, zeros where it is complete.
    """

    session: int
    run: bytes
    purpose: str
    round_number: int
    profile: Profile
    plan: bytes
    roster: bytes
    layout: bytes
    words64: int
    words32: int
    invited: tuple[int, ...]
    threshold: int
    least: int
    degree: int = 0
    seed: bytes = bytes(32)

    MOST: ClassVar[int] = _OFFER.size + 2 + 2 * MOST_SITES

    @property
    def nbytes(self) -> int:
        """Bytes of the vector."""
        return 8 * self.words64 + 4 * self.words32

    def encode(self) -> bytes:
        """Return the message."""
        purpose, profile = PURPOSES.index(self.purpose), PROFILES.index(self.profile)
        fixed = _OFFER.pack(
            SUITE, purpose, profile, self.round_number, self.run, self.plan, self.roster, self.layout,
            self.words64, self.words32, self.threshold, self.least, self.degree, self.seed,
        )  # fmt: skip
        return head(Kind.OFFER, self.session) + fixed + ids_to_bytes(self.invited)

    @classmethod
    def parse(cls, data: bytes) -> Offer:
        """Return the offer of a message."""
        reader = Reader(data, Kind.OFFER, cls.MOST, site=False)
        suite, purpose, profile, number, run, plan, roster, layout, *rest = reader.fields(_OFFER)
        words64, words32, threshold, least, degree, seed = rest
        invited = reader.ids()
        reader.end()
        if suite != SUITE or purpose >= len(PURPOSES) or profile >= len(PROFILES):
            raise refuse("malformed", "an offer of another suite, purpose or profile")
        if degree % 2 or (not degree and any(seed)) or (degree and PROFILES[profile] != "semi-honest"):
            raise refuse("malformed", "an offer with a graph that cannot be")
        if not 1 <= least <= len(invited) or not 1 <= threshold <= len(invited):
            raise refuse("malformed", "an offer with a threshold that cannot be met")
        offer = cls(
            reader.session, run, PURPOSES[purpose], number, PROFILES[profile], plan, roster, layout,
            words64, words32, invited, threshold, least, degree, seed,
        )  # fmt: skip
        if not 0 < offer.nbytes <= LARGEST_BODY:
            raise refuse("oversize", f"an offer of vectors of {offer.nbytes} bytes")
        return offer


@dataclass(frozen=True, slots=True)
class Advert:
    """A site's public keys for one session, and the commitment to the seed of its self mask, signed."""

    session: int
    site: int
    seal_key: bytes
    mask_key: bytes
    commitment: bytes
    signature: bytes

    def encode(self) -> bytes:
        """Return the message."""
        body = _ADVERT.pack(self.seal_key, self.mask_key, self.commitment, self.signature)
        return head(Kind.ADVERT, self.session, self.site) + body

    @classmethod
    def parse(cls, data: bytes) -> Advert:
        """Return the advert of a message."""
        reader = Reader(data, Kind.ADVERT, _ADVERT.size, site=True)
        fields = reader.fields(_ADVERT)
        reader.end()
        return cls(reader.session, reader.sender, *fields)


@dataclass(frozen=True, slots=True)
class Roll:
    """The adverts of all sites that answered the offer."""

    session: int
    adverts: tuple[Advert, ...]

    MOST: ClassVar[int] = 2 + _ENTRY.size * MOST_SITES

    def encode(self) -> bytes:
        """Return the message."""
        parts = ((a.site, a.seal_key, a.mask_key, a.commitment, a.signature) for a in self.adverts)
        return head(Kind.ROLL, self.session) + entries(_ENTRY, parts)

    @classmethod
    def parse(cls, data: bytes) -> Roll:
        """Return the roll of a message."""
        reader = Reader(data, Kind.ROLL, cls.MOST, site=False)
        entries = reader.entries(_ENTRY)
        reader.end()
        return cls(reader.session, tuple(Advert(reader.session, *entry) for entry in entries))


@dataclass(frozen=True, slots=True)
class Parcel:
    """Two sealed shares between a sender and a receiver, and the commitments to them.

    Attributes
    ----------
    peer : id of the receiver where the parcel is sent, of the sender where it arrives.
    sealed : share of the sender's mask key and of the seed of its self mask, for the receiver alone.
    key_commitment, seed_commitment : digests of the two shares.
    """

    peer: int
    sealed: bytes
    key_commitment: bytes
    seed_commitment: bytes

    def fields(self) -> tuple[int, bytes, bytes, bytes]:
        """Return the parts in the order in which they travel."""
        return self.peer, self.sealed, self.key_commitment, self.seed_commitment


@dataclass(frozen=True, slots=True)
class Shares:
    """A site's parcels for its peers, and the commitments to the two shares that it keeps itself, signed."""

    session: int
    site: int
    own: tuple[bytes, bytes]
    parcels: tuple[Parcel, ...]
    signature: bytes

    MOST: ClassVar[int] = _OWN.size + 2 + _PARCEL.size * MOST_SITES + SIGNATURE

    def signed(self) -> bytes:
        """Return the part that the signature covers."""
        return _OWN.pack(*self.own) + entries(_PARCEL, (parcel.fields() for parcel in self.parcels))

    def encode(self) -> bytes:
        """Return the message."""
        return head(Kind.SHARES, self.session, self.site) + self.signed() + self.signature

    @classmethod
    def parse(cls, data: bytes) -> Shares:
        """Return the shares of a message."""
        reader = Reader(data, Kind.SHARES, cls.MOST, site=True)
        own = reader.fields(_OWN)
        parcels = tuple(Parcel(*entry) for entry in reader.entries(_PARCEL))
        signature = bytes(reader.take(SIGNATURE))
        reader.end()
        return cls(reader.session, reader.sender, (own[0], own[1]), parcels, signature)


@dataclass(frozen=True, slots=True)
class Inbox:
    """Who shared, and the parcels for one site."""

    session: int
    members: tuple[int, ...]
    parcels: tuple[Parcel, ...]

    MOST: ClassVar[int] = 4 + (2 + _PARCEL.size) * MOST_SITES

    def encode(self) -> bytes:
        """Return the message."""
        parcels = entries(_PARCEL, (parcel.fields() for parcel in self.parcels))
        return head(Kind.INBOX, self.session) + ids_to_bytes(self.members) + parcels

    @classmethod
    def parse(cls, data: bytes) -> Inbox:
        """Return the inbox of a message."""
        reader = Reader(data, Kind.INBOX, cls.MOST, site=False)
        members = reader.ids()
        parcels = tuple(Parcel(*entry) for entry in reader.entries(_PARCEL))
        reader.end()
        return cls(reader.session, members, parcels)


@dataclass(frozen=True, slots=True)
class Masked:
    """A site's masked vector, with the digest of what it answers and of the vector itself, signed.

    The vector stands last and begins at a multiple of eight bytes, so that it can be added without a copy.
    """

    session: int
    site: int
    question: bytes
    digest: bytes
    signature: bytes
    body: bytes | bytearray | memoryview

    HEAD: ClassVar[int] = HEAD.size + _MASKED.size

    def encode(self) -> bytes:
        """Return the message."""
        fixed = _MASKED.pack(self.question, self.digest, self.signature, len(self.body))
        return b"".join((head(Kind.MASKED, self.session, self.site), fixed, self.body))

    @classmethod
    def parse(cls, data: bytes, nbytes: int = LARGEST_BODY) -> Masked:
        """Return the masked vector of a message, at most ``nbytes`` long, as a view of the message's bytes."""
        reader = Reader(data, Kind.MASKED, _MASKED.size + nbytes, site=True)
        question, digest, signature, size = reader.fields(_MASKED)
        body = reader.take(size)
        reader.end()
        return cls(reader.session, reader.sender, question, digest, signature, body)


@dataclass(frozen=True, slots=True)
class Complaint:
    """Whose parcels a site could not use, signed: it comes instead of the masked vector."""

    session: int
    site: int
    accused: tuple[int, ...]
    signature: bytes

    MOST: ClassVar[int] = 2 + 2 * MOST_SITES + SIGNATURE

    def encode(self) -> bytes:
        """Return the message."""
        return head(Kind.COMPLAINT, self.session, self.site) + ids_to_bytes(self.accused) + self.signature

    @classmethod
    def parse(cls, data: bytes) -> Complaint:
        """Return the complaint of a message."""
        reader = Reader(data, Kind.COMPLAINT, cls.MOST, site=True)
        accused = reader.ids()
        signature = bytes(reader.take(SIGNATURE))
        reader.end()
        if not accused:
            raise refuse("malformed", "a complaint of nobody")
        return cls(reader.session, reader.sender, accused, signature)


@dataclass(frozen=True, slots=True)
class Survivors:
    """The sites whose masked vectors arrived."""

    session: int
    members: tuple[int, ...]

    MOST: ClassVar[int] = 2 + 2 * MOST_SITES

    def encode(self) -> bytes:
        """Return the message."""
        return head(Kind.SURVIVORS, self.session) + ids_to_bytes(self.members)

    @classmethod
    def parse(cls, data: bytes) -> Survivors:
        """Return the survivors of a message."""
        reader = Reader(data, Kind.SURVIVORS, cls.MOST, site=False)
        members = reader.ids()
        reader.end()
        return cls(reader.session, members)


@dataclass(frozen=True, slots=True)
class Consent:
    """A site's signature over the question, who shared and who survived."""

    session: int
    site: int
    signature: bytes

    def encode(self) -> bytes:
        """Return the message."""
        return head(Kind.CONSENT, self.session, self.site) + self.signature

    @classmethod
    def parse(cls, data: bytes) -> Consent:
        """Return the consent of a message."""
        reader = Reader(data, Kind.CONSENT, SIGNATURE, site=True)
        signature = bytes(reader.take(SIGNATURE))
        reader.end()
        return cls(reader.session, reader.sender, signature)


@dataclass(frozen=True, slots=True)
class Consents:
    """The consents of enough sites: (id, signature) of each."""

    session: int
    signatures: tuple[tuple[int, bytes], ...]

    MOST: ClassVar[int] = 2 + _SIGNED.size * MOST_SITES

    def encode(self) -> bytes:
        """Return the message."""
        return head(Kind.CONSENTS, self.session) + entries(_SIGNED, self.signatures)

    @classmethod
    def parse(cls, data: bytes) -> Consents:
        """Return the consents of a message."""
        reader = Reader(data, Kind.CONSENTS, cls.MOST, site=False)
        signatures = tuple((entry[0], entry[1]) for entry in reader.entries(_SIGNED))
        reader.end()
        return cls(reader.session, signatures)


@dataclass(frozen=True, slots=True)
class Reveal:
    """One share of each site that shared: of its seed where it survived, of its key where it did not; signed."""

    session: int
    site: int
    shares: tuple[tuple[int, bytes], ...]
    signature: bytes

    MOST: ClassVar[int] = 2 + _SHARED.size * MOST_SITES + SIGNATURE

    def signed(self) -> bytes:
        """Return the part that the signature covers."""
        return entries(_SHARED, self.shares)

    def encode(self) -> bytes:
        """Return the message."""
        return head(Kind.REVEAL, self.session, self.site) + self.signed() + self.signature

    @classmethod
    def parse(cls, data: bytes) -> Reveal:
        """Return the revealed shares of a message."""
        reader = Reader(data, Kind.REVEAL, cls.MOST, site=True)
        shares = tuple((entry[0], entry[1]) for entry in reader.entries(_SHARED))
        signature = bytes(reader.take(SIGNATURE))
        reader.end()
        return cls(reader.session, reader.sender, shares, signature)
