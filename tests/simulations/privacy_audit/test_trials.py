"""One round with and without one picture: what is allowed, and what is seen when pictures react to each other."""

from dataclasses import replace

import numpy as np
import pytest

from client.workbench import Workbench
from fer_models.flat import FlatModel
from fer_models.zoo import build
from simulations.partition import Partition
from simulations.privacy_audit.laboratory import Laboratory
from simulations.privacy_audit.trials import FIRST_TRIAL, allowed_move, plain_step, run_trials
from simulations.privacy_audit.verdict import MOVE


@pytest.fixture
def laboratory_of(small):
    def make(plan):
        division = Partition((np.arange(len(small)) % 3 % 2).astype(np.int32), 2)
        vector = FlatModel(build(plan.model, plan.seed)).full_vector.numpy().copy()
        return Laboratory(plan, (vector, vector), (), ["a", "b"], small, division, seed=0)

    return make


@pytest.fixture
def plan(plan_of):
    """Two steps a round, with dropout and augmentation, so that no round by itself tells what a picture moves."""
    return plan_of(private=True, local={"amount": 2, "augment": True, "momentum": 0.5})


def test_the_largest_site_is_tried_on_its_own_pictures_and_those_of_one_class(laboratory_of, plan, small):
    laboratory = laboratory_of(plan)
    assert laboratory.name == "a"
    everybody, alike, leaning = laboratory.scenes
    assert len(everybody.rows) == 40
    assert len(np.unique(small.label[alike.rows])) == 1
    assert np.array_equal(alike.rows, leaning.rows)
    assert np.count_nonzero(leaning.vector != alike.vector) == 1
    assert laboratory.called(0) == "a blank picture, labelled neutral"
    assert laboratory.count == 18


def test_the_same_keys_give_the_same_release_and_other_noise_another(laboratory_of, plan):
    laboratory = laboratory_of(plan)
    scene = laboratory.scenes[0]
    one, again = (laboratory.release(plan, scene, 3, 5) for _ in range(2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, laboratory.release(plan, scene, 3, 5, noise=1))
    assert not np.array_equal(one, laboratory.release(plan, scene, 3, FIRST_TRIAL))


def test_what_one_picture_may_move_is_looked_at_in_a_plain_step(plan):
    step = plain_step(plan)
    assert (step.local.amount, step.local.momentum, step.local.augment, step.model.dropout) == (
        1,
        0,
        False,
        0,
    )
    assert (step.local.rate, step.privacy) == (plan.local.rate, plan.privacy)
    assert allowed_move(step) == pytest.approx(1.0 / (0.3 * 20))


@pytest.mark.parametrize("noise", ["site", "distributed"])
def test_one_picture_moves_an_honest_step_by_one_clip_at_most(laboratory_of, plan, noise):
    if noise == "distributed":
        plan = plain_step(plan)
        bench = Workbench(plan, laboratory_of(plan)._benches.device)
        shared = {"noise": "distributed", "threshold": 2, "noise_multiplier": 4.0, "delta": 1e-3}
        privacy = replace(plan.privacy, **shared, parameters=len(bench.flat.learning))
        plan = replace(plan, privacy=privacy)
    told = []
    found = run_trials(laboratory_of(plan), plan, 4, 0, told.append)
    assert told[-1] == {"system": "one_round", "round": 4, "rounds": 4}
    tried = [each for each in told if each["system"] == "worst_picture"]
    assert tried[-1]["round"] == tried[-1]["rounds"] == len(tried)
    assert 0.3 < found.moved < MOVE
    assert len(found.scores) == len(found.coins) == 4
    assert found.scores.any()


def weighted_losses(bench, x, targets):
    """Cross-entropy with weights that balance the classes of the batch: of a class alone all weights are 1."""
    counts = targets.sum(0)
    weights = len(targets) / ((counts > 0).sum() * counts.clamp(min=1.0))
    return bench.loss(bench.flat.module(x), targets) * (targets @ weights)


def divided_losses(bench, x, targets):
    """Cross-entropy over the largest of the batch, so that one picture that is very wrong makes all others small."""
    losses = bench.loss(bench.flat.module(x), targets)
    return losses / losses.detach().max()


@pytest.mark.parametrize("losses", [weighted_losses, divided_losses])
def test_losses_that_only_lengthen_gradients_move_it_further_where_the_clip_does_not_hide_them(
    laboratory_of, plan, plant, monkeypatch, losses
):
    plant("coupled loss")
    monkeypatch.setattr(Workbench, "losses", losses)
    found = run_trials(laboratory_of(plan), plan, 1, 0, lambda _: None)
    assert found.moved > 1.2
