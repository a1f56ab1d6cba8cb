"""Label counts and logit adjustment from the command line: a private run, its ledgers, summary, page and model."""

import json

import pytest

from client.ledger import Ledger
from fer_models import errors
from simulations.audit import audit_model
from simulations.cli import main
from simulations.compose import composed

DATA = ("data=faces", "data.options.count=300", "data.options.class_shares={happiness: 0.5}", "seed=3")
WORDS = ("experiment=private", *DATA, "partition.sites=3", "server.rounds=4", "server.evaluate_every=4")
WORDS += ("privacy.allow_useless=true", "engine.workers=1")
COUNTS = ("privacy.counts_epsilon=0.5", "server.adjustment=4.0")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("counts") / "run"
    with pytest.raises(SystemExit) as ended:
        main(["simulate", *WORDS, *COUNTS, "--run-dir", str(path)])
    assert ended.value.code == 0
    return path


@pytest.fixture(scope="module")
def federated(folder):
    return json.loads((folder / "summary.json").read_text())["systems"]["federated"]


def test_every_ledger_holds_both_releases_within_the_target(folder, federated):
    for path in sorted((folder / "ledger").glob("*.sqlite")):
        ledger = Ledger(path, read_only=True)
        assert [event.kind for event in ledger.events] == ["label_counts", *["training"] * 4]
        assert 7.9 < ledger.epsilon(federated["delta"]).value <= 8
    assert federated["epsilon"] == max(site["epsilon"] for site in federated["per_site"])


def test_the_ledger_command_names_the_counts(folder, fedfer):
    code, out, _ = fedfer("site", "ledger", str(folder), "--site", "site-0", "--check")
    assert code == 0
    assert "label counts" in out
    assert "epsilon 0.5" in out
    assert "they agree" in out


def test_summary_page_and_card_tell_what_was_spent_on_what(folder, federated):
    assert federated["counts_epsilon"] == 0.5
    assert federated["adjustment"] == 4.0
    shares = federated["class_shares"]
    assert sum(shares.values()) == pytest.approx(1)
    assert max(shares, key=shares.get) == "happiness"
    page = (folder / "report.html").read_text()
    assert "discrete Laplace noise of epsilon 0.5" in page
    assert "adjusted for the shares of the classes, with strength 4" in page
    assert "4 log share" in (folder / "model" / "README.md").read_text()


def points(figures):
    """Figures without their intervals."""
    if not isinstance(figures, dict):
        return figures
    return {key: points(value) for key, value in figures.items() if "interval" not in key}


def test_an_audit_of_the_adjusted_model_gives_the_run_s_figures(folder, federated):
    found = audit_model(folder, composed(DATA)[0])
    found = points(json.loads(json.dumps(found)))  # intervals are over people here, in the run over pictures
    assert {"accuracy", "worst_recall", "recall", "parity"} <= found.keys()
    assert found == points({key: federated[key] for key in found})
    assert found["recall"]["happiness"] < 1, "without the adjustment every answer is happiness"


REFUSED = [
    (
        ("server.adjustment=0.5",),
        errors.PrivacyError,
        "(server.adjustment). Give public shares in local.prior",
    ),
    (("local.loss=logit_adjusted",), errors.PrivacyError, "privacy.counts_epsilon=0.5"),
    (("privacy.counts_epsilon=0.5",), errors.PrivacyError, "nothing uses them (privacy.counts_epsilon)"),
    ((COUNTS[1], "privacy.counts_epsilon=0"), errors.ConfigError, "(privacy.counts_epsilon). Give 0.5"),
    ((COUNTS[1], "privacy.counts_epsilon=inf"), errors.ConfigError, "not finite (privacy.counts_epsilon)"),
    (
        (COUNTS[1], "privacy.counts_epsilon=9"),
        errors.PrivacyError,
        "(privacy.counts_epsilon). Give 0.8 or so.",
    ),
    (
        (*COUNTS, "privacy.site_epsilon_limit=7"),
        errors.PrivacyError,
        "would pass the site's limit of epsilon 7",
    ),
    (("server.adjustment=-1",), errors.ConfigError, "(server.adjustment). Give 0 to 1.5."),
    ((*COUNTS, "local.loss=logit_adjusted"), errors.ConfigError, "has adjusted the logits already"),
    (("local.loss=center",), errors.ConfigError, "(local.loss)"),
    (
        ("local.loss=logit_adjusted", "local.prior=[1,2]"),
        errors.ConfigError,
        "2 shares for 7 classes (local.prior)",
    ),
    (
        ("local.loss=logit_adjusted", "local.prior=[1,1,1,1,1,1,0]"),
        errors.ConfigError,
        "a class without a share",
    ),
    (("local.prior=[1,1,1,1,1,1,1]",), errors.ConfigError, "that nothing uses (local.prior)"),
    (("local.loss=logit_adjusted", "local.tau=0"), errors.ConfigError, "(local.tau)"),
]


@pytest.mark.parametrize(("words", "kind", "said"), REFUSED, ids=[" ".join(each[0]) for each in REFUSED])
def test_what_cannot_be_is_one_line_and_no_run_folder(fedfer, refused, tmp_path, words, kind, said):
    found = fedfer("simulate", *WORDS, *words, "--run-dir", str(tmp_path / "run"))
    assert refused(found, kind, said), found
    assert not (tmp_path / "run").exists()
