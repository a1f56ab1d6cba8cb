"""A run on a Ray cluster: equal bits, work on every machine, and nothing lost when one of them dies."""

import ast
import importlib.util
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from client.ledger import Ledger
from fer_models.errors import ConfigError, EngineError
from simulations.cluster import framed, require_alike, require_reachable, unframed
from simulations.federated import require_engine
from simulations.grid import take_identity

ROOT = Path(__file__).parents[2]
RUN = [
    "simulate", "data.options.count=200", "model=cnn_tiny", "partition.sites=3", "server.rounds=4", "privacy=dp",
    "server.evaluate_every=1", "local.rate=0.1", "aggregation=secure", "privacy.allow_useless=true",
]  # fmt: skip


# Ray's own way of starting several nodes on one machine; it leaves files open, so it runs in a process of its own.
NODES = """
import sys
from ray.cluster_utils import Cluster
memory = {"object_store_memory": 80 << 20}
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **memory})
workers = [cluster.add_node(num_cpus=1, **memory) for _ in range(2)]
print(cluster.address, flush=True)
if sys.stdin.readline().strip() == "kill":
    cluster.remove_node(workers[0], allow_graceful=False)
    sys.stdin.read()
cluster.shutdown()
"""


def lines(folder):
    """The metrics of a run without its times."""
    path = folder / "metrics.jsonl"
    found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [{key: value for key, value in each.items() if "seconds" not in key} for each in found]


def releases(folder):
    return {path.name: list(Ledger(path, read_only=True).events) for path in sorted(folder.iterdir())}


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra fedfer[ray] is not installed")
def test_a_machine_of_the_cluster_dies_and_nothing_is_lost(tmp_path):
    """A head and two workers are Ray nodes of their own; one is killed after a round of a secure, private run."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "RAY_worker_niceness": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-c", NODES], env=environment, text=True, **pipes) as nodes:
        address = nodes.stdout.readline().strip()
        where = ["engine=ray", f"engine.address={address}", "--run-dir", str(tmp_path / "cluster")]
        command = [sys.executable, "-m", "simulations.cli", *RUN, *where]
        with (tmp_path / "told").open("w") as told:
            process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=told, stderr=told)
            while process.poll() is None and not lines(tmp_path / "cluster"):
                time.sleep(0.05)
            print("kill", file=nodes.stdin, flush=True)
            assert process.wait(timeout=300) == 0, (tmp_path / "told").read_text()
        nodes.stdin.close()
    # With as many threads: how many add up changes the last digits of epsilon.
    command = [
        sys.executable,
        "-m",
        "simulations.cli",
        *RUN,
        "engine.workers=1",
        "--run-dir",
        str(tmp_path / "local"),
    ]
    subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=True, timeout=300)
    cluster, local = tmp_path / "cluster", tmp_path / "local"
    told = json.loads((cluster / "cluster.json").read_text())["federated"]
    assert (told["workers"], told["lost"]) == (2, 1)
    assert len(told["answers"]) == 2, "both machines have answered"
    assert min(told["answers"].values()) >= 3
    assert lines(cluster) == lines(local)
    assert [each["round"] for each in lines(local)] == [1, 2, 3, 4]
    assert releases(cluster / "ledger") == releases(local / "ledger")
    assert [len(each) for each in releases(cluster / "ledger").values()] == [4, 4, 4], (
        "each round is paid for once"
    )
    assert (cluster / "model/model.safetensors").read_bytes() == (
        local / "model/model.safetensors"
    ).read_bytes()


# Ray gives out a GPU that it was told of, whether there is one or not; so what is asked of it shows without any.
GPU = """
import sys, time
from dataclasses import replace
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from fer_models.errors import EngineError
from simulations.cluster import ClusterPool, connected, places
from simulations.compose import composed
from simulations.federated import Sites
from simulations.prepare import prepare

