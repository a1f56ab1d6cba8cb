"""The coordinator's half of one session: it holds the running sum, and none of the vectors that are in it.

Every ``take_...`` takes one site's message, or raises and leaves the session as it was. What goes to the sites closes
the exchange before it: ``roll`` the adverts, ``inbox`` the shares, ``survivors`` the masked vectors, ``consents`` the
consents, ``finish`` the reveals. Where fewer than the least are left, the session ends with an error and no sum.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Container, Mapping, Sized
from dataclasses import dataclass
from typing import NoReturn, TypeVar

import numpy as np

from client.identity import Roster
from client.secagg import statements
from client.secagg.codec import Kind, kind_of
from client.secagg.policy import fewest
from client.secagg.refusals import blaming, refuse
from client.secagg.wire import (
    HASH,
    Advert,
    Complaint,
    Consent,
    Consents,
    Inbox,
    Masked,
    Offer,
    Parcel,
    Reveal,
    Shares,
    Survivors,
)  # fmt: skip
from fer_models.errors import SecureAggregationError
from server.secagg.unmask import unmask
from server.secagg.view import View

PHASES = ("adverts", "shares", "masked", "consents", "reveals", "done")
NAMES = {
    "adverts": "adverts",
    "shares": "sets of shares",
    "masked": "masked vectors",
    "consents": "consents",
    "reveals": "sets of revealed shares",
}
"""What a phase is waiting for, in words."""

M = TypeVar("M", Advert, Shares, Masked, Complaint, Consent, Reveal)


@dataclass(frozen=True)
class Sum:
    """What a session ends with.

    Attributes
    ----------
    total : the sum of the survivors' vectors, as the layout encodes it.
    survivors : ids of the sites that are in it.
    """

    total: bytes
    survivors: tuple[int, ...]


class Session:
    """One session of the coordinator.

    Parameters
    ----------
    offer : what it is about.
    roster : everybody's public keys.
    record : is told every message that counts, under a name, for a transcript. Only then is each vector hashed and
        held against the signed digest, which takes a third as long again as everything else: where no auditor will
        see the digest, the channel's own authentication (TLS) guards the vector on its way.
    """

    def __init__(
        self, offer: Offer, roster: Roster, record: Callable[[str, bytes], object] | None = None
    ) -> None:
        self._view, self._hashes = View(offer, roster), bool(record)
        self._record = record or (lambda *_: None)
        self._phase, self._ended = 0, ""
        self._taken: dict[tuple[str, int], bytes] = {}
        self._adverts: dict[int, Advert] = {}
        self._shares: dict[int, Shares] = {}
        self._consents: dict[int, bytes] = {}
        self._reveals: dict[int, Reveal] = {}
        self._survivors: list[int] = []
        self._total = bytearray(offer.nbytes)
        self.complaints: dict[int, tuple[int, ...]] = {}
        self._offer = offer.encode()
        self._record("offer", self._offer)

    # What goes to the sites

    @property
    def phase(self) -> str:
        """What the session is waiting for: one of PHASES, or "aborted"."""
        return "aborted" if self._ended else PHASES[self._phase]

    @property
    def question(self) -> bytes:
        """The digest of what the sites are asked, empty before :meth:`ask`."""
        return self._view.question

    @property
    def terms(self) -> Offer:
        """What the session is about."""
        return self._view.offer

    @property
    def taken(self) -> Mapping[tuple[str, int], bytes]:
        """Phase and site -> the message that counted; of a masked vector what stands before it."""
        return self._taken

    @property
    def total(self) -> bytes:
        """The sum of the masked vectors that have arrived, still masked before :meth:`finish`."""
        return bytes(self._total)

    @property
    def invited(self) -> tuple[int, ...]:
        """Ids of the sites that the offer is for."""
        return self._view.offer.invited

    @property
    def advertised(self) -> list[int]:
        """Ids of the sites whose adverts have arrived."""
        return sorted(self._adverts)

    @property
    def shared(self) -> list[int]:
        """Ids of the sites whose shares have arrived."""
        return sorted(self._shares)

    @property
    def masked(self) -> list[int]:
        """Ids of the sites whose masked vectors are in the sum."""
        return sorted(self._survivors)

    @property
    def hopeless(self) -> bool:
        """Whether fewer sites have shared than a sum needs, so that nothing can come of the session any more."""
        return len(self._shares) < fewest(self._view.offer)

    @property
    def consented(self) -> list[int]:
        """Ids of the sites whose consents have arrived."""
        return sorted(self._consents)

    @property
    def revealed(self) -> list[int]:
        """Ids of the sites that have revealed their shares."""
        return sorted(self._reveals)

    def offer(self) -> bytes:
        """Return the offer, for every invited site."""
        return self._offer

    def roll(self) -> bytes:
        """Close the adverts; return them, for every site that advertised.

        Raises
        ------
        SecureAggregationError : (too_few) the session ends.
        """
        if self._close("adverts", self._adverts):
            self._view.adverts = dict(sorted(self._adverts.items()))
            self._view.session = statements.session_id(self._view.offer_hash, self._view.roll)
        return self._view.roll.encode()

    def inbox(self, site: int) -> bytes:
        """Close the shares; return the parcels for one site that shared.

        Raises
        ------
        SecureAggregationError : (too_few) the session ends.
        """
        if self._close("shares", self._shares):
            self._view.shares = dict(sorted(self._shares.items()))
        view, members = self._view, self._view.members
        if site not in members:
            raise refuse("unknown_site", "a site that has not shared", site)
        parcels = []
        for sender in view.graph.around(site, members):
            if sender != site:
                sent = view.parcel(sender, site)
                parcels.append(Parcel(sender, sent.sealed, sent.key_commitment, sent.seed_commitment))
        return Inbox(view.offer.session, members, tuple(parcels)).encode()

    def ask(self, question: bytes) -> None:
        """Fix the digest, 32 bytes, of what every site is asked."""
        if len(question) != HASH or self._view.question not in (b"", question):
            raise refuse("wrong_question", "a session has one question, of 32 bytes")
        self._view.question = question

    def survivors(self) -> bytes:
        """Close the masked vectors; return the sites whose vectors arrived.

        Raises
        ------
        SecureAggregationError : (too_few) the session ends.
        """
        if self._close("masked", self._survivors):
            self._view.survivors = tuple(sorted(self._survivors))
        return Survivors(self._view.offer.session, self._view.survivors).encode()

    def consents(self, site: int) -> bytes:
        """Close the consents; return as many as it takes, for one survivor.

        Raises
        ------
        SecureAggregationError : (too_few) the session ends.
        """
        self._close("consents", self._consents)
        view = self._view
        near = [peer for peer in view.graph.around(site, view.survivors) if peer in self._consents]
        chosen = tuple((peer, self._consents[peer]) for peer in near[: view.offer.threshold])
        return Consents(view.offer.session, chosen).encode()

    def finish(self) -> Sum:
        """Close the reveals and take off the masks.

        Raises
        ------
        SecureAggregationError : (too_few) too few shares; (bad_secret) a site shared another secret than it
            published; (bad_sum) a mask is left in the sum.
        """
        if self._close("reveals", self._reveals):
            try:
                unmask(self._view, self._total, dict(sorted(self._reveals.items())))
                self._check_count()
            except SecureAggregationError as error:
                self._abort(error)
            self._record("sum", bytes(self._total))
        return Sum(bytes(self._total), self._view.survivors)

    # What comes from the sites

    def take_advert(self, site: int, data: bytes) -> None:
        """Take an invited site's advert."""
        advert = self._parsed("adverts", site, data, Advert.parse, self._view.offer.invited)
        if advert is not None:
            self._view.check_advert(advert)
            self._adverts[site] = advert
            self._keep("adverts", site, data, f"advert-{site}")

    def take_shares(self, site: int, data: bytes) -> None:
        """Take the shares of a site that advertised."""
        shares = self._parsed("shares", site, data, Shares.parse, self._view.adverts)
        if shares is not None:
            self._view.check_shares(shares)
            self._shares[site] = shares
            self._keep("shares", site, data, f"shares-{site}")

    def take_masked(self, site: int, data: bytes) -> None:
        """Add a member's masked vector to the sum; or take its complaint, by which it drops out."""
        with blaming(site):
            complains = kind_of(data) is Kind.COMPLAINT
        if complains:
            self._take_complaint(site, data)
            return
        nbytes = self._view.offer.nbytes
        masked = self._parsed(
            "masked", site, data, lambda data: Masked.parse(data, nbytes), self._view.members
        )
        if masked is not None:
            self._view.check_masked(masked, hashed=self._hashes)
            added(self._total, self._view.offer.words64, masked.body)
            self._survivors.append(site)
            self._keep("masked", site, data[: Masked.HEAD], f"masked-{site}", data)

    def take_sum(self, answers: Mapping[int, bytes], total: bytes) -> None:
        """Take up a sum that an earlier process had come to.

        Parameters
        ----------
        answers : site -> what stands before its vector, which is in the sum; or its complaint.
        """
        nbytes = self._view.offer.nbytes
        if len(total) != nbytes:
            raise refuse("wrong_length", f"a sum of {len(total)} bytes where {nbytes} are offered")
        nothing = bytes(nbytes)  # in the vector's place: what was signed is its digest
        for site, data in answers.items():
            if kind_of(data) is Kind.COMPLAINT:
                self._take_complaint(site, data)
                continue
            masked = self._parsed(
                "masked", site, data + nothing, lambda data: Masked.parse(data, nbytes), self._view.members
            )
            if masked is not None:
                self._view.check_masked(masked, hashed=False)
                self._survivors.append(site)
                self._taken["masked", site] = data
        self._total = bytearray(total)

    def _take_complaint(self, site: int, data: bytes) -> None:
        complaint = self._parsed("masked", site, data, Complaint.parse, self._view.members)
        if complaint is not None:
            self._view.check_complaint(complaint)
            self.complaints[site] = complaint.accused
            self._keep("masked", site, data, f"complaint-{site}")

    def take_consent(self, site: int, data: bytes) -> None:
        """Take a survivor's consent."""
        consent = self._parsed("consents", site, data, Consent.parse, self._view.survivors)
        if consent is not None:
            self._view.check_consent(consent)
            self._consents[site] = consent.signature
            self._keep("consents", site, data, f"consent-{site}")

    def take_reveal(self, site: int, data: bytes) -> None:
        """Take the shares that a survivor reveals; one wrong share among them, and none counts."""
        reveal = self._parsed("reveals", site, data, Reveal.parse, self._view.survivors)
        if reveal is not None:
            self._view.check_reveal(reveal)
            self._reveals[site] = reveal
            self._keep("reveals", site, data, f"reveal-{site}")

    def accused(self, by: int = 2) -> tuple[int, ...]:
        """Return the sites that at least ``by`` others complained of: to be left out of the next rounds."""
        named = [site for accused in self.complaints.values() for site in accused]
        return tuple(sorted(site for site in set(named) if named.count(site) >= by))

    # Order

    def _parsed(
        self, phase: str, site: int, data: bytes, parse: Callable[[bytes], M], known: Container[int]
    ) -> M | None:
        """Return a message that may come now, None where the same one has been taken before."""
        with blaming(site):
            if self._ended:
                raise refuse("aborted", f"the session has ended: {self._ended}")
            message = parse(data)
            if message.site != site:
                raise refuse("unknown_site", f"a message in the name of site {message.site}")
            if message.session != self._view.offer.session:
                raise refuse("wrong_session", f"a message of session {message.session}")
            if (phase, site) in self._taken:
                self._same(phase, site, data, message)
                return None
            due = PHASES.index(phase)
            if due != self._phase:
                code, what = ("late", "too late") if due < self._phase else ("out_of_order", "too early")
                raise refuse(code, f"{NAMES[phase]} that come {what}")
            if site not in known:
                raise refuse("unknown_site", f"{NAMES[phase]} of a site that has no part in them")
        return message

    def _same(self, phase: str, site: int, data: bytes, message: object) -> None:
        """Refuse a second message that differs from the first."""
        told = data
        if isinstance(message, Masked):
            told = data[: Masked.HEAD]
            if hashlib.sha256(message.body).digest() != message.digest:
                raise refuse("bad_signature", "a vector that is not the one that was signed")
        if told != self._taken[phase, site]:
            raise refuse("replayed", f"other {NAMES[phase]} than the first")

    def _keep(self, phase: str, site: int, told: bytes, name: str, data: bytes | None = None) -> None:
        self._taken[phase, site] = told
        self._record(name, told if data is None else data)

    def _check_count(self) -> None:
        """Refuse a sum whose first number, 1 at every site, does not count the survivors: a mask is left in it."""
        sites = len(self._view.survivors)
        if self._view.offer.words64 and int.from_bytes(self._total[:8], "little") != sites:
            raise refuse("bad_sum", f"a sum that does not count {sites} sites")

    def _close(self, phase: str, arrived: Sized) -> bool:
        """Close an exchange, once; return whether it was open, and end the session where too few are left."""
        if self._ended:
            raise refuse("aborted", f"the session has ended: {self._ended}")
        due = PHASES.index(phase)
        if due > self._phase:
            raise refuse("out_of_order", f"{NAMES[phase]} have not begun")
        if due < self._phase:
            return False
        offer = self._view.offer
        least = offer.threshold if phase in ("consents", "reveals") else fewest(offer)
        if len(arrived) < least:
            self._abort(refuse("too_few", f"{len(arrived)} {NAMES[phase]} where {least} are needed"))
        self._phase += 1
        return True

    def _abort(self, error: SecureAggregationError) -> NoReturn:
        """End the session: nothing more is taken, and there is no sum."""
        self._ended = error.what
        self._total = bytearray()
        raise error


def added(total: bytearray, words64: int, body: bytes | bytearray | memoryview) -> None:
    """Add a vector to a sum in place: ``words64`` numbers of 64 bits, then numbers of 32, each in its own ring."""
    for kind, start, stop in (("<u8", 0, 8 * words64), ("<u4", 8 * words64, len(total))):
        numbers = np.frombuffer(memoryview(total)[start:stop], kind)
        np.add(numbers, np.frombuffer(memoryview(body)[start:stop], kind), out=numbers)
