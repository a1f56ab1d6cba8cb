"""Keeping processes alive: real ones, started again later every time, and ended in order."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

import client.supervisor
from client.flower import environment, program
from client.supervisor import Program, Supervisor, stopping
from fer_models.errors import EngineError

SLEEPS = (sys.executable, "-S", "-c", "import time; time.sleep(60)")
ENDS = (sys.executable, "-S", "-c", "print('said'); raise SystemExit(3)")
DEAF = (
    sys.executable, "-S", "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)",
)  # fmt: skip


@pytest.fixture
def kept(tmp_path):
    """kept(*programs): a supervisor, and what it told."""

    def make(*programs):
        told = []
        return Supervisor(programs, os.environ, tmp_path, lambda name, code: told.append((name, code))), told

    return make


def tend_until(supervisor, true):
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        supervisor.tend()
        time.sleep(0.02)


def test_what_is_killed_is_started_again(kept):
    supervisor, told = kept(Program("a", SLEEPS))
    with supervisor:
        supervisor.tend()
        before = supervisor.running["a"]
        os.kill(before, signal.SIGKILL)
        tend_until(supervisor, lambda: supervisor.running.get("a", before) != before)
    assert told == [("a", None), ("a", -9), ("a", None), ("a", -15)]
    assert not supervisor.running


def test_a_log_does_not_grow_without_end(kept, tmp_path, monkeypatch):
    monkeypatch.setattr(client.supervisor, "LARGEST_LOG", 4000)
    line = "a line of a log, number %06d"
    code = f"import time\nfor i in range(1000): print({line!r} % i, flush=True); time.sleep(0.002)\ntime.sleep(60)"
    supervisor, _ = kept(Program("a", (sys.executable, "-S", "-c", code)))
    log, old = tmp_path / "a.log", tmp_path / "a.log.1"
    last = (line % 999).encode()
    with supervisor:
        tend_until(supervisor, lambda: old.exists() and last in log.read_bytes() + old.read_bytes())
        assert 4000 <= old.stat().st_size < 30_000 * 0.9
        assert log.stat().st_size < 30_000 * 0.9
        assert old.stat().st_mode & 0o777 == 0o600
        assert all(len(each) == len(last) for each in log.read_bytes().splitlines())


def test_all_end_where_nothing_can_be_told(tmp_path):
    """As with an audit log on a full disk."""
    started = []

    def told(name, code):
        if code is not None:
            raise EngineError(f"{name} cannot be noted")
        started.append(name)

    supervisor = Supervisor([Program("a", SLEEPS), Program("b", SLEEPS)], os.environ, tmp_path, told)
    with pytest.raises(EngineError, match="b cannot be noted"), supervisor:
        supervisor.tend()
    assert started == ["a", "b"]
    assert not supervisor.running


def test_what_ends_at_once_waits_longer_every_time(kept, tmp_path):
    supervisor, told = kept(Program("a", ENDS))
    began = time.monotonic()
    with supervisor:
        tend_until(supervisor, lambda: told.count(("a", 3)) == 3)
    assert time.monotonic() - began > 3  # one second, then two
    assert (tmp_path / "a.log").read_text() == "said\n" * 3
    assert (tmp_path / "a.log").stat().st_mode & 0o777 == 0o600


def test_a_program_waits_for_what_it_needs(kept, tmp_path):
    supervisor, told = kept(Program("a", SLEEPS, needs=(tmp_path / "ready").exists), Program("b", SLEEPS))
    with supervisor:
        supervisor.tend()
        supervisor.tend()
        assert list(supervisor.running) == ["b"]
        (tmp_path / "ready").touch()
        supervisor.tend()
        assert set(supervisor.running) == {"a", "b"}
    assert told[-2:] == [("b", -15), ("a", -15)]  # the newest first


def test_who_does_not_end_is_killed(kept, tmp_path, monkeypatch):
    monkeypatch.setattr("client.supervisor.GRACE", 0.5)
    supervisor, told = kept(Program("a", DEAF))
    with supervisor:
        tend_until(supervisor, lambda: "deaf" in (tmp_path / "a.log").read_text() if told else False)
    assert told[-1] == ("a", -9)


def test_a_program_that_is_not_there_is_told(kept):
    supervisor, _ = kept(Program("a", ("no such program",)))
    with supervisor, pytest.raises(EngineError, match="cannot start a"):
        supervisor.tend()


def test_signals_are_noted_and_given_back():
    before = signal.getsignal(signal.SIGTERM)
    with stopping() as stopped:
        assert not stopped()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopped()
    assert signal.getsignal(signal.SIGTERM) is before


def test_flower_s_programs_are_found_and_told_to_be_quiet(tmp_path):
    assert os.access(program("flower-supernode"), os.X_OK)
    with pytest.raises(EngineError, match="flower-nothing is not installed"):
        program("flower-nothing")
    found = environment(tmp_path)
    assert found["FLWR_TELEMETRY_ENABLED"] == "0"
    assert found["FLWR_HOME"] == str(tmp_path)
    assert Path(found["PATH"].split(os.pathsep)[0]) == Path(program("flwr")).parent
