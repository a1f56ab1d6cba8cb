"""Label counts at the agent: what leaves, what it costs, and what must be written before."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from client.accounting import epsilon_of
from client.label_counts import noisy_counts
from client.ledger import Ledger, close_all
from client.limits import Limit
from client.mechanisms import Mechanism, gaussian, merged
from client.one_pass import train_sites
from client.randomness import KeyedStream, SystemEntropy
from client.told import Told
from fer_models.errors import ConfigError, PrivacyError

COUNTS = Mechanism("pure", 2.0)
ASKED = {"server": {"adjustment": 0.5, "rounds": 2}, "privacy": {"counts_epsilon": 0.5}}
LOSS = {"loss": "logit_adjusted"}


def vector_for(bench_of, plan):
    return bench_of(plan).flat.full_vector.clone().numpy()


def events(agent):
    return [(event.kind, event.round, event.mechanism) for event in agent._ledger.events]


def test_counts_leave_once_with_noise_and_an_entry_in_the_ledger(plan_of, agent_of):
    plan, agent = plan_of(**ASKED), agent_of()
    found = agent.count_labels(plan)
    assert events(agent) == [("label_counts", 0, COUNTS)]
    assert found.history == (COUNTS,)
    assert found.head == agent._ledger.head
    true = np.bincount(agent.samples.label[:50], minlength=3)
    assert (found.counts != true).any()
    assert np.abs(found.counts - true).max() < 40, "beyond with a probability of 10^-8"
    again = agent.count_labels(plan, found.head)
    assert np.array_equal(again.counts, found.counts), "the same release over again"
    assert len(events(agent)) == 1
    other = agent.count_labels(replace(plan, seed=9))
    assert (other.counts != found.counts).any(), "another plan, other noise"
    assert len(events(agent)) == 2
    assert (agent_of("site-1").count_labels(plan).counts != found.counts).any()


def test_a_deployed_site_draws_fresh_noise_and_is_charged_each_time(plan_of, agent_of):
    agent, plan = (
        agent_of(entropy=SystemEntropy()),
        plan_of(privacy={"counts_epsilon": 1e-3}, **{"server": ASKED["server"]}),
    )
    some = [agent.count_labels(plan) for _ in range(3)]
    assert len({tuple(each.counts) for each in some}) == 3
    assert some[-1].history == (replace(COUNTS, noise=1000.0, count=3),)


def test_counts_and_training_add_up(plan_of, bench_of, agent_of):
    plan, agent = plan_of(**ASKED), agent_of()
    head = agent.count_labels(plan).head
    update = agent.train(plan, 1, vector_for(bench_of, plan), head)
    assert [kind for kind, _, _ in events(agent)] == ["label_counts", "training"]
    assert update.history == merged((COUNTS, *gaussian(1.0, 0.2, 4)))
    total = epsilon_of(update.history, 1e-5).value
    alone = epsilon_of(gaussian(1.0, 0.2, 4), 1e-5).value
    assert alone < total <= alone + 0.5 + 0.01


def test_without_privacy_counts_are_exact_and_nothing_is_written(plan_of, agent_of):
    agent = agent_of()
    found = agent.count_labels(plan_of(server={"adjustment": 0.5}))
    assert np.array_equal(found.counts, np.bincount(agent.samples.label[:50], minlength=3))
    assert (found.history, found.head, events(agent)) == ((), None, [])


def test_what_no_plan_asks_for_is_not_counted(plan_of, agent_of):
    for plan in (
        plan_of(privacy={}),
        plan_of(),
        plan_of(server={"adjustment": 1.0}, local={"prior": (1.0, 2.0, 3.0)}),
    ):
        with pytest.raises(PrivacyError, match=r"does not ask for label counts \(site-0\)"):
            agent_of().count_labels(plan)


def test_nothing_is_released_where_there_is_no_room(tmp_path, plan_of, bench_of, agent_of):
    plan, path = plan_of(**ASKED), tmp_path / "site.sqlite"
    training = epsilon_of(gaussian(1.0, 0.2, 8), 1e-5).value
    whole = epsilon_of(merged((COUNTS, *gaussian(1.0, 0.2, 8))), 1e-5).value
    with pytest.raises(PrivacyError, match=r"round 2 of 2 would pass the site's limit"):
        agent_of(path=path, limit=Limit(training, 1e-5)).count_labels(plan)
    assert not path.exists()
    limit = Limit(whole + 1e-6, 1e-5)
    agent = agent_of(path=path, limit=limit)
    agent.count_labels(plan)
    close_all()
    agent = agent_of(
        path=path, limit=limit
    )  # killed before the answer came: there is room for the same again
    head = agent.count_labels(plan).head
    for number in (1, 2):
        head = agent.train(plan, number, vector_for(bench_of, plan), head).head
    assert [kind for kind, _, _ in events(agent)] == ["label_counts", "training", "training"]
    with pytest.raises(PrivacyError, match="would pass the site's limit"):
        agent.count_labels(replace(plan, seed=8))


def test_counts_are_not_told_from_an_old_ledger(tmp_path, plan_of, agent_of):
    plan, path = plan_of(**ASKED), tmp_path / "site.sqlite"
    seen = agent_of(path=path).count_labels(plan).head
    close_all()
    path.unlink()
    with pytest.raises(PrivacyError, match="the privacy ledger is gone"):
        agent_of(path=path).count_labels(plan, seen)


def test_a_person_adds_one_to_one_count(samples, plan_of, agent_of):
    """With 25 people of two pictures each, 25 are counted; the mechanism protects persons."""
    table = replace(samples, subject=np.array([f"p{i // 2}" for i in range(150)]))
    plan = plan_of(server=ASKED["server"], privacy={"counts_epsilon": 100.0, "unit": "subject"})
    agent = agent_of(table=table)
    found = agent.count_labels(plan)
    assert found.counts.sum() == 25, "at epsilon 100 there is no noise"
    assert events(agent) == [("label_counts", 0, Mechanism("pure", 0.01, unit="subject"))]
    bare = agent_of()
    with pytest.raises(PrivacyError, match="do not say who is on them"):
        bare.count_labels(plan)
    assert events(bare) == []


# A loss that knows the shares


def test_the_shares_steer_the_loss_and_the_noise_is_bound_to_them(plan_of, bench_of, agent_of):
    plan = plan_of(local=LOSS, server={"rounds": 2}, privacy={"counts_epsilon": 0.5})
    start = vector_for(bench_of, plan)
    one, same, other = (
        agent_of().train(plan, 1, start, None, Told(prior))
        for prior in ((0.8, 0.1, 0.1), (0.8, 0.1, 0.1), (0.1, 0.1, 0.8))
    )
    assert np.array_equal(one.delta, same.delta)
    assert (one.delta != other.delta).all()
    for wrong in ((), (0.5, 0.5)):
        agent = agent_of()
        with pytest.raises(ConfigError, match=r"shares for 3 classes \(prior\)"):
            agent.train(plan, 1, start, None, Told(wrong))
        assert events(agent) == []


@pytest.mark.parametrize("loss", ["logit_adjusted", "class_balanced"])
def test_public_shares_in_the_plan_cost_nothing(plan_of, bench_of, agent_of, loss):
    plan = plan_of(local={"loss": loss, "prior": (6.0, 3.0, 1.0)}, privacy={})
    told = plan_of(local={"loss": loss}, privacy={"counts_epsilon": 0.5})
    start = vector_for(bench_of, plan)
    agent = agent_of()
    agent.train(plan, 1, start)
    assert [kind for kind, _, _ in events(agent)] == ["training"]
    bench = agent._benches.of(told)
    bench.expect(Told((0.6, 0.3, 0.1)), partial=False)
    own = bench_of(plan)
    logits, targets = torch.randn(5, 3), torch.eye(3)[[0, 1, 2, 0, 1]]
    torch.testing.assert_close(own.loss(logits, targets), bench.loss(logits, targets))


def test_sites_trained_together_know_the_shares(plan_of, bench_of, agent_of):
    plan = plan_of(local={**LOSS, "amount": 2})
    start = vector_for(bench_of, plan)
    agents = [agent_of(f"site-{i}", train=range(20 * i, 20 * i + 20)) for i in range(2)]
    told = Told((0.7, 0.2, 0.1))
    together = train_sites(agents, plan, 1, start, told)
    alone = [agent.train(plan, 1, start, None, told) for agent in agents]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one.delta, other.delta, atol=1e-5)


def test_one_more_picture_changes_the_counts_by_one():
    """With the same noise, counts of neighbouring data lie at distance one; the noise is sized for that."""
    label = np.arange(30) % 3
    for added in range(4):
        counts = [
            noisy_counts(each, 4, 0.5, KeyedStream(bytes(32))) for each in (label, np.append(label, added))
        ]
        assert np.abs(counts[1] - counts[0]).sum() == 1


def test_the_ledger_is_written_before_the_counts_are_made(plan_of, agent_of, monkeypatch):
    agent, order = agent_of(), []
    record = Ledger.record
    monkeypatch.setattr(Ledger, "record", lambda *given: (order.append("written"), record(*given))[1])
    real = noisy_counts
    monkeypatch.setattr("client.agent.noisy_counts", lambda *given: (order.append("made"), real(*given))[1])
    agent.count_labels(plan_of(**ASKED))
    assert order == ["written", "made"]
