"""A saved model is judged by the same counts as in its own run."""

import json

import pytest

from fer_models import errors
from fer_models.counts import Counts
from simulations.audit import audit_model
from simulations.compose import composed


@pytest.fixture(scope="module")
def folder(compared):
    return compared


@pytest.fixture(scope="module")
def summary(folder):
    return json.loads((folder / "summary.json").read_text())


@pytest.fixture(scope="module")
def data(words):
    """The words that name the data, without the net that the run trained."""
    return [word for word in words if not word.startswith("model=")]


def test_an_audit_of_the_run_s_model_gives_the_run_s_figures(folder, summary, words):
    """With its intervals, which are over people: the simulation holds all pictures, as whoever audits the model."""
    found = audit_model(folder, composed(words)[0])
    federated, told = summary["systems"]["federated"], json.loads(json.dumps(found))
    for name, value in flat(told).items():
        own = flat({key: federated[key] for key in told})[name]
        assert value == own, name
    assert audit_model(folder / "model", composed(words)[0]) == found


def flat(facts, path=""):
    """Every leaf of nested objects, with the path to it."""
    if not isinstance(facts, dict):
        return {path: facts}
    return {k: v for key, each in facts.items() for k, v in flat(each, f"{path}/{key}").items()}


def test_the_audit_is_a_command(folder, fedfer, summary, data):
    code, out, err = fedfer("audit", f"model={folder}", *data)
    assert (code, err) == (0, "")
    federated = summary["systems"]["federated"]
    assert f"{federated['accuracy']:.3f}" in out
    for name, support in federated["support"].items():
        line = next(line for line in out.splitlines() if name in line)
        assert str(support) in line
    assert "skin_tone" in out


@pytest.mark.parametrize(
    ("changed", "kind", "said"),
    [
        (["data.options.labels=[fear,anger]"], errors.DataError, "Give data with the model's classes"),
        (["data.size=64"], errors.DataError, "Set data.size=48"),
        (["data.channels=3"], errors.DataError, "data.channels=1"),
        (["data.groups=[accent]"], errors.ConfigError, "Known: gender"),
    ],
)
def test_an_audit_on_other_data_is_refused(folder, fedfer, refused, data, changed, kind, said):
    assert refused(fedfer("audit", f"model={folder}", *data, *changed), kind, said)


def test_an_audit_of_nothing_is_refused(fedfer, refused, tmp_path, data):
    assert refused(fedfer("audit", f"model={tmp_path}", *data), errors.ModelError, "model/ of a finished run")
    (tmp_path / "model").mkdir()
    found = fedfer("audit", f"model={tmp_path}", *data)
    assert refused(found, errors.ModelError, str(tmp_path / "model"))


def test_the_people_of_the_pictures_are_counted_as_in_the_run(folder, fedfer, summary, data, tmp_path):
    file = tmp_path / "audit.json"
    assert fedfer("audit", f"model={folder}", *data, "--json", str(file))[0] == 0
    found = json.loads(file.read_text())
    assert found["people"] == summary["people"]
    assert found["people"]


def test_a_model_is_judged_by_groups_within_groups(folder, fedfer, data, tmp_path):
    file = tmp_path / "audit.json"
    words = [*data, "data.groups=[gender,skin_tone,gender*skin_tone]"]
    code, out, err = fedfer("audit", f"model={folder}", *words, "--json", str(file))
    assert (code, err) == (0, "")
    assert "gender*skin_tone" in out
    counts = Counts.from_json(json.loads(file.read_text())["counts"])
    crossed, gender = counts.by_group["gender*skin_tone"], counts.by_group["gender"]
    for name, table in zip(counts.groups["gender"], gender, strict=True):
        inside = [group.startswith(f"{name}*") for group in counts.groups["gender*skin_tone"]]
        assert sum(inside) > 1
        assert crossed[inside].sum(0).tolist() == table.tolist()
