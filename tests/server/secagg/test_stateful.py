"""Sessions under lost, late, repeated and replayed messages and restarted sites, in any order."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from client.secagg.policy import fewest
from fer_models.errors import SecureAggregationError

from .conftest import QUESTION, World, total_of

PHASES = ("adverts", "shares", "masked", "consents", "reveals")
SITES = 5
SITE = st.integers(0, SITES - 1)


class Rounds(RuleBasedStateMachine):
    """What may come in any order: an answer, a lost answer, a repeated one, one of another session, a restart."""

    sums = 0

    @initialize(seed=st.integers(0, 3), unlucky=SITE)
    def begin(self, seed, unlucky):
        self.unlucky = unlucky
        before = World(SITES, seed=seed)
        before.run()
        self.old = {
            (phase, site): before.session._taken.get((phase, site))
            for phase in PHASES
            for site in range(SITES)
        }
        self.world = World(SITES, seed=seed, session=2, world=before)
        self.session, self.sites = self.world.session, list(self.world.sites)
        self.sent, self.taken = {}, {phase: set() for phase in PHASES}
        self.gone, self.requests, self.sum = set(), {}, None
        self.requests["adverts"] = {site: self.session.offer() for site in range(SITES)}

    @property
    def phase(self):
        return self.session.phase

    def answer(self, phase, site):
        request, participant = self.requests[phase][site], self.sites[site]
        if phase == "masked":
            return participant.mask(request, QUESTION, self.world.body(site))
        calls = {
            "adverts": participant.advertise, "shares": participant.share,
            "consents": participant.consent, "reveals": participant.reveal,
        }  # fmt: skip
        return calls[phase](request)

    def take(self, phase, site, data):
        takes = {
            "adverts": self.session.take_advert, "shares": self.session.take_shares,
            "masked": self.session.take_masked, "consents": self.session.take_consent,
            "reveals": self.session.take_reveal,
        }  # fmt: skip
        takes[phase](site, data)

    def waits(self):
        return self.phase in PHASES

    @precondition(waits)
    @rule(
        order=st.permutations(range(SITES)),
        fate=st.sampled_from(("silent", "lost", "heard")),
        on=st.booleans(),
    )
    def answers(self, order, fate, on):
        """Sites answer in any order; one may not, or its answer is lost; then the coordinator may go on."""
        for site in order:
            unlucky = site == self.unlucky
            if site in self.gone or site not in self.requests[self.phase] or (unlucky and fate == "silent"):
                continue
            data = self.answer(self.phase, site)
            assert self.sent.setdefault((self.phase, site), data) == data
            if not (unlucky and fate == "lost"):
                self.take(self.phase, site, data)
                self.taken[self.phase].add(site)
        if on:
            self.goes_on()

    @precondition(lambda self: self.waits() and not self.gone)
    @rule(site=SITE)
    def restarts(self, site):
        """A restarted site has its journal and nothing else: it answers no more in this session."""
        self.sites[site] = self.world.participant(site)
        if any((phase, site) in self.sent for phase in PHASES):
            self.gone.add(site)
        if site in self.gone:
            for phase in self.requests:
                if site in self.requests[phase]:
                    with pytest.raises(SecureAggregationError) as refused:
                        self.answer(phase, site)
                    assert refused.value.code in ("stale_session", "out_of_order")

    @rule(which=st.data())
    def repeats(self, which):
        """A message comes again: nothing changes, or it is too late for one that was lost."""
        if not self.sent:
            return
        phase, site = which.draw(st.sampled_from(sorted(self.sent)))
        if site in self.taken[phase] and self.phase != "aborted":
            self.take(phase, site, self.sent[phase, site])
        elif phase == self.phase:
            self.take(phase, site, self.sent[phase, site])
            self.taken[phase].add(site)
        else:
            with pytest.raises(SecureAggregationError) as refused:
                self.take(phase, site, self.sent[phase, site])
            assert refused.value.code in ("late", "aborted") and refused.value.culprit == site

    @precondition(waits)
    @rule(phase=st.sampled_from(PHASES), site=SITE, other=SITE)
    def replays(self, phase, site, other):
        """A message of the session before, or in another site's name, is refused."""
        wrong = [(site, self.old[phase, site])]
        if other != site:
            wrong += [(other, data) for (_, who), data in self.sent.items() if who == site]
        for name, data in wrong:
            with pytest.raises(SecureAggregationError) as refused:
                self.take(phase, name, data)
            assert refused.value.culprit == name

    @precondition(lambda self: self.waits() and len(self.taken[self.phase]) >= 3)
    @rule()
    def goes_on(self):
        """The coordinator closes an exchange; too few end the session."""
        phase, arrived = self.phase, sorted(self.taken[self.phase])
        try:
            following = self.close(phase, arrived)
        except SecureAggregationError as error:
            assert error.code == "too_few" and len(arrived) < fewest(self.world.terms)
            assert self.phase == "aborted"
            return
        assert len(arrived) >= fewest(self.world.terms)
        if phase != "reveals":
            self.requests[PHASES[PHASES.index(phase) + 1]] = following

    def close(self, phase, arrived):
        session = self.session
        if phase == "adverts":
            return dict.fromkeys(arrived, session.roll())
        if phase == "shares":
            session.ask(QUESTION)
            return {site: session.inbox(site) for site in arrived or [0]}
        if phase == "masked":
            return dict.fromkeys(arrived, session.survivors())
        if phase == "consents":
            return {site: session.consents(site) for site in arrived or [0]}
        self.sum = session.finish()
        Rounds.sums += 1
        return {}

    @invariant()
    def the_sum_is_exact_or_there_is_none(self):
        if getattr(self, "sum", None) is not None:
            assert self.sum.survivors == tuple(sorted(self.taken["masked"]))
            assert self.sum.total == total_of([self.world.bodies[site] for site in self.sum.survivors])


def test_any_order():
    Rounds.sums = 0
    checks = settings(
        max_examples=60,
        stateful_step_count=25,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Rounds, settings=checks)
    assert Rounds.sums >= 5
