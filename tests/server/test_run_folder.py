"""A run folder is whole or taken for nothing; what the disk refuses is one line."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fer_models.errors import RunFolderError
from server.run_folder import RunFolder, write_text, writing

FACTS = {"hash": "abc", "labels": ["fear", "anger"], "rate": 0.25, "size": (48, 48)}
TENSORS = {"vector": torch.arange(6.0), "step": torch.tensor(3), "empty": torch.zeros(0)}


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "run")


def line(round_number, system="federated"):
    return {"system": system, "round": round_number, "accuracy": 0.1 * round_number}


# Identity


def test_a_new_folder_says_whose_it_is(folder):
    folder.open(FACTS, "seed: 1\n")
    assert folder.read_json("plan.json") == json.loads(json.dumps(FACTS))
    assert (folder.path / "config.yaml").read_text() == "seed: 1\n"
    assert not folder.complete
    folder.finish()
    assert folder.complete
    assert RunFolder(folder.path).complete


def test_the_same_run_is_taken_up(folder):
    folder.open(FACTS, "first")
    folder.append(line(1))
    again = RunFolder(folder.path)
    again.open(FACTS, "second")
    assert again.metrics() == [line(1)]
    assert (folder.path / "config.yaml").read_text() == "first"


def test_another_configuration_is_refused_and_changes_nothing(folder):
    folder.open(FACTS, "first")
    before = {path: path.read_bytes() for path in folder.path.iterdir()}
    with pytest.raises(RunFolderError, match="another configuration") as error:
        RunFolder(folder.path).open({**FACTS, "rate": 0.5}, "second")
    assert "--run-dir" in error.value.cure
    assert {path: path.read_bytes() for path in folder.path.iterdir()} == before


def test_a_foreign_folder_is_refused_and_left_alone(folder):
    (folder.path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunFolderError, match="holds no run"):
        folder.open(FACTS, "")
    assert [path.name for path in folder.path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("left", ["state.json", "config.yaml", "config.yaml.part", "plan.json.part"])
def test_a_run_killed_in_its_first_moment_can_begin_again(folder, left):
    write_text(folder.path / "state.json", '{"status": "running"}')
    (folder.path / left).write_text("{}")
    folder.open(FACTS, "config")
    assert folder.read_json("plan.json")["hash"] == "abc"


def test_damaged_identity_is_an_error_and_no_new_run(folder):
    folder.open(FACTS, "")
    (folder.path / "plan.json").write_text('{"hash": "ab')
    with pytest.raises(RunFolderError, match="damaged"):
        folder.open(FACTS, "")


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="cannot write"):
        RunFolder(tmp_path / "file" / "run")


# Files are there whole or not at all


def test_a_write_that_fails_leaves_the_old_file(folder):
    write_text(folder.path / "summary.json", "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(folder.path / "summary.json", "new \ud800")
    assert (folder.path / "summary.json").read_text() == "old"
    with pytest.raises(ValueError, match="not JSON compliant"):
        folder.write_json("summary.json", {"accuracy": float("nan")})
    assert (folder.path / "summary.json").read_text() == "old"


KILLED = """
import os, signal, sys
from pathlib import Path
import server.run_folder as run_folder
sync = os.fsync
run_folder.os.fsync = lambda file: (sync(file), os.kill(os.getpid(), signal.SIGKILL))
run_folder.write_text(Path(sys.argv[1]), "new " * 1000)
"""


def test_a_kill_in_the_middle_of_a_write_leaves_the_old_file(folder):
    path = folder.path / "summary.json"
    write_text(path, "old")
    code = subprocess.run([sys.executable, "-c", KILLED, str(path)]).returncode
    assert code == -9
    assert path.read_text() == "old"
    assert path.with_name("summary.json.part").read_text().startswith("new")
    write_text(path, "newer")
    assert path.read_text() == "newer"


# Metrics


def test_a_torn_line_is_left_out_and_mended(folder):
    folder.open(FACTS, "")
    folder.append(line(1))
    with (folder.path / "metrics.jsonl").open("a") as file:
        file.write('{"system": "federated", "rou')
    assert folder.metrics() == [line(1)]
    again = RunFolder(folder.path)
    again.open(FACTS, "")
    again.append(line(2))
    assert again.metrics() == [line(1), line(2)]


def test_a_damaged_line_in_the_middle_is_an_error(folder):
    folder.append(line(1))
    with (folder.path / "metrics.jsonl").open("a") as file:
        file.write("{not json}\n")
    folder.append(line(2))
    with pytest.raises(RunFolderError, match=r"damaged file .*metrics\.jsonl"):
        folder.metrics()


def test_lines_beyond_a_round_are_forgotten_for_one_system(folder):
    for record in (line(1), line(1, "pooled"), line(2), line(7, "pooled"), line(3)):
        folder.append(record)
    folder.forget_after("federated", 1)
    assert folder.metrics() == [line(1), line(1, "pooled"), line(7, "pooled")]
    folder.forget_after("pooled", 1.5)
    folder.forget_after("federated", 0)
    assert folder.metrics() == [line(1, "pooled")]


def test_what_is_not_finite_is_never_written(folder):
    with pytest.raises(ValueError, match="not JSON compliant"):
        folder.append({**line(1), "loss": float("inf")})
    assert folder.metrics() == []


# Checkpoints


def test_checkpoints_hold_bits_and_facts(folder):
    facts = {"round": 3, "counts": {"site-0": [1, 2]}, "epsilon": {"site-0": 1.5}}
    folder.save_checkpoint("deep/checkpoint", TENSORS, facts)
    found = folder.load_checkpoint("deep/checkpoint")
    assert found is not None
    tensors, read = found
    assert read == facts
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[k], v) and tensors[k].dtype == v.dtype for k, v in TENSORS.items())
    folder.drop_checkpoint("deep/checkpoint")
    folder.drop_checkpoint("deep/checkpoint")
    assert folder.load_checkpoint("deep/checkpoint") is None
    assert not list(folder.path.rglob("*.part"))


def test_views_of_one_storage_can_be_saved(folder):
    whole = torch.arange(6.0)
    folder.save_checkpoint("checkpoint", {"a": whole[:3], "b": whole[3:], "c": whole.view(2, 3).T}, {})
    found = folder.load_checkpoint("checkpoint")
    assert found is not None
    assert found[0]["c"].tolist() == [[0, 3], [1, 4], [2, 5]]


@pytest.mark.parametrize("kept", [0, 5, 40, -1])
def test_a_damaged_checkpoint_is_named_with_the_cure(folder, kept):
    folder.save_checkpoint("checkpoint-federated", TENSORS, {"round": 1})
    path = folder.path / "checkpoint-federated.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(RunFolderError, match="damaged checkpoint") as error:
        folder.load_checkpoint("checkpoint-federated")
    assert error.value.where == str(path)
    assert "Delete it" in error.value.cure


def test_a_foreign_checkpoint_is_damaged_too(folder):
    from safetensors.torch import save_file

    save_file({"vector": torch.zeros(2)}, folder.path / "checkpoint.safetensors")
    with pytest.raises(RunFolderError, match="damaged checkpoint"):
        folder.load_checkpoint("checkpoint")


# A full disk: /dev/full is one


def full(path):
    path.symlink_to("/dev/full")


WRITES = {
    "summary.json.part": lambda folder: folder.write_json("summary.json", {"systems": {}}),
    "state.json.part": lambda folder: folder.finish(),
    "metrics.jsonl": lambda folder: folder.append(line(1)),
    "checkpoint.safetensors.part": lambda folder: folder.save_checkpoint("checkpoint", TENSORS, {}),
}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("name", WRITES)
def test_a_full_disk_is_named_with_the_cure(folder, name):
    folder.open(FACTS, "")
    full(folder.path / name)
    with pytest.raises(RunFolderError, match="the disk is full") as error:
        WRITES[name](folder)
    assert error.value.exit_code == 9
    assert error.value.where.startswith(str(folder.path))
    assert "Free disk space" in error.value.cure
    assert not folder.complete
    assert not (folder.path / "summary.json").exists()
    assert not (folder.path / "checkpoint.safetensors").exists()


LIMITED = """
import resource, sys
from pathlib import Path
import torch
from fer_models.errors import RunFolderError
from server.run_folder import RunFolder
folder = RunFolder(Path(sys.argv[1]))
folder.save_checkpoint("checkpoint", {"vector": torch.ones(10)}, {})
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
for work in (lambda: folder.save_checkpoint("checkpoint", {"vector": torch.zeros(10_000)}, {}),
             lambda: [folder.append({"note": "x" * 500}) for _ in range(20)]):
    try:
        work()
    except RunFolderError as error:
        print(error.exit_code, error)
"""


def test_a_file_that_may_not_grow_keeps_the_old_checkpoint(folder):
    command = [sys.executable, "-c", LIMITED, str(folder.path)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(printed) == 2
    assert all(text.startswith("9 cannot write: File too large") for text in printed)
    found = folder.load_checkpoint("checkpoint")
    assert found is not None
    assert found[0]["vector"].tolist() == [1.0] * 10
    assert all(record == {"note": "x" * 500} for record in folder.metrics())


def test_other_refusals_name_the_folder():
    with pytest.raises(RunFolderError, match="cannot write: Permission denied") as error, writing(Path("x")):
        raise PermissionError(13, "Permission denied")
    assert error.value.where == "x"
    assert "--run-dir" in error.value.cure


def test_files_of_the_folder_are_readable_by_others_as_the_user_allows(folder):
    mask = os.umask(0o022)
    try:
        folder.save_checkpoint("checkpoint", TENSORS, {})
    finally:
        os.umask(mask)
    assert stat.S_IMODE((folder.path / "checkpoint.safetensors").stat().st_mode) == 0o644
