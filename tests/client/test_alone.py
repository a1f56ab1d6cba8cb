"""Locks that live as long as their process."""

import os
import signal
import subprocess
import sys

import pytest

from client.alone import alone, holder, locked
from fer_models.errors import EngineError

HOLD = """
import pathlib, sys, time
from client.alone import alone
with alone(pathlib.Path(sys.argv[1]), "taken"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_kept_out_until_the_first_is_killed(tmp_path):
    path = tmp_path / "lock"
    assert holder(path) is None
    with subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        assert holder(path) == process.pid
        said = rf"taken \(process {process.pid}\)"
        with pytest.raises(EngineError, match=said) as error, alone(path, "taken", "server"):
            pass
        assert "fedfer server stop DIR" in error.value.cure
        process.send_signal(signal.SIGKILL)
    assert holder(path) is None
    with alone(path, "taken"):
        assert holder(path) == os.getpid()
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_error_in_the_block_is_its_own(tmp_path):
    with pytest.raises(BlockingIOError, match="mine"), alone(tmp_path / "lock", "taken"):
        raise BlockingIOError("mine")
    with locked(tmp_path / "lock", wait=False) as handle:
        assert os.fstat(handle).st_size > 0