if __name__ == "__main__":
    words = ["data.options.count=60", "model=cnn_tiny", "partition.sites=2", "partition.minimum=1"]
    ready = prepare(composed(words)[0])
    sites = Sites(ready.samples, ready.partition, 0, Path("ledger"), "cuda", sessions=Path("sessions"))
    memory = {"object_store_memory": 80 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, **memory})
    with connected(cluster.address):
        for gpus in (0, 1):
            if gpus:
                cluster.add_node(num_cpus=2, num_gpus=1, **memory)
            try:
                ClusterPool(sites, 0, 1)
            except EngineError as error:
                print(error, flush=True)
                kept = error  # its traceback holds the workers
        print("places", places(0), places(1), flush=True)
        until = time.monotonic() + 60
        while ray.available_resources().get("GPU", 0) and time.monotonic() < until:
            time.sleep(0.1)
        print("free", ray.available_resources().get("GPU", 0), flush=True)
    cluster.shutdown()
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra fedfer[ray] is not installed")
@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine without a GPU is told of one")
def test_a_worker_takes_a_whole_gpu_and_one_that_is_not_there_is_told(tmp_path):
    """Without a GPU in the cluster, and with one that only Ray knows of beside three processors."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    (tmp_path / "gpu.py").write_text(GPU)
    command = [sys.executable, "gpu.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    without, declared, *counts = done.stdout.splitlines()
    assert without.startswith("no machine of the cluster has a GPU (engine.address)")
    assert declared.startswith("Ray counts a GPU on a machine of the cluster on which torch finds none")
    assert counts == ["places 3 1", "free 0.0"] or counts == ["places 3 1", "free 0"]


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra fedfer[ray] is not installed")
def test_the_lines_of_the_page_are_those_that_ray_knows():
    page = (ROOT / "docs" / "cluster.md").read_text()
    typed = [shlex.split(line)[1:] for line in re.findall(r"^ray .*", page, re.MULTILINE)]
    assert [words[0] for words in typed] == ["get-auth-token", "start", "status", "start", "start", "status"]
    options = "{name: [o for p in each.params for o in p.opts] for name, each in ray.cli.commands.items()}"
    code = f"import ray.scripts.scripts as ray; print({options})"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    known = ast.literal_eval(told)
    for name, *words in typed:
        assert {word.partition("=")[0] for word in words if word.startswith("--")} <= set(known[name])


def test_messages_travel_as_frames_of_bytes():
    take_identity(1)
    vector = np.arange(6, dtype=np.float32).reshape(2, 3)
    content = RecordDict(
        {"vector": ArrayRecord({"v": Array(vector)}), "facts": ConfigRecord({"a": b"\0\1", "n": 3})}
    )
    (heads,) = unframed(framed([[Message(content, 4, "train", group_id="2")]]))
    assert (heads[0]["to"], heads[0]["type"], heads[0]["group"]) == (4, "train", "2")
    assert np.array_equal(heads[0]["content"]["vector"]["v"].numpy(), vector)
    assert dict(heads[0]["content"]["facts"]) == {"a": b"\0\1", "n": 3}


def test_machines_with_other_versions_are_refused():
    alike = {"fedfer": "0.1.0", "torch": "2.14.1", "numpy": "2.4.6", "opacus": "1.6.0"}
    require_alike([alike, alike])
    with pytest.raises(EngineError, match=r"have torch 2\.14\.0 and 2\.14\.1"):
        require_alike([alike, {**alike, "torch": "2.14.0"}])


def test_an_address_goes_with_ray_and_ray_s_limits_do_not_go_with_it():
    with pytest.raises(ConfigError, match=r"engine\.address"):
        require_engine("local", 1, 1, 0.0, "localhost:6379")
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        require_engine("ray", 1, 8, 0.1, f"127.0.0.1:{somebody.getsockname()[1]}")


@pytest.mark.parametrize("address", ["localhost", "ray://localhost:10001", "localhost:ray"])
def test_what_is_no_address(address):
    with pytest.raises(ConfigError, match="is no address"):
        require_reachable(address)


def test_nobody_at_the_address_is_told_before_a_folder_is_made(fedfer, refused, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        port = somebody.getsockname()[1]
    found = fedfer(*RUN, "engine=ray", f"engine.address=127.0.0.1:{port}", "--run-dir", str(tmp_path / "run"))
    assert refused(found, EngineError, f"127.0.0.1:{port}", "ray start --head")
    assert list(tmp_path.iterdir()) == []
