"""The audit of a finished run from its counts: the run's own figures, what it cost, and clear refusals."""

import csv
import json
import shutil

import pytest

from fer_models.counts import Counts
from fer_models.errors import ConfigError, EvidenceError, RunFolderError
from fer_models.intervals import wilson
from simulations.run_audit import GAPS, HEADLINE


@pytest.fixture
def audited(fedfer, tmp_path):
    """Audit a run: what was printed, and what was written."""

    def run(folder, *words):
        file = tmp_path / "audit.json"
        code, out, err = fedfer("audit", f"run={folder}", *words, "--json", str(file))
        assert (code, err) == (0, "")
        return out, json.loads(file.read_text())

    return run


@pytest.fixture(scope="module")
def systems(compared):
    return json.loads((compared / "summary.json").read_text())["systems"]


@pytest.fixture
def older(compared, tmp_path):
    """A copy of the run's summary, changed."""

    def copy(change):
        folder = tmp_path / "older"
        folder.mkdir()
        summary = json.loads((compared / "summary.json").read_text())
        change(summary)
        (folder / "summary.json").write_text(json.dumps(summary))
        return folder

    return copy


def test_a_run_is_audited_by_its_own_figures(compared, audited, systems):
    out, found = audited(compared)
    federated = systems["federated"]
    assert found["figures"] == {key: federated[key] for key in found["figures"]}
    assert found["counts"] == federated["counts"]
    assert found["source"] == {
        "door": "run",
        "run": str(compared),
        "system": "federated",
        "name": "test run",
        "rows": sum(federated["support"].values()),
        "plan": json.loads((compared / "plan.json").read_text())["hash"],
        "model_sha256": json.loads((compared / "model" / "config.json").read_text())["sha256"],
        "net": found["source"]["net"],
    }
    assert f"{federated['accuracy']:.3f}" in out


def test_a_run_tells_its_sites_its_other_systems_and_its_privacy(compared, audited, systems):
    _, found = audited(compared)
    federated = systems["federated"]
    assert found["sites"] == federated["sites"]
    assert [site["site"] for site in found["per_site"]] == ["site-0", "site-1", "site-2"]
    assert set(found["systems"]) == set(systems) - {"federated"}
    pooled = found["systems"]["pooled"]
    assert {key: pooled[key] for key in HEADLINE} == {key: systems["pooled"][key] for key in HEADLINE}
    for key in GAPS:
        assert pooled["parity"]["gender"][key] == systems["pooled"]["parity"]["gender"][key]
    assert found["privacy"]["epsilon"] == federated["epsilon"] <= 5
    assert found["privacy"]["trust"] == federated["trust"]
    assert "audited_epsilon" not in found["privacy"]


def test_the_run_door_and_the_model_door_agree(compared, audited, fedfer, words, tmp_path):
    file = tmp_path / "model.json"
    data = [word for word in words if not word.startswith("model=")]
    assert fedfer("audit", f"model={compared}", *data, "--json", str(file))[0] == 0
    model, run = json.loads(file.read_text()), audited(compared)[1]
    for key in ("figures", "findings", "disparities", "counts", "people"):
        assert model[key] == run[key], key
    assert run["intervals"] == {**model["intervals"], "from": "simulation"}


def test_another_system_of_the_run_can_be_audited(compared, audited, systems):
    _, found = audited(compared, "system=pooled")
    assert Counts.from_json(found["counts"]).rows == sum(systems["pooled"]["support"].values())
    assert found["figures"]["accuracy"] == systems["pooled"]["accuracy"]
    assert "federated" in found["systems"]
    assert found["privacy"]["epsilon"] is None
    assert "sites" not in found
    assert found["intervals"]["over"] == "people"
    assert found["figures"]["accuracy_interval"] != found["intervals"]["row_wise"]["accuracy_interval"]


def without_people(summary):
    """As a run leaves it that cannot know how alike the pictures of a person are."""
    system = summary["systems"]["federated"]
    del system["counts"]["people"], system["people_sums"]
    system["doubt"] = "People are on several pictures."


def older_version(summary):
    without_people(summary)
    del summary["alike"], summary["systems"]["federated"]["doubt"]


