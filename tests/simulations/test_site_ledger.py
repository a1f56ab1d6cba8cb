"""``fedfer site ledger`` on a real run, word for word as docs/ledger.md says; and a run whose ledger was put back."""

import contextlib
import io
import json
import re
import shlex
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import server.rounds
from client.accounting import epsilon_of
from client.ledger import Event, Ledger, close_all
from client.ledger_view import figure, ranges
from client.mechanisms import Mechanism, gaussian, merged
from fer_models.checkpoints import load_model
from fer_models.errors import ConfigError, PrivacyError
from server.run_folder import RunFolder
from simulations.cli import main

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "ledger.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Every command of the document, run in order in one folder: (words, what it printed); and the folder."""
    folder, printed = tmp_path_factory.mktemp("ledger"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for line in "".join(blocks("sh")).splitlines():
            words = shlex.split(line)
            assert words.pop(0) == "fedfer"
            out = io.StringIO()
            with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as ended:
                main([*words, *(["engine.workers=1"] if words[0] == "simulate" else [])])
            assert ended.value.code == 0, words
            printed.append((words, out.getvalue()))
    return folder, printed


def test_the_document_can_be_followed_word_for_word(told):
    folder, printed = told
    everything = "".join(text for _, text in printed)
    for line in "".join(blocks("text")).splitlines():
        sentence = re.sub(r"; its newest hash.*", "", line)
        assert sentence in everything, sentence
    many, one, same = [text for words, text in printed if words[0] == "site"][:3]
    assert one == same
    assert "site-0" in many
    assert "site-1" in many
    ledgers = sorted(path.name for path in (folder / "clinic" / "ledger").iterdir())
    assert ledgers == ["site-0.sqlite", "site-1.sqlite"], (
        "no log is left behind, neither by the run nor by reading"
    )


def test_mistakes_read_as_documented(told, capsys, monkeypatch):
    monkeypatch.chdir(told[0])
    (block,) = blocks("console")
    command, line = block.splitlines()
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(command.removeprefix("$ fedfer ")))
    assert (ended.value.code, capsys.readouterr().err) == (6, line + "\n")
    assert not (told[0] / "runs").exists(), "before a run folder is made"


def test_the_table_of_columns_is_the_files(told):
    connection = sqlite3.connect(told[0] / "clinic" / "ledger" / "site-0.sqlite")
    columns = [row[1] for row in connection.execute("PRAGMA table_info(events)")]
    connection.close()
    section = DOCUMENT.split("## 5.")[1].split("## 6.")[0]
    explained = [
        name for row in re.findall(r"^\| (`.*?`) \| ", section, re.MULTILINE) for name in row.split(", ")
    ]
    assert [name.strip("`") for name in explained] == columns


def test_json_says_what_the_run_said(told):
    folder, printed = told
    (ledger,) = json.loads(next(text for words, text in printed if "--json" in words))["ledgers"]
    summary = json.loads((folder / "clinic" / "summary.json").read_text())["systems"]["federated"]
    assert ledger["total"]["value"] == summary["epsilon"]
    assert ledger["site"] == "site-0"
    assert (ledger["delta"], ledger["limit"]) == (1e-5, {"epsilon": 20.0, "delta": 1e-5})
    (release,) = ledger["releases"]
    assert (release["kind"], release["rounds"]) == ("training", [1, 2, 3, 4, 5, 6])
    assert release["mechanisms"][0]["noise"] == summary["noise_multiplier"]
    plan = json.loads((folder / "clinic" / "plan.json").read_text())
    assert (release["plan"], release["run"]) == (plan["hash"], plan["plan"]["run"])
    more, mechanism = ledger["rounds_left"], Mechanism(**release["mechanisms"][0])
    step = mechanism.count // 6
    for rounds, fits in ((more, True), (more + 1, False)):
        longer = replace(mechanism, count=mechanism.count + step * rounds)
        assert (epsilon_of((longer,), 1e-5).value <= 20) == fits


# Other ledgers

FIRST = Event("training", "r1", "p", 1, "k1", 1e-5, Mechanism("gaussian", 4.0, 0.2, 3))


@pytest.fixture
def ledger(tmp_path):
    yield tmp_path / "clinic.sqlite"
    close_all()


def record(path, *events):
    book = Ledger(path, "clinic")
    for event in events:
        book.record(event)
    close_all()
    return str(path)


