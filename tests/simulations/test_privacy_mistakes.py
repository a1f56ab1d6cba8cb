"""Privacy that cannot be as asked, through the real command: one line, the cure, the exit code, and nothing lost."""

import json
import sqlite3

import pytest

from client.ledger import Event, Ledger, close_all
from client.mechanisms import Mechanism
from fer_models.errors import ConfigError, PrivacyError

WORDS = [
    "data.options.count=100",
    "partition.sites=2",
    "model=cnn_tiny",
    "server.rounds=1",
    "engine.workers=1",
]
WORDS += ["privacy=dp", "local.rate=0.2", "local.amount=1", "privacy.allow_useless=true"]
NO_TARGET = "privacy.target_epsilon=null"

MISTAKES = [
    (["privacy.target_epsilon=0"], ConfigError, "(privacy.target_epsilon). Give a number such as"),
    (["privacy.target_epsilon=-3"], ConfigError, "-3.0 is not positive and finite"),
    (["privacy.target_epsilon=inf"], ConfigError, "inf is not positive and finite"),
    (["privacy.target_epsilon=nan"], ConfigError, "nan is not positive and finite"),
    (["privacy.target_epsilon=few"], ConfigError, "(privacy.target_epsilon)"),
    (["privacy.target_epsilon=1e-9"], PrivacyError, "out of reach"),
    (["privacy.delta=0"], ConfigError, "delta is not in (0, 1) (privacy.delta). Give 1e-5 or so."),
    (["privacy.delta=1"], ConfigError, "delta is not in (0, 1)"),
    (["privacy.delta=0.1"], PrivacyError, "delta 0.1 is not below 1 / 40 units (privacy.delta). Give"),
    (["privacy.delta=0.025"], PrivacyError, "is not below 1 / 40 units"),
    (["privacy.delta=0.01", "privacy.nominal_units=100"], PrivacyError, "is not below 1 / 100 units"),
    (["privacy.delta=0.05", "privacy.nominal_units=10"], PrivacyError, "units, which the largest site holds"),
    ([NO_TARGET, "privacy.noise_multiplier=0"], ConfigError, "(privacy.noise_multiplier). Give a number"),
    ([NO_TARGET, "privacy.noise_multiplier=-1"], ConfigError, "-1.0 is not positive and finite"),
    ([NO_TARGET, "privacy.noise_multiplier=1e-200"], PrivacyError, "gives no guarantee"),
    ([NO_TARGET], ConfigError, "give either a target epsilon or a noise multiplier"),
    (["privacy.noise_multiplier=1"], ConfigError, "give either a target epsilon or a noise multiplier"),
    (["privacy.clip=0"], ConfigError, "the clip is not positive"),
    (["privacy.nominal_units=0"], ConfigError, "nominal_units is not positive"),
    (
        ["privacy.nominal_units=1000"],
        PrivacyError,
        "a batch is taken to hold 200 (privacy.nominal_units). Give",
    ),
    (
        ["privacy.allow_useless=false"],
        PrivacyError,
        "sites too small to be useful at epsilon 8: the noise is",
    ),
    (["privacy.site_epsilon_limit=0"], ConfigError, "a limit of epsilon 0"),
    (["privacy.site_epsilon_limit=1"], PrivacyError, "round 1 of 1 would pass the site's limit of epsilon 1"),
    (["privacy.views=0"], ConfigError, "0 views of a picture"),
    (["privacy.unit=household"], ConfigError, "(privacy.unit)"),
    (["local.rate=0"], PrivacyError, "local.rate=0.05"),
    (["local.rate=1.5"], ConfigError, "(local.rate)"),
    (["local.unit=epochs"], PrivacyError, "(local.unit)"),
    (["server.weighting=size"], PrivacyError, "(server.weighting)"),
    (["model=fer_nano", "model.norm=bn"], PrivacyError, "layers mix the pictures of a batch"),
    (["local.loss=class_balanced"], PrivacyError, "counts_epsilon"),
]


@pytest.mark.parametrize(("words", "kind", "said"), MISTAKES, ids=[" ".join(words) for words, *_ in MISTAKES])
def test_a_mistake_is_one_line_with_its_cure_and_makes_no_folder(
    fedfer, refused, tmp_path, words, kind, said
):
    found = fedfer("simulate", *WORDS, *words, "--run-dir", str(tmp_path / "run"))
    assert refused(found, kind, said)
    assert not (tmp_path / "run").exists()


FIRST = Event("training", "r0", "p", 1, "k0", 1e-5, Mechanism("gaussian", 4.0, 0.2, 3))


def another_sites(path):
    path.unlink()
    Ledger(path, "clinic").record(FIRST)


def changed(path):
    connection = sqlite3.connect(path)
    connection.execute("UPDATE events SET noise = 50.0")
    connection.commit()
    connection.close()


SPOILED = {
    "another site's": (another_sites, "the privacy ledger of another site, 'clinic'"),
    "changed": (changed, "the privacy ledger is damaged"),
    "cut short": (lambda path: path.write_bytes(path.read_bytes()[:3000]), "the privacy ledger is damaged"),
    "no ledger": (lambda path: path.write_text("nothing of the kind"), "the privacy ledger is damaged"),
}


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A private run that was killed before its end, with the words that take it up again."""
    from simulations.cli import main

    folder = tmp_path_factory.mktemp("killed") / "run"
    command = ["simulate", *WORDS, NO_TARGET, "privacy.noise_multiplier=1.5", "--run-dir", str(folder)]
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 0
    close_all()
    for made in ("summary.json", "report.html", "checkpoint-federated.safetensors"):
        (folder / made).unlink()
    (folder / "state.json").write_text('{"status": "running"}')
    return folder, command, {path: path.read_bytes() for path in folder.glob("ledger/*")}


@pytest.mark.parametrize("kind", SPOILED)
@pytest.mark.parametrize("command", ["simulate", "site"])
def test_a_ledger_that_cannot_be_trusted_stops_the_run_and_stays_as_it_is(
    killed, fedfer, refused, kind, command
):
    folder, words, whole = killed
    path = folder / "ledger" / "site-0.sqlite"
    for each in folder.glob("ledger/*"):
        each.unlink()
    for each, content in whole.items():
        each.write_bytes(content)
    spoil, said = SPOILED[kind]
    spoil(path)
    close_all()
    spoiled = path.read_bytes()
    if command == "site":
        words = ["site", "ledger", str(path), "--site=site-0"]
    assert refused(fedfer(*words), PrivacyError, said)
    close_all()
    assert path.read_bytes() == spoiled


def test_noise_too_small_for_a_tight_accountant_is_explained_wherever_epsilon_is_told(fedfer, tmp_path):
    why = "PRV has no answer at a noise multiplier of 0.02: this is RDP's bound, which is larger."
    words = [
        "simulate",
        *WORDS,
        NO_TARGET,
        "privacy.noise_multiplier=0.02",
        "--run-dir",
        str(tmp_path / "run"),
    ]
    code, out, err = fedfer(*words)
    assert (code, err) == (0, "")
    assert "warning: epsilon " in out
    assert why in out
    figures = json.loads((tmp_path / "run" / "summary.json").read_text())["systems"]["federated"]
    assert why in figures["epsilon_note"]
    assert "larger than it would have to be" in (tmp_path / "run" / "report.html").read_text()
    assert why in fedfer("site", "ledger", str(tmp_path / "run"))[1]