@pytest.mark.parametrize("change", [without_people, older_version])
def test_nothing_is_sure_or_decided_where_people_repeat_and_their_sums_are_missing(
    older, fedfer, tmp_path, change
):
    limits, out, folder = tmp_path / "limits.yaml", tmp_path / "audit", older(change)
    limits.write_text("rules:\n  - {metric: accuracy, limit: 0.0}\n  - {metric: accuracy, limit: 1.0}\n")
    words = [f"run={folder}", f"tolerance={limits}", "--out", str(out)]
    assert fedfer("audit", *words)[0] == EvidenceError.exit_code
    found, page = json.loads((out / "audit.json").read_text()), (out / "audit.html").read_text()
    assert found["doubt"].startswith("People are on several pictures")
    assert {each["verdict"] for each in found["verdicts"]} == {"not enough data"}
    assert {each["reason"] for each in found["verdicts"]} == {found["doubt"]}
    assert not any(gap["sure"] for gap in found["findings"]["gaps"])
    assert "how sure differences between groups are, is not known" in page
    rows = list(csv.DictReader((out / "figures.csv").read_text().splitlines()))
    assert not any(row["low"] or row["high"] for row in rows)


def test_a_real_run_tells_the_people_of_its_groups_by_the_sites_sums(older, compared, audited):
    """Of a real run nothing else tells them, and nothing is decided on a few of them."""

    def real(summary):
        del summary["people"], summary["alike"], summary["systems"]["federated"]["people_sums"]

    found = audited(older(real))[1]
    assert found["intervals"]["from"] == "sites"
    assert found["people"] == audited(compared)[1]["people"]


def test_an_audit_of_the_run_s_privacy_stands_in_the_record(compared, audited, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(compared, folder)
    facts = {"audited_epsilon": 0.5, "confidence": 0.95, "verdict": "consistent", "attacks": []}
    (folder / "privacy_audit.json").write_text(json.dumps(facts))
    privacy = audited(folder)[1]["privacy"]
    assert (privacy["audited_epsilon"], privacy["verdict"]) == (0.5, "consistent")
    assert "audited_epsilon" not in audited(folder, "system=pooled_private")[1]["privacy"]


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        (["system=x"], ConfigError, "Use system=NAME with one of pooled, local_only,"),
        (["system=local_only"], ConfigError, "an audit judges one"),
        (["system="], ConfigError, "Write system=NAME"),
        (["data=faces"], ConfigError, "takes no 'data=faces'"),
        (["model=x"], ConfigError, "one model, one file of predictions or one run"),
    ],
)
def test_a_word_that_is_wrong_is_refused(compared, fedfer, refused, words, kind, said):
    assert refused(fedfer("audit", f"run={compared}", *words), kind, said)


def test_a_folder_without_a_finished_run_is_refused_and_stays_as_it_is(fedfer, refused, tmp_path):
    assert refused(fedfer("audit", f"run={tmp_path / 'none'}"), RunFolderError, "no finished run")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda summary: summary["systems"]["federated"].pop("counts"), "the run kept no counts"),
        (lambda summary: summary.update(study="fairness"), "Give the folder of one of its runs"),
        (lambda summary: summary.pop("systems"), "a damaged file"),
        (lambda summary: summary["systems"]["federated"].update(counts={"labels": 3}), "a damaged file"),
    ],
)
def test_a_summary_that_cannot_be_audited_is_refused(older, fedfer, refused, change, said):
    assert refused(fedfer("audit", f"run={older(change)}"), RunFolderError, said)


def test_sums_over_people_give_a_federation_the_intervals_of_all_rows_in_one_place(fedfer, audited, tmp_path):
    """By secure sums alone: the same figures, findings and gaps as of the model, whose auditor sees every row."""
    data = ["data=faces", "data.options.count=600", "seed=4"]
    words = ["experiment=quickstart", *data, "server.rounds=1", "partition.sites=3", "engine.workers=1"]
    words += ["aggregation=secure", "server.people=true", "compare.probes=false"]
    code, _, err = fedfer("simulate", *words, "--run-dir", str(tmp_path / "run"))
    assert code == 0, err
    _, federated = audited(tmp_path / "run")
    file = tmp_path / "model.json"
    assert fedfer("audit", f"model={tmp_path / 'run'}", *data, "--json", str(file))[0] == 0
    central = json.loads(file.read_text())
    for key in ("figures", "findings", "disparities", "people", "counts"):
        assert federated[key] == central[key], key
    assert federated["intervals"] == {**central["intervals"], "from": "sites", "at_several_sites": 0}
    assert "squares and products over the people" in federated["privacy"]["learned"]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())["systems"]["federated"]
    assert summary["accuracy_interval"] == central["figures"]["accuracy_interval"]


def test_a_site_s_interval_is_over_its_own_people(compared, audited, systems):
    """Also of each site's own model."""
    for rows in (audited(compared)[1]["per_site"], systems["local_only"]["per_site"]):
        plain = [wilson(round(row["accuracy"] * row["test"]), row["test"]).tolist() for row in rows]
        assert all(row["accuracy_interval"][0] <= limits[0] for row, limits in zip(rows, plain, strict=True))
        assert [row["accuracy_interval"] for row in rows] != plain
    assert "doubt" not in systems["local_only"]
