"""Counts of test pictures with noise, from the command line: ledger, summary, audit, and what is refused."""

import json

import numpy as np
import pytest

from client.ledger import Ledger
from fer_models.counts import Counts
from fer_models.errors import ConfigError, PrivacyError
from fer_models.noisy_counts import variance_of_cell
from simulations.cli import main

DATA = ("data=faces", "data.options.count=300", "data.options.pictures_per_person=1", "seed=3")
WORDS = ("experiment=private", *DATA, "partition.sites=3", "server.rounds=2", "server.evaluate_every=2")
WORDS += ("privacy.allow_useless=true", "engine.workers=1", "compare.probes=false")


def made(folder, *more):
    with pytest.raises(SystemExit) as ended:
        main(["simulate", *WORDS, *more, "--run-dir", str(folder)])
    assert ended.value.code == 0
    return folder


@pytest.fixture(scope="module", params=["plain", "secure"])
def folder(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("noisy") / "run"
    return made(path, f"aggregation={request.param}", "privacy.audit_epsilon=2")


@pytest.fixture(scope="module")
def federated(folder):
    return json.loads((folder / "summary.json").read_text())["systems"]["federated"]


def test_every_ledger_holds_the_counts_after_the_training_within_the_target(folder, federated):
    for path in sorted((folder / "ledger").glob("*.sqlite")):
        ledger = Ledger(path, read_only=True)
        assert [event.kind for event in ledger.events] == ["training", "training", "audit_counts"]
        assert [event.round for event in ledger.events] == [1, 2, 3]
        assert 7.9 < ledger.epsilon(federated["delta"]).value <= 8
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["epsilon"] == federated["epsilon"] == max(site["epsilon"] for site in federated["per_site"])


def test_the_summary_tells_of_the_noise_and_of_no_site(folder, federated):
    noise, groups = federated["noise_of_counts"], [2, 3, 3]
    assert (noise["epsilon"], noise["tables"], noise["sites"]) == (2.0, 3, 3)
    share = np.exp(-2 / 3)
    assert noise["deviation"] ** 2 == pytest.approx(3 * 2 * share / (1 - share) ** 2)
    assert noise["deviation_overall"] ** 2 == pytest.approx(variance_of_cell(groups, noise["deviation"] ** 2))
    assert federated["sites"] is None
    assert {key for site in federated["per_site"] for key in site} == {"site", "epsilon"}
    assert "people" not in json.loads((folder / "summary.json").read_text())
    assert "noise of epsilon 2 at each site" in federated["learned"]
    assert "counts of test pictures carry noise of its own" in federated["trust"]
    assert (folder / "report.html").exists()


def test_intervals_hold_the_noise(folder, federated, fedfer, tmp_path):
    file = tmp_path / "audit.json"
    code, _, err = fedfer("audit", f"run={folder}", "--json", str(file), "--out", str(tmp_path / "out"))
    assert (code, err) == (0, "")
    found = json.loads(file.read_text())
    assert found["figures"]["accuracy_interval"] == federated["accuracy_interval"]
    assert found["noise"] == federated["noise_of_counts"]
    assert found["privacy"]["audit_epsilon"] == 2.0
    assert not {"sites", "bias"} & set(found)
    counts = Counts.from_json(found["counts"])
    p, n = federated["accuracy"], counts.rows
    low, high = federated["accuracy_interval"]
    assert high - low > 2 * 1.96 * np.sqrt(p * (1 - p) / n)
    assert not any(gap["sure"] for gap in found["findings"]["gaps"])
    assert (tmp_path / "out" / "audit.html").exists()


def test_with_hardly_any_noise_the_counts_are_the_model_s_own(fedfer, tmp_path):
    """At epsilon 100, 33 a table, noise other than 0 comes once in 10^14 draws."""
    less = ("privacy.audit_epsilon=100", "privacy.target_epsilon=110")
    folder, file, limits = made(tmp_path / "run", *less), tmp_path / "a", tmp_path / "limits.yaml"
    assert fedfer("audit", f"model={folder}", *DATA, "--json", str(file))[0] == 0
    summary = json.loads((folder / "summary.json").read_text())["systems"]["federated"]
    found = json.loads(file.read_text())["counts"]
    assert {key: found[key] for key in summary["counts"]} == summary["counts"]
    low, high = summary["accuracy_interval"]
    for limit, code in ((low, 0), ((low + high) / 2, 14), (high + 0.01, 13)):
        limits.write_text(f"- {{metric: accuracy, limit: {limit}}}\n")
        assert fedfer("audit", f"run={folder}", f"tolerance={limits}")[0] == code


def test_the_ledger_command_names_the_counts(folder, fedfer):
    code, out, _ = fedfer("site", "ledger", str(folder), "--site", "site-0", "--check")
    assert code == 0
    assert "audit counts" in out
    assert "they agree" in out


def test_noise_that_drowns_the_counts_leaves_verdicts_open(folder, fedfer, tmp_path):
    """A few dozen pictures at this epsilon: neither is everybody told right for sure, nor nobody."""
    file, out = tmp_path / "limits.yaml", tmp_path / "audit.json"
    for limit in (0.01, 0.99):
        file.write_text(f"- {{metric: accuracy, limit: {limit}}}\n")
        assert fedfer("audit", f"run={folder}", f"tolerance={file}", "--json", str(out))[0] == 14
        (told,) = json.loads(out.read_text())["verdicts"]
        assert told["verdict"] == "not enough data"
        assert told["interval"] == json.loads(out.read_text())["figures"]["accuracy_interval"]


@pytest.mark.parametrize(
    ("more", "kind", "said"),
    [
        (["server.evaluate_every=1"], PrivacyError, "Give server.evaluate_every=2"),
        (["privacy.target_epsilon=1.5"], PrivacyError, "would cost the target epsilon"),
        (["privacy.audit_epsilon=0"], ConfigError, "Give 1 or so"),
    ],
)
def test_runs_that_could_not_keep_their_word_are_refused(fedfer, refused, tmp_path, more, kind, said):
    words = (*WORDS, "privacy.audit_epsilon=2", *more, "--run-dir", str(tmp_path / "run"))
    assert refused(fedfer("simulate", *words), kind, said)
    assert not (tmp_path / "run").exists()