def test_kinds_and_units_are_told_apart(ledger, fedfer):
    persons = replace(FIRST, run="r2", mechanism=Mechanism("gaussian", 8.0, 0.2, 3, "subject"))
    counts = replace(FIRST, kind="label_counts", round=0, mechanism=Mechanism("pure", 2.0))
    path = record(ledger, counts, FIRST, replace(FIRST, round=2), replace(FIRST, round=4), persons)
    code, out, err = fedfer("site", "ledger", path, "--check")
    assert (code, err) == (0, "")
    for words in (
        "1-2, 4",
        "label counts",
        "epsilon 0.5",
        "Gaussian 4",
        "subject",
        "The site has set no limit.",
    ):
        assert words in out
    assert "no person is protected as a whole" in out
    parts = [(*gaussian(4.0, 0.2, 9), counts.mechanism), gaussian(8.0, 0.2, 3, "subject")]
    total = epsilon_of(merged(each for part in parts for each in part), 1e-5)
    assert f"one picture was among its training data with epsilon {figure(total)} at most" in out
    for part, whom in zip(parts, ("one picture", "one person with all pictures"), strict=True):
        assert (
            f"Releases that protect {whom}: epsilon {figure(epsilon_of(merged(part), 1e-5))} by themselves."
            in out
        )
    assert out.count("they agree") == 2


def test_a_looser_bound_is_not_said_to_be_the_same(ledger, fedfer):
    small = replace(FIRST, mechanism=Mechanism("gaussian", 0.05, 0.2, 6))
    code, out, _ = fedfer("site", "ledger", record(ledger, small), "--check")
    assert code == 0
    assert "they agree, as RDP's is a looser bound." in out
    assert "tolerance" not in out


def test_noise_that_protects_nobody_is_said_plainly(ledger, fedfer):
    loud = replace(FIRST, mechanism=Mechanism("gaussian", 0.01, 0.1, 80))
    code, out, _ = fedfer("site", "ledger", record(ledger, loud), "--check")
    assert code == 0
    assert "PRV has no answer at a noise multiplier of 0.01: this is RDP's bound, which is larger." in out
    nothing = replace(FIRST, round=2, mechanism=Mechanism("gaussian", 1e-200, 1.0, 10))
    code, out, _ = fedfer("site", "ledger", record(ledger, nothing), "--json")
    assert code == 0
    assert json.loads(out)["ledgers"][0]["total"] == {
        "value": None,
        "accountant": "none",
        "unit": "record",
        "note": "A noise multiplier of 1e-200 gives no guarantee at all.",
    }
    assert "No epsilon can be stated for one picture." in fedfer("site", "ledger", str(ledger))[1]


def test_a_damaged_ledger_ends_with_code_6_and_hides_no_other(tmp_path, fedfer, refused):
    for name in ("a", "b"):
        record(tmp_path / f"{name}.sqlite", FIRST, replace(FIRST, round=2))
    connection = sqlite3.connect(tmp_path / "a.sqlite")
    connection.execute("UPDATE events SET noise = 5.0 WHERE number = 2")
    connection.commit()
    connection.close()
    before = (tmp_path / "a.sqlite").read_bytes()
    found = fedfer("site", "ledger", str(tmp_path))
    assert refused(found, PrivacyError, "the privacy ledger is damaged", "a.sqlite, entry 2)")
    assert "clinic" in found[1]
    code, out, _ = fedfer("site", "ledger", str(tmp_path), "--json")
    whole, broken = json.loads(out)["ledgers"]
    assert code == 6
    assert whole["chain"]["whole"]
    assert "entry 2" in broken["error"]
    assert (tmp_path / "a.sqlite").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        ([], ConfigError, "needs a command"),
        (["leger"], ConfigError, "needs a command"),
        (["ledger"], ConfigError, "needs one file or run folder"),
        (["ledger", "a", "b"], ConfigError, "needs one file or run folder"),
        (["ledger", "nowhere"], ConfigError, "no such file or folder (nowhere)"),
        (["ledger", "empty"], ConfigError, "no privacy ledger (empty)"),
        (["ledger", "old"], PrivacyError, "earlier version of FedFER (old/ledger/site-0.jsonl)"),
        (["ledger", "old/ledger/site-0.jsonl"], PrivacyError, "Run again in a new folder"),
        (["ledger", "run", "--site"], ConfigError, "--site without a value"),
        (["ledger", "run", "--site", "clinick"], ConfigError, "Did you mean clinic?"),
        (["ledger", "run/ledger/clinic.sqlite", "--site=lab"], PrivacyError, "another site, 'clinic'"),
        (["ledger", "run", "--chek"], ConfigError, "Did you mean --check?"),
        (["ledger", "text.sqlite"], PrivacyError, "the privacy ledger is damaged (text.sqlite)"),
    ],
)
def test_mistakes_are_one_line(words, kind, said, tmp_path, monkeypatch, fedfer, refused):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old" / "ledger").mkdir(parents=True)
    (tmp_path / "old" / "ledger" / "site-0.jsonl").write_text("{}\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.sqlite").write_text("nothing of the kind")
    record(tmp_path / "run" / "ledger" / "clinic.sqlite", FIRST)
    assert refused(fedfer("site", *words), kind, said)


