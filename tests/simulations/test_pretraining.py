"""Weights to start from: drawn faces once, files by name, and what a run says of them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from fer_models.checkpoints import load_model, save_model
from fer_models.errors import ConfigError, ModelError, RunFolderError
from fer_models.flat import FlatModel
from fer_models.zoo import ModelSpec, build
from server.run_folder import RunFolder
from simulations import pretraining
from simulations.pretraining import Pretraining, start_of

LABELS = ("neutral", "happiness", "surprise")
FACES = Pretraining(faces=300, epochs=2, batch=32, learning_rate=0.01, options={"pictures_per_person": 2})


def ignore(record):
    pass


@pytest.fixture
def plan(plan_of):
    return plan_of(private=True)


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "run")


def test_nothing_asked_for_is_nothing(plan, folder):
    assert start_of(Pretraining(), plan, folder, ignore) is None
    assert list(folder.path.iterdir()) == []


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(pretraining, "TESTED", 100)


def test_faces_are_learned_from_once(plan, folder, few, monkeypatch):
    told = []
    first = start_of(FACES, plan, folder, told.append)
    assert [record["system"] for record in told] == ["pretrain"]
    assert told[0]["accuracy"] == first.facts["accuracy_on_drawn_faces"] > 0.4
    assert "300 drawn faces" in first.told
    assert [path.name for path in folder.path.iterdir()] == ["pretrained.safetensors"]
    monkeypatch.setattr(pretraining, "draw", None)
    again = start_of(FACES, plan, folder, ignore)
    assert torch.equal(again.vector, first.vector)
    assert (again.told, again.facts) == (first.told, first.facts)


def test_the_runs_seed_does_not_matter_and_its_own_does(plan, folder, tmp_path, few):
    first = start_of(FACES, plan, folder, ignore).vector
    other = start_of(FACES, replace(plan, seed=plan.seed + 1), RunFolder(tmp_path / "b"), ignore).vector
    assert torch.equal(first, other)
    third = start_of(replace(FACES, seed=1), plan, RunFolder(tmp_path / "c"), ignore).vector
    assert not torch.equal(first, third)


def test_nobody_is_learned_from_and_judged_on(plan, folder, few, monkeypatch):
    seen = {}

    class Watched(pretraining.CentralTrainer):
        def __init__(self, plan, work, samples, rows, tests, **rest):
            seen.update(samples=samples, rows=rows, test=tests["all"])
            super().__init__(plan, work, samples, rows, tests, **rest)

    monkeypatch.setattr(pretraining, "CentralTrainer", Watched)
    start_of(replace(FACES, faces=301), plan, folder, ignore)
    people = seen["samples"].subject
    assert not set(people[seen["rows"]]) & set(people[seen["test"]])
    assert len(seen["rows"]) + len(seen["test"]) == 401
    assert len(seen["rows"]) in (300, 301)


def saved(path, labels, seed=5):
    spec = ModelSpec("cnn_tiny", classes=len(labels))
    net = build(spec, seed)
    save_model(path, net, spec, labels=labels, facts={})
    return net


def test_a_file_beside_its_labels_is_matched_by_name(plan, folder, tmp_path):
    net = saved(tmp_path / "model", ("surprise", "fear", "neutral"))
    start = start_of(Pretraining(weights=str(tmp_path / "model/model.safetensors")), plan, folder, ignore)
    flat, fresh = FlatModel(build(plan.model, plan.seed)), build(plan.model, plan.seed)
    flat.load_(start.vector)
    assert torch.equal(flat.module[0].weight, net[0].weight)
    for part in ("weight", "bias"):
        own, given, first = (getattr(each[-1], part) for each in (flat.module, net, fresh))
        assert torch.equal(own[0], given[2])
        assert torch.equal(own[1], first[1])  # happiness, which the file does not know
        assert torch.equal(own[2], given[0])
    assert "no ledger here knows" in start.told
    assert start.facts["weights"] == "model.safetensors"


def test_a_file_alone_is_taken_as_it_is(plan, folder, tmp_path):
    net = saved(tmp_path / "model", ("surprise", "fear", "neutral"))
    (tmp_path / "model/config.json").unlink()
    start = start_of(Pretraining(weights=str(tmp_path / "model/model.safetensors")), plan, folder, ignore)
    assert torch.equal(start.vector, FlatModel(net).full_vector)


def test_a_file_of_other_classes_keeps_a_fresh_head(plan_of, folder, tmp_path):
    plan = replace(plan_of(), model=ModelSpec("fer_nano", classes=3))
    spec = ModelSpec("fer_nano", classes=4)
    net = build(spec, 5)
    save_model(tmp_path / "model", net, spec, labels=(*LABELS, "fear"), facts={})
    start = start_of(Pretraining(weights=str(tmp_path / "model/model.safetensors")), plan, folder, ignore)
    flat, fresh = FlatModel(build(plan.model, plan.seed)), build(plan.model, plan.seed)
    flat.load_(start.vector)
    assert torch.equal(flat.module.head.weight, fresh.head.weight)
    assert torch.equal(flat.module.body[0][0].weight, net.body[0][0].weight)


def test_mistakes_are_refused(plan, folder, tmp_path):
    with pytest.raises(ConfigError, match="at once"):
        Pretraining(faces=10, weights="a.safetensors")
    with pytest.raises(ConfigError, match="cannot read the weights"):
        start_of(Pretraining(weights=str(tmp_path / "none")), plan, folder, ignore)
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    with pytest.raises(ModelError):
        start_of(Pretraining(weights=str(tmp_path / "junk.safetensors")), plan, folder, ignore)
    with pytest.raises(ConfigError, match="unknown key"):
        start_of(replace(FACES, options={"hats": 1}), plan, folder, ignore)
    with pytest.raises(ConfigError, match="no epochs"):
        start_of(replace(FACES, epochs=0.0), plan, folder, ignore)


WORDS = ["data=faces", "data.options.count=240", "partition=iid", "partition.sites=2", "server.rounds=2"]
WORDS += ["model=fer_nano", "local=private", "local.scope=head", "server=fedadam_private", "privacy=dp"]
WORDS += ["compare.without_privacy=false", "baseline.systems=[pooled]", "baseline.epochs=1"]
WORDS += ["pretrain=faces", "pretrain.faces=64", "pretrain.epochs=1", "engine.workers=1"]


def test_a_run_says_what_it_started_from(fedfer, refused, tmp_path, few):
    code, out, err = fedfer("compare", *WORDS, "--run-dir", str(tmp_path / "run"))
    assert code == 0, err
    assert "show the same people" in " ".join((out + err).split())
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["start"]["faces"] == 64
    assert "64 drawn faces" in summary["systems"]["federated"]["start"]
    assert "64 drawn faces" in (tmp_path / "run/model/README.md").read_text()
    assert "64 drawn faces" in (tmp_path / "run/report.html").read_text()
    start = RunFolder(tmp_path / "run").load_checkpoint("pretrained")[0]["vector"].numpy()
    net, spec, _ = load_model(tmp_path / "run/model")
    ended, head = FlatModel(net).full_vector.numpy(), spec.classes * 97
    assert np.array_equal(ended[:-head], start[:-head])
    assert not np.array_equal(ended[-head:], start[-head:])
    found = fedfer("compare", *WORDS, "pretrain.seed=1", "--run-dir", str(tmp_path / "run"))
    assert refused(found, RunFolderError, "another configuration")
