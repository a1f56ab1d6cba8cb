"""Erasure and biases of clusters from the command line: what they change, cost, and what is refused in one line."""

import json

import pytest

from client.ledger import Ledger
from fer_models import errors
from fer_models.checkpoints import load_model
from simulations.audit import audit_model
from simulations.cli import main
from simulations.compose import composed

DATA = ("data.options.count=1200", "data.options.pictures_per_person=2", "model=cnn_tiny", "seed=3")
WORDS = (*DATA, "partition.sites=3", "baseline.systems=[]", "engine.workers=1")
LEACE = ("fairness=leace", "fairness.attribute=gender")
PRIVATE = ("privacy=dp", "privacy.target_epsilon=8", "local.rate=0.1", "compare.pooled_private=false")
PRIVATE += ("compare.without_privacy=false", "server.rounds=4", "server.evaluate_every=4")


def compared(path, *words):
    with pytest.raises(SystemExit) as ended:
        main(["compare", *WORDS, *words, "--run-dir", str(path)])
    assert ended.value.code == 0
    return json.loads((path / "summary.json").read_text())["systems"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("leace")


@pytest.fixture(scope="module")
def plain(folder):
    return compared(folder / "plain", *LEACE, "server.rounds=60", "server.evaluate_every=60")


@pytest.fixture(scope="module")
def private(folder):
    return compared(folder / "private", *LEACE, *PRIVATE)


def test_a_linear_probe_finds_the_group_before_and_not_after(plain):
    before, after = (plain[name]["probes"]["gender"] for name in ("federated_without_fairness", "federated"))
    assert before["linear_interval"][0] > 0.6
    assert after["linear_interval"][0] < 0.5 < after["linear_interval"][1]
    assert plain["federated"]["finish"]["rank"] == 1
    assert plain["federated"]["finish"]["erased"] == "gender"
    assert "finish" not in plain["federated_without_fairness"]


def test_the_saved_model_is_the_finished_one(folder, plain):
    _, spec, _ = load_model(folder / "plain" / "model")
    assert spec.name == "cnn_tiny"
    figures = (folder / "plain" / "model" / "README.md").read_text()
    assert f"| accuracy | {plain['federated']['accuracy']:.4g} |" in figures


def test_both_private_federations_keep_the_target_in_ledgers_of_their_own(folder, private):
    for name in ("federated", "federated_without_fairness"):
        assert 7.8 < private[name]["epsilon"] <= 8
    kinds = {}
    for place in ("ledger", "baselines/ledger-federated_without_fairness"):
        ledger = Ledger(folder / "private" / place / "site-0.sqlite", read_only=True)
        kinds[place] = [event.kind for event in ledger.events]
    assert list(kinds.values()) == [["training"] * 4 + ["moments"] * 2, ["training"] * 4]


@pytest.fixture(scope="module")
def clustered(folder):
    words = (
        "fairness=score_normalisation",
        "server.rounds=30",
        "server.evaluate_every=30",
    )
    return compared(folder / "clustered", *words)


def test_biases_of_clusters_need_no_attribute_and_are_in_the_saved_model(folder, clustered):
    finish = clustered["federated"]["finish"]
    assert len(finish["clusters"]) == 8
    assert finish["largest_bias"] > 0
    module, spec, _ = load_model(folder / "clustered" / "model")
    assert spec.clusters == 8
    assert float(module.offsets.abs().max()) == pytest.approx(finish["largest_bias"], abs=1e-3)
    found = audit_model(folder / "clustered", composed(DATA)[0])
    assert found["accuracy"] == clustered["federated"]["accuracy"]
    assert clustered["federated_without_fairness"]["visits"] == clustered["federated"]["visits"]


REFUSED = [
    (("fairness=score_normalisation", "fairness.clusters=1"), errors.ModelError, "1 clusters (model)"),
    (("fairness=score_normalisation", "aggregation=plain"), errors.PrivacyError, "which faces it holds"),
    (("aggregation=plain",), errors.PrivacyError, "(aggregation). Use aggregation=secure"),
    (("fairness.attribute=hat",), errors.ConfigError, "no site tells 'hat' (fairness.attribute)"),
    (("fairness.attribute=",), errors.ConfigError, "which groups are meant is not said"),
    (("data.groups=[none]",), errors.ConfigError, "gender is not audited"),
    ((*PRIVATE, "fairness.moments_epsilon=null"), errors.PrivacyError, "(fairness.moments_epsilon)"),
    ((*PRIVATE, "fairness.moments_epsilon=0"), errors.ConfigError, "(fairness.moments_epsilon). Give 0.5"),
    ((*PRIVATE, "fairness.moments_epsilon=9"), errors.PrivacyError, "would cost the target epsilon of 8"),
    ((*PRIVATE, "privacy.site_epsilon_limit=7"), errors.PrivacyError, "would pass the site's limit"),
]


@pytest.mark.parametrize(("words", "kind", "said"), REFUSED, ids=[" ".join(each[0][-1:]) for each in REFUSED])
def test_what_cannot_be_is_one_line_and_no_run_folder(fedfer, refused, tmp_path, words, kind, said):
    found = fedfer("simulate", *WORDS, *LEACE, *words, "--run-dir", str(tmp_path / "run"))
    assert refused(found, kind, said), found
    assert not (tmp_path / "run").exists()