def test_an_empty_ledger_has_released_nothing(ledger, fedfer):
    book = Ledger(ledger, "clinic")
    book._create()
    assert fedfer("site", "ledger", str(ledger)) == (0, "clinic has released nothing.\n", "")


def test_the_sites_command_needs_no_other_room():
    others = "('server', 'simulations', 'torch')"
    code = f"import sys, client.cli; print([m for m in sys.modules if m.split('.')[0] in {others}])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_rounds_are_told_as_ranges():
    assert ranges([]) == ""
    assert ranges([1, 2, 3, 5, 7, 8]) == "1-3, 5, 7-8"


# A ledger that was put back under a real run

WORDS = ["data.options.count=200", "partition.sites=2", "model=cnn_tiny", "server.rounds=4", "privacy=dp"]
WORDS += ["privacy.target_epsilon=null", "privacy.noise_multiplier=0.5", "local.rate=0.1", "engine.workers=1"]


def files(folder, *names):
    return {path: path.read_bytes() for name in names for path in sorted(folder.glob(name))}


def put_back(folder, kept):
    for path in (*folder.glob("ledger/*"), *folder.glob("checkpoint-federated*")):
        path.unlink()
    for path, content in kept.items():
        path.write_bytes(content)
    for made in ("summary.json", "report.html"):
        (folder / made).unlink(missing_ok=True)
    (folder / "state.json").write_text('{"status": "running"}')


def test_a_run_with_an_old_ledger_does_not_go_on_and_one_with_a_newer_does(
    tmp_path, fedfer, refused, monkeypatch
):
    """Ledgers and checkpoints of every round are kept, and put together anew."""
    folder, checkpoints, ledgers = tmp_path / "run", {}, {}
    save = RunFolder.save_checkpoint

    def watched(self, name, tensors, facts):
        save(self, name, tensors, facts)
        close_all()
        checkpoints[facts["round"]] = files(folder, "checkpoint-federated*")
        ledgers[facts["round"]] = files(folder, "ledger/*")

    monkeypatch.setattr(RunFolder, "save_checkpoint", watched)
    monkeypatch.setattr(server.rounds, "CHECKPOINT_SECONDS", -1.0)
    command = ("simulate", *WORDS, "--run-dir", str(folder))
    assert fedfer(*command)[0] == 0
    model = load_model(folder / "model")[0].state_dict()
    assert sorted(ledgers) == [1, 2, 3, 4]

    kept = [dict(checkpoints[2]), dict(ledgers[1]), dict(ledgers[4])]
    put_back(folder, kept[0] | kept[1])
    assert refused(
        fedfer(*command),
        PrivacyError,
        "older than what this site has already released",
        "1 entries where 2 are known",
    )
    close_all()
    assert files(folder, "ledger/*") == kept[1], "nothing was released"

    put_back(folder, kept[0] | kept[2])
    assert fedfer(*command)[::2] == (0, "")
    assert all(
        torch.equal(value, load_model(folder / "model")[0].state_dict()[key]) for key, value in model.items()
    )
    for path in (folder / "ledger").glob("*.sqlite"):
        assert [event.round for event in Ledger(path, read_only=True).events] == [1, 2, 3, 4]

    put_back(folder, kept[0])
    assert refused(fedfer(*command), PrivacyError, "the privacy ledger is gone")
