import json
import math

from simulations.bench.run import run


def test_a_drawn_miniature_in_the_official_format(miniature, tmp_path):
    words = [
        "model=cnn_tiny",
        "server.rounds=2",
        "baseline.epochs=1",
        "partition.sites=2",
        "engine.workers=1",
    ]
    found = tmp_path / "found.json"
    assert run(["fer2013", "--data", str(miniature), "--json", str(found), *words]) == 0
    figures = json.loads(found.read_text())["figures"]
    assert {"pooled_accuracy", "federated_accuracy", "visits_ratio", "pooled_cpu_s"} <= set(figures)
    assert all(math.isfinite(value) for value in figures.values())
    assert 0 <= figures["pooled_accuracy"] <= 1
