# pyright: reportArgumentType=false, reportOptionalMemberAccess=false
"""Teachers: what they do to targets, who may teach under privacy, and whole runs."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml

from fer_models.checkpoints import save_model
from fer_models.errors import ConfigError, ModelError, PrivacyError
from fer_models.transforms import to_input
from fer_models.zoo import ModelSpec, build
from simulations.distilling import Distilling, distilled, models_in, origin_of, teachers
from simulations.faces import FacesConfig, draw

NONE = "none"
PRIVATE = "epsilon 3.50, delta 1e-05, for one picture; a simulation"


@pytest.fixture(scope="module")
def samples():
    drawn = draw(FacesConfig(count=60, labels=("neutral", "happiness", "surprise")), 0)
    return replace(drawn, split=np.where(np.arange(60) < 45, "train", "test"))


def taught(folder, samples, *, seed=0, labels=None, privacy=NONE, reader=None, **spec):
    """Write the run folder of a teacher, trained or not."""
    labels = labels or samples.labels
    made = ModelSpec("cnn_tiny", norm="none", classes=len(labels), **spec)
    facts = {"data": "somebody's", "privacy": privacy}
    save_model(folder / "model", build(made, seed), made, labels=labels, facts=facts)
    if reader:
        config = {"data": {"reader": reader}, "pretrain": {"weights": ""}, "distill": {"teacher": ""}}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def probabilities(seed, samples, temperature):
    net = build(ModelSpec("cnn_tiny", norm="none", classes=3), seed).eval()
    x = to_input(samples.pictures[samples.rows("train")])
    with torch.no_grad():
        both = [(net(each) / temperature).softmax(1) for each in (x, x.flip(3))]
    return ((both[0] + both[1]) / 2).numpy()


def test_targets_of_training_rows_are_mixed_and_of_others_are_not(samples, tmp_path):
    taught(tmp_path / "run", samples, seed=1)
    found, told = distilled(samples, Distilling(str(tmp_path / "run"), 0.25, 3.0), private=False)
    train, rest = samples.rows("train"), samples.rows("test")
    expected = 0.75 * samples.targets(train) + 0.25 * probabilities(1, samples, 3.0)
    np.testing.assert_allclose(found.targets(train), expected, atol=1e-6)
    np.testing.assert_array_equal(found.targets(rest), samples.targets(rest))
    np.testing.assert_array_equal(found.label, samples.label)
    assert "0.25 is the answer of a teacher at temperature 3" in told


def test_an_ensemble_is_a_folder_of_runs_and_classes_are_matched_by_name(samples, tmp_path):
    taught(tmp_path / "0", samples, seed=1)
    turned = tuple(reversed(samples.labels))
    taught(tmp_path / "1", samples, seed=2, labels=turned)
    found, told = distilled(samples, Distilling(str(tmp_path), 1.0, 1.0), private=False)
    expected = (probabilities(1, samples, 1.0) + probabilities(2, samples, 1.0)[:, ::-1]) / 2
    np.testing.assert_allclose(found.targets(samples.rows("train")), expected, atol=1e-6)
    assert "2 teachers" in told
    one, two = (teachers(Distilling(str(tmp_path / name))) for name in ("0", "1"))
    assert one != two
    assert one["teachers"] + two["teachers"] == teachers(Distilling(str(tmp_path)))["teachers"]


@pytest.mark.parametrize(
    ("facts", "allowed"),
    [
        ({}, False),
        ({"reader": "fer2013"}, False),
        ({"reader": "faces"}, True),
        ({"privacy": PRIVATE}, True),
        ({"privacy": PRIVATE, "reader": "fer2013"}, True),
        ({"privacy": "epsilon is not known"}, False),
    ],
)
def test_who_may_teach_under_privacy(samples, tmp_path, facts, allowed):
    taught(tmp_path / "run", samples, **facts)
    work = Distilling(str(tmp_path / "run"))
    distilled(samples, work, private=False)
    if allowed:
        _, told = distilled(samples, work, private=True)
        assert ("epsilon 3.5, which adds" in told) == ("privacy" in facts)
        return
    with pytest.raises(PrivacyError, match="trained without differential privacy"):
        distilled(samples, work, private=True)


def test_a_teacher_of_drawn_faces_that_was_itself_taught_is_not_harmless(samples, tmp_path):
    taught(tmp_path / "run", samples, reader="faces")
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    config["distill"]["teacher"] = "another"
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(config))
    assert not origin_of(tmp_path / "run" / "model").is_harmless
    (tmp_path / "run" / "model" / "README.md").unlink()
    assert not origin_of(tmp_path / "run" / "model").is_harmless


def test_teachers_that_do_not_fit_are_refused(samples, tmp_path):
    taught(tmp_path / "other", samples, labels=("neutral", "happiness", "anger"))
    with pytest.raises(ConfigError, match="classes are not these: anger, surprise"):
        distilled(samples, Distilling(str(tmp_path / "other")), private=False)
    taught(tmp_path / "colour", samples, channels=3)
    with pytest.raises(ConfigError, match="sees colour of 48 pixels, and these pictures are gray"):
        distilled(samples, Distilling(str(tmp_path / "colour")), private=False)
    with pytest.raises(ConfigError, match="no finished model lies there"):
        models_in(tmp_path / "nowhere")
    taught(tmp_path / "broken", samples)
    (tmp_path / "broken" / "model" / "model.safetensors").write_bytes(b"no")
    with pytest.raises(ModelError):
        distilled(samples, Distilling(str(tmp_path / "broken")), private=False)
    for facts in ({"weight": 0.0}, {"weight": 1.5}, {"temperature": 0.0}):
        with pytest.raises(ConfigError):
            Distilling("run", **facts)


def test_a_run_learns_from_another_and_says_so(fedfer, refused, tmp_path):
    words = ["simulate", "data.options.count=210", "model=cnn_tiny", "partition.sites=2", "server.rounds=1"]
    words += ["engine.workers=1", "compare.probes=false"]
    assert fedfer(*words, "--run-dir", str(tmp_path / "teacher"))[0] == 0
    given = [f"distill.teacher='{tmp_path / 'teacher'}'", "local.sampling=classes", "local.erase=0.5"]
    code, _, err = fedfer(*words, *given, "local.light=0.5", "--run-dir", str(tmp_path / "student"))
    assert (code, err) == (0, "")
    card = (tmp_path / "student" / "model" / "README.md").read_text()
    assert "the answer of a teacher at temperature 2" in card
    files = [tmp_path / name / "model" / "config.json" for name in ("teacher", "student")]
    first, second = (json.loads(file.read_text())["sha256"] for file in files)
    assert first != second
    plain = [f"distill.teacher='{tmp_path / 'teacher'}'", "local.targets=label"]
    assert refused(fedfer(*words, *plain), ConfigError, "local.targets")
