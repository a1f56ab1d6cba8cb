"""Holding a session that was kept against the journal: a site goes on with nothing that it has not come to last."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from client.secagg.codec import Kind, kind_of
from client.secagg.journal import Journal
from client.secagg.refusals import refuse
from client.secagg.wire import Masked, Offer

KNOWN = 2
"""Sessions of a run, the newest, of which the journal knows every answer."""


def signed_part(reply: bytes) -> bytes:
    """Return what the journal knows of an answer: of a masked vector what stands before it, with its digest."""
    return reply[: Masked.HEAD] if kind_of(reply) is Kind.MASKED else reply


def require_noted(journal: Journal, offer: Offer, replies: Mapping[str, tuple[bytes, bytes]]) -> None:
    """Refuse a session that is not as the site left it, such as one of an old copy of the disk.

    A masked vector is kept before the journal knows of it, and noted here after a kill in between.

    Parameters
    ----------
    replies : exchange -> digest of the request, and the answer.

    Raises
    ------
    SecureAggregationError : (stale_session, already_masked, replayed) what the journal speaks against.
    """
    last = journal.last(offer.run)
    if not last - KNOWN < offer.session <= last:
        raise refuse("stale_session", f"session {offer.session}, where the last one was {last}")
    for exchange, (_, reply) in replies.items():
        told = signed_part(reply)
        if told is not reply:
            journal.mask_again(offer.run, offer.purpose, offer.round_number, offer.session)
        journal.send(offer.run, offer.session, exchange, hashlib.sha256(told).digest())
