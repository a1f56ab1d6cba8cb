"""``explain=true``: means of Grad-CAM over pictures that may be shown, and over none else."""

import base64
import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from fer_models.counts import Counts
from fer_models.errors import ConfigError, DataError, ModelError, PrivacyError
from fer_models.explain import grad_cam
from fer_models.transforms import to_input
from fer_models.zoo import ModelSpec, build
from simulations.explanations import INK, STRONGEST, explanations, overlay, require_allowed
from simulations.settings import DataSettings

CPU = torch.device("cpu")


def picture_of(explanation):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(explanation["png"]))).convert("RGB"))


def test_the_command_explains_drawn_faces(fedfer, compared, words, tmp_path):
    data = [word for word in words if not word.startswith("model=")]
    plain, told = tmp_path / "plain", tmp_path / "told"
    assert fedfer("audit", f"model={compared}", *data, f"--json={plain}")[0] == 0
    assert "explanations" not in json.loads(plain.read_text())
    code, _, err = fedfer("audit", f"model={compared}", *data, "explain=true", f"--json={told}")
    assert (code, err) == (0, "")
    found = json.loads(told.read_text())
    counts = Counts.from_json(found["counts"]).overall
    labels = found["counts"]["labels"]
    for each in found["explanations"]:
        said = labels.index(each["class"])
        right = counts[said, said]
        assert each["n"] == (right if each["right"] else counts[:, said].sum() - right)
        assert each["n"] >= 10 and each["people"] >= 10
        assert each["class"] in each["caption"] and str(each["n"]) in each["caption"]
        assert picture_of(each).shape == (144, 144, 3)
    shown = {(each["class"], each["right"]) for each in found["explanations"]}
    assert len(shown) == len(found["explanations"])


@pytest.fixture(scope="module")
def net():
    return build(ModelSpec("cnn_tiny", norm="none"), 1).eval()


def many(small, rows):
    return small.take(np.arange(rows) % len(small))


@pytest.fixture
def judged(small, net):
    """200 rows: pictures of the small samples again and again, each of another person; half of them told 0."""
    samples = many(small, 200)
    samples = replace(samples, subject=np.array([f"p{i}" for i in range(200)]))
    return samples, np.arange(200), np.where(np.arange(200) % 2, 1, 0)


def test_a_mean_is_that_of_its_pictures(net, judged):
    samples, rows, said = judged
    found = explanations(net, samples, rows, said, CPU)
    each = next(each for each in found if each["class"] == samples.labels[1] and not each["right"])
    own = rows[(said == 1) & (samples.label != 1)]
    assert each["n"] == each["people"] == len(own) > 50  # more than one batch
    heat = grad_cam(net, to_input(samples.pictures[own]), torch.ones(len(own), dtype=torch.int64))
    expected = overlay(samples.pictures[own].mean(0), heat.double().mean(0).numpy())
    assert (
        np.abs(
            picture_of(each).astype(int) - np.asarray(Image.open(io.BytesIO(expected)).convert("RGB"))
        ).max()
        <= 8
    )
    assert not net.training


def test_of_many_pictures_some_at_equal_distances_are_taken(net, judged, monkeypatch):
    monkeypatch.setattr("simulations.explanations.MOST", 12)
    samples, rows, said = judged
    assert {each["n"] for each in explanations(net, samples, rows, said, CPU)} <= {10, 11, 12}


def test_means_of_few_pictures_or_people_are_left_out(net, judged):
    samples, rows, said = judged
    wrong = (said == 0) & (samples.label != 0)
    few = replace(samples, subject=np.where(wrong, np.char.add("q", (rows % 9).astype(str)), samples.subject))
    kept = {(each["class"], each["right"]) for each in explanations(net, few, rows, said, CPU)}
    assert (samples.labels[0], False) not in kept
    assert (samples.labels[1], False) in kept
    unnamed = replace(samples, subject=None)
    assert all(each["people"] is None for each in explanations(net, unnamed, rows, said, CPU))
    with pytest.raises(DataError, match="a mean of fewer would show a face"):
        explanations(net, unnamed, rows[:9], said[:9], CPU)


def test_the_strongest_place_is_orange_and_the_weakest_is_the_face():
    face, heat = np.full((144, 144), 100.0), np.zeros((144, 144))
    heat[:, 72:] = 0.2
    picture = np.asarray(Image.open(io.BytesIO(overlay(face, heat))).convert("RGB"))
    strongest = STRONGEST * np.array(INK) + (1 - STRONGEST) * 100
    assert np.abs(picture[:, 100:] - strongest).max() <= 1
    assert np.abs(picture[:, :50] - 100.0).max() <= 1
    assert (
        np.abs(np.asarray(Image.open(io.BytesIO(overlay(face, 0 * heat))).convert("RGB")) - 100.0).max() <= 1
    )


def test_private_pictures_are_not_shown(fedfer, refused, compared, tmp_path):
    require_allowed(DataSettings(reader="faces"))
    require_allowed(DataSettings(reader="fer2013", publish=True))
    with pytest.raises(PrivacyError, match="nobody has allowed"):
        require_allowed(DataSettings(reader="fer2013"))
    words = [f"model={compared}", "data=imagefolder", f"data.root={tmp_path}", "explain=true"]
    assert refused(fedfer("audit", *words), PrivacyError, "data.publish=true")


def test_wrong_words_and_nets_without_maps(fedfer, refused, compared, net, judged):
    words = [f"model={compared}", "data=faces", "explain=yes"]
    assert refused(fedfer("audit", *words), ConfigError, "Write explain=true")
    with pytest.raises(ModelError, match="no layer gives maps"):
        explanations(build(ModelSpec("hog_linear"), 0), *judged, CPU)


def test_leave_to_show_pictures_is_no_part_of_a_run():
    assert DataSettings(reader="faces").facts() == DataSettings(reader="faces", publish=True).facts()
