"""A run in which some layers learn: the others stay, and only what learns is sent."""

import numpy as np
import pytest
import torch

from fer_models.errors import ModelError
from fer_models.flat import FlatModel
from fer_models.scope import restrict
from fer_models.zoo import build
from server.rounds import Coordinator
from server.run_folder import RunFolder
from simulations.federated import local_grid, run_local

DECAY = {"optimizer": "adam", "learning_rate": 0.05, "weight_decay": 0.5, "ema": 0.5}


def ignore(record):
    pass


def flat_of(plan):
    return FlatModel(restrict(build(plan.model, plan.seed), plan.model, plan.local.scope))


def test_layers_out_of_scope_stay_and_are_not_sent(plan_of, sites_of, tmp_path):
    plan = plan_of(private=True, rounds=3, local={"scope": "head"}, **DECAY)
    flat = flat_of(plan)
    initial = torch.randn(len(flat), generator=torch.Generator().manual_seed(4)) / 10
    result = run_local(plan, sites_of(), RunFolder(tmp_path), "federated", 1, ignore, initial=initial.clone())
    learnt = len(flat.trained)
    assert learnt == 16 * 3 + 3
    assert torch.equal(result.vector[:-learnt], initial[:-learnt])
    assert (result.vector[-learnt:] != initial[-learnt:]).all()
    assert result.totals.bytes_up == 3 * 3 * learnt * 4
    assert result.totals.bytes_down == 3 * 3 * len(flat) * 4


def test_a_resumed_run_in_scope_has_the_same_bits(plan_of, sites_of, tmp_path, monkeypatch):
    plan = plan_of(rounds=4, local={"scope": "head"}, **DECAY)
    initial = flat_of(plan).full_vector * 1.5
    whole = run_local(plan, sites_of(), RunFolder(tmp_path / "a"), "federated", 1, ignore, initial=initial)

    class Killed(Exception):
        pass

    def stop(record):
        if record["round"] == 2:  # told in the round after
            raise Killed

    monkeypatch.setattr("server.rounds.CHECKPOINT_SECONDS", -1.0)
    folder = RunFolder(tmp_path / "b")
    with pytest.raises(Killed), local_grid(sites_of(), 1) as grid:
        Coordinator(plan, folder, "federated", stop, initial).run(grid)
    assert folder.load_checkpoint("checkpoint-federated")[1]["round"] == 2
    again = run_local(plan, sites_of(), folder, "federated", 1, ignore, initial=initial)
    assert torch.equal(again.vector, whole.vector)
    assert again.totals.bytes_up == whole.totals.bytes_up


def test_weights_of_another_net_are_no_start(plan_of, sites_of, tmp_path):
    plan = plan_of()
    with pytest.raises(ModelError, match="numbers of"):
        Coordinator(plan, RunFolder(tmp_path), "federated", initial=torch.zeros(7))


def test_a_run_starts_from_the_weights_it_is_given(plan_of, sites_of, tmp_path):
    plan = plan_of(rounds=1, local={"learning_rate": 1e-12})
    initial = flat_of(plan).full_vector + 0.25
    kept = initial.clone()
    result = run_local(plan, sites_of(), RunFolder(tmp_path), "federated", 1, ignore, initial=initial)
    assert np.allclose(result.vector, initial, atol=1e-6)
    assert torch.equal(initial, kept)
