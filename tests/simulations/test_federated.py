"""Engines agree: the same plan gives the same bits on one process, on several, and on Ray."""

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from client.ledger import Ledger
from fer_models.checkpoints import load_model
from fer_models.errors import ConfigError, EngineError, ModelError, PrivacyError
from server.drawing import cohort
from server.run_folder import RunFolder
from simulations.cli import main
from simulations.federated import choose_device, require_engine, run_local

ROOT = Path(__file__).parents[2]


def run(plan, sites, folder, workers=1, together=1):
    return run_local(plan, sites, RunFolder(folder), "federated", workers, lambda _: None, together)


def lines(folder):
    return [{k: v for k, v in record.items() if k != "seconds"} for record in RunFolder(folder).metrics()]


def same(one, other):
    assert torch.equal(one.vector, other.vector)
    assert one.counts == other.counts
    assert one.epsilon == other.epsilon
    assert replace(one.totals, cpu_seconds=0) == replace(other.totals, cpu_seconds=0)


def releases(folder):
    """What the ledgers of a folder hold, times and identities aside."""
    return {path.name: list(Ledger(path, read_only=True).events) for path in sorted(folder.glob("*.sqlite"))}


KINDS = {
    "plain": {},
    "fedprox": {"local": {"unit": "epochs", "amount": 1, "proximal": 0.1, "momentum": 0.5}},
    "adamw": {
        "local": {"optimizer": "adamw", "learning_rate": 0.01},
        "optimizer": "adam",
        "learning_rate": 0.01,
    },
    "part": {"participation": 0.4, "weighting": "uniform"},
    "private": {"private": True},
    "private part": {"private": True, "participation": 0.6, "optimizer": "adam", "learning_rate": 0.01},
}


@pytest.mark.parametrize("kind", KINDS)
def test_one_process_and_several_give_equal_bits(plan_of, sites_of, tmp_path, kind):
    plan, sizes = plan_of(rounds=3, ema=0.5, **KINDS[kind]), (10, 15, 20, 25, 20)
    alone = run(plan, sites_of(sizes, tmp_path / "ledger-1"), tmp_path / "1")
    both = run(plan, sites_of(sizes, tmp_path / "ledger-2"), tmp_path / "2", workers=2)
    same(alone, both)
    assert lines(tmp_path / "1") == lines(tmp_path / "2")
    assert bool(alone.epsilon) == ("private" in kind)
    assert releases(tmp_path / "ledger-1") == releases(tmp_path / "ledger-2")


def test_the_seed_decides(plan_of, sites_of, tmp_path):
    first = run(plan_of(), sites_of(), tmp_path / "1")
    same(first, run(plan_of(), sites_of(), tmp_path / "2"))
    assert not torch.equal(first.vector, run(plan_of(), sites_of(seed=8), tmp_path / "3").vector)
    assert not torch.equal(first.vector, run(plan_of(seed=4), sites_of(), tmp_path / "4").vector)


def test_it_learns_what_the_pictures_show(plan_of, sites_of, tmp_path):
    plan = plan_of(rounds=40, local={"learning_rate": 0.3}, evaluate_every=40)
    found = run(plan, sites_of(), tmp_path).overall
    assert np.trace(found.overall) / found.rows > 0.9


def test_sites_trained_together_come_close_to_one_by_one(plan_of, sites_of, tmp_path):
    plan, sizes = plan_of(rounds=3), (10, 15, 20, 25, 20)
    alone = run(plan, sites_of(sizes), tmp_path / "1")
    together = run(plan, sites_of(sizes), tmp_path / "2", together=3)
    same(together, run(plan, sites_of(sizes), tmp_path / "3", workers=2, together=3))
    assert float((alone.vector - together.vector).abs().max()) < 1e-4
    assert alone.totals.visits == together.totals.visits


def test_private_sites_are_never_trained_together(plan_of, sites_of, tmp_path):
    with pytest.raises(PrivacyError, match="in one pass"):
        run(plan_of(private=True), sites_of(), tmp_path, together=3)


def test_nets_with_running_statistics_are_not_trained_together(plan_of, sites_of, tmp_path):
    base = plan_of(rounds=1)
    plan = replace(base, model=replace(base.model, name="fer_nano", norm="bn"))
    with pytest.raises(ModelError, match="keeps statistics"):
        run(plan, sites_of(), tmp_path, together=3)


