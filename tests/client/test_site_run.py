"""A site's processes, kept alive: killed and back, one of each, ended together; without a coordinator they wait."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import client
from client.alone import alone, holder
from client.audit_log import AuditLog
from client.site_run import asked
from fer_models.errors import ConfigError, EngineError, IdentityError

ROOT = Path(client.__file__).parent.parent
COMMAND = (sys.executable, "-m", "simulations.cli", "site")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def until(true, seconds=60):
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return found


def kinds(folder):
    facts = AuditLog(folder.path / "audit.jsonl").entries()
    return [(each.kind, each.facts.get("name", "")) for each in facts]


def test_a_site_runs_survives_kills_and_ends(joined, fedfer, refused):
    path = str(joined.path)
    assert refused(fedfer("site", "status", path), EngineError, "this site does not run")
    assert fedfer("site", "stop", path) == (0, "it does not run\n", "")
    process = subprocess.Popen([*COMMAND, "run", path], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    try:
        first = until(lambda: asked(joined))
        code, out, _ = fedfer("site", "status", path)
        assert code == 0
        assert f"agent {first['pid']}, supervisor {process.pid}" in out
        assert refused(
            fedfer("site", "run", path), EngineError, f"this site runs already (process {process.pid})"
        )
        until(lambda: ("process_started", "node") in kinds(joined))

        os.kill(first["pid"], signal.SIGKILL)
        again = until(lambda: (found := asked(joined)) and found["pid"] != first["pid"] and found)
        assert again["pid"] != first["pid"]
        code, out, _ = fedfer("site", "status", path, "--json")
        assert json.loads(out)["agent"]["pid"] == again["pid"]

        code, out, _ = fedfer("site", "stop", path)
        assert (code, out.splitlines()[-1]) == (0, "stopped")
        assert process.wait(timeout=20) == 0
        assert asked(joined) is None
    finally:
        process.kill()
        process.communicate()
    found = kinds(joined)
    assert found.count(("process_started", "agent")) == 2
    assert found.count(("agent_started", "")) == 2
    assert found.count(("agent_stopped", "")) == 1  # the other was killed
    assert found[-1] == ("process_ended", "agent")
    code, out, _ = fedfer("site", "log", path)
    assert code == 0
    assert "each as it was written" in out


def test_processes_end_with_a_supervisor_that_is_killed(joined):
    process = subprocess.Popen(
        [*COMMAND, "run", str(joined.path)], env=ENVIRONMENT, stdout=subprocess.DEVNULL
    )
    try:
        until(lambda: asked(joined))
    finally:
        process.kill()
        process.wait()
    until(lambda: holder(joined.path / "agent.lock") is None)
    assert holder(joined.path / "run.lock") is None


def test_why_an_agent_does_not_start_is_told_by_the_status(joined, tmp_path, fedfer):
    """The data has gone, or does not fit the policy: the site waits, and is well as soon as that is mended."""
    (tmp_path / "pictures").rename(tmp_path / "gone")
    process = subprocess.Popen(
        [*COMMAND, "run", str(joined.path)], env=ENVIRONMENT, stdout=subprocess.DEVNULL
    )
    try:
        until(lambda: "no pictures for a rehearsal" in fedfer("site", "status", str(joined.path))[1])
        (tmp_path / "gone").rename(tmp_path / "pictures")
        until(lambda: asked(joined))
    finally:
        process.terminate()
        process.wait()


def test_a_site_that_is_not_ready_says_so_before_anything_is_started(joined, tmp_path, fedfer, refused):
    path = str(joined.path)
    with alone(joined.path / "agent.lock", "held"):
        assert refused(
            fedfer("site", "run", path), EngineError, "an agent runs on this site's ledger already"
        )
    (joined.path / "keys" / "node.key").chmod(0o640)
    assert refused(fedfer("site", "run", path), IdentityError, "others may use this key")
    (joined.path / "keys" / "node.key").chmod(0o600)
    (joined.path / "study.json").rename(tmp_path / "study.json")
    assert refused(fedfer("site", "run", path), ConfigError, "the site has joined no study")
    assert not (joined.path / "audit.jsonl").exists()


def test_a_lock_is_one_process_s(tmp_path):
    path = tmp_path / "lock"
    assert holder(path) is None
    with alone(path, "held"):
        assert holder(path) == os.getpid()
        with (
            pytest.raises(EngineError, match=f"held already .process {os.getpid()}"),
            alone(path, "held already"),
        ):
            pass
    assert holder(path) is None


def test_why_an_agent_does_not_start_is_said_where_the_site_runs(joined):
    policy = joined.path / "policy.yaml"
    policy.write_text(policy.read_text().replace("test_counts: 5", "test_counts: 99999"))
    process = subprocess.Popen(
        [*COMMAND, "run", str(joined.path)], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
    )
    try:
        said = process.stderr.readline()
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert said.startswith("the agent does not start: error: test_counts may be over 99999 pictures or more")
    assert process.returncode == 0
