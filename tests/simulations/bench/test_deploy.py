"""What a study of real processes asks for, and that one which is told to end ends all that it has started."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import client
from client.policy import read_policy
from client.policy_template import TEMPLATE
from fer_models.errors import ConfigError
from simulations.bench.deploy import SCAFFOLD, _case, allow_without_privacy
from simulations.bench.loopback import left_over
from simulations.compose import composed

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


def test_scaffold_is_asked_for_of_sites_whose_policy_allows_it(tmp_path):
    case = _case(["scaffold=true", "model=fer_nano", "sites=4"])
    settings, _ = composed([each.format(**vars(case)) for each in SCAFFOLD])
    assert settings.local.scaffold and settings.aggregation.kind == "secure"
    assert (settings.partition.sites, settings.model.name) == (4, "fer_nano")
    (tmp_path / "policy.yaml").write_text(TEMPLATE)
    assert read_policy(tmp_path / "policy.yaml").privacy.required
    allow_without_privacy(tmp_path)
    assert not read_policy(tmp_path / "policy.yaml").privacy.required


@pytest.mark.parametrize(
    ("words", "match"), [(["scaffold=true", "soak=true"], "keeps none"), (["sites=three"], "is no setting")]
)
def test_what_cannot_be_measured_is_refused(words, match):
    with pytest.raises(ConfigError, match=match):
        _case(words)
