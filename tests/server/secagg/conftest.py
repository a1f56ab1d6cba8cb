"""Sites and a coordinator of secure aggregation, in one process."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from client.identity import Identity, Roster
from client.secagg.journal import MemoryJournal
from client.secagg.participant import Participant
from client.secagg.policy import Expected, Policy
from client.secagg.terms import Secure, least_threshold
from client.secagg.wire import Consents, Inbox, Offer, Roll, Survivors
from fer_models.errors import SecureAggregationError
from server.secagg.session import Session

WORDS64, WORDS32 = 3, 10
RUN, PLAN, LAYOUT, QUESTION = (hashlib.sha256(name).digest() for name in (b"run", b"plan", b"layout", b"ask"))


def key(*parts):
    return hashlib.sha256(repr(parts).encode()).digest()


def vector(site, words64=WORDS64, words32=WORDS32, seed=0):
    """A site's body: count word 1, random words of both sizes, one word that only this site sets."""
    rng = np.random.default_rng((seed, site))
    wide = rng.integers(0, 1 << 64, words64, np.uint64)
    narrow = rng.integers(0, 1 << 32, words32, np.uint32)
    wide[0] = 1
    wide[1] = 1 << site % 64
    return bytearray(wide.tobytes() + narrow.tobytes())


def total_of(bodies, words64=WORDS64):
    """The sum by Python's whole numbers, each word in its ring."""

    def column_sums(kind, start, stop, bits):
        rows = [np.frombuffer(body[start:stop], kind).tolist() for body in bodies]
        return np.array([sum(column) % (1 << bits) for column in zip(*rows, strict=True)], kind).tobytes()

    return column_sums("<u8", 0, 8 * words64, 64) + column_sums("<u4", 8 * words64, None, 32)


class World:
    """A coordinator and its sites."""

    def __init__(
        self,
        sites,
        *,
        session=1,
        seed=0,
        words64=WORDS64,
        words32=WORDS32,
        policy=None,
        world=None,
        record=None,
        ring=bytes(32),
        **changes,
    ):
        self.count, self.seed, self.words64, self.words32 = sites, seed, words64, words32
        self.identities = [Identity(key("identity", site)) for site in range(sites)]
        self.roster = Roster(
            {f"site-{site:03}": identity.public for site, identity in enumerate(self.identities)}
        )
        self.policy = policy or Policy()
        self.journals = world.journals if world else [MemoryJournal() for _ in range(sites)]
        threshold = least_threshold(sites, "malicious")
        self.terms = replace(
            Offer(
                session,
                RUN,
                "train",
                session,
                "malicious",
                PLAN,
                self.roster.digest,
                LAYOUT,
                words64,
                words32,
                tuple(range(sites)),
                threshold,
                min(3, sites),
            ),
            seed=ring,
            **changes,
        )
        offer = self.terms
        terms = Secure(
            sites,
            offer.threshold,
            offer.least,
            clip=1.0,
            profile=offer.profile,
            degree=offer.degree,
        )
        self.expected = Expected(offer.run, offer.plan, offer.layout, offer.purpose, words64, words32, terms)
        self.session = Session(self.terms, self.roster, record and record(self.terms))
        self.sites = [self.participant(site) for site in range(sites)]
        self.bodies = {}

    def participant(self, site):
        return Participant(
            self.identities[site],
            self.roster,
            self.expected,
            self.policy,
            self.journals[site],
            lambda purpose: key("draw", self.seed, site, self.terms.session, purpose),
        )

    def body(self, site):
        self.bodies[site] = bytes(vector(site, self.words64, self.words32, self.seed))
        return bytearray(self.bodies[site])

    def run(self, fates=None, question=QUESTION):
        """Run a session; ``fates[site]`` is the exchange, 0 to 4, in which the site's answer is lost."""
        fates = fates or {}

        def on(step):
            return [site for site in range(self.count) if fates.get(site, 5) > step]

        session, sites = self.session, self.sites
        offer = session.offer()
        for site in on(0):
            session.take_advert(site, sites[site].advertise(offer))
        roll = session.roll()
        for site in on(1):
            session.take_shares(site, sites[site].share(roll))
        inboxes = {site: session.inbox(site) for site in on(1)}
        session.ask(question)
        for site in on(2):
            session.take_masked(site, sites[site].mask(inboxes[site], question, self.body(site)))
        survivors = session.survivors()
        for site in on(3):
            session.take_consent(site, sites[site].consent(survivors))
        for site in on(4):
            session.take_reveal(site, sites[site].reveal(session.consents(site)))
        return session.finish()


def refused(code, call, *arguments, culprit=None):
    with pytest.raises(SecureAggregationError) as found:
        call(*arguments)
    assert (found.value.code, found.value.culprit) == (code, culprit), str(found.value)
    return found.value


class Steps:
    """A session that stops before the exchange that a test is about."""

    def __init__(self, world, until):
        self.world, session, sites = world, world.session, world.sites
        self.me, everybody = sites[2], range(world.count)
        if until > 0:
            for site in everybody:
                session.take_advert(site, sites[site].advertise(session.offer()))
            self.roll = Roll.parse(session.roll())
        if until > 1:
            for site in everybody:
                session.take_shares(site, sites[site].share(session.roll()))
            self.inbox = Inbox.parse(session.inbox(2))
        if until > 2:
            session.ask(QUESTION)
            for site in everybody:
                masked = sites[site].mask(session.inbox(site), QUESTION, world.body(site))
                session.take_masked(site, masked)
            self.survivors = Survivors.parse(session.survivors())
        if until > 3:
            for site in everybody:
                session.take_consent(site, sites[site].consent(session.survivors()))
            self.consents = Consents.parse(session.consents(2))


def finish(world, sites):
    session = world.session
    survivors = session.survivors()
    for site in sites:
        session.take_consent(site, world.sites[site].consent(survivors))
    for site in sites:
        session.take_reveal(site, world.sites[site].reveal(session.consents(site)))
    done = session.finish()
    assert done.survivors == tuple(sites)
    assert done.total == total_of([world.bodies[site] for site in sites])


@pytest.fixture
def until():
    return lambda step, sites=5, **changes: Steps(World(sites, **changes), step)
