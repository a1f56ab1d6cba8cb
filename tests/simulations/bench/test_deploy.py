"""A study of real processes that is told to end ends all that it has started."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import client
from simulations.bench.loopback import left_over

ROOT = Path(client.__file__).parent.parent

SCRIPT = """
import sys
from pathlib import Path
from simulations.bench.deploy import WORDS, Case
from simulations.bench.loopback import Loopback

words = [each.format(**vars(Case(pictures=60, rounds=2))) for each in WORDS]
with Loopback(Path(sys.argv[1]), words):
    pass
"""


@pytest.mark.slow
def test_a_study_that_is_told_to_end_leaves_no_process(tmp_path_factory):
    folder = tmp_path_factory.mktemp("l")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder)], env=environment)
    try:
        end = time.monotonic() + 300
        while len(left_over(folder)) < 5:  # this one, the coordinator's and three sites'
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=120) == 128 + signal.SIGTERM
    finally:
        process.kill()
    assert left_over(folder) == []
