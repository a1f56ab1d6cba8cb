"""A site in fair training: what it sends, with and without privacy, and what it sends when it has opted out."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from client.fairness import Fairness
from client.grid import plan_grid
from client.groups import fair_round
from client.nets import critic_range, model_of, with_critic
from client.one_pass import train_sites
from client.plan import Secure
from client.private_training import parts_of
from client.told import Told
from fer_models.errors import ConfigError, ModelError, PrivacyError
from fer_models.flat import FlatModel
from fer_models.zoo import build

SECURE = Secure(sites=3, threshold=3, minimum=3, clip=16.0)
EVEN = ((1.0, 1.0, 1.0),) * 3
TOLD = Told((), 1.0, EVEN, (1.0, 1.0), (1.0, 0.7))
PRIVATE = {"privacy": {"counts_epsilon": 0.5}}
CRITIC = 2 * 16 + 2
"""Numbers of a linear critic of two groups on the 16 features of cnn_tiny."""


@pytest.fixture
def fair_of(plan_of):
    def make(fair=None, **given):
        fairness = Fairness(
            **{"attribute": "age", "adversary": "critic", "weighting": "errors", "ramp": 0.0, **(fair or {})}
        )
        return plan_of(aggregation="secure", secure=SECURE, fairness=fairness, **given)

    return make


def distributed(plan, size):
    own = {"noise": "distributed", "threshold": 3, "parameters": size, "noise_multiplier": 0.5}
    return replace(
        plan,
        privacy=replace(plan.privacy, **own),
        local=replace(plan.local, amount=1, rate=0.5),
        server=replace(plan.server, weighting="uniform"),
    )


def start_of(bench_of, plan):
    return bench_of(plan).flat.full_vector.clone().numpy()


def sent(agent, plan, bench_of, told=TOLD, round_number=1):
    """Return what a site sends: net, critic, tally."""
    update = agent.train(plan, round_number, start_of(bench_of, plan), told=told)
    size = update.delta.size - plan.tally_size
    critic = critic_range(bench_of(plan).flat)
    return np.split(update.delta, [critic.start, size])


def test_it_sends_net_critic_and_tally_as_one_vector(fair_of, bench_of, agent_of):
    plan, agent = fair_of(local={"batch": 50, "amount": 1}), agent_of()
    net, critic, tally = sent(agent, plan, bench_of)
    assert len(critic) == CRITIC
    assert len(tally) == 3 * 3 * 2
    assert agent.update_size(plan) == len(net) + len(critic) + len(tally)
    assert np.abs(critic).max() > 0
    shares = tally.reshape(3, 3, 2).sum(2)
    names = np.array(["old", "young", "undisclosed"])
    own = agent.samples.groups["age"][:50]
    for g, name in enumerate(names):
        for c in range(3):
            expected = ((own == name) & (agent.samples.label[:50] == c)).mean()
            assert shares[g, c] == pytest.approx(expected), "one batch of everything"


@pytest.mark.parametrize("adversary", ["critic", "gradient_reversal"])
def test_who_opts_out_moves_no_critic_and_tallies_nobody(fair_of, bench_of, agent_of, adversary):
    plan = fair_of({"adversary": adversary})
    agent = agent_of()
    agent.opted_out = True
    net, critic, tally = sent(agent, plan, bench_of)
    assert (critic == 0).all()
    assert tally.reshape(3, 3, 2)[:2].sum() == 0
    assert tally.sum() == pytest.approx(1)
    assert np.abs(net).max() > 0


def test_who_opts_out_applies_the_confusion_all_the_same(fair_of, bench_of, agent_of):
    """In the frozen mode a site's group labels do not reach its net's update at all."""
    plan = fair_of({"weighting": "none"})
    told = Told((), 1.0, (), (1.0, 1.0), (1.0, 0.7))
    silent = agent_of()
    silent.opted_out = True
    net, critic, _ = sent(agent_of(), plan, bench_of, told)
    same, zero, _ = sent(silent, plan, bench_of, told)
    assert np.abs(critic).max() > 0 == np.abs(zero).max()
    assert np.array_equal(net, same)
    without, _, _ = sent(silent, plan, bench_of, replace(told, strength=0.0))
    assert not np.array_equal(net, without)


def test_under_privacy_whoever_opts_out_sends_noise_of_the_same_size(fair_of, bench_of, agent_of):
    plan = fair_of(**PRIVATE)
    silent = agent_of("site-1")
    silent.opted_out = True
    shown, hidden = sent(agent_of(), plan, bench_of), sent(silent, plan, bench_of)
    for own, other in zip(shown, hidden, strict=True):
        assert own.std() == pytest.approx(other.std(), rel=0.5)
        assert np.abs(other).min() > 0
    assert silent.count_labels(plan).counts.shape == (9,)


def test_the_ledger_charges_what_the_plan_says(fair_of, plan_of, bench_of, agent_of):
    plan, agent = fair_of(**PRIVATE), agent_of()
    sent(agent, plan, bench_of)
    [event] = agent._ledger.events
    assert (event.kind, event.mechanism.noise, event.mechanism.count) == ("training", 1.0, plan.local.amount)


def test_every_part_has_its_noise(fair_of, bench_of, agent_of):
    """With empty batches all that leaves is noise: sigma s C on net and critic, sigma s rho on the tally."""
    plan = fair_of(privacy={"counts_epsilon": 0.5, "noise_multiplier": 2.0}, local={"rate": 1e-9})
    net, critic, _ = sent(agent_of(), plan, bench_of)
    steps, stretch = plan.local.amount, np.sqrt(1 + 2 / 9)
    divisor = 1e-9 * 50
    one = 2.0 * stretch * np.sqrt(steps) * plan.local.learning_rate / divisor
    assert net.std() == pytest.approx(one, rel=0.05)
    assert critic.std() == pytest.approx(one, rel=0.3)
    drawn = [sent(agent_of(f"site-{i}"), plan, bench_of)[2] for i in range(12)]
    expected = 2.0 * stretch * 3 * np.sqrt(steps) / (divisor * steps)
    assert np.concatenate(drawn).std() == pytest.approx(expected, rel=0.15)
    assert [(part.prefix, part.clip) for part in parts_of(plan)] == [("net.", 1.0), ("critic.", 1 / 3)]


def test_distributed_noise_is_one_for_all_coordinates(fair_of, bench_of, agent_of):
    plan = fair_of(**PRIVATE, local={"amount": 1})
    size = agent_of().update_size(plan)
    plan = distributed(plan, size)
    empty = replace(plan, local=replace(plan.local, rate=1e-9))
    update = agent_of().train(empty, 1, start_of(bench_of, empty), told=TOLD)
    assert update.delta.dtype == np.int32
    assert len(update.delta) == size
    grid = plan_grid(empty)
    assert update.delta.std() == pytest.approx(grid.share, rel=0.1)
    plain = plan_grid(replace(empty, fairness=None, privacy=replace(empty.privacy, counts_epsilon=None)))
    assert grid.sensitivity - plain.sensitivity == pytest.approx(
        (plan.stretch - 1) * plan.privacy.resolution * (1 + 2**-10), rel=1e-6
    )
    full = agent_of().train(plan, 1, start_of(bench_of, plan), told=TOLD).delta[-18:]
    counts = full * grid.width * 3  # steps -> pictures: a picture is C / rho long, and C is 1
    assert counts.sum() == pytest.approx(25, abs=12), "half of fifty, and noise"


def test_noise_is_accounted_for_as_many_numbers_as_leave(fair_of, bench_of, agent_of):
    plan = fair_of(**PRIVATE, local={"amount": 1})
    plan = distributed(plan, agent_of().update_size(plan) - 1)
    with pytest.raises(PrivacyError, match="noise that is accounted for"):
        agent_of().train(plan, 1, start_of(bench_of, plan), told=TOLD)


def test_another_thing_told_is_another_release(fair_of, bench_of, agent_of):
    plan, agent = fair_of(**PRIVATE), agent_of()
    first = sent(agent, plan, bench_of)[0]
    assert np.array_equal(first, sent(agent, plan, bench_of)[0])
    assert len(agent._ledger.events) == 1
    other = sent(agent, plan, bench_of, replace(TOLD, strength=0.5))[0]
    assert not np.array_equal(first, other)
    assert len(agent._ledger.events) == 2


def test_weights_after_the_clip_scale_a_whole_group(fair_of, bench_of, rows_of, agent_of):
    """All of one weight: the clipped sum is that times as long, and the divisor takes it back."""
    plan = fair_of({"adversary": "none"}, privacy={"counts_epsilon": 0.5, "noise_multiplier": 1e-6})
    half = Told((), 0.0, ((0.5, 0.5, 0.5),) * 3, (), (0.5, 1.0))
    one = Told((), 0.0, EVEN, (), (1.0, 1.0))
    bench, agent = bench_of(plan), agent_of()
    data = agent._grouped(plan)
    found = [fair_round(plan, data, told).unit_weights(np.arange(4), [1] * 4) for told in (one, half)]
    assert [w[0].tolist() for w in found] == [[1.0] * 4, [0.5] * 4]
    start = bench.flat.full_vector.clone().numpy()

    # One question for both, so that batches are the same: noise is bound to what is told.
    class Same(Told):
        binding = b""

    deltas = [
        agent_of().train(plan, 1, start, told=Same(told.prior, 0.0, told.weights, (), told.means)).delta[:-18]
        for told in (one, half)
    ]
    assert np.allclose(deltas[0], deltas[1], atol=1e-3 * np.abs(deltas[0]).max())


def test_several_sites_in_one_pass_are_refused(fair_of, agent_of, bench_of):
    plan = fair_of()
    with pytest.raises(ConfigError, match="fair training of several sites"):
        train_sites([agent_of(), agent_of("site-1")], plan, 1, start_of(bench_of, plan))


def test_the_critic_goes_on_and_comes_off(fair_of, bench_of):
    flat, bare = bench_of(fair_of()).flat, FlatModel(build(fair_of().model, 7))
    whole = with_critic(flat, bare.full_vector)
    assert torch.equal(model_of(flat, whole), bare.full_vector)
    assert torch.equal(whole[critic_range(flat)], flat.full_vector[critic_range(flat)])
    assert len(whole) - len(bare.full_vector) == CRITIC
    assert torch.equal(model_of(bare, bare.full_vector), bare.full_vector)
    assert torch.equal(with_critic(bare, bare.full_vector), bare.full_vector)


def test_features_that_stay_as_they_are_get_no_critic(fair_of, bench_of):
    with pytest.raises(ModelError, match="nothing before the last layer learns"):
        bench_of(fair_of(local={"scope": "head"}))
    bench_of(fair_of({"adversary": "none"}, local={"scope": "head"}))


@pytest.mark.parametrize("name", ["fer_nano", "fer_small", "cnn_tiny", "timm:mobilenetv2_050"])
@pytest.mark.parametrize("fair", [{}, {"conditional": True, "hidden": 4}, {"adversary": "gradient_reversal"}])
def test_nets_are_proven_with_their_critic(fair_of, bench_of, name, fair):
    bench_of(fair_of(fair, name=name, privacy={"counts_epsilon": 0.5}))
