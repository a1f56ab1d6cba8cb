"""A real run, killed twice without warning, ends as one that was left alone."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from fer_models.checkpoints import load_model
from server.run_folder import RunFolder
from simulations.cli import main

WORDS = [
    "compare",
    "data.options.count=240",
    "model=cnn_tiny",
    "partition.sites=3",
    "privacy=dp",
    "privacy.target_epsilon=null",
    "privacy.noise_multiplier=0.01",  # of no use to anybody, but its epsilon is cheap to count
    "local.rate=0.1",
    "server.rounds=80",
    "server.evaluate_every=8",
    "compare.without_privacy=false",
    "baseline.systems=[pooled]",
    "baseline.epochs=10",
]

OFTEN = """
import sys
import server.rounds, simulations.baselines
server.rounds.CHECKPOINT_SECONDS = simulations.baselines.CHECKPOINT_SECONDS = 0.1
from simulations.cli import main
main(sys.argv[1:])
"""


def killed_when(condition, folder):
    """Run the command until a condition holds, kill it, and return whether it was killed."""
    words = [*WORDS, "engine.workers=2", "--run-dir", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-c", OFTEN, *words], cwd=folder.parent, env=environment, stdout=subprocess.DEVNULL
    )
    while process.poll() is None and not condition():
        time.sleep(0.02)
    process.kill()
    process.wait()
    return process.returncode == -9


def records(folder, system):
    dropped = ("seconds", "epsilon")
    found = [record for record in RunFolder(folder).metrics() if record["system"] == system]
    return [{k: v for k, v in r.items() if k not in dropped} for r in found], [r["epsilon"] for r in found]


@pytest.mark.slow
def test_a_run_that_is_killed_resumes_to_the_same_bits(tmp_path):
    parts, whole = tmp_path / "parts", tmp_path / "whole"
    pooled, federated = (parts / f"checkpoint-{name}.safetensors" for name in ("pooled", "federated"))

    assert killed_when(pooled.exists, parts)
    before = RunFolder(parts).load_checkpoint("checkpoint-pooled")
    assert before is not None
    assert before[1]["step"] > 0
    assert not (parts / "baselines" / "pooled.json").exists()

    assert killed_when(lambda: federated.exists() and len(records(parts, "federated")[0]) >= 2, parts)
    assert (parts / "baselines" / "pooled.json").exists()
    before = RunFolder(parts).load_checkpoint("checkpoint-federated")
    assert before is not None
    assert 0 < before[1]["round"] < 80
    assert json.loads((parts / "state.json").read_text()) == {"status": "running"}
    assert not (parts / "summary.json").exists()

    with (parts / "metrics.jsonl").open("a") as file:
        file.write('{"system": "fed')  # what a kill in the midst of a line leaves
    for folder in (parts, whole):
        with pytest.raises(SystemExit) as ended:
            main([*WORDS, "engine.workers=1", "--run-dir", str(folder)])
        assert ended.value.code == 0
        assert json.loads((folder / "state.json").read_text()) == {"status": "complete"}

    for system in ("pooled", "federated"):
        (lines, epsilons), (expected, honest) = records(parts, system), records(whole, system)
        assert lines == expected
        assert len(lines) == (5 if system == "pooled" else 10)
        if system == "federated":
            # What was released before the kill counts from the kill on, so a repeated round tells no less.
            assert epsilons[-1] == honest[-1]
            assert all(one >= other > 0 for one, other in zip(epsilons, honest, strict=True))
    nets = [load_model(folder / "model")[0].state_dict() for folder in (parts, whole)]
    assert all(torch.equal(nets[0][key], nets[1][key]) for key in nets[1])
    for name in ("baselines/pooled", "checkpoint-federated"):
        one, other = (RunFolder(folder).load_checkpoint(name) for folder in (parts, whole))
        assert one is not None
        assert other is not None
        assert all(torch.equal(one[0][key], tensor) for key, tensor in other[0].items())
    systems = [json.loads((folder / "summary.json").read_text())["systems"] for folder in (parts, whole)]
    for system in systems:
        for figures in system.values():
            assert figures.pop("cpu_seconds") > 0
    assert systems[0] == systems[1]
