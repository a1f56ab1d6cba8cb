"""Several sites in one pass do what each would have done alone."""

import math

import numpy as np
import pytest
import torch

from client.inputs import Inputs
from client.randomness import SeededEntropy
from client.together import train_together
from client.training import train_plain
from fer_models.errors import ModelError, PrivacyError, TrainingError

SITES = {"site-0": range(5), "site-1": range(10, 30), "site-2": range(40, 73)}
"""Site name -> its rows; of sizes 5, 20 and 33."""

WORK = {
    "steps": {},
    "steps that follow the size": {"rate": 0.3},
    "epochs": {"unit": "epochs", "amount": 2},
    "clip": {"gradient_clip": 0.2, "learning_rate": 1.0},
    "fedprox": {"proximal": 2.0, "unit": "epochs", "amount": 2},
    "momentum and decay": {"momentum": 0.9, "weight_decay": 0.05, "unit": "epochs", "amount": 2},
    "adamw": {
        "optimizer": "adamw",
        "learning_rate": 0.003,
        "weight_decay": 0.1,
        "unit": "epochs",
        "amount": 2,
    },
    "smoothing and augmentation": {"smoothing": 0.1, "augment": True},
    "labels": {"targets": "label"},
}


def entropies():
    return [SeededEntropy(3, name) for name in SITES]


def together(plan, bench, rows_of, vector, number=2, names=tuple(SITES), kept=None):
    data = [rows_of(rows, votes=plan.local.targets == "votes", kept=kept) for rows in SITES.values()]
    return train_together(bench, data, plan, number, entropies(), vector, names)


@pytest.mark.parametrize("kind", list(WORK))
@pytest.mark.parametrize(("name", "norm"), [("cnn_tiny", "gn"), ("fer_nano", "gn"), ("fer_nano", "ws")])
def test_sites_trained_together_are_sites_trained_one_by_one(
    name, norm, kind, plan_of, bench_of, rows_of, samples
):
    plan = plan_of(name, norm=norm, local={"amount": 3, "batch": 8, **WORK[kind]})
    bench = bench_of(plan)
    start = bench.flat.full_vector.clone()
    kept = None if norm == "ws" else Inputs(samples, bench.device)  # one table of pictures, or none
    ended, done = together(plan, bench, rows_of, start, kept=kept)
    assert ended.shape == (3, len(start))
    assert ended.dtype == np.float32
    for vector, result, (site, rows), entropy in zip(ended, done, SITES.items(), entropies(), strict=True):
        bench.flat.load_(start)
        data = rows_of(rows, votes=plan.local.targets == "votes")
        alone = train_plain(bench, data, plan.local, 2, entropy, site)
        moved = (bench.flat.full_vector - start).norm()
        apart = (torch.from_numpy(vector) - bench.flat.full_vector).norm()
        # Adam makes a whole step of the rounding of a gradient near 0.
        assert apart <= (5e-3 if kind == "adamw" else 1e-5) * moved, site
        assert (result.visits, result.steps) == (alone.visits, alone.steps)
        assert result.loss == pytest.approx(alone.loss, rel=1e-5)
        assert moved > 1e-3
    if "epochs" in kind:
        assert len({result.steps for result in done}) == 3, "sites end at different steps"


def test_the_rounds_weights_are_not_written_to(plan_of, bench_of, rows_of):
    plan = plan_of()
    bench = bench_of(plan)
    start = bench.flat.full_vector.clone()
    kept = start.clone()
    one, _ = together(plan, bench, rows_of, start)
    assert torch.equal(start, kept)
    two, _ = together(plan, bench, rows_of, start)
    assert np.array_equal(one, two), "nothing is left from the first pass"
    assert bench.flat.is_intact()


def test_each_site_has_its_own_dropout(plan_of, bench_of, rows_of):
    """Two sites with the same pictures, order and weights differ by their dropout alone."""
    for dropout, alike in ((0.0, True), (0.5, False)):
        plan = plan_of("fer_nano", dropout=dropout)
        bench = bench_of(plan)
        data, same = [rows_of(range(20))] * 2, [SeededEntropy(3, "a")] * 2
        state = torch.get_rng_state()
        ended, _ = train_together(bench, data, plan, 1, same, bench.flat.full_vector.clone(), ["a", "b"])
        assert np.allclose(ended[0], ended[1], atol=1e-6) == alike
        assert torch.equal(torch.get_rng_state(), state)


def test_private_plans_are_refused(plan_of, bench_of, rows_of):
    plan = plan_of(privacy={})
    bench = bench_of(plan)
    with pytest.raises(PrivacyError, match=r"engine\.together"):
        together(plan, bench, rows_of, bench.flat.full_vector)


def test_nets_that_keep_statistics_are_refused(plan_of, bench_of, rows_of):
    plan = plan_of("fer_nano", norm="bn")
    bench = bench_of(plan)
    with pytest.raises(ModelError, match=r"keeps statistics .*\(engine\.together\)"):
        together(plan, bench, rows_of, bench.flat.full_vector)


@pytest.mark.parametrize("extra", [-1, 1])
def test_a_vector_of_another_model_is_refused(extra, plan_of, bench_of, rows_of):
    plan = plan_of()
    bench = bench_of(plan)
    with pytest.raises(ModelError, match=r"numbers of torch\.float32 for a model of"):
        together(plan, bench, rows_of, torch.zeros(len(bench.flat) + extra))


def test_the_site_that_diverged_is_named(plan_of, bench_of, rows_of, samples):
    """Only the site whose targets are not numbers diverges."""
    plan = plan_of(local={"amount": 1})
    bench, data = bench_of(plan), [rows_of(rows) for rows in SITES.values()]
    data[1].targets[:] = math.nan
    with pytest.raises(TrainingError, match=r"\(site-1, round 4\)\. Lower local\.learning_rate"):
        train_together(bench, data, plan, 4, entropies(), bench.flat.full_vector.clone(), list(SITES))
