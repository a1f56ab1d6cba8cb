import csv
import json
import math

import numpy as np

from simulations.bench.run import run


def test_a_drawn_miniature_in_the_official_format(tmp_path):
    rng = np.random.default_rng(0)
    emotions, votes = [6, 3, 5, 4, 0, 1, 2], [0, 1, 2, 3, 4, 5, 6]
    with (
        (tmp_path / "fer2013.csv").open("w", newline="") as file,
        (tmp_path / "fer2013new.csv").open("w") as new,
    ):
        table = csv.writer(file)
        table.writerow(["emotion", "pixels", "Usage"])
        new.write(
            "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF\n"
        )
        for row in range(160):
            which = row % 8
            code = emotions[which % 7]
            table.writerow([code, " ".join(map(str, rng.integers(0, 256, 2304))), "Training"])
            given = ["0"] * 10
            given[votes[which] if which < 7 else 7] = "10"
            new.write(f"Training,fer{row:07d}.png,{','.join(given)}\n")
    words = [
        "model=cnn_tiny",
        "server.rounds=2",
        "baseline.epochs=1",
        "partition.sites=2",
        "engine.workers=1",
    ]
    found = tmp_path / "found.json"
    assert run(["fer2013", "--data", str(tmp_path), "--json", str(found), *words]) == 0
    figures = json.loads(found.read_text())["figures"]
    assert {"pooled_accuracy", "federated_accuracy", "visits_ratio", "pooled_cpu_s"} <= set(figures)
    assert all(math.isfinite(value) for value in figures.values())
    assert 0 <= figures["pooled_accuracy"] <= 1
