"""JAFFE in its owner's layout: the second part of a name is the expression, and what raters saw."""

import numpy as np
import pytest

from fer_models.errors import DataError
from fer_models.readers import read
from fer_models.readers.jaffe import NO_RATING, OTHER_NAME, UNDECIDED

README = """\
The ratings below are means over 60 people, on a scale from 1 to 5.

  #   HAP  SAD  SUR  ANG  DIS  FEA  PIC
--------------------------------------
  1  2.87 2.52 2.10 1.97 1.97 2.06  KM-NE1
  2  1.10 2.00 1.50 2.30 4.10 1.90  KA-AN1
  3  1.00 2.50 1.50 2.50 1.10 1.90  NA-DI2
  4  4.90 1.00 1.20 1.00 1.00 1.10  NA-HA1

without the pictures of fear
  #   HAP  SAD  SUR  ANG  DIS  PIC
  2  5.00 1.00 1.00 1.00 1.00  KA-AN1
"""


@pytest.fixture
def jaffe(draw, write):
    write("jaffe/README_FIRST.txt", README)
    return draw(
        *(f"jaffe/{n}.tiff" for n in ("KA.AN1.39", "NA.DI2.200", "NA.HA1.202", "KM.NE1.9", "YM.FE3.60"))
    )


def test_posed_expressions(jaffe, rows):
    samples = read("jaffe", jaffe)
    assert rows(samples, "gender", "ethnicity") == [
        ("jaffe/KA.AN1.39.tiff", "anger", "train", "KA", "female", "asian"),
        ("jaffe/KM.NE1.9.tiff", "neutral", "train", "KM", "female", "asian"),
        ("jaffe/NA.DI2.200.tiff", "disgust", "train", "NA", "female", "asian"),
        ("jaffe/NA.HA1.202.tiff", "happiness", "train", "NA", "female", "asian"),
        ("jaffe/YM.FE3.60.tiff", "fear", "train", "YM", "female", "asian"),
    ]


def test_what_raters_saw(jaffe, rows):
    samples = read("jaffe", jaffe, target="rated")
    assert [row[:2] for row in rows(samples)] == [
        ("jaffe/KA.AN1.39.tiff", "disgust"),
        ("jaffe/KM.NE1.9.tiff", "neutral"),
        ("jaffe/NA.HA1.202.tiff", "happiness"),
    ]
    assert samples.skipped == {"file that is no picture": 1, NO_RATING: 1, UNDECIDED: 1}
    assert samples.labels == ("neutral", "happiness", "disgust")
    assert samples.votes == pytest.approx(np.array([[0, 0.1, 3.1], [1, 0, 0], [0, 3.9, 0]]))


def test_ratings_that_cannot_be_read(jaffe, write):
    path = write("jaffe/README_FIRST.txt", "no table here")
    with pytest.raises(DataError, match="no table of ratings") as caught:
        read("jaffe", jaffe, target="rated")
    assert caught.value.where == str(path)
    path.unlink()
    with pytest.raises(DataError, match="target=posed"):
        read("jaffe", jaffe, target="rated")
    other = write("elsewhere.txt", README)
    assert len(read("jaffe", jaffe, target="rated", ratings=other)) == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [("KA.XX1.40.tiff", "unknown expression 'XX'"), ("ZZ.AN1.40.tiff", "unknown person 'ZZ'")],
)
def test_unknown_codes(jaffe, draw, name, message):
    draw(f"jaffe/{name}")
    with pytest.raises(DataError, match=message) as caught:
        read("jaffe", jaffe)
    assert caught.value.where.endswith(name)


def test_other_names_are_counted(jaffe, draw):
    draw("jaffe/mean face.tiff")
    assert read("jaffe", jaffe).skipped[OTHER_NAME] == 1
