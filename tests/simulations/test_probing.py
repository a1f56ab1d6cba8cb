"""Probes of the nets of a run: by people, on the right pictures, equal in every run, once where features are fixed."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from fer_models.flat import FlatModel
from fer_models.labels import UNDISCLOSED
from fer_models.zoo import build
from simulations import probing
from simulations.compose import composed
from simulations.prepare import prepare
from simulations.probing import Prober

WORDS = ["data.options.count=800", "data.options.pictures_per_person=2", "partition.sites=3"]


def ready(*more):
    prepared = prepare(composed([*WORDS, *more])[0])
    return prepared, FlatModel(build(prepared.plan.model, 5)).full_vector


@pytest.fixture(scope="module")
def learned():
    return ready("model=cnn_tiny")


def test_what_a_drawn_face_shows_is_found_in_any_net(learned):
    prepared, vector = learned
    found = Prober(prepared.samples, "cpu", 0)(prepared.plan, vector)
    assert list(found) == ["gender", "age", "skin_tone"]
    gender = found["gender"]
    assert gender["groups"] == ["man", "woman"]
    assert gender["linear_interval"][0] > 0.5, "hair alone tells the drawn genders apart"
    assert gender["people"] == len(np.unique(prepared.samples.subject[prepared.samples.rows("test")]))
    assert found == Prober(prepared.samples, "cpu", 0)(prepared.plan, vector)


def test_a_net_that_shows_nothing_tells_nothing(learned):
    prepared, vector = learned
    found = Prober(prepared.samples, "cpu", 0)(prepared.plan, torch.zeros_like(vector))
    for figures in found.values():
        assert figures["linear"] == figures["mlp"] == pytest.approx(figures["chance"])


def test_fixed_features_are_probed_once_and_others_anew(learned, monkeypatch):
    asked = []
    counted = probing.probe
    monkeypatch.setattr(probing, "probe", lambda *sides, **more: asked.append(1) or counted(*sides, **more))
    fixed, vector = ready("model=hog_linear")
    prober = Prober(fixed.samples, "cpu", 0)
    assert prober(fixed.plan, vector) == prober(fixed.plan, vector + 1)
    assert len(asked) == 3
    prepared, vector = learned
    prober = Prober(prepared.samples, "cpu", 0)
    assert prober(prepared.plan, vector) != prober(prepared.plan, vector * 2 + 0.1)
    assert len(asked) == 9


def test_nobody_of_the_test_pictures_is_learned_from(learned):
    """An official split that shows everybody on both sides leaves nobody to learn from."""
    prepared, vector = learned
    split = np.where(np.arange(len(prepared.samples)) % 2 == 0, "train", "test")
    subject = np.repeat(np.arange(len(split) // 2), 2).astype(str)
    samples = replace(prepared.samples, split=split, subject=subject)
    found = Prober(samples, "cpu", 0)(prepared.plan, vector)
    assert {each["note"] for each in found.values()} == {"fewer than two groups have 10 people or more"}


def test_the_undisclosed_are_no_group(learned):
    prepared, vector = learned
    samples = prepared.samples
    hidden = np.where(samples.groups["gender"] == "man", UNDISCLOSED, samples.groups["gender"])
    found = Prober(replace(samples, groups={**samples.groups, "gender": hidden}), "cpu", 0)
    assert "note" in found(prepared.plan, vector)["gender"]


def test_the_summary_holds_them_for_every_single_net(compared):
    systems = json.loads((compared / "summary.json").read_text())["systems"]
    assert {name for name, figures in systems.items() if "probes" in figures} == systems.keys() - {
        "local_only"
    }
    for name in systems.keys() - {"local_only"}:
        assert set(systems[name]["probes"]) == {"gender", "age", "skin_tone"}
    assert "from the features" in (compared / "report.html").read_text()
