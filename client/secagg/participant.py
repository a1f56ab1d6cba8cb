"""A site's half of one session: bytes in, bytes out, and nothing taken from the coordinator on trust.

The site answers each exchange once. The same message again gets the same bytes; another message in an exchange that
has been answered is refused. A refused message changes nothing, so that the right one can still come.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from client.identity import Identity, Roster
from client.secagg import statements
from client.secagg.agreement import derive, exchanger, public_key
from client.secagg.graph import Graph
from client.secagg.journal import Journal
from client.secagg.masks import add_masks
from client.secagg.noted import require_noted, signed_part
from client.secagg.parcels import opened, sealed
from client.secagg.policy import Expected, Policy, fewest
from client.secagg.refusals import blaming, refuse
from client.secagg.state import State
from client.secagg.wire import (
    HASH,
    Advert,
    Complaint,
    Consent,
    Consents,
    Inbox,
    Masked,
    Offer,
    Reveal,
    Roll,
    Shares,
    Survivors,
)  # fmt: skip

EXCHANGES = ("offer", "roll", "inbox", "survivors", "consents")


class Participant:
    """One site in one session.

    Parameters
    ----------
    identity : signs for the site.
    roster : everybody's pinned public keys; a site's id is its place there.
    expected : what the site works out itself and holds the offer against; None where the offer has been answered.
    policy : the site's floors.
    journal : what the site has sent; written before every answer.
    draw : gives 32 random bytes for a purpose, each purpose once a session.
    keep : keeps the session, before an answer leaves.
    """

    def __init__(
        self,
        identity: Identity,
        roster: Roster,
        expected: Expected | None,
        policy: Policy,
        journal: Journal,
        draw: Callable[[str], bytes],
        keep: Callable[[Participant], object] = lambda _: None,
    ) -> None:
        self._identity, self._roster, self._expected = identity, roster, expected
        self._policy, self._journal, self._draw, self._keep = policy, journal, draw, keep
        self.site = roster.site_of(identity)
        self._state = State()

    # The five exchanges

    def advertise(self, offer: bytes) -> bytes:
        """Answer an offer with this session's public keys, signed; the offer has to be what the site works out.

        Raises
        ------
        SecureAggregationError : (wrong_offer, below_floor, not_invited, stale_session, ...) see refusals.
        """
        return self._once("offer", offer, self._advertise)

    def share(self, roll: bytes) -> bytes:
        """Answer everybody's adverts with shares of the site's secrets, sealed for each peer."""
        return self._once("roll", roll, self._share)

    def open(self, inbox: bytes) -> bytes | None:
        """Look at the peers' parcels before any work is done; return a complaint where one cannot be used.

        A site that complains is out of the session: it must not train for it.
        """
        if "inbox" in self._state.replies:
            reply = self._repeated("inbox", inbox)
            return reply if self._state.stage < 0 else None
        self._in_order("inbox")
        self._require_unmasked(self._accepted)  # before any work, which costs epsilon
        if not (accused := self._open(Inbox.parse(inbox))):
            return None
        statement = statements.complaint_statement(self._state.session, self.site, accused)
        complaint = Complaint(self._number, self.site, accused, self._identity.sign(statement)).encode()
        self._write("inbox", complaint)
        self.forget()
        self._state.replies["inbox"] = (hashlib.sha256(inbox).digest(), complaint)
        self._keep(self)
        return complaint

    def mask(self, inbox: bytes, question: bytes, body: bytearray, subject: bytes = b"") -> bytes:
        """Answer the peers' parcels with the masked vector, or with a complaint where one cannot be used.

        Parameters
        ----------
        question : digest, 32 bytes, of what the site was asked, worked out from what it received.
        body : the vector as the layout encodes it; it is masked in place.
        subject : what it counts exactly, see :class:`client.secagg.state.State`.

        Raises
        ------
        SecureAggregationError : (already_masked) the site has sent a vector for this round before.
        """
        if self._state.question and question != self._state.question:
            raise refuse("replayed", "another question in a session that has had its masked vector")

        def answer(inbox: bytes) -> bytes:
            complaint = self.open(inbox)
            if complaint is None:
                self._state.subject = subject
                return self._mask(question, body)
            return complaint

        return self._once("inbox", inbox, answer)

    def consent(self, survivors: bytes) -> bytes:
        """Sign the question, who shared and who survived.

        Raises
        ------
        SecureAggregationError : (other_company) the site has told the same exact counts in a sum over other sites.
        """
        return self._once("survivors", survivors, self._consent)

    def reveal(self, consents: bytes) -> bytes:
        """Answer enough consents to the same with one share of each member, seed or key; then forget everything."""
        return self._once("consents", consents, self._reveal)

    # What a shell needs besides

    @property
    def offer(self) -> Offer:
        """The offer that the site has accepted."""
        return self._accepted

    def answered(self, exchange: str) -> bool:
        """Whether one of EXCHANGES has been answered: the same message again takes no work."""
        return exchange in self._state.replies

    def forget(self) -> None:
        """Leave the session: erase all secrets and answer nothing but repeated messages."""
        self._state.erase()
        self._state.stage = -1

    def snapshot(self) -> bytes:
        """Return the state, secrets included and the masked vector not, for :meth:`restore`."""
        return self._state.to_bytes()

    @property
    def vector(self) -> bytes:
        """The answer with the masked vector, or the complaint; empty where there is none, or it is not kept."""
        return self._state.replies.get("inbox", (b"", b""))[1]

    def restore(self, state: bytes, vector: bytes = b"") -> None:
        """Take up a state that an earlier process left; a real site holds it against its journal.

        Raises
        ------
        SecureAggregationError : see :func:`client.secagg.noted.require_noted`; (wrong_offer, below_floor) as an offer.
        """
        self._state = State.from_bytes(state)
        if "inbox" in self._state.replies:
            self._state.replies["inbox"] = (self._state.replies["inbox"][0], vector)
        if self._state.offer:
            self._accept(Offer.parse(self._state.offer), self._state.offer)
        if not self._policy.simulated:
            if self._accepted.roster != self._roster.digest:
                raise refuse("wrong_offer", "a session whose roster is not the one that the site has pinned")
            self._policy.check(self._accepted)  # whose floors may have been raised since
            require_noted(self._journal, self._accepted, self._state.replies)

    # Order

    def _once(self, exchange: str, request: bytes, answer: Callable[[bytes], bytes]) -> bytes:
        """Answer a message once, and a repeated one with the same bytes."""
        if exchange in self._state.replies:
            return self._repeated(exchange, request)
        self._in_order(exchange)
        before, self._state = self._state, replace(self._state, replies=dict(self._state.replies))
        try:
            reply = answer(request)
            if self._state.stage >= 0:
                self._state.stage += 1
                # All sites of a simulation in one process would keep all their vectors.
                kept = b"" if exchange == "inbox" and self._policy.simulated else reply
                self._state.replies[exchange] = (hashlib.sha256(request).digest(), kept)
            self._keep(self)
            if exchange == "inbox" and self._state.stage >= 0:
                self._note_vector(reply)
        except BaseException:
            self._state = before
            raise
        return reply

    def _note_vector(self, reply: bytes) -> None:
        """Note the masked vector, once it is kept: what is noted can be sent again, and no other ever is."""
        told = self._accepted
        self._journal.mask(told.run, told.purpose, told.round_number, self._number)
        self._write("inbox", signed_part(reply))

    def _repeated(self, exchange: str, request: bytes) -> bytes:
        asked, reply = self._state.replies[exchange]
        if hashlib.sha256(request).digest() != asked:
            raise refuse("replayed", f"another message in the exchange {exchange}, which has been answered")
        if not reply:
            raise refuse("late", "a masked vector that is not kept")
        return reply

    def _in_order(self, exchange: str) -> None:
        if self._state.stage < 0:
            raise refuse("complained", "the site has left this session")
        if EXCHANGES[self._state.stage : self._state.stage + 1] != (exchange,):
            raise refuse("out_of_order", f"{exchange} is not what this session is waiting for")

    def _write(self, exchange: str, reply: bytes) -> None:
        """Note an answer in the journal, before it is sent."""
        self._journal.send(self._accepted.run, self._number, exchange, hashlib.sha256(reply).digest())

    @property
    def _number(self) -> int:
        return self._accepted.session

    def _same_session(self, number: int) -> None:
        if number != self._number:
            raise refuse("wrong_session", f"a message of session {number} in session {self._number}")

    def _accept(self, offer: Offer, data: bytes) -> None:
        self._accepted, self._offer_hash, self._graph = offer, statements.offer_hash(data), Graph(offer)

    # The answers

    def _advertise(self, data: bytes) -> bytes:
        offer, state = Offer.parse(data), self._state
        assert self._expected is not None
        self._expected.check(offer)
        if offer.roster != self._roster.digest:
            raise refuse("wrong_offer", "an offer whose roster is not the one that the site has pinned")
        if self.site not in offer.invited:
            raise refuse("not_invited", "an offer that does not invite the site")
        self._policy.check(offer)
        for site in offer.invited:
            if site >= len(self._roster):
                raise refuse("unknown_site", "an invited site that the roster does not know", site)
        self._journal.begin(offer.run, offer.session)
        self._require_unmasked(offer)  # found now, it costs no training, and under privacy no epsilon
        self._accept(offer, data)
        state.offer = data
        state.seal_key, state.mask_key, state.seed = map(self._draw, ("seal key", "mask key", "seed"))
        commitment = statements.seed_commitment(self._offer_hash, self.site, state.seed)
        keys = public_key(state.seal_key), public_key(state.mask_key)
        advert = Advert(offer.session, self.site, *keys, commitment, b"")
        signature = self._identity.sign(statements.advert_statement(self._offer_hash, advert))
        state.advert = Advert(offer.session, self.site, *keys, commitment, signature).encode()
        self._write("offer", state.advert)
        return state.advert

    def _require_unmasked(self, offer: Offer) -> None:
        if self._journal.has_masked(offer.run, offer.purpose, offer.round_number):
            raise refuse("already_masked", f"round {offer.round_number} has had its masked vector")

    def _share(self, data: bytes) -> bytes:
        roll, state = Roll.parse(data), self._state
        self._same_session(roll.session)
        peers = self._checked(roll)
        session, seal_keys, mask_secrets = statements.session_id(self._offer_hash, roll), {}, {}
        seal_secret, mask_secret = exchanger(state.seal_key), exchanger(state.mask_key)
        for advert in peers:
            with blaming(advert.site):
                info = statements.seal_info(self.site, advert.site)
                seal_keys[advert.site] = derive(seal_secret(advert.seal_key), session, info)
                mask_secrets[advert.site] = mask_secret(advert.mask_key)
        state.session, state.seal_keys, state.mask_secrets = session, seal_keys, mask_secrets
        state.listed = tuple(advert.site for advert in roll.adverts)
        near = self._graph.around(self.site, state.listed)
        own, commitments, parcels = sealed(
            state, self.site, near, self._accepted.threshold, self._draw("shares")
        )
        shares = Shares(self._number, self.site, commitments, parcels, b"")
        signature = self._identity.sign(statements.shares_statement(state.session, shares))
        reply = Shares(self._number, self.site, commitments, parcels, signature).encode()
        self._write("roll", reply)
        state.held = {self.site: own}
        state.seal_key = state.mask_key = b""
        return reply

    def _checked(self, roll: Roll) -> Sequence[Advert]:
        """Return the adverts of the site's peers; every one has to be invited and signed for this very offer."""
        sites = [advert.site for advert in roll.adverts]
        self._enough(sites, self._accepted.invited, "advertised")
        near = set(self._graph.around(self.site, sites))
        for advert in roll.adverts:
            if advert.site == self.site:
                if advert.encode() != self._state.advert:
                    raise refuse("split_view", "a roll with other keys for the site than it sent")
            elif advert.site in near:
                statement = statements.advert_statement(self._offer_hash, advert)
                self._roster.verify(advert.site, advert.signature, statement)
        return [advert for advert in roll.adverts if advert.site in near and advert.site != self.site]

    def _enough(self, sites: Sequence[int], known: Sequence[int], what: str) -> None:
        """Refuse a set of sites that holds strangers, lacks this site, or is too small."""
        for site in set(sites) - set(known):
            raise refuse("unknown_site", f"a site that cannot have {what}", site)
        if self.site not in sites:
            raise refuse("wrong_survivors", f"sites that {what}, without this one")
        if len(sites) < fewest(self._accepted):
            raise refuse("too_few", f"{len(sites)} sites {what} where {fewest(self._accepted)} are needed")
        near, least = self._graph.around(self.site, sites), self._accepted.threshold
        if len(near) < least:
            raise refuse("too_few", f"{len(near)} neighbours {what} where {least} are needed")

    def _open(self, inbox: Inbox) -> tuple[int, ...]:
        """Take the peers' shares; return whose cannot be used."""
        state = self._state
        self._same_session(inbox.session)
        self._enough(inbox.members, state.listed, "shared")
        near = self._graph.around(self.site, inbox.members)
        if [parcel.peer for parcel in inbox.parcels] != [site for site in near if site != self.site]:
            raise refuse("malformed", "an inbox without one parcel of each member")
        found = {p.peer: opened(state.seal_keys[p.peer], state.session, self.site, p) for p in inbox.parcels}
        accused = tuple(peer for peer, shares in found.items() if shares is None)
        state.members = inbox.members
        # Of another inbox that was only looked at, nothing stays.
        state.held = {self.site: state.held[self.site]}
        state.held |= {peer: shares for peer, shares in found.items() if shares is not None}
        return accused

    def _mask(self, question: bytes, body: bytearray) -> bytes:
        state, offer = self._state, self._accepted
        if len(body) != offer.nbytes or len(question) != HASH:
            raise refuse("wrong_length", f"a vector of {len(body)} bytes where {offer.nbytes} are offered")
        self._require_unmasked(offer)
        peers = [site for site in self._graph.around(self.site, state.members) if site != self.site]
        keys = [derive(state.seed, state.session, statements.self_info(self.site, question))]
        for peer in peers:
            info = statements.mask_info(self.site, peer, question)
            keys.append(derive(state.mask_secrets[peer], state.session, info))
        add_masks(
            memoryview(body), offer.words64, keys, [1, *(1 if self.site < peer else -1 for peer in peers)]
        )
        digest = hashlib.sha256(body).digest()
        statement = statements.masked_statement(state.session, self.site, question, state.members, digest)
        reply = Masked(
            self._number, self.site, question, digest, self._identity.sign(statement), body
        ).encode()
        state.question, state.seed, state.mask_secrets, state.seal_keys = question, b"", {}, {}
        return reply

    def _consent(self, data: bytes) -> bytes:
        survivors, state = Survivors.parse(data), self._state
        self._same_session(survivors.session)
        self._enough(survivors.members, state.members, "survived")
        if state.subject:
            self._journal.tell(state.subject, self._roster.company(survivors.members))
        signature = self._identity.sign(self._statement(survivors.members))
        reply = Consent(self._number, self.site, signature).encode()
        self._write("survivors", reply)
        state.survivors = survivors.members
        return reply

    def _statement(self, survivors: Sequence[int]) -> bytes:
        state = self._state
        return statements.consent_statement(state.session, state.question, state.members, survivors)

    def _reveal(self, data: bytes) -> bytes:
        consents, state = Consents.parse(data), self._state
        self._same_session(consents.session)
        near = set(self._graph.around(self.site, state.survivors))
        statement = self._statement(state.survivors)
        agreed = {self.site}
        for site, signature in consents.signatures:
            if site not in near:
                raise refuse("unknown_site", "a consent of a site that is no survivor", site)
            self._roster.verify(site, signature, statement)
            agreed.add(site)
        if len(agreed) < self._accepted.threshold:
            raise refuse("too_few", f"{len(agreed)} consents where {self._accepted.threshold} are needed")
        survived = set(state.survivors)
        shares = tuple((owner, pair[owner in survived]) for owner, pair in sorted(state.held.items()))
        reveal = Reveal(self._number, self.site, shares, b"")
        statement = statements.reveal_statement(state.session, self.site, reveal.signed())
        reply = Reveal(self._number, self.site, shares, self._identity.sign(statement)).encode()
        self._write("consents", reply)
        state.erase()
        return reply
