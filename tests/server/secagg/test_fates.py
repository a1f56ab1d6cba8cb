"""Every way in which three, four or five sites can drop out of a session."""

import copy
import json
from itertools import combinations
from pathlib import Path

import pytest

from client.secagg.journal import MemoryJournal
from client.secagg.policy import Policy, fewest
from fer_models.errors import SecureAggregationError

from .conftest import QUESTION, World, total_of

STEPS = 5


class Tree:
    """All fates at once: what happened before a drop-out is worked out once for all that differ after it."""

    def __init__(self, sites):
        self.world = World(sites, policy=Policy(simulated=True))
        self.need = fewest(self.world.terms)
        self.fates = self.sums = 0

    def grow(self, step, session, states, alive):
        """Lose the answers of every subset of sites in one exchange, and go on with each."""
        for size in range(len(alive) + 1):
            for answering in combinations(alive, size):
                self.branch(
                    step,
                    copy.deepcopy(session, {id(self.world.roster): self.world.roster}),
                    states,
                    answering,
                )

    def branch(self, step, session, states, answering):
        sites = {site: self.restored(site, *states[site]) for site in answering}
        for site, participant in sites.items():
            self.exchange(step, session, site, participant)
        enough = len(answering) >= self.need
        try:
            done = self.close(step, session, answering)
        except SecureAggregationError as error:
            assert not enough and error.code == "too_few" and session.phase == "aborted"
            self.fates += (STEPS - step) ** len(answering)
            return
        assert enough
        if step == 2:
            self.survivors = answering
        if step < STEPS - 1:
            self.grow(step + 1, session, {s: self.saved(s, p) for s, p in sites.items()}, answering)
            return
        assert done.total == total_of([self.world.bodies[site] for site in done.survivors])
        assert done.survivors == self.survivors
        self.fates += 1
        self.sums += 1

    def exchange(self, step, session, site, participant):
        if step == 0:
            session.take_advert(site, participant.advertise(session.offer()))
        elif step == 1:
            session.take_shares(site, participant.share(session.roll()))
        elif step == 2:
            session.ask(QUESTION)
            masked = participant.mask(session.inbox(site), QUESTION, self.world.body(site))
            session.take_masked(site, masked)
        elif step == 3:
            session.take_consent(site, participant.consent(session.survivors()))
        else:
            session.take_reveal(site, participant.reveal(session.consents(site)))

    def close(self, step, session, answering):
        if step == 1:
            return session.inbox(min(answering, default=0))
        if step == 3:
            return session.consents(0)
        return (session.roll, None, session.survivors, None, session.finish)[step]()

    def saved(self, site, participant):
        return participant.snapshot(), self.world.journals[site].snapshot()

    def restored(self, site, state, journal):
        self.world.journals[site] = MemoryJournal.restore(journal)
        participant = self.world.participant(site)
        participant.restore(state)
        return participant


@pytest.mark.parametrize(("sites", "sums"), [(3, 1), (4, 21), (5, 26)])
def test_a_session_completes_exactly_when_enough_remain(sites, sums):
    tree = Tree(sites)
    fresh = {site: tree.saved(site, participant) for site, participant in enumerate(tree.world.sites)}
    tree.grow(0, tree.world.session, fresh, tuple(range(sites)))
    assert tree.fates == 6**sites
    assert tree.sums == sums


def test_a_session_is_the_same_bytes_for_ever():
    """Four sites of which one drops out, from fixed keys: every message and the sum, by known answers.

    What two versions of FedFER send each other has to be the same; what changes here is another suite.
    """
    heard = {}
    World(4, record=lambda offer: lambda name, data: heard.setdefault(name, data.hex())).run({1: 2})
    assert heard == json.loads((Path(__file__).parent / "session.json").read_text())