def test_a_ledger_stands_for_the_rounds_its_site_took_part_in(plan_of, sites_of, tmp_path):
    plan = plan_of(private=True, rounds=4, participation=0.5)
    result = run(plan, sites_of((30, 30, 30), tmp_path / "ledger"), tmp_path / "run", workers=2)
    for i, name in enumerate(["site-0", "site-1", "site-2"]):
        rounds = sum(i in cohort(plan.seed, r, range(3), 0.5) for r in range(1, 5))
        ledger = Ledger(tmp_path / "ledger" / f"{name}.sqlite")
        assert sum(each.count for each in ledger.history()) == 2 * rounds
        if rounds:
            assert result.epsilon[name] == ledger.epsilon(plan.privacy.delta).value


# Sites


def test_names_sort_as_numbers_do(sites_of):
    names = sites_of((8,) * 11 + (2,)).names
    assert names[:3] == ["site-00", "site-01", "site-02"]
    assert names[-1] == "site-11"
    assert names == sorted(names)


def test_sites_share_one_net_and_hold_their_own_rows(sites_of):
    sites = sites_of()
    agents = [sites.agent(i) for i in range(3)]
    assert sites.agent(1) is agents[1]
    assert len({id(agent._benches) for agent in agents}) == 1
    held = np.concatenate([np.concatenate([agent._train, agent.test]) for agent in agents])
    assert sorted(held.tolist()) == list(range(len(sites.samples)))


# Engines that cannot run


def test_devices():
    assert choose_device("cpu") == "cpu"
    assert choose_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ConfigError, match="unknown device 'gpu'"):
        choose_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(EngineError, match="no CUDA"):
            choose_device("cuda")


@pytest.mark.parametrize(
    ("engine", "key"),
    [
        (("lokal", 1, 1), "engine.name"),
        (("local", -1, 1), "engine.workers"),
        (("local", 1, 0), "engine.together"),
        (("ray", 1, 2), "engine.together"),
    ],
)
def test_engines_that_cannot_run_are_refused(engine, key):
    with pytest.raises(ConfigError) as error:
        require_engine(*engine)
    assert error.value.where == key


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r"needs Ray .*pip install 'fedfer\[ray\]'"):
        require_engine("ray", 1, 1)
    require_engine("local", 1, 1)


# Ray


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra fedfer[ray] is not installed")
def test_ray_and_this_process_give_equal_bits(tmp_path):
    """One command runs a federation without privacy and one with it, on Ray and here; both count labels first."""
    words = ["compare", "data.options.count=200", "model=cnn_tiny", "partition.sites=3", "server.rounds=2"]
    words += [
        "server.evaluate_every=1",
        "privacy=dp",
        "privacy.counts_epsilon=0.5",
        "server.adjustment=1.0",
        "local.rate=0.1",
        "baseline.systems=[]",
        "compare.pooled_private=false",
        "engine.workers=1",
    ]
    command = [sys.executable, "-m", "simulations.cli", *words, "engine=ray", "--run-dir", "ray"]
    # Ray's workers give way to all other processes, which on a busy machine means that they never run.
    ours = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}
    environment = {**os.environ, **ours}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stderr) == (0, "")
    with pytest.raises(SystemExit) as ended:
        main([*words, "--run-dir", str(tmp_path / "local")])
    assert ended.value.code == 0
    ray, local = tmp_path / "ray", tmp_path / "local"
    assert lines(ray) == lines(local)
    assert [(line["system"], line["round"]) for line in lines(ray)] == [
        (system, number) for system in ("federated_without_privacy", "federated") for number in (1, 2)
    ]
    assert releases(ray / "ledger") == releases(local / "ledger")
    for events in releases(ray / "ledger").values():
        assert [event.kind for event in events] == ["label_counts", "training", "training"]
    assert len(releases(ray / "ledger")) == len(list((ray / "ledger").iterdir())) == 3, (
        "no log is left behind"
    )
    states = [load_model(folder / "model")[0].state_dict() for folder in (ray, local)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[1])
    both = [
        json.loads((folder / "summary.json").read_text())["systems"]["federated"] for folder in (ray, local)
    ]
    assert both[0]["epsilon"] == both[1]["epsilon"] > 0
    assert both[0]["per_site"] == both[1]["per_site"]
    assert both[0]["class_shares"] == both[1]["class_shares"]
