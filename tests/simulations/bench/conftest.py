"""What benchmarks are tried on."""

import csv

import numpy as np
import pytest


@pytest.fixture
def miniature(tmp_path):
    """Return a folder with 160 pictures of noise in the official format of FER2013, with FER+'s votes."""
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
    return tmp_path
