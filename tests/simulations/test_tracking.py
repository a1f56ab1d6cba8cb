"""Tracking: TensorBoard always, MLflow where a folder is named; runs are found, compared and made again from there."""

import importlib.util
import json
import shlex
from dataclasses import replace

import pytest

from fer_models.errors import ConfigError, EngineError
from simulations.cli import main
from simulations.compose import composed
from simulations.settings import TrackingSettings
from simulations.tracking import command, final, plain, require_tracking, words

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


def test_what_cannot_be_tracked_is_refused_before_anything_runs(monkeypatch):
    require_tracking(TrackingSettings())
    with pytest.raises(ConfigError, match="a folder of this machine"):
        require_tracking(TrackingSettings(mlflow="https://mlflow.example.org"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r"fedfer\[mlflow\]"):
        require_tracking(replace(TrackingSettings(), mlflow="tracked"))
