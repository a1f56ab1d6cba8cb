"""What sites sign and commit to: every digest of the protocol, worked out alike by sites, coordinator and auditor."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from client.secagg.agreement import digest
from client.secagg.codec import ids_to_bytes
from client.secagg.wire import Advert, Roll, Shares

_ID = struct.Struct("<H")
_PAIR = struct.Struct("<HH")


def offer_hash(offer: bytes) -> bytes:
    """Return the digest of an offer as it travels."""
    return digest("offer", offer)


def seed_commitment(offer: bytes, site: int, seed: bytes) -> bytes:
    """Return the commitment of a site to the seed of its self mask; ``offer`` is the offer's hash."""
    return digest("seed", offer, _ID.pack(site), seed)


def advert_statement(offer: bytes, advert: Advert) -> bytes:
    """Return what the signature of an advert covers; ``offer`` is the offer's hash."""
    return digest("advert", offer, _ID.pack(advert.site), advert.seal_key, advert.mask_key, advert.commitment)


def session_id(offer: bytes, roll: Roll) -> bytes:
    """Return the name of a session: what was offered, and the keys of all that answered."""
    return digest("session", offer, roll.encode())


def share_commitment(session: bytes, owner: int, holder: int, secret: str, share: bytes) -> bytes:
    """Return the commitment to one share of an owner's "key" or "seed" that a holder gets.

    A share of 32 random bytes is itself too random to be guessed, so its digest hides it.
    """
    return digest(secret, session, _PAIR.pack(owner, holder), share)


def shares_statement(session: bytes, shares: Shares) -> bytes:
    """Return what the signature of a site's shares covers."""
    return digest("shares", session, _ID.pack(shares.site), shares.signed())


def masked_statement(
    session: bytes, site: int, question: bytes, members: Sequence[int], body: bytes
) -> bytes:
    """Return what the signature of a masked vector covers; ``body`` is the digest of the vector."""
    return digest("masked", session, _ID.pack(site), question, ids_to_bytes(members), body)


def complaint_statement(session: bytes, site: int, accused: Iterable[int]) -> bytes:
    """Return what the signature of a complaint covers."""
    return digest("complaint", session, _ID.pack(site), ids_to_bytes(accused))


def consent_statement(
    session: bytes, question: bytes, members: Sequence[int], survivors: Sequence[int]
) -> bytes:
    """Return what every survivor signs: the same for all where all were told the same."""
    return digest("consent", session, question, ids_to_bytes(members), ids_to_bytes(survivors))


def reveal_statement(session: bytes, site: int, shares: bytes) -> bytes:
    """Return what the signature of revealed shares covers."""
    return digest("reveal", session, _ID.pack(site), shares)


def seal_info(one: int, other: int) -> bytes:
    """Return what the key that seals shares between two sites is derived for."""
    return b"seal" + _PAIR.pack(min(one, other), max(one, other))


def mask_info(one: int, other: int, question: bytes) -> bytes:
    """Return what the key of the mask between two sites is derived for: sites with other questions do not cancel."""
    return b"mask" + _PAIR.pack(min(one, other), max(one, other)) + question


def self_info(site: int, question: bytes) -> bytes:
    """Return what the key of a site's self mask is derived for."""
    return b"self" + _ID.pack(site) + question


def parcel_label(session: bytes, sender: int, receiver: int) -> bytes:
    """Return what a sealed parcel is bound to."""
    return session + _PAIR.pack(sender, receiver)
