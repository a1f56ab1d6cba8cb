"""Frozen layers: they stay as they are, cost no noise, and never leave the site."""

import numpy as np
import pytest
import torch

from client.one_pass import train_sites
from client.private_training import train_private
from client.randomness import SeededEntropy
from client.together import train_together
from client.training import train_plain

HEAD = 96 * 3 + 3
KINDS = {
    "plain": {},
    "momentum and decay": {"momentum": 0.9, "weight_decay": 0.5},
    "adamw": {"optimizer": "adamw", "learning_rate": 0.01, "weight_decay": 0.5},
    "fedprox and clip": {"proximal": 1.0, "gradient_clip": 0.1},
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_only_what_is_in_scope_moves(kind, plan_of, bench_of, rows_of):
    plan = plan_of("fer_nano", local={"scope": "head", "batch": 8, **KINDS[kind]})
    bench = bench_of(plan)
    start = bench.flat.full_vector.clone()
    train_plain(bench, rows_of(range(40)), plan.local, 1, SeededEntropy(0, "a"), "")
    moved = bench.flat.full_vector != start
    assert bench.flat.trained.ranges == ((len(start) - HEAD, len(start)),)
    assert not moved[:-HEAD].any()
    assert moved[-HEAD:].all()
    assert bench.flat.is_intact()


def test_the_head_learns_what_it_would_learn_from_frozen_features(plan_of, bench_of, rows_of):
    """One step of the head is one step of a linear layer on the features."""
    plan = plan_of("fer_nano", local={"scope": "head", "amount": 1, "batch": 40, "learning_rate": 0.5})
    bench, data = bench_of(plan), rows_of(range(40))
    net, start = bench.flat.module, bench.flat.vector.clone()
    with torch.no_grad():
        z = net.features(data.inputs(np.arange(40), bench.device))
        error = (net.head(z).softmax(1) - data.targets) / 40
    train_plain(bench, data, plan.local, 1, SeededEntropy(0, "a"), "")
    expected = start[-HEAD:-3].view(3, 96) - 0.5 * error.t() @ z
    assert torch.allclose(net.head.weight, expected, atol=1e-6)
    assert torch.allclose(net.head.bias, start[-3:] - 0.5 * error.sum(0), atol=1e-6)


@pytest.mark.parametrize("rows", [range(40), range(1)])
def test_noise_falls_on_what_learns_alone(rows, plan_of, bench_of, rows_of):
    plan = plan_of("fer_nano", local={"scope": "last_quarter", "amount": 2, "rate": 0.05}, privacy={})
    bench = bench_of(plan)
    start = bench.flat.full_vector.clone()
    train_private(bench, rows_of(rows), plan, 1, SeededEntropy(0, "a"), "")
    moved = bench.flat.full_vector != start
    trained = torch.zeros_like(moved)
    bench.flat.trained.put(trained, torch.ones(len(bench.flat.trained), dtype=torch.bool))
    assert torch.equal(moved, trained)
    assert 0 < len(bench.flat.trained) < len(start)


def test_an_update_holds_what_learns_alone(plan_of, bench_of, agent_of):
    for privacy in (None, {}):
        plan = plan_of("fer_nano", local={"scope": "head"}, privacy=privacy)
        vector = bench_of(plan).flat.full_vector.clone().numpy()
        update = agent_of().train(plan, 1, vector)
        assert update.delta.shape == (HEAD,)
        assert np.abs(update.delta).min() > 0


@pytest.mark.parametrize("kind", list(KINDS))
def test_frozen_sites_in_one_pass_are_sites_one_by_one(kind, plan_of, bench_of, rows_of, agent_of):
    plan = plan_of("fer_nano", local={"scope": "head", "batch": 8, **KINDS[kind]})
    bench = bench_of(plan)
    start = bench.flat.full_vector.clone()
    parts = [range(20), range(30, 60)]
    entropies = [SeededEntropy(0, name) for name in "ab"]
    ended, _ = train_together(bench, [rows_of(r) for r in parts], plan, 1, entropies, start, "ab")
    for vector, rows, entropy in zip(ended, parts, entropies, strict=True):
        bench.flat.load_(start)
        train_plain(bench, rows_of(rows), plan.local, 1, entropy, "")
        assert np.array_equal(vector[:-HEAD], start.numpy()[:-HEAD])
        assert np.allclose(vector, bench.flat.full_vector.numpy(), atol=1e-5)
    agents = [agent_of(name, train=rows) for name, rows in zip("ab", parts, strict=True)]
    updates = train_sites(agents, plan, 1, start.numpy())
    assert np.allclose([u.delta for u in updates], ended[:, -HEAD:] - start.numpy()[-HEAD:], atol=1e-6)
