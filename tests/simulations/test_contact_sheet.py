from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer_models.errors import ConfigError, RunFolderError
from fer_models.samples import Samples
from simulations.contact_sheet import GAP, contact_sheet


def flat(channels: int = 1) -> Samples:
    """Five flat pictures of 4 px whose gray value tells the row: 10, 20, ..."""
    shape = (5, 4, 4) if channels == 1 else (5, 4, 4, 3)
    values = (10 * np.arange(1, 6)).reshape(5, *[1] * (len(shape) - 1))
    return Samples(
        pictures=np.broadcast_to(values, shape).astype(np.uint8),
        label=np.array([1, 0, 1, 1, 0], np.int16),
        labels=("neutral", "happiness", "fear"),
        source=np.array(list("abcde")),
        split=np.full(5, "train"),
        subject=np.array(["x", "x", "y", "y", "y"]),
        groups={"gender": np.array(["woman", "man", "man", "man", "man"])},
    )


def middles(path: Path, rows: int, columns: int, side: int) -> list[list[int]]:
    """The gray value in the middle of every picture of a sheet, read from the right edge."""
    sheet = np.asarray(Image.open(path).convert("L"))
    left = sheet.shape[1] - columns * (side + GAP)
    return [
        [
            int(sheet[r * (side + GAP) + side // 2, left + c * (side + GAP) + side // 2])
            for c in range(columns)
        ]
        for r in range(rows)
    ]


@pytest.mark.parametrize("channels", [1, 3])
def test_rows_hold_the_pictures_of_their_label(tmp_path: Path, channels: int) -> None:
    path = contact_sheet(flat(channels), tmp_path / "new" / "sheet.png", columns=2, scale=3)
    assert middles(path, rows=2, columns=2, side=12) == [[20, 50], [10, 30]]
    assert [file.name for file in path.parent.iterdir()] == ["sheet.png"]


def test_rows_by_group_and_subject(tmp_path: Path) -> None:
    path = contact_sheet(flat(), tmp_path / "sheet.png", rows_by="gender", columns=5, scale=1)
    assert middles(path, rows=2, columns=5, side=4) == [[20, 30, 40, 50, 255], [10, 255, 255, 255, 255]]
    path = contact_sheet(flat(), tmp_path / "sheet.png", rows_by="subject", columns=1, scale=1)
    assert middles(path, rows=2, columns=1, side=4) == [[10], [30]]


def test_a_label_is_written_beside_its_row(tmp_path: Path) -> None:
    path = contact_sheet(flat(), tmp_path / "sheet.png", columns=1)
    sheet = np.asarray(Image.open(path).convert("L"))
    margin = sheet[:, : sheet.shape[1] - 96 - GAP]
    assert margin.shape[1] > 40
    for row in range(2):
        assert (margin[row * (96 + GAP) : (row + 1) * (96 + GAP)] < 100).any()


def test_requests_that_cannot_be_met_name_the_cure(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Use gender, label, split, subject"):
        contact_sheet(flat(), tmp_path / "sheet.png", rows_by="age")
    with pytest.raises(ConfigError, match="one column or more"):
        contact_sheet(flat(), tmp_path / "sheet.png", columns=0)
    with pytest.raises(RunFolderError, match=r"writable \.png file"):
        contact_sheet(flat(), tmp_path / "sheet.nothing")
    assert list(tmp_path.iterdir()) == []
