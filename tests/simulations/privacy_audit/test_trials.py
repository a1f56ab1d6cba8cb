"""One round with and without one picture: what is allowed, and what is seen when pictures react to each other."""

from dataclasses import replace

import numpy as np
import pytest

from simulations.partition import Partition
from simulations.privacy_audit.trials import FIRST_TRIAL, Laboratory, allowed_move, run_trials
from simulations.privacy_audit.verdict import MOVE


@pytest.fixture
def laboratory_of(small):
    def make(plan):
        from fer_models.flat import FlatModel
        from fer_models.zoo import build

        division = Partition((np.arange(len(small)) % 3 % 2).astype(np.int32), 2)
        vector = FlatModel(build(plan.model, plan.seed)).full_vector.numpy().copy()
        return Laboratory(plan, vector, (), ["a", "b"], small, division, seed=0)

    return make


@pytest.fixture
def plan(plan_of):
    return plan_of(private=True, local={"amount": 1})


def without_dropout(plan):
    return replace(plan, model=replace(plan.model, dropout=0.0))


def test_the_largest_site_is_tried_and_its_pictures_are_its_own(laboratory_of, plan, small):
    laboratory = laboratory_of(without_dropout(plan))
    assert laboratory.name == "a"
    everybody, some = laboratory.beside.values()
    assert len(everybody) == 40
    assert len(np.unique(small.label[some])) == 1
    assert laboratory.called(0) == "a blank picture, labelled neutral"


def test_the_same_keys_give_the_same_release_and_other_noise_another(laboratory_of, plan):
    laboratory = laboratory_of(without_dropout(plan))
    beside = next(iter(laboratory.beside))
    one, again = (laboratory.release(beside, 3, 5) for _ in range(2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, laboratory.release(beside, 3, 5, noise=1))
    assert not np.array_equal(one, laboratory.release(beside, 3, FIRST_TRIAL))


@pytest.mark.parametrize("noise", ["site", "distributed"])
def test_one_picture_moves_an_honest_round_by_one_clip_at_most(laboratory_of, plan, noise):
    plan = without_dropout(plan)
    if noise == "distributed":
        shared = {"noise": "distributed", "threshold": 2, "noise_multiplier": 4.0, "delta": 1e-3}
        plan = replace(plan, privacy=replace(plan.privacy, **shared, parameters=10579))
        parameters = len(
            laboratory_of(plan_without_noise(plan))._benches.of(plan_without_noise(plan)).flat.learning
        )
        plan = replace(plan, privacy=replace(plan.privacy, parameters=parameters))
    found = run_trials(laboratory_of(plan), plan, 4, 0)
    assert 0.3 < found.moved < MOVE
    assert len(found.scores) == len(found.coins) == 4


def plan_without_noise(plan):
    return replace(plan, privacy=None, server=replace(plan.server, weighting="size"))


def test_a_coupled_loss_moves_it_further(laboratory_of, plan, plant):
    plant("coupled loss")
    plan = without_dropout(plan)
    assert run_trials(laboratory_of(plan), plan, 1, 0).moved > 1.5


def test_where_no_move_is_known_none_is_told(plan):
    quiet = without_dropout(plan)
    assert allowed_move(quiet) == pytest.approx(0.1 * 1.0 / (0.3 * 20))
    assert allowed_move(plan) is None  # dropout draws for the whole batch
    assert allowed_move(replace(quiet, local=replace(quiet.local, amount=2))) is None
    assert allowed_move(replace(quiet, local=replace(quiet.local, optimizer="adamw"))) is None
    assert allowed_move(replace(quiet, local=replace(quiet.local, augment=True))) is None
