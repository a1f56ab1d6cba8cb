"""The agent and its ledger: what it refuses to release."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from client.accounting import epsilon_of
from client.ledger import close_all
from client.limits import Limit
from client.mechanisms import gaussian
from client.randomness import SystemEntropy
from fer_models.errors import PrivacyError


def vector_for(bench_of, plan):
    return bench_of(plan).flat.full_vector.clone().numpy()


def spent(plan, rounds):
    return epsilon_of(gaussian(1.0, 0.2, 4 * rounds), plan.privacy.delta).value


def test_a_plan_that_would_pass_the_limit_is_refused_before_it_trains(tmp_path, plan_of, bench_of, agent_of):
    plan = plan_of(server={"rounds": 5}, privacy={})
    path, limit = tmp_path / "site.sqlite", Limit(spent(plan, 3) + 1e-6, plan.privacy.delta)
    with pytest.raises(
        PrivacyError, match=r"round 4 of 5 would pass the site's limit of epsilon .* \(site-0\)"
    ):
        agent_of(path=path, limit=limit).train(plan, 1, vector_for(bench_of, plan))
    assert not path.exists()
    short = replace(plan, server=replace(plan.server, rounds=3))
    agent = agent_of(path=path, limit=limit)
    for number in (1, 2, 3):
        agent.train(short, number, vector_for(bench_of, plan))
    again = agent_of(path=path, limit=limit)  # a run that is taken up again has room for what it did before
    assert again.train(short, 3, vector_for(bench_of, plan)).history == gaussian(1.0, 0.2, 12)
    with pytest.raises(PrivacyError, match=r"round 1 of 3 would pass"):
        agent_of(path=path, limit=limit).train(replace(short, run="another"), 1, vector_for(bench_of, plan))


def test_a_site_that_is_drawn_now_and_then_looks_at_the_round_at_hand(plan_of, bench_of, agent_of):
    plan = plan_of(server={"rounds": 50, "participation": 0.1}, privacy={})
    limit = Limit(spent(plan, 2) + 1e-6, plan.privacy.delta)
    agent, start = agent_of(limit=limit), vector_for(bench_of, plan)
    agent.train(plan, 7, start)
    agent.train(plan, 31, start)
    with pytest.raises(PrivacyError, match="training in round 44 would pass the site's limit"):
        agent.train(plan, 44, start)


def test_every_release_is_held_against_the_limit(plan_of, bench_of, agent_of):
    """A coordinator that asks for a round again, with other weights, gets no more than was admitted."""
    plan = plan_of(server={"rounds": 2}, privacy={})
    start = vector_for(bench_of, plan)
    agent = agent_of(limit=Limit(spent(plan, 2) + 1e-6, plan.privacy.delta))
    agent.train(plan, 1, start)
    agent.train(plan, 1, start + np.float32(1e-3))
    with pytest.raises(PrivacyError, match="training in round 2 would pass"):
        agent.train(plan, 2, start)


def test_persons_cannot_be_claimed_after_pictures(plan_of, bench_of, agent_of):
    agent, plan = agent_of(), plan_of(privacy={})
    agent.train(plan, 1, vector_for(bench_of, plan))
    persons = SimpleNamespace(privacy=SimpleNamespace(unit="subject"))
    with pytest.raises(PrivacyError, match="protect single pictures only"):
        agent._ledger.admit(persons)


def test_an_old_copy_of_the_ledger_releases_nothing(tmp_path, plan_of, bench_of, agent_of):
    plan, path = plan_of(server={"rounds": 4}, privacy={}), tmp_path / "site.sqlite"
    start = vector_for(bench_of, plan)
    first = agent_of(path=path).train(plan, 1, start)
    close_all()
    copy = path.read_bytes()
    second = agent_of(path=path).train(plan, 2, start, first.head)
    assert second.head.number == 2
    assert agent_of(path=path).train(plan, 2, start, first.head).head == second.head, "ahead is fine"
    close_all()
    path.write_bytes(copy)
    with pytest.raises(PrivacyError, match="1 entries where 2 are known: restored from a copy"):
        agent_of(path=path).train(plan, 3, start, second.head)
    close_all()
    assert path.read_bytes() == copy, "nothing is released, so nothing is written"
    path.unlink()
    with pytest.raises(PrivacyError, match="the privacy ledger is gone"):
        agent_of(path=path).train(plan, 3, start, second.head)
    assert not path.exists()


@pytest.mark.parametrize("kind", ["training", "label counts"])
def test_a_site_of_more_units_than_1_over_delta_releases_nothing_and_keeps_the_reason(
    kind, tmp_path, plan_of, bench_of, agent_of, caplog
):
    """50 pictures; the plan supposes fewer, which a coordinator cannot know."""
    facts = {"counts_epsilon": 0.5} if kind == "label counts" else {}
    plan = plan_of(
        privacy={"delta": 0.02, "nominal_units": 20} | facts,
        server={"adjustment": 1.0} if facts else {},
    )
    path, start = tmp_path / "site.sqlite", vector_for(bench_of, plan)

    def ask(agent):
        return agent.train(plan, 1, start) if kind == "training" else agent.count_labels(plan)

    with pytest.raises(
        PrivacyError, match=r"delta 0.02 is not below 1 / 50, the pictures .*delta 2e-03 or less"
    ):
        ask(agent_of(path=path))
    with pytest.raises(PrivacyError, match=r"^the site takes no part in this plan \(site-0\)") as told:
        ask(agent_of(path=path, entropy=SystemEntropy()))
    assert "50" not in str(told.value)
    assert "1 / 50" in caplog.text
    assert not path.exists()
    assert ask(agent_of(path=path, train=range(49))).history
