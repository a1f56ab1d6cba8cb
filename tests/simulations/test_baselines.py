"""Baselines: equal visits, one net for all of them, resumption to equal bits, nothing that diverged is kept."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import simulations.baselines as baselines
from client.fairness import Fairness
from client.plan import Secure
from client.training import batch_size
from fer_models.errors import ConfigError, TrainingError
from fer_models.flat import FlatModel
from fer_models.zoo import build
from server.run_folder import RunFolder
from simulations.baselines import CentralTrainer, CentralWork
from simulations.federated import run_local

WORK = CentralWork(epochs=2, batch=16, learning_rate=0.01, augment=False, evaluations=3)


@pytest.fixture
def trainer_of(plan_of, small, tmp_path):
    def make(work=WORK, rows=None, name="pooled", folder="run", samples=small, **plan):
        rows = samples.rows("train") if rows is None else rows
        tests = {"all": samples.rows("test"), "own": samples.rows("test")[:5]}
        folder = RunFolder(tmp_path / folder)
        return CentralTrainer(plan_of(**plan), work, samples, rows, tests, name=name, folder=folder)

    return make


def ignore(record):
    pass


def test_the_result_says_what_was_done(trainer_of, small):
    told = []
    done = trainer_of().run(told.append)
    rows = len(small.rows("train"))
    steps = round(2 * rows / 16)
    assert rows == 60
    assert done.visits == steps * 16 == told[-1]["visits"]
    assert [record["visits"] for record in told] == [16 * n for n in (3, 6, 8)]
    assert [record["round"] for record in told] == [0.8, 1.6, 2.13]
    assert all(record["rounds"] == 2 and record["system"] == "pooled" for record in told)
    assert done.counts["all"].rows == len(small.rows("test"))
    assert done.counts["own"].rows == 5
    assert json.loads(json.dumps(told)) == told


def test_it_learns(trainer_of):
    done = trainer_of(replace(WORK, epochs=30)).run(ignore)
    assert np.trace(done.counts["all"].overall) / done.counts["all"].rows > 0.9


def test_all_systems_start_from_the_same_weights(trainer_of, plan_of, sites_of, tmp_path):
    plan = plan_of(rounds=1, local={"learning_rate": 1e-12})
    start = FlatModel(build(plan.model, plan.seed)).full_vector
    federated = run_local(plan, sites_of(), RunFolder(tmp_path / "f"), "federated", 1, ignore)
    pooled = trainer_of(replace(WORK, learning_rate=1e-12)).run(ignore)
    assert torch.allclose(federated.vector, start, atol=1e-8)
    assert torch.allclose(pooled.vector, start, atol=1e-8)


def test_a_name_decides_the_order_and_a_seed_too(trainer_of):
    pooled = trainer_of(folder="1").run(ignore).vector
    assert torch.equal(pooled, trainer_of(folder="2").run(ignore).vector)
    assert not torch.equal(pooled, trainer_of(name="local_only-site-0", folder="3").run(ignore).vector)
    assert not torch.equal(pooled, trainer_of(seed=5, folder="4").run(ignore).vector)


def test_rows_are_visited_equally_often(trainer_of, monkeypatch):
    trainer = trainer_of(replace(WORK, epochs=4, batch=15, evaluations=1))
    seen = np.zeros(60, int)
    step = trainer._step
    monkeypatch.setattr(trainer, "_step", lambda p: (np.add.at(seen, p, 1), step(p)))
    trainer.run(ignore)
    assert seen.tolist() == [4] * 60


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 6])
def test_a_small_site_may_take_any_number_of_steps(trainer_of, small, steps):
    work = replace(WORK, epochs=steps, batch=64)
    done = trainer_of(work, small.rows("train")[:12], "local_only-site-0").run(ignore)
    assert done.visits == steps * 12
    assert bool(torch.isfinite(done.vector).all())


@pytest.mark.parametrize(("rows", "batch"), [(5, 5), (60, 16), (400, 25), (4000, 128)])
def test_batches_follow_the_number_of_rows(rows, batch):
    work = CentralWork().local(rows)
    assert work.batch == batch == batch_size(work, rows)


# Resumption


class Killed(BaseException):
    pass


def test_a_baseline_resumed_from_its_checkpoint_equals_one_in_one_go(trainer_of, monkeypatch):
    told = {"whole": [], "parts": []}
    whole = trainer_of(folder="whole").run(told["whole"].append)
    monkeypatch.setattr(baselines, "CHECKPOINT_SECONDS", -1.0)
    for stop in (1, 4, 7):
        trainer = trainer_of(folder="parts")
        step = trainer._step

        def until(positions, trainer=trainer, step=step, stop=stop):
            if trainer._done == stop:
                raise Killed
            step(positions)

        monkeypatch.setattr(trainer, "_step", until)
        with pytest.raises(Killed):
            trainer.run(told["parts"].append)
    resumed = trainer_of(folder="parts").run(told["parts"].append)
    assert torch.equal(resumed.vector, whole.vector)
    assert resumed.counts == whole.counts
    assert resumed.visits == whole.visits
    clean = [[{k: v for k, v in r.items() if k != "seconds"} for r in told[n]] for n in ("whole", "parts")]
    assert clean[0] == clean[1]
    seconds = [record["seconds"] for record in told["parts"]]
    assert seconds == sorted(seconds)


def test_the_checkpoint_of_other_work_is_not_taken_up(trainer_of, monkeypatch):
    monkeypatch.setattr(baselines, "CHECKPOINT_SECONDS", -1.0)
    trainer_of(folder="shared").run(ignore)
    other = replace(WORK, learning_rate=0.02)
    fresh = trainer_of(other, folder="fresh").run(ignore).vector
    assert torch.equal(trainer_of(other, folder="shared").run(ignore).vector, fresh)


# What cannot be trained


@pytest.mark.parametrize("checkpoints", [False, True])
def test_a_baseline_that_diverges_is_refused(trainer_of, monkeypatch, checkpoints):
    if checkpoints:
        monkeypatch.setattr(baselines, "CHECKPOINT_SECONDS", -1.0)
    trainer = trainer_of(replace(WORK, learning_rate=1e30, gradient_clip=0.0))
    with pytest.raises(TrainingError, match="not finite") as error:
        trainer.run(ignore)
    assert error.value.where.startswith("pooled, step ")
    assert "baseline.learning_rate" in error.value.cure


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0.0),
        ("epochs", -1.0),
        ("batch", 0),
        ("learning_rate", 0.0),
        ("evaluations", 0),
        ("ema", 1.0),
        ("weight_decay", -0.1),
        ("gradient_clip", -1.0),
    ],
)
def test_work_that_cannot_be_done_is_refused(name, value):
    with pytest.raises(ConfigError) as error:
        replace(WORK, **{name: value})
    assert error.value.where == f"baseline.{name}"


def test_labels_or_votes_are_the_targets(trainer_of, small):
    votes = np.tile(np.array([1, 2, 1], np.float32), (len(small), 1))
    samples = replace(small, votes=votes)
    by_votes = trainer_of(folder="1", samples=samples).run(ignore).vector
    by_label = trainer_of(replace(WORK, targets="label"), folder="2", samples=samples).run(ignore).vector
    assert not torch.equal(by_votes, by_label)
    assert torch.equal(by_label, trainer_of(folder="3").run(ignore).vector)


def test_a_baseline_takes_no_heed_of_groups(small, plan_of, tmp_path):
    plan = plan_of()
    secure = Secure(sites=3, threshold=3, minimum=3, clip=16.0)
    fair = replace(plan, aggregation="secure", secure=secure, fairness=Fairness("age", adversary="critic"))
    rows, tests = small.rows("train"), {"all": small.rows("test")}
    found = [
        CentralTrainer(each, WORK, small, rows, tests, name="pooled", folder=RunFolder(tmp_path / str(n)))
        .run(ignore)
        .vector
        for n, each in enumerate((plan, fair))
    ]
    assert torch.equal(*found)


@pytest.mark.parametrize("loss", ["logit_adjusted", "class_balanced"])
def test_a_baseline_goes_by_the_shares_of_its_own_pictures(trainer_of, small, loss):
    rows = small.rows("train")
    rows = np.concatenate([rows[small.label[rows] == 0], rows[small.label[rows] == 1][:5]])
    own = trainer_of(rows=rows, folder="1", local={"loss": loss})
    known = np.array([20, 5, 1]) / 26  # no picture of the third class counts as one
    told = trainer_of(rows=rows, folder="2", local={"loss": loss, "prior": tuple(known)})
    assert torch.equal(own.run(ignore).vector, told.run(ignore).vector)
