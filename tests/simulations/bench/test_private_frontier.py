import json
import math

import pytest

from fer_models.errors import ConfigError
from simulations.bench import private_frontier as frontier
from simulations.bench.run import run

SMALL = ["server.rounds=2", "partition.sites=2", "engine.workers=1", "privacy.allow_useless=true"]


def test_means_and_intervals_over_seeds():
    assert frontier.interval([0.5, 0.6, 0.7]) == pytest.approx((0.6, 0.3516, 0.8484), abs=1e-4)
    assert frontier.interval([0.0, 0.0, 0.5])[1] == 0.0
    assert frontier.interval([0.5]) == (0.5, 0.0, 1.0)


@pytest.mark.slow
def test_a_small_frontier_goes_on_where_it_was(miniature, tmp_path):
    kept, found = tmp_path / "kept", tmp_path / "found.json"
    words = ["private-frontier", "--data", str(miniature), "--json", str(found), "--run-dir", str(kept)]
    words += ["modes=distributed", "epsilons=8,inf", "seeds=0,1", *SMALL]
    assert run([*words, "models=hog_linear"]) == 0
    figures = json.loads(found.read_text())["figures"]
    keys = [
        f"{name}_hog_linear_distributed_{epsilon}" for name in frontier.FIGURES for epsilon in ("8", "inf")
    ]
    assert {*keys, *(f"{key}_low" for key in keys), *(f"{key}_high" for key in keys)} <= set(figures)
    assert all(math.isfinite(value) for value in figures.values())
    assert all(figures[f"{key}_low"] <= figures[key] <= figures[f"{key}_high"] for key in keys)
    summary = kept / "hog_linear_distributed_8_1" / "summary.json"
    federated = json.loads(summary.read_text())["systems"]["federated"]
    assert federated["noise"] == "distributed"
    assert 7 < federated["epsilon"] <= 8
    told = summary.stat().st_mtime_ns
    assert run([*words, "models=hog_linear"]) == 0
    assert summary.stat().st_mtime_ns == told
    assert json.loads(found.read_text())["figures"] == figures


@pytest.mark.slow
def test_nets_that_learn_their_features_start_from_drawn_faces(miniature, tmp_path):
    words = [
        "models=fer_small",
        "modes=site",
        "epsilons=8",
        "seeds=0",
        "pretrain.faces=40",
        "pretrain.epochs=1",
    ]
    kept = tmp_path / "kept"
    assert run(["private-frontier", "--data", str(miniature), "--run-dir", str(kept), *words, *SMALL]) == 0
    summary = json.loads((kept / "fer_small_site_8_0" / "summary.json").read_text())
    assert summary["start"]["weights"] == "model.safetensors"
    assert (kept / "pretrained_fer_small_0" / "model.safetensors").exists()


def test_what_cannot_be_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="folder of FER2013"):
        run(["private-frontier"])
    for word in ("models=resnet", "modes=some", "seeds="):
        with pytest.raises(ConfigError, match="unknown value"):
            run(["private-frontier", "--data", str(tmp_path), word])
