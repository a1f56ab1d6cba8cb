"""What the coordinator knows of a session, and what it holds every message against; an auditor does the same."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

from client.identity import Roster
from client.secagg import statements
from client.secagg.graph import Graph
from client.secagg.refusals import refuse
from client.secagg.wire import Advert, Complaint, Consent, Masked, Offer, Parcel, Reveal, Roll, Shares


@dataclass
class View:
    """One session as the coordinator sees it.

    Attributes
    ----------
    offer, roster : what it is about, and everybody's public keys.
    adverts, shares : site -> message, of those that advertised and of those that shared, in increasing order.
    survivors : sites whose masked vectors are in the sum.
    session : its id, once the roll is called.
    question : digest of what the sites are asked.
    """

    offer: Offer
    roster: Roster
    adverts: dict[int, Advert] = field(default_factory=dict)
    shares: dict[int, Shares] = field(default_factory=dict)
    survivors: tuple[int, ...] = ()
    session: bytes = b""
    question: bytes = b""

    @cached_property
    def offer_hash(self) -> bytes:
        """The digest of the offer."""
        return statements.offer_hash(self.offer.encode())

    @cached_property
    def graph(self) -> Graph:
        """Who is whose neighbour."""
        return Graph(self.offer)

    @property
    def roll(self) -> Roll:
        """The adverts as they are sent to everybody."""
        return Roll(self.offer.session, tuple(self.adverts.values()))

    @property
    def members(self) -> tuple[int, ...]:
        """The sites that shared."""
        return tuple(self.shares)

    def parcel(self, owner: int, holder: int) -> Parcel:
        """Return the parcel that an owner of secrets sent a holder."""
        return self._parcels[owner][holder]

    @cached_property
    def _parcels(self) -> dict[int, dict[int, Parcel]]:
        """The parcels by owner and holder; an owner's own have no box."""
        return {
            site: {p.peer: p for p in shares.parcels} | {site: Parcel(site, b"", *shares.own)}
            for site, shares in self.shares.items()
        }

    def consent_statement(self) -> bytes:
        """Return what every survivor has to sign."""
        return statements.consent_statement(self.session, self.question, self.members, self.survivors)

    # Each raises a SecureAggregationError where a message is not what it has to be.

    def check_advert(self, advert: Advert) -> None:
        """Hold an advert against its signature."""
        statement = statements.advert_statement(self.offer_hash, advert)
        self.roster.verify(advert.site, advert.signature, statement)

    def check_shares(self, shares: Shares) -> None:
        """Hold shares against their signature, and against whom they have to be for."""
        site = shares.site
        peers = [peer for peer in self.graph.around(site, self.adverts) if peer != site]
        if [parcel.peer for parcel in shares.parcels] != peers:
            raise refuse("malformed", "shares that are not one for each peer", site)
        statement = statements.shares_statement(self.session, shares)
        self.roster.verify(site, shares.signature, statement)

    def check_masked(self, masked: Masked, *, hashed: bool) -> None:
        """Hold a masked vector against its signature, its length and the question; ``hashed``: and its digest."""
        site = masked.site
        if len(masked.body) != self.offer.nbytes:
            raise refuse("wrong_length", f"a vector of {len(masked.body)} bytes", site)
        if masked.question != self.question:
            raise refuse("wrong_question", "an answer to another question", site)
        statement = statements.masked_statement(
            self.session, site, masked.question, self.members, masked.digest
        )
        self.roster.verify(site, masked.signature, statement)
        if hashed and hashlib.sha256(masked.body).digest() != masked.digest:
            raise refuse("bad_signature", "a vector that is not the one that was signed", site)

    def check_complaint(self, complaint: Complaint) -> None:
        """Hold a complaint against its signature, and against whom it can be about."""
        site = complaint.site
        peers = set(self.graph.around(site, self.members)) - {site}
        if not peers.issuperset(complaint.accused):
            raise refuse("unknown_site", "a complaint of a site that sent the complainer nothing", site)
        statement = statements.complaint_statement(self.session, site, complaint.accused)
        self.roster.verify(site, complaint.signature, statement)

    def check_consent(self, consent: Consent) -> None:
        """Hold a consent against what everybody has to sign."""
        self.roster.verify(consent.site, consent.signature, self.consent_statement())

    def check_reveal(self, reveal: Reveal) -> None:
        """Hold revealed shares against their signature, whose they have to be, and the owners' commitments."""
        site, survived = reveal.site, set(self.survivors)
        if tuple(owner for owner, _ in reveal.shares) != self.graph.around(site, self.members):
            raise refuse("malformed", "revealed shares that are not one of each member", site)
        statement = statements.reveal_statement(self.session, site, reveal.signed())
        self.roster.verify(site, reveal.signature, statement)
        for owner, share in reveal.shares:
            parcel, secret = self.parcel(owner, site), "seed" if owner in survived else "key"
            committed = parcel.seed_commitment if secret == "seed" else parcel.key_commitment
            if statements.share_commitment(self.session, owner, site, secret, share) != committed:
                raise refuse(
                    "bad_share", f"a share of site {owner} that is not the one it committed to", site
                )
