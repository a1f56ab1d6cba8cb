"""The sentence on trust names what the guarantee holds against, and who has to be honest."""

from dataclasses import replace

import pytest

from client.finish import Finish
from client.plan import Privacy, Secure
from client.trust import learned_of, trust_of


def privacy_of(**own):
    return Privacy(1.0, clip=1.0, delta=1e-5, nominal_units=100, **own)


def test_the_noise_of_a_site_asks_for_no_other_site():
    said = trust_of(privacy_of(), simulated=True)
    assert "by themselves" in said
    assert said == trust_of(privacy_of(), simulated=False)


def test_distributed_noise_names_the_honest_sites_and_the_simulation():
    privacy = privacy_of(noise="distributed", threshold=10, colluders=3)
    simulated, deployed = (trust_of(privacy, simulated=each) for each in (True, False))
    for said in (simulated, deployed):
        assert "whoever sees only the sums" in said
        assert "at least 7 of the 10 sites" in said
    assert "coordinator's process sees each share" in simulated
    assert "simulation" not in deployed
    assert "the one site" in trust_of(privacy_of(noise="distributed"), simulated=True)


def test_what_sums_after_the_last_round_showed(plan_of):
    plan = replace(plan_of(server={"weighting": "uniform"}), aggregation="secure", secure=replace(SECURE))
    assert "After the last round" not in learned_of(plan)
    erased = learned_of(replace(plan, finish=Finish("age", 16)))
    assert erased.endswith("as sums as well, how long features of training pictures are; their sums by age.")
    model = replace(plan.model, clusters=3)
    said = learned_of(replace(plan, model=model, finish=Finish("", 16, clusters=3)))
    assert said.endswith("and the classes of these pictures and those they are given, by 3 clusters.")
    private = replace(plan_of(privacy={}), aggregation="secure", secure=SECURE)
    assert "each with the noise of privacy" in learned_of(replace(private, finish=Finish("age", 16, 4.0)))


SECURE = Secure(sites=10, threshold=7, minimum=6, clip=8.0, colluders=3)


def test_masked_shares_are_seen_by_nobody():
    privacy = privacy_of(noise="distributed", threshold=7, colluders=3)
    said = trust_of(privacy, simulated=True, secure=SECURE)
    assert said == trust_of(privacy, simulated=False, secure=SECURE)
    assert "at least 4 of the 7 sites of a sum" in said
    assert "over 7 sites or more; each more adds noise" in said
    assert "sees each share" not in said


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, "breaks the protocol, also where up to 3 sites of the round tell it all they know."),
        ({"colluders": 1}, "breaks the protocol, also where a site of the round tells it all they know."),
        ({"colluders": 0}, "breaks the protocol."),
        ({"profile": "semi-honest"}, "follows the protocol, also"),
    ],
)
def test_what_a_coordinator_learned(plan_of, changed, said):
    secure = replace(SECURE, **changed)
    plain = plan_of(server={"weighting": "uniform"})
    plan = replace(plain, aggregation="secure", secure=secure)
    assert said in learned_of(plan)
    assert "the sum over 7 or more of 10 sites, of updates and training losses and of counts" in learned_of(
        plan
    )
    assert "of one site it learned whether it took part. That" in learned_of(plan)
    private = replace(plan_of(privacy={}), aggregation="secure", secure=secure)
    assert "of updates and of counts" in learned_of(private)
    assert "took part, and what its ledger says it has spent. That" in learned_of(private)
    assert "saw what each site sent, its update and its training loss" in learned_of(plain)
    assert "loss" not in learned_of(plan_of(privacy={})), "under privacy no site sends one"


def test_sums_over_people_are_told_of_as_often_as_they_are_sent(plan_of):
    assert "with the last ones sums" in learned_of(plan_of(server={"people": True}))
    assert "with all of these sums" in learned_of(plan_of(server={"people": True, "participation": 0.5}))
