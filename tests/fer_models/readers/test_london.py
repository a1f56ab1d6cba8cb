"""The London Set in its owners' layout: AppleDouble files that end in .jpg, templates, ages that are NA."""

import pytest

from fer_models.errors import DataError
from fer_models.readers import read
from fer_models.readers.london import NOT_FRONTAL
from fer_models.readers.pictures import APPLEDOUBLE

INFO = "face_id,face_age,face_gender,face_eth\nX001,24,female,white\nX002,NA,male,east_asian/white\n"


@pytest.fixture
def london(draw, write):
    write("london_faces_info.csv", INFO)
    write("neutral_front/001_03.tem", "189\n10\t20\n")
    root = draw(
        "neutral_front/001_03.jpg", "smiling_front/001_08.jpg", "neutral_front/002_03.jpg", "left/001_01.jpg"
    )
    (root / "neutral_front/._001_03.jpg").write_bytes(b"x" * 217)
    return root


def test_london(london, rows):
    samples = read("london", london)
    assert rows(samples, "gender", "ethnicity", "age") == [
        ("neutral_front/001_03.jpg", "neutral", "train", "001", "female", "white", "18-29"),
        ("neutral_front/002_03.jpg", "neutral", "train", "002", "male", "other", "undisclosed"),
        ("smiling_front/001_08.jpg", "happiness", "train", "001", "female", "white", "18-29"),
    ]
    assert samples.skipped == {APPLEDOUBLE: 1, NOT_FRONTAL: 1, "file that is no picture": 2}


def test_what_is_unknown(london, draw, write):
    path = write("london_faces_info.csv", INFO + "X003,24,female,martian\n")
    with pytest.raises(DataError, match="unknown ethnicity 'martian'") as caught:
        read("london", london)
    assert caught.value.where == f"{path}:4"
    path.write_text(INFO)
    draw("neutral_front/003_03.jpg")
    with pytest.raises(DataError, match=r"person 003 is not in london_faces_info\.csv"):
        read("london", london)
    path.unlink()
    with pytest.raises(DataError, match="no london_faces_info"):
        read("london", london)
