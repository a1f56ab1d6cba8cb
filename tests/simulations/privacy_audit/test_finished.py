"""A finished run is audited by its own pictures, and by a second training; its report shows what was found."""

import json
import shutil

import pytest

from fer_models import errors
from server.report.folder import Facts
from server.report.views import audited
from simulations.privacy_audit.verdict import ABOVE


@pytest.fixture(scope="module")
def trained(private_words, tmp_path_factory):
    """A finished private run; to be copied, not written to."""
    from simulations.cli import main

    path = tmp_path_factory.mktemp("trained") / "run"
    with pytest.raises(SystemExit) as ended:
        main(["simulate", *private_words, "--run-dir", str(path)])
    assert ended.value.code == 0
    return path


@pytest.fixture
def folder(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.slow
def test_membership_inference_on_a_finished_run(folder, fedfer):
    before = (folder / "report.html").read_text()
    code, out, err = fedfer("audit-privacy", f"model={folder}")
    assert (code, err) == (0, "")
    facts = json.loads((folder / "privacy_audit.json").read_text())
    seen, claimed = facts["membership"], json.loads((folder / "summary.json").read_text())["systems"]
    assert facts["claimed_epsilon"] == claimed["federated"]["epsilon"]
    assert facts["held_out"]
    assert facts["audited_epsilon"] == seen["epsilon"] < facts["claimed_epsilon"]
    assert facts["verdict"] == "consistent"
    assert seen["auc_interval"][0] <= seen["auc"] <= seen["auc_interval"][1]
    assert [each["alarms"] for each in seen["caught"]] == [0.001, 0.01]
    assert "AUC (0.5 tells nothing)" in out
    after = (folder / "report.html").read_text()
    assert "Membership inference shows that epsilon is at least" in after
    assert "Audit." not in before


@pytest.mark.slow
def test_a_second_training_with_canaries_beside_it(folder, fedfer):
    code, out, _ = fedfer(
        "audit-privacy", f"model={folder}", "privacy_audit.retrain=true", "privacy_audit.trials=60"
    )
    assert code == 0
    facts = json.loads((folder / "privacy_audit.json").read_text())
    assert facts["canaries"] == 300
    assert facts["one_round"]["trials"] == 60
    assert facts["membership"]["members"] > 0
    assert "one round: one picture, many trials" in out
    assert "A second training with 300 canaries shows" in (folder / "report.html").read_text()


def test_a_claim_that_was_found_wrong_is_a_bug_in_the_report():
    found = {"audited_epsilon": 2.5, "confidence": 0.95, "canaries": 300, "verdict": ABOVE}
    said = audited(Facts(found, "privacy_audit.json"))
    assert said.startswith("A second training with 300 canaries shows that epsilon is at least 2.50")
    assert said.endswith("found a claim to be wrong: a bug. Do not rely on it.")
    assert audited(Facts({}, "privacy_audit.json")) == ""


@pytest.mark.slow
def test_what_cannot_be_audited_is_refused(folder, fedfer, refused, tmp_path):
    found = fedfer("audit-privacy", f"model={folder}", "seed=1")
    assert refused(found, errors.ConfigError, "seed is the run's own")
    found = fedfer("audit-privacy", f"model={folder}", "privacy_audit.confidence=2")
    assert refused(found, errors.ConfigError, "a confidence of 2")
    few = ["privacy_audit.retrain=true", "privacy_audit.canaries=5"]
    found = fedfer("audit-privacy", f"model={folder}", *few)
    assert refused(found, errors.ConfigError, "5 canaries cannot refute")
    found = fedfer("audit-privacy", f"model={folder}", f"model={folder}")
    assert refused(found, errors.ConfigError, "Audit one at a time")
    found = fedfer("audit-privacy", f"model={tmp_path / 'nowhere'}")
    assert refused(
        found, errors.RunFolderError, "the folder holds no run", "Give the folder of a finished run"
    )
    plan = json.loads((folder / "plan.json").read_text())
    (folder / "plan.json").write_text(json.dumps(plan | {"hash": "another"}))
    found = fedfer("audit-privacy", f"model={folder}")
    assert refused(found, errors.RunFolderError, "no longer make the plan")
    shutil.rmtree(folder / "model")
    assert refused(fedfer("audit-privacy", f"model={folder}"), errors.ModelError, "model/ of a finished run")


@pytest.mark.slow
def test_a_run_without_privacy_claims_nothing(private_words, fedfer, refused, tmp_path):
    words = [*private_words, "privacy=none", "server.weighting=auto", "--run-dir", str(tmp_path / "plain")]
    assert fedfer("simulate", *words)[0] == 0
    found = fedfer("audit-privacy", f"model={tmp_path / 'plain'}")
    assert refused(found, errors.ConfigError, "nothing to audit")
    assert not (tmp_path / "plain" / "privacy_audit.json").exists()
