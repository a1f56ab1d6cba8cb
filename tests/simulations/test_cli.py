"""The command line: what works, and every mistake as one line with a typed exit code and no run that looks whole."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import simulations.commands as commands
from client.ledger import Ledger
from fer_models import errors
from fer_models.zoo import NETS, listing
from simulations import models
from simulations.cli import HELP, main, with_run_dir

TINY = (
    "data.options.count=210",
    "model=cnn_tiny",
    "partition.sites=2",
    "server.rounds=1",
    "engine.workers=1",
)


def never_whole(folder):
    """Whether nothing in a folder could be taken for a finished run."""
    state = folder / "state.json"
    whole = state.exists() and json.loads(state.read_text())["status"] == "complete"
    return not whole and not (folder / "summary.json").exists() and not (folder / "report.html").exists()


# Help and configuration


@pytest.mark.parametrize(
    "words", [[], ["--help"], ["-h"], ["help"], ["simulate", "--help"], ["data", "check", "-h"]]
)
def test_help(fedfer, words):
    assert fedfer(*words) == (0, HELP, "")


def test_help_names_every_command():
    for name in ("compare", "simulate", "baseline", "data", "audit", "faces", "models", "bench"):
        assert callable(getattr(commands, name))
        assert f"\n  {name} " in HELP


@pytest.mark.parametrize("flag", [["--cfg", "job"], ["--cfg=job"], ["-c", "job"]])
def test_the_composed_configuration_is_printed_and_nothing_is_run(fedfer, tmp_path, flag):
    words = ["experiment=quickstart", *flag, "server.rounds=7", "--run-dir", str(tmp_path / "run")]
    code, out, err = fedfer("compare", *words)
    assert (code, err) == (0, "")
    assert "rounds: 7" in out
    assert "target_epsilon: 8.0" in out
    assert "hydra" not in out
    assert list(tmp_path.iterdir()) == []


def test_models_are_listed_with_what_is_counted_and_judged(fedfer, tmp_path, monkeypatch):
    file = tmp_path / "models.json"
    cheap = [row for row in listing() if row[0] in ("cnn_tiny", "hog_linear", "microexpnet")]
    monkeypatch.setattr(models, "NETS", {name: NETS[name] for name, *_ in cheap})
    code, out, _ = fedfer("models", "speed=false", "--json", str(file))
    assert code == 0
    told = {facts["name"]: facts for facts in json.loads(file.read_text())["nets"]}
    for name, parameters, what in cheap:
        assert name in out
        assert f"{parameters:,}" in out
        facts = told[name]
        assert (facts["parameters"], facts["what"], facts["private"]) == (parameters, what, True)
        assert facts["bytes"] == 4 * parameters
        assert facts["paper"]
    # The hidden and the last layer of the smallest net, by hand: 9 windows of 25 or 72 numbers, 576 and 16 features.
    assert told["cnn_tiny"]["macs"] == 144 * 8 * 25 + 36 * 16 * 72 + 576 * 16 + 16 * 8


def test_an_unknown_model_is_told_the_nearest(fedfer, refused):
    assert refused(fedfer("models", "fer_nao"), errors.ModelError, "Did you mean fer_nano")


def test_a_model_is_told_all_about(fedfer):
    code, out, _ = fedfer("models", "microexpnet", "norm=bn", "size=32")
    assert code == 0
    for word in (
        "microexpnet",
        "Cugu et al. 2017",
        "refused: 2 layers mix the pictures",
        "48 pixels in place",
    ):
        assert word in out


# Where a run goes


def test_a_run_goes_where_it_is_told(fedfer, tmp_path):
    folder = tmp_path / "my run, (1)"
    code, out, err = fedfer("simulate", *TINY, "--run-dir", str(folder))
    assert (code, err) == (0, "")
    assert f"run folder: {folder}\n" in out
    assert f"report: {folder / 'report.html'}\n" in out
    assert "federated: round 1/1  accuracy 0." in out
    assert (folder / "summary.json").exists()


def test_run_dir_is_hydras_folder():
    assert with_run_dir(["a=1", "--run-dir", "x", "b=2"]) == ["a=1", "hydra.run.dir='x'", "b=2"]
    assert with_run_dir(["--run-dir=x y"]) == ["hydra.run.dir='x y'"]
    assert with_run_dir(["--multirun", "--run-dir", "x"]) == ["--multirun", "hydra.sweep.dir='x'"]


def test_every_combination_runs_in_a_folder_of_its_own(fedfer, tmp_path):
    words = ["--multirun", *TINY, "seed=1,2", "--run-dir", str(tmp_path)]
    assert fedfer("simulate", *words)[::2] == (0, "")
    plans = [json.loads((tmp_path / job / "plan.json").read_text()) for job in "01"]
    assert [plan["seed"] for plan in plans] == [1, 2]
    summaries = [(tmp_path / job / "summary.json").read_bytes() for job in "01"]
    assert summaries[0] != summaries[1]
    assert fedfer("simulate", *words)[::2] == (0, ""), "whole runs are left as they are"
    assert summaries == [(tmp_path / job / "summary.json").read_bytes() for job in "01"]


def test_a_failing_job_of_several_tells_its_kind(fedfer, tmp_path):
    bad = ("local.learning_rate=1e30,0.1", "local.gradient_clip=0")
    code, _, err = fedfer("simulate", "-m", *TINY, *bad, "--run-dir", str(tmp_path))
    assert code == errors.TrainingError.exit_code
    assert err.splitlines()[-1].startswith("error: the loss or the weights are not finite")
    assert "Traceback" not in err
    assert never_whole(tmp_path / "0")
    assert (tmp_path / "1" / "summary.json").exists(), "the others run"


def test_mistakes_in_a_sweep_are_one_line_too(fedfer, refused, tmp_path):
    found = fedfer("simulate", "-m", "server.rounds=a,b", "--run-dir", str(tmp_path))
    assert refused(found, errors.ConfigError, "(server.rounds)")
    assert "HYDRA_FULL_ERROR" not in os.environ


# Mistakes on the command line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["simulat"], "Did you mean simulate?"),
        (["xyz"], "Use one of audit,"),
        (
            ["simulate", "server.round=3"],
            "unknown key 'server.round' (command line). Did you mean server.rounds",
        ),
        (["simulate", "model=fer_smal"], "unknown choice 'fer_smal' (model). Did you mean fer_small"),
        (["simulate", "experiment=nothing"], "unknown choice 'nothing' (experiment)"),
        (["simulate", "server.rounds=many"], "(server.rounds). Give a value of that kind."),
        (["simulate", "--cfg"], "Write --cfg job."),
        (["simulate", "--cfg", "all"], "Write --cfg job."),
        (["simulate", "--run-dir"], "Write --run-dir DIR."),
        (["compare", "experiment=fer2013"], "(data.root). Give data.root=FOLDER."),
        (["simulate", "data.options.cuont=5"], "unknown key 'cuont' (data.options). Did you mean count?"),
        (["simulate", "data=imagefolder", "data.root=x", "data.options.lable=y"], "Did you mean label"),
        (["baseline", "baseline.systems=[magic]"], "Use pooled and local_only."),
        (["simulate", "engine.name=spark"], "(engine.name). Use local or ray."),
        (["simulate", "engine.together=0"], "(engine.together)"),
        (["data"], "Write: fedfer data check"),
        (["audit"], "Write: fedfer audit model=RUN"),
        (["models", "sze=3"], "Did you mean size?"),
        (["models", "size=big"], "Write size=48"),
        (["faces", "columns=many"], "Write columns=10."),
    ],
)
def test_a_mistake_is_one_line_and_makes_no_folder(fedfer, refused, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    assert refused(fedfer(*words), errors.ConfigError, said)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        (["partition.sites=500"], errors.PartitionError, "(partition.sites). Ask for at most"),
        (["partition=group", "partition.attribute=accent"], errors.PartitionError, "gender"),
        (["model.name=resnet"], errors.ModelError, "timm:resnet"),
        (["privacy=dp", "local.rate=0"], errors.PrivacyError, "local.rate=0.05"),
        (
            ["privacy=dp", "local.rate=0.1", "model=fer_nano", "model.norm=bn"],
            errors.PrivacyError,
            "model.norm=gn",
        ),
        (
            ["privacy=dp", "local.rate=0.1", "privacy.target_epsilon=1e-9"],
            errors.PrivacyError,
            "fewer rounds",
        ),
        (["engine.device=gpu"], errors.ConfigError, "Use auto, cpu or cuda."),
        (["data.options.class_shares={fear: 0.001}"], errors.DataError, "no training picture shows fear"),
    ],
)
def test_what_cannot_be_is_refused_before_a_folder_is_made(fedfer, refused, tmp_path, words, kind, said):
    found = fedfer(
        "simulate", *TINY, "data.options.label_noise=0", *words, "--run-dir", str(tmp_path / "run")
    )
    assert refused(found, kind, said)
    assert list(tmp_path.iterdir()) == []


# What goes wrong on the way


@pytest.mark.parametrize("workers", [1, 2])
def test_losses_that_are_not_finite(fedfer, refused, tmp_path, workers):
    bad = ["local.learning_rate=1e30", "local.gradient_clip=0", f"engine.workers={workers}"]
    found = fedfer("simulate", *TINY[:-1], *bad, "--run-dir", str(tmp_path))
    assert refused(found, errors.TrainingError, "(site-0, round 1). Lower local.learning_rate")
    assert never_whole(tmp_path)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_baseline_that_diverges(fedfer, refused, tmp_path, workers):
    bad = ["baseline.learning_rate=1e30", "baseline.gradient_clip=0", f"engine.workers={workers}"]
    found = fedfer("compare", *TINY[:-1], *bad, "baseline.epochs=2", "--run-dir", str(tmp_path))
    assert refused(found, errors.TrainingError, "Lower baseline.learning_rate")
    assert never_whole(tmp_path)


PRIVATE = ["simulate", *TINY, "privacy=dp", "local.rate=0.1"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A private run in one go."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    with pytest.raises(SystemExit) as ended:
        main([*PRIVATE, "--run-dir", str(folder)])
    assert ended.value.code == 0
    return folder


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize(
    "name",
    [
        "partition.json.part",
        "checkpoint-federated.safetensors.part",
        "model/.model.safetensors.part",
        "summary.json.part",
        "report.html.part",
    ],
)
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(fedfer, refused, tmp_path, whole, name):
    """A run whose beginnings lie in the folder, and one of whose files is written to a full disk."""
    folder = tmp_path / "run"
    (folder / name).parent.mkdir(parents=True)
    for begun in ("plan.json", "config.yaml"):
        (folder / begun).write_bytes((whole / begun).read_bytes())
    (folder / "state.json").write_text('{"status": "running"}')
    (folder / name).symlink_to("/dev/full")
    found = fedfer(*PRIVATE, "--run-dir", str(folder))
    assert refused(found, errors.RunFolderError, "Free disk space")
    assert json.loads((folder / "state.json").read_text())["status"] == "running"
    assert not (folder / "report.html").exists()
    (folder / name).unlink(missing_ok=True)
    assert fedfer(*PRIVATE, "--run-dir", str(folder))[::2] == (0, "")
    kept = "model/model.safetensors"
    assert (folder / kept).read_bytes() == (whole / kept).read_bytes()
    ledgers = [Ledger(path / "ledger" / "site-0.sqlite", read_only=True) for path in (folder, whole)]
    assert list(ledgers[0].events) == list(ledgers[1].events), "the rounds that were repeated count once"


def test_a_folder_that_cannot_be_made(fedfer, refused, tmp_path):
    (tmp_path / "file").write_text("")
    found = fedfer("simulate", *TINY, "--run-dir", str(tmp_path / "file" / "run"))
    assert refused(found, errors.RunFolderError, "cannot write", "--run-dir")


def test_a_foreign_folder_and_another_run_are_refused(fedfer, refused, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    found = fedfer("simulate", *TINY, "--run-dir", str(tmp_path))
    assert refused(found, errors.RunFolderError, "holds no run")
    assert fedfer("simulate", *TINY, "--run-dir", str(tmp_path / "run"))[0] == 0
    for other in (
        ["seed=5"],
        ["server.rounds=2"],
        ["data.test=0.3"],
        ["partition.alpha=2"],
        ["engine.together=2"],
    ):
        found = fedfer("simulate", *TINY, *other, "--run-dir", str(tmp_path / "run"))
        assert refused(found, errors.RunFolderError, "another configuration")
    found = fedfer("baseline", *TINY, "--run-dir", str(tmp_path / "run"))
    assert refused(found, errors.RunFolderError, "another configuration")


def test_the_number_of_workers_is_no_other_configuration(fedfer, tmp_path):
    assert fedfer("simulate", *TINY, "--run-dir", str(tmp_path))[0] == 0
    assert fedfer("simulate", *TINY[:-1], "engine.workers=2", "--run-dir", str(tmp_path))[0] == 0


def test_interruption_says_how_to_go_on(fedfer, monkeypatch):
    def interrupted(words):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "simulate", interrupted)
    code, _, err = fedfer("simulate")
    assert code == 130
    assert err.count("\n") == 1
    assert "goes on from the last checkpoint" in err


def test_a_full_disk_outside_the_run_folder(fedfer, refused, monkeypatch):
    def full(words):
        raise OSError(28, "No space left on device", "/somewhere")

    monkeypatch.setattr(commands, "simulate", full)
    assert refused(fedfer("simulate"), errors.RunFolderError, "the disk is full (/somewhere)")


def test_a_defect_shows_its_traceback(monkeypatch):
    def defect(words):
        raise ZeroDivisionError

    monkeypatch.setattr(commands, "simulate", defect)
    with pytest.raises(ZeroDivisionError):
        main(["simulate"])


def test_ctrl_c_ends_a_real_run_in_one_line(tmp_path):
    words = [*TINY[:3], "server.rounds=100000", "server.evaluate_every=1", "engine.workers=2"]
    words += ["--run-dir", str(tmp_path / "run")]
    lines = tmp_path / "run" / "metrics.jsonl"
    command = [sys.executable, "-m", "simulations.cli", "simulate", *words]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A shell lets its background jobs ignore interrupts, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        while process.poll() is None and not (lines.exists() and lines.stat().st_size):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert err.count("\n") == 1
    assert never_whole(tmp_path / "run")
