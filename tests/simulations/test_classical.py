"""Classical systems: features by hand and a classifier, on the split of the other systems, in the same report."""

import json

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fer_models import errors
from simulations.classical import NAMES, asked, numbers, predictions
from simulations.faces import FacesConfig, draw


@pytest.fixture(scope="module")
def samples():
    """Expressions at their strongest, so that few pictures are enough."""
    easy = FacesConfig(
        count=240, labels=("happiness", "surprise", "anger"), intensity=1, spread=0, pose=0, light=0
    )
    return draw(easy, 0)


@pytest.mark.parametrize(
    "name", ["lbp_logistic", "hog_svm", "hog_tree", "pca_knn", "pca_forest", "hog_voting"]
)
def test_classical_systems_learn(samples, name):
    rows = np.arange(len(samples))
    found = predictions(name, samples, rows[:180], rows[180:], seed=0)
    assert found.shape == (60,)
    assert (found == samples.label[180:]).mean() > 0.45  # a third by chance


def test_the_same_seed_gives_the_same_answers(samples):
    rows = np.arange(len(samples))
    first, second = (predictions("hog_tree", samples, rows[:100], rows[100:], seed=5) for _ in range(2))
    assert np.array_equal(first, second)


def test_patterns_are_counted_cell_by_cell(samples):
    found = numbers("lbp", samples, np.arange(2))
    assert found.shape == (2, 36 * 59)
    assert (found.reshape(2, 36, 59).sum(2) == 64).all()  # every pixel of a cell once
    light = samples.pictures.copy()
    light[0] = np.clip(light[0], 0, 200) + 30
    assert numbers("hog", samples, np.arange(2)).shape[0] == 2


def test_names():
    assert asked(["all"]) == list(NAMES)
    assert asked(["hog_svm", "hog_svm"]) == ["hog_svm"]
    with pytest.raises(errors.ConfigError, match="Did you mean hog_svm"):
        asked(["hog_svn"])


def test_they_stand_in_the_same_report_on_the_same_split(fedfer, words, tmp_path):
    words = [
        *words,
        "baseline.systems=[]",
        "baseline.classical=[hog_logistic,pca_tree]",
        "--run-dir",
        str(tmp_path),
    ]
    code, _, err = fedfer("baseline", *words)
    assert (code, err) == (0, "")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["order"] == ["hog_logistic", "pca_tree"]
    for name in summary["order"]:
        facts = summary["systems"][name]
        assert sum(facts["support"].values()) == summary["data"]["test"]
        assert facts["epsilon"] is None
        assert len(facts["accuracy_interval"]) == 2
        assert facts["parity"]
    curves = EventAccumulator(str(tmp_path / "events" / "pca_tree"))
    curves.Reload()
    assert "accuracy" in curves.Tags()["scalars"]
    assert "loss" not in curves.Tags()["scalars"]  # they minimise none that can be compared
    page = (tmp_path / "report.html").read_text()
    assert "Hog logistic" in page
    code, out, _ = fedfer("audit", f"run={tmp_path}", "system=pca_tree")
    assert code == 0
    assert f"{summary['systems']['pca_tree']['accuracy']:.3f}" in out
