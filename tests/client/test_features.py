"""Features that are kept are those that would be made, and are made anew when what makes them changes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import client.inputs as module
from client.evaluation import evaluate
from client.inputs import Features
from client.judging import evaluate_sites
from client.private_training import train_private
from client.randomness import SeededEntropy
from client.training import train_plain
from client.workbench import Workbench
from fer_models.transforms import to_input

HEAD, QUARTER = {"scope": "head"}, {"scope": "last_quarter"}


class Counted:
    """Counts the pictures that a net makes features of."""

    def __init__(self, net, monkeypatch):
        self.count, made = 0, type(net).features

        def features(this, x):
            self.count += len(x)
            return made(this, x)

        monkeypatch.setattr(type(net), "features", features)


@pytest.mark.parametrize(("name", "local"), [("hog_linear", HEAD), ("fer_nano", HEAD), ("fer_nano", QUARTER)])
def test_kept_features_are_those_of_the_pictures(name, local, plan_of, bench_of, samples, monkeypatch):
    monkeypatch.setattr(module, "FEATURE_BLOCK", 16)
    bench = bench_of(plan_of(name, local=local))
    net, rows = bench.flat.module, np.arange(149, 60, -1)
    fixed, kept, counted = bench.fixed(samples), Features(samples, rows), Counted(net, monkeypatch)
    found = kept.of(fixed, np.array([70, 3, 3]))
    assert counted.count == 16 + 16
    x = to_input(samples.pictures[rows[[70, 3, 3]]])
    assert torch.allclose(found, net.features(x), atol=1e-5)
    mirrored = kept.of(fixed, np.array([5]), mirrored=True)
    assert torch.allclose(mirrored, net.features(to_input(samples.pictures[rows[[5]]]).flip(3)), atol=1e-5)
    counted.count = 0
    assert torch.equal(kept.of(fixed, np.arange(16)), kept.of(fixed, np.arange(89))[:16])
    assert counted.count == len(rows) - 32, "the last block is shorter"
    assert not found.requires_grad


def test_features_do_not_depend_on_the_order_of_asking(plan_of, bench_of, samples, monkeypatch):
    monkeypatch.setattr(module, "FEATURE_BLOCK", 8)
    fixed = bench_of(plan_of("fer_nano", local=HEAD)).fixed(samples)
    one, other = Features(samples, np.arange(20)), Features(samples, np.arange(20))
    backwards = torch.cat([one.of(fixed, np.array([i])) for i in range(19, -1, -1)]).flip(0)
    assert torch.equal(backwards, other.of(fixed, np.arange(20)))


@pytest.mark.parametrize(
    ("name", "changes", "kept"),
    [
        ("hog_linear", {}, True),
        ("fer_nano", HEAD, True),
        ("fer_nano", {"scope": "last_quarter"}, True),
        ("fer_nano", {}, False),
        ("cnn_tiny", HEAD, False),
    ],
)
def test_features_are_kept_where_the_first_layers_are_fixed(name, changes, kept, plan_of, bench_of, samples):
    assert (bench_of(plan_of(name, local=changes)).fixed(samples) is not None) == kept
    assert bench_of(plan_of("fer_nano", norm="bn", local=HEAD)).fixed(samples) is None


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("local", [HEAD, QUARTER])
def test_training_on_kept_features_is_training_on_pictures(
    local, private, plan_of, bench_of, rows_of, monkeypatch
):
    plan = plan_of("fer_nano", local={**local, "amount": 3}, privacy={} if private else None, dropout=0.2)
    ended = []
    for limit in (module.FEATURE_BYTES, 0):
        monkeypatch.setattr(module, "FEATURE_BYTES", limit)
        bench = bench_of(plan)
        assert (bench.fixed(rows_of(range(40)).samples) is None) == (limit == 0)
        torch.manual_seed(0)  # of dropout
        if private:
            train_private(bench, rows_of(range(40)), plan, 1, SeededEntropy(0, "a"), "")
        else:
            train_plain(bench, rows_of(range(40)), plan.local, 1, SeededEntropy(0, "a"), "")
        ended.append(bench.flat.full_vector.clone())
    assert torch.allclose(ended[0], ended[1], atol=1e-5)
    assert not torch.equal(ended[0], Workbench(plan, bench.device).flat.full_vector)


def test_augmented_pictures_are_made_anew(plan_of, bench_of, rows_of, monkeypatch):
    for augment, expected in ((False, 40), (True, 3 * 8)):
        plan = plan_of("fer_nano", local={**HEAD, "amount": 3, "batch": 8, "augment": augment})
        bench = bench_of(plan)
        with monkeypatch.context() as patch:
            counted = Counted(bench.flat.module, patch)
            train_plain(bench, rows_of(range(40)), plan.local, 1, SeededEntropy(0, "a"), "")
        assert counted.count == expected


def test_new_weights_of_fixed_layers_make_new_features(plan_of, agent_of, bench_of, monkeypatch):
    plan = plan_of("fer_nano", local={**HEAD, "batch": 50, "amount": 1})
    bench, agent = bench_of(plan), agent_of()
    counted = Counted(bench.flat.module, monkeypatch)
    first = bench.flat.full_vector.clone().numpy()
    head_only, body_too = first.copy(), first.copy()
    head_only[-1] += 1
    body_too[0] += 1
    made = []
    for vector in (first, head_only, body_too, body_too, first):
        counted.count = 0
        update = agent.train(plan, 1, vector)
        made.append(counted.count)
        fresh = agent_of().train(plan, 1, vector)
        assert np.array_equal(update.delta, fresh.delta)
    assert made == [1 + 50, 0, 50, 0, 50]  # one made-up picture shows how many features there are


@pytest.mark.parametrize("local", [HEAD, QUARTER])
def test_counts_from_kept_features_are_those_from_pictures(
    local, plan_of, bench_of, agent_of, samples, monkeypatch
):
    plan = plan_of("fer_nano", local=local)
    bench = bench_of(plan)
    vector = bench.flat.full_vector.numpy()
    agents = [agent_of("a", test=range(100, 150)), agent_of("b", test=[3, 1, 2]), agent_of("c", test=[])]
    for agent in agents[1:]:
        agent._benches = agents[0]._benches
    counted = Counted(bench.flat.module, monkeypatch)
    found = evaluate_sites(agents, plan, vector, prove=True)
    first = counted.count
    assert evaluate_sites(agents, plan, vector, prove=False) == found
    assert counted.count == first
    for agent, counts in zip(agents, found, strict=True):
        expected = evaluate(
            bench.flat.module, samples, agent.test, plan.attributes, device=bench.device, prove=False
        )
        assert counts == expected
    assert agents[0]._benches.of(plan).flat.module.training
    other = replace(plan, seed=9)
    assert evaluate_sites(agents, other, bench_of(other).flat.full_vector.numpy(), prove=False) != found
