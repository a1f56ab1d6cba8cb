"""The site's commands on real files: dealt pictures in, a site that says what a plan would mean for it."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from client.evaluation import blurred
from client.ledger import Ledger, close_all
from client.site_folder import SiteFolder
from client.workbench import Benches
from fer_models.errors import (
    ConfigError,
    DataError,
    IdentityError,
    PolicyError,
    PrivacyError,
    RunFolderError,
)
from fer_models.labels import UNDISCLOSED
from fer_models.samples import Samples

WORDS = (
    "data.options.count=360", "partition.sites=3", "model=hog_linear", "local=private", "privacy=dp",
    "aggregation=secure", "server.rounds=3", "privacy.allow_useless=true",
)  # fmt: skip


@pytest.fixture(scope="module")
def dealt(tmp_path_factory):
    """Pictures of three sites, and the plan."""
    from simulations.cli import main

    folder = tmp_path_factory.mktemp("rehearsal") / "dealt"
    with pytest.raises(SystemExit) as ended:
        main(["data", "deal", *WORDS, "--run-dir", str(folder)])
    assert ended.value.code == 0
    return folder


@pytest.fixture
def site(dealt, tmp_path, fedfer):
    """A site that holds the first dealt pictures."""
    code, out, _ = fedfer("site", "init", str(tmp_path / "clinic"), "--data", str(dealt / "site-0"))
    assert code == 0
    assert "site clinic" in out
    return tmp_path / "clinic"


def change(site, file, old, new):
    text = (site / file).read_text()
    assert old in text
    (site / file).write_text(text.replace(old, new))


def test_a_new_site_is_its_owner_s_alone(site):
    assert site.stat().st_mode & 0o777 == 0o700
    files = sorted(path for path in site.rglob("*") if path.is_file())
    assert [path.name for path in files] == [
        "data.yaml",
        "node.key",
        "signing.pem",
        "policy.yaml",
        "site.json",
    ]
    assert all(path.stat().st_mode & 0o077 == 0 for path in files)


def test_a_good_plan_is_told_in_full(site, dealt, fedfer):
    code, out, err = fedfer("site", "check", str(site), str(dealt / "plan.json"))
    assert (code, err) == (0, "")
    for words in (
        "keys good, fingerprint", "neutral", "skin_tone", "rehearsal", "The plan asks for 3 rounds",
        "right and wrong answers on test pictures", "Secure aggregation: of every round", "the policy allows",
        "It costs epsilon 8.00 at most for one picture", "one private round of hog_linear", "would take part",
    ):  # fmt: skip
        assert words in out
    assert not (site / "ledger.sqlite").exists()  # nothing has left


def test_without_a_plan_a_step_is_tried(site, fedfer):
    code, out, err = fedfer("site", "check", str(site))
    assert (code, err) == (0, "")
    assert re.search(r"memory of this process: \d+ MB at most", out)
    assert "one private round of hog_linear" in out
    assert out.endswith("ready\n")


def test_a_plan_of_a_run_folder_is_read_too(site, dealt, tmp_path, fedfer, refused):
    plan = json.loads((dealt / "plan.json").read_text())
    (tmp_path / "plan.json").write_text(json.dumps({"plan": plan, "systems": []}))
    assert fedfer("site", "check", str(site), str(tmp_path / "plan.json"))[0] == 0
    for text in ("", "{}", "[]", '{"plan": {"labels": 3}}'):
        (tmp_path / "plan.json").write_text(text)
        assert refused(fedfer("site", "check", str(site), str(tmp_path / "plan.json")), ConfigError)


def test_a_refused_plan_names_every_rule_and_ends_with_its_code(site, dealt, fedfer, refused):
    change(site, "policy.yaml", "epsilon_a_run: 8.0", "epsilon_a_run: 1.0")
    change(site, "policy.yaml", "models: [hog_linear, ", "models: [")
    found = fedfer("site", "check", str(site), str(dealt / "plan.json"))
    assert refused(found, PolicyError, "clinic, privacy.epsilon_a_run", "1 is allowed")
    assert "refused by privacy.epsilon_a_run" in found[1]
    assert "refused by training.models" in found[1]
    assert "one private round" not in found[1]


def test_a_plan_without_room_in_the_ledger_is_told(site, dealt, fedfer, refused):
    change(site, "policy.yaml", "epsilon: 10.0", "epsilon: 8.5")
    folder = SiteFolder.open(site)
    policy = folder.policy()
    agent = folder.agent(policy, folder.data(), Benches(torch.device("cpu")), folder.ledger(policy))
    from client.plan import read_plan

    plan = read_plan((dealt / "plan.json").read_text())
    agent.train(plan, 1, Benches(torch.device("cpu")).of(plan).flat.full_vector.numpy().copy())
    close_all()
    assert Ledger(site / "ledger.sqlite", "clinic").head.number == 1
    # The same plan may go on; another run of it may not begin.
    assert fedfer("site", "check", str(site), str(dealt / "plan.json"))[0] == 0
    other = json.loads(plan.text) | {"run": "another"}
    (site / "other.json").write_text(json.dumps(other))
    found = fedfer("site", "check", str(site), str(site / "other.json"))
    assert refused(found, PrivacyError, "would pass the site's limit of epsilon 8.5")
    code, out, _ = fedfer("site", "ledger", str(site))
    assert code == 0
    assert "Of the limit of epsilon 8.5" in out


def test_enrolling_writes_a_request_with_the_fingerprint_of_the_check(site, fedfer):
    code, out, _ = fedfer("site", "enrol", str(site))
    told = re.search(r"fingerprint of clinic: (.*)", out)[1]
    assert code == 0
    assert f"fingerprint {told}" in fedfer("site", "check", str(site))[1]
    assert json.loads((site / "request.json").read_text())["site"] == "clinic"
    assert "PRIVATE" not in (site / "request.json").read_text()


def test_keys_that_others_may_read_are_an_error(site, fedfer, refused):
    (site / "keys" / "node.key").chmod(0o644)
    for command in ("check", "enrol"):
        found = fedfer("site", command, str(site))
        assert refused(found, IdentityError, "others may use this key (mode 644)", "chmod 600")


def test_people_on_both_sides_of_the_test_part_are_an_error(site, dealt, tmp_path, fedfer, refused):
    samples = Samples.load(dealt / "site-0")
    person = samples.subject[samples.rows("test")[0]]
    moved = np.where(np.arange(len(samples)) == samples.rows("train")[0], person, samples.subject)
    replace(samples, subject=moved).save(tmp_path / "leaking")
    shutil.copy(dealt / "site-0" / "rehearsal.json", tmp_path / "leaking")
    change(site, "data.yaml", str(dealt / "site-0"), str(tmp_path / "leaking"))
    assert refused(fedfer("site", "check", str(site)), DataError, "people in both train and test: 1", person)


def test_pictures_that_are_gone_are_an_error(site, fedfer, refused):
    change(site, "data.yaml", "site-0", "gone")
    assert refused(fedfer("site", "check", str(site)), DataError, "no pictures for a rehearsal", "gone")
    change(site, "data.yaml", "reader: rehearsal", "reader: imagefolder")
    assert refused(fedfer("site", "check", str(site)), DataError, "no such file or folder")


def test_other_classes_and_sizes_are_an_error(site, dealt, tmp_path, fedfer, refused):
    plan = json.loads((dealt / "plan.json").read_text())
    plan["model"]["size"] = 64
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    found = fedfer("site", "check", str(site), str(tmp_path / "plan.json"))
    assert refused(found, DataError, "1 x 64 x 64")


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        ([], ConfigError, "site needs a command"),
        (["ini"], ConfigError, "Did you mean init?"),
        (["init", "new"], ConfigError, "--data is missing"),
        (["init", "--data", "x"], ConfigError, "needs a new folder"),
        (["init", "new", "--data"], ConfigError, "--data without a value"),
        (["init", "new", "--data", "x", "--data", "y"], ConfigError, "--data is there twice"),
        (["init", "new", "--data", "x", "--naem", "y"], ConfigError, "Did you mean --name?"),
        (["init", "new", "--data", "x", "--name", "Big"], ConfigError, "'Big' is no name of a site"),
        (["init", "new", "--data", "x", "--reader", "zip"], ConfigError, "unknown reader 'zip'"),
        (["init", "full", "--data", "x"], ConfigError, "the folder is not empty (full)"),
        (["check", "full"], ConfigError, "this folder holds no site (full)"),
        (["check"], ConfigError, "site check needs a folder"),
        (["enrol", "nowhere"], ConfigError, "this folder holds no site (nowhere)"),
        (["enrol"], ConfigError, "site enrol needs a site's folder"),
    ],
)
def test_mistakes_are_one_line(words, kind, said, tmp_path, monkeypatch, fedfer, refused):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    assert refused(fedfer("site", *words), kind, said)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("reader: rehearsal", "reader: zip", "unknown reader 'zip'"),
        ("split: auto", "split: half", "unknown split 'half'"),
        ("test: 0.2", "test: much", "expected float"),
        ("options: {}", "options: {subject: patient}", "unknown option 'subject'"),
        ("opted_out: false\n", "", "missing"),
    ],
)
def test_a_mapping_is_read_strictly(site, old, new, said, fedfer, refused):
    change(site, "data.yaml", old, new)
    assert refused(fedfer("site", "check", str(site)), ConfigError, said)


def test_dealing_takes_an_empty_folder(tmp_path, fedfer, refused):
    (tmp_path / "file").write_text("")
    found = fedfer("data", "deal", *WORDS, "--run-dir", str(tmp_path))
    assert refused(found, RunFolderError, "not empty")


def test_small_groups_are_undisclosed_in_test_pictures_alone(small):
    table = blurred(small, 1)
    assert np.array_equal(table.groups["age"], small.groups["age"])
    test = small.split == "test"
    counts = dict(zip(*np.unique(small.groups["age"][test], return_counts=True), strict=True))
    rare, common = min(counts, key=counts.get), max(counts, key=counts.get)
    assert counts[rare] < counts[common]
    found = blurred(small, counts[rare] + 1).groups["age"]
    assert np.array_equal(found[~test], small.groups["age"][~test])
    assert set(found[test]) == {UNDISCLOSED, common}
    assert (found[test] == UNDISCLOSED).sum() == counts[rare]
