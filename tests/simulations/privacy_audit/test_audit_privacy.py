"""The audit as a command: an honest run stays below its claim, and planted faults are caught."""

import contextlib
import json
import re

import pytest

from fer_models import errors
from simulations.compose import composed
from simulations.privacy_audit.canary_run import CanaryRun
from simulations.privacy_audit.page import PAGE


@pytest.fixture(scope="module")
def honest(private_words, tmp_path_factory):
    """(folder, JSON file, words) of an honest audit."""
    path = tmp_path_factory.mktemp("honest")
    words = [
        "audit-privacy",
        *private_words,
        "--json",
        str(path / "facts.json"),
        "--run-dir",
        str(path / "run"),
    ]
    return path / "run", path / "facts.json", words


@pytest.fixture
def audited(honest, fedfer):
    """(what the command printed, its facts); it runs once, later only reads what it left."""
    _, file, words = honest
    code, out, err = fedfer(*words)
    assert (code, err) == (0, "")
    return out, json.loads(file.read_text())


@pytest.mark.slow
def test_an_honest_run_stays_below_its_claims(audited, honest):
    out, facts = audited
    one = facts["one_round"]
    assert facts["verdict"] == "consistent"
    assert facts["faults"] == []
    assert 0 <= facts["audited_epsilon"] < facts["claimed_epsilon"] <= 1.5 < facts["most_provable"]
    assert 0 <= one["epsilon"] < one["claimed_epsilon"] < facts["claimed_epsilon"]
    assert one["moved"] == pytest.approx(1.0, abs=0.01)  # the clip is reached, and holds
    for words in ("claimed epsilon", "at least (95 %)", "1.00 clips; 1 is allowed", "proves nothing"):
        assert words in out
    assert json.loads((honest[0] / "privacy_audit.json").read_text()) == facts


@pytest.mark.slow
def test_an_audit_that_is_done_is_told_again_to_the_bit(audited, honest, fedfer):
    first = honest[1].read_bytes()
    code, out, _ = fedfer(*honest[2])
    assert code == 0
    assert "consistent" in out
    assert honest[1].read_bytes() == first


@pytest.mark.slow
def test_an_audit_that_was_killed_goes_on_to_the_same_bits(audited, private_words, tmp_path):
    def killed(record):
        if record["round"] == 2:
            raise KeyboardInterrupt

    settings, path = composed([*private_words, f"hydra.run.dir={tmp_path / 'run'}"])
    for observer in (killed, lambda _: None):
        run = CanaryRun(settings, path, observer)
        run.prepare()
        with contextlib.suppress(KeyboardInterrupt):
            found = run.run()
    assert json.loads(json.dumps(found)) == audited[1]


@pytest.mark.slow
def test_the_page_is_offline_and_says_what_it_cannot_see(audited, honest):
    page = (honest[0] / PAGE).read_text()
    assert not re.search(r"<script|https?://(?!www\.w3\.org)|<link|@import|url\(", page)
    assert "Audited epsilon, at least" in page
    assert "A bound of 0 proves nothing" in page
    assert page.count("<svg") >= 3


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["noise off", "clip off", "coupled loss"])
def test_a_planted_fault_is_caught(fault, plant, private_words, fedfer, refused, tmp_path):
    plant(fault)
    file = tmp_path / "facts.json"
    found = fedfer("audit-privacy", *private_words, "--json", str(file), "--run-dir", str(tmp_path / "run"))
    assert refused(found, errors.AuditError, "AUDITED ABOVE CLAIMED", "do not rely on the claim")
    assert "ABOVE CLAIMED" in found[1]
    facts = json.loads(file.read_text())
    one = facts["one_round"]
    assert facts["verdict"] == "above claimed"
    assert "This is a bug" in (tmp_path / "run" / PAGE).read_text()
    if fault == "noise off":  # seen in the whole run by its canaries, and in one round
        assert facts["audited_epsilon"] > facts["claimed_epsilon"]
        assert one["moved"] == pytest.approx(1.0, abs=0.01)
    else:  # what one picture adds is no longer bounded
        assert one["moved"] > 2
    if fault != "coupled loss":  # whose bound passes the claim at some weights only; the clips tell it at all
        assert one["epsilon"] > one["claimed_epsilon"]


@pytest.mark.parametrize("fault", ["clip off", "coupled loss"])
def test_the_guards_alone_refuse_what_they_can_see(fault, plant, private_words, fedfer, refused, tmp_path):
    plant(fault, guarded=True)
    found = fedfer("simulate", *private_words, "--run-dir", str(tmp_path / "run"))
    assert refused(found, errors.PrivacyError)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        (["privacy=none"], errors.ConfigError, "nothing to audit: a run without privacy claims no epsilon"),
        (["privacy_audit.canaries=20"], errors.ConfigError, "20 canaries cannot refute an epsilon of 1.50"),
        (["privacy_audit.trials=5"], errors.ConfigError, "5 trials cannot refute"),
        (
            ["privacy.target_epsilon=8"],
            errors.ConfigError,
            "no number of canaries can refute an epsilon of 8.0",
        ),
        (["privacy_audit.confidence=1"], errors.ConfigError, "privacy_audit.confidence"),
        (["privacy_audit.pictures=cats"], errors.ConfigError, "Use patches or faces."),
        (["engine=ray"], errors.ConfigError, "Use engine=local."),
        (["--json"], errors.ConfigError, "Write --json FILE."),
        (["--json", "nowhere/facts.json"], errors.ConfigError, "Give a file in a folder that exists."),
    ],
)
def test_bad_input_is_refused_before_a_folder_is_made(
    words, kind, said, private_words, fedfer, refused, tmp_path
):
    found = fedfer("audit-privacy", *private_words, "--run-dir", str(tmp_path / "run"), *words)
    assert refused(found, kind, said)
    assert not (tmp_path / "run").exists()


def test_the_number_of_canaries_that_is_named_is_enough(private_words, fedfer, refused, tmp_path):
    few = [*private_words, "--run-dir", str(tmp_path / "run")]
    _, _, err = fedfer("audit-privacy", *few, "privacy_audit.canaries=20")
    needed = int(re.search(r"Give (\d+) or more", err)[1])
    found = fedfer("audit-privacy", *few, f"privacy_audit.canaries={needed - 1}")
    assert refused(found, errors.ConfigError, f"Give {needed} or more")
    found = fedfer("audit-privacy", *few, f"privacy_audit.canaries={needed}", "privacy_audit.trials=2")
    assert refused(found, errors.ConfigError, "2 trials")
