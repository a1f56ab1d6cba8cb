"""Tracking: TensorBoard always, MLflow and Weights & Biases where folders are named; runs are found, compared and made
again from there."""

import importlib.util
import json
import shlex
import socket
from pathlib import Path

import pytest

from fer_models.errors import ConfigError, EngineError, RunFolderError
from server.run_folder import RunFolder
from simulations.cli import main
from simulations.compose import composed
from simulations.offline_runs import OfflineRun, _records, kept_runs
from simulations.retelling import KEPT, command, final, plain, words
from simulations.settings import TrackingSettings
from simulations.tracking import made, require_tracking

TINY = [
    "data.options.count=200",
    "model=cnn_tiny",
    "partition.sites=2",
    "server.rounds=2",
    "engine.workers=1",
]


def ended(*given):
    with pytest.raises(SystemExit) as end:
        main(given)
    return end.value.code


def lines(folder):
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in each.items() if "seconds" not in key} for each in found]


@pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy is deprecated"
)  # of which MLflow makes use
@pytest.mark.skipif(
    importlib.util.find_spec("mlflow") is None, reason="the extra fedfer[mlflow] is not installed"
)
def test_runs_are_found_compared_and_made_again(tmp_path, monkeypatch):
    """Two runs that differ in their seed; the better one is made again from its line, in another folder."""
    place = tmp_path / "nobody's"  # a quote that a search of MLflow has to live with
    place.mkdir()
    monkeypatch.chdir(place)
    for seed in (0, 1):
        where = [
            "tracking.mlflow=tracked",
            f"seed={seed}",
            "server.evaluate_every=1",
            "--run-dir",
            f"seed-{seed}",
        ]
        assert ended("simulate", *TINY, *where) == 0
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{place / 'tracked' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("fedfer")
    order = ["metrics.`final/federated/accuracy` DESC"]
    runs = client.search_runs([experiment.experiment_id], "params.`server.rounds` = '2'", order_by=order)
    assert {run.info.run_name for run in runs} == {"seed-0", "seed-1"}
    assert {run.info.status for run in runs} == {"FINISHED"}
    best = runs[0]
    folder = place / best.info.run_name
    summary = json.loads((folder / "summary.json").read_text())["systems"]["federated"]
    assert best.data.metrics["final/federated/accuracy"] == summary["accuracy"]
    assert best.data.metrics["final/federated/accuracy_low"] == summary["accuracy_interval"][0]
    curve = client.get_metric_history(best.info.run_id, "federated/accuracy")
    expected = [(each["round"], each["accuracy"]) for each in lines(folder)]
    assert [(point.step, point.value) for point in curve] == expected
    assert {"config.yaml", "summary.json", "report.html"} <= {
        file.path for file in client.list_artifacts(best.info.run_id)
    }
    assert ended(*shlex.split(best.data.tags["fedfer.command"])[1:], "--run-dir", "again") == 0
    assert lines(place / "again") == lines(folder)
    same = [(each / "model" / "model.safetensors").read_bytes() for each in (folder, place / "again")]
    assert same[0] == same[1]
    assert (place / "again" / "events" / "federated").is_dir(), "TensorBoard's curves are there as well"


wandb_needed = pytest.mark.skipif(
    importlib.util.find_spec("wandb") is None, reason="the extra fedfer[wandb] is not installed"
)


@wandb_needed
def test_offline_runs_are_found_compared_and_made_again_and_nothing_is_sent(tmp_path, monkeypatch):
    """As above; a server that listens where the package would send to hears nothing."""
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        monkeypatch.setenv("WANDB_MODE", "online")
        for seed in (0, 1):
            where = ["tracking.wandb=tracked", f"seed={seed}", "--run-dir", f"seed-{seed}"]
            assert ended("simulate", *TINY, "server.evaluate_every=1", *where) == 0
        server.settimeout(0.5)
        with pytest.raises(TimeoutError):
            server.accept()
    runs = kept_runs("tracked")
    assert [(run.name, run.ended) for run in runs] == [("seed-0", 0), ("seed-1", 0)]
    assert {run.config["server.rounds"] for run in runs} == {2}
    best = max(runs, key=lambda run: run.summary["final/federated/accuracy"])
    folder = tmp_path / best.name
    summary = json.loads((folder / "summary.json").read_text())["systems"]["federated"]
    assert best.summary["final/federated/accuracy"] == summary["accuracy"]
    assert best.summary["final/federated/accuracy_high"] == summary["accuracy_interval"][1]
    points = [(each["federated/round"], each["federated/accuracy"]) for each in best.history]
    assert points == [(each["round"], each["accuracy"]) for each in lines(folder)]
    copies = list(Path("tracked").glob(f"wandb/offline-run-*/files/{KEPT[-1]}"))
    assert len(copies) == 2 and not any(copy.is_symlink() for copy in copies)
    assert ended(*shlex.split(best.config["fedfer.command"])[1:], "--run-dir", "again") == 0
    same = [(each / "model" / "model.safetensors").read_bytes() for each in (folder, tmp_path / "again")]
    assert same[0] == same[1]
    assert [run.name for run in kept_runs("tracked")] == ["seed-0", "seed-1", "again"]


@wandb_needed
def test_an_offline_run_that_was_cut_off_is_readable_and_gives_way_to_the_next(tmp_path):
    settings, _ = composed([*TINY, f"tracking.wandb={tmp_path}"])
    folder = RunFolder(tmp_path / "run")
    folder.open({"hash": "x"}, "")
    begun = OfflineRun(tmp_path, folder, settings, ["federated"])
    for done in (1, 2, 3):
        begun.write({"system": "federated", "round": done, "accuracy": done / 10})
    begun.close()
    (cut,) = kept_runs(tmp_path)
    assert (cut.ended, len(cut.history)) == (1, 3)
    (path,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    path.write_bytes(path.read_bytes()[:-40])  # as when its process dies in the midst of a record
    (torn,) = kept_runs(tmp_path)
    assert torn.ended is None and torn.config == cut.config
    again = OfflineRun(tmp_path, folder, settings, ["federated"])
    again.finish({"federated": {"accuracy": 0.5}})
    again.close()
    (whole,) = kept_runs(tmp_path)
    assert (whole.ended, whole.summary) == (0, {"final/federated/accuracy": 0.5})


@wandb_needed
def test_records_longer_than_a_block_are_read_as_the_package_reads_them(tmp_path):
    from wandb.proto import wandb_internal_pb2
    from wandb.sdk.internal.datastore import DataStore

    path = tmp_path / "wandb" / "offline-run-1-x" / "run-x.wandb"
    path.parent.mkdir(parents=True)
    store = DataStore()
    store.open_for_write(path)
    names = ["a" * size for size in (10, 70_000, 32_700, 32_758, 3, 65_522)]
    for name in names:
        record = wandb_internal_pb2.Record()
        record.run.display_name = name
        store.write(record)
    store.close()
    assert [each.run.display_name for each in _records(path)] == names


@pytest.mark.parametrize(
    "given",
    [
        ["experiment=quickstart", "seed=3"],
        ["experiment=planted_bias_private", "fairness=critic_private", "data.groups=[gender,age]"],
        ["data=imagefolder", "data.root=a folder/it's", "data.options.subject=patient", "privacy.delta=1e-6"],
        [
            "local.prior=[0.5,0.25,0.25]",
            "tolerance=limits.yaml",
            "engine.dropout=0.02",
            "model=timm:lcnet_050",
        ],
    ],
)
def test_the_words_of_settings_compose_to_the_settings(given):
    settings, _ = composed(given)
    again, _ = composed(words(settings))
    assert plain(again) == plain(settings)


def test_the_command_names_what_ran():
    settings, _ = composed(TINY)
    assert command(settings, ["federated"]).startswith("fedfer simulate ")
    assert command(settings, ["pooled"]).startswith("fedfer baseline ")
    assert command(settings, ["pooled", "federated"]).startswith("fedfer compare ")


def test_single_numbers_and_intervals_are_kept():
    figures = {"accuracy": 0.5, "accuracy_interval": [0.4, 0.6], "note": "x", "fair": True, "epsilon": None}
    assert dict(final(figures)) == {"accuracy": 0.5, "accuracy_low": 0.4, "accuracy_high": 0.6}


@pytest.mark.parametrize("key", ["mlflow", "wandb"])
def test_what_cannot_be_tracked_is_refused_before_anything_runs(key, tmp_path, monkeypatch):
    require_tracking(TrackingSettings())
    with pytest.raises(ConfigError, match="a folder of this machine"):
        require_tracking(TrackingSettings(**{key: "https://tracking.example.org"}))
    (tmp_path / "file").touch()
    with pytest.raises(RunFolderError, match="cannot make the folder of"):
        made(key, str(tmp_path / "file" / "tracked"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match=rf"fedfer\[{key}\]"):
        require_tracking(TrackingSettings(**{key: "tracked"}))
