"""FER2013 as folders of pictures: whose names tell the part, and the votes that FER+ writes beside its pictures."""

import pytest

from fer_models.errors import ConfigError, DataError
from fer_models.readers import read
from fer_models.readers.fer2013_folders import CONFLICT, TWICE
from fer_models.readers.ferplus import NO_AGREEMENT, NO_NAME, NOT_A_FACE, UNKNOWN
from fer_models.readers.listing import OTHER_NAME


def test_class_folders_tell_the_challenge_s_parts_by_names(draw, rows):
    root = draw(
        "train/angry/Training_3908.jpg",
        "train/sad/Training_17.jpg",
        "test/happy/PublicTest_10.jpg",
        "test/angry/PrivateTest_11.jpg",
        "test/angry/copy of 11.jpg",
    )
    samples = read("fer2013", root, rule="original")
    assert [row[:3] for row in rows(samples)] == [
        ("test/angry/PrivateTest_11.jpg", "anger", "test"),
        ("test/happy/PublicTest_10.jpg", "happiness", "validation"),
        ("train/angry/Training_3908.jpg", "anger", "train"),
        ("train/sad/Training_17.jpg", "sadness", "train"),
    ]
    assert samples.skipped == {OTHER_NAME: 1}
    assert samples.pictures.shape == (4, 48, 48)
    with pytest.raises(ConfigError, match="class folders have no FER"):
        read("fer2013", root)
    draw("train/angry/PublicTest_3.jpg")
    with pytest.raises(DataError, match="a picture of validation in train"):
        read("fer2013", root, rule="original")


def test_class_folders_that_somebody_divided(draw, rows):
    root = draw("images/train/disgust/1.jpg", "images/validation/fear/2.jpg")
    assert [row[1:3] for row in rows(read("fer2013", root, rule="original"))] == [
        ("disgust", "train"),
        ("fear", "validation"),
    ]
    draw("images/train/cheerful/3.jpg")
    with pytest.raises(DataError, match="unknown label 'cheerful'"):
        read("fer2013", root, rule="original")


BOX = '"(0, 0, 48, 48)"'


@pytest.fixture
def ferplus(draw, write):
    names = [f"data/FER2013Train/fer{n:07}.png" for n in (0, 2, 3, 4, 5, 6)]
    root = draw(*names, "data/FER2013Valid/fer0028638.png", "data/FER2013Test/fer0032220.png", size=(48, 48))
    write(
        "data/FER2013Train/label.csv",
        f"fer0000000.png,{BOX},0,8,0,0,2,0,0,0,0,0\n"
        f"fer0000002.png,{BOX},0,0,0,0,0,0,0,0,9,1\n"
        f"fer0000003.png,{BOX},0,0,0,0,0,0,0,0,0,10\n"
        f"fer0000004.png,{BOX},5,5,0,0,0,0,0,0,0,0\n"
        f",{BOX},0,0,0,0,0,0,0,0,0,10\n"
        f"fer0000005.png,{BOX},10,0,0,0,0,0,0,0,0,0\n"
        f"fer0000005.png,{BOX},10,0,0,0,0,0,0,0,0,0\n"
        f"fer0000006.png,{BOX},10,0,0,0,0,0,0,0,0,0\n"
        f"fer0000006.png,{BOX},0,0,0,0,0,0,0,10,0,0\n",
    )
    write("data/FER2013Valid/label.csv", f"fer0028638.png,{BOX},0,0,0,0,0,0,0,9,0,0\n")
    write("data/FER2013Test/label.csv", f"fer0032220.png,{BOX},0,0,7,0,0,0,3,0,0,0\n\n")
    return root


def test_ferplus_folders(ferplus, rows):
    samples = read("fer2013", ferplus)
    assert [row[1:3] for row in rows(samples)] == [
        ("surprise", "test"),
        ("happiness", "train"),
        ("neutral", "train"),
        ("contempt", "validation"),
    ]
    assert samples.skipped == {UNKNOWN: 1, NOT_A_FACE: 1, NO_AGREEMENT: 1, NO_NAME: 1, TWICE: 1, CONFLICT: 1}
    first = samples.source.tolist().index("data/FER2013Train/fer0000000.png")
    column = [samples.labels.index(name) for name in ("happiness", "neutral")]
    assert samples.votes[first][column].tolist() == [8, 0]
    several = read("fer2013", ferplus, rule="multi_target")
    test = several.rows("test")[0]
    told = [several.labels.index(name) for name in ("surprise", "fear")]
    assert several.targets([test])[0][told].tolist() == [0.5, 0.5]
    with pytest.raises(ConfigError, match="unknown rule"):
        read("fer2013", ferplus, rule="some")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"fer0032220.png,{BOX},1,2", "4 cells"),
        (f"fer0032220.png,{BOX},-1,0,0,0,0,0,0,0,0,10", "no numbers of votes"),
        (f"../a.png,{BOX},1,0,0,0,0,0,0,0,0,9", "leaves the folder"),
    ],
)
def test_ferplus_lines_that_are_wrong(ferplus, write, line, message):
    path = write("data/FER2013Test/label.csv", line)
    with pytest.raises(DataError, match=message) as caught:
        read("fer2013", ferplus)
    assert caught.value.where == f"{path}:1"


def test_ferplus_parts_that_are_missing(ferplus):
    (ferplus / "data/FER2013Valid/label.csv").unlink()
    with pytest.raises(DataError, match=r"no label\.csv"):
        read("fer2013", ferplus)
