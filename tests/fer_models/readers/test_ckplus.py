"""CK+ in its owner's layout: peaks, first frames as neutral, empty emotion folders; and CK+48."""

import pytest

from fer_models.errors import ConfigError, DataError
from fer_models.readers import read
from fer_models.readers.ckplus import NO_LABEL, NO_SEQUENCE, OTHER_NAME
from fer_models.readers.pictures import APPLEDOUBLE

IMAGES = "cohn-kanade-images"


@pytest.fixture
def ckplus(draw, write):
    for sequence, frames in {"S005/001": 4, "S005/002": 4, "S011/001": 5, "S011/003": 3}.items():
        name = sequence.replace("/", "_")
        root = draw(*(f"{IMAGES}/{sequence}/{name}_{frame:08}.png" for frame in range(1, frames + 1)))
    write("Emotion/S005/001/S005_001_00000004_emotion.txt", "   3.0000000e+00\n")
    write("Emotion/S005/002/S005_002_00000004_emotion.txt", "   5.0000000e+00\n")
    write("Emotion/S011/001/S011_001_00000005_emotion.txt", "   2.0000000e+00\n")
    (root / "Emotion/S011/003").mkdir()  # empty, as most are
    return root


def names(samples):
    pairs = zip(samples.source, samples.label, strict=True)
    return [f"{source[-12:-4]} {samples.labels[label]}" for source, label in pairs]


def test_peaks_and_one_neutral_a_person(ckplus, rows):
    samples = read("ckplus", ckplus)
    assert rows(samples) == [
        (f"{IMAGES}/S005/001/S005_001_00000001.png", "neutral", "train", "S005"),
        (f"{IMAGES}/S005/001/S005_001_00000004.png", "disgust", "train", "S005"),
        (f"{IMAGES}/S005/002/S005_002_00000004.png", "happiness", "train", "S005"),
        (f"{IMAGES}/S011/001/S011_001_00000001.png", "neutral", "train", "S011"),
        (f"{IMAGES}/S011/001/S011_001_00000005.png", "contempt", "train", "S011"),
    ]
    assert samples.skipped == {NO_LABEL: 1}


def test_other_choices_of_frames(ckplus):
    assert [row[-7:] for row in names(read("ckplus", ckplus, neutral="sequence"))].count("neutral") == 3
    assert "neutral" not in read("ckplus", ckplus, neutral="none").labels
    three = read("ckplus", ckplus, neutral="none", peaks=3)
    assert names(three)[:3] == ["00000002 disgust", "00000003 disgust", "00000004 disgust"]
    assert len(three) == 9


def test_other_names_of_the_folders(ckplus):
    (ckplus / "Emotion").rename(ckplus / "emotion_labels")
    (ckplus / IMAGES).rename(ckplus / "Cohn-Kanade-Images")
    assert len(read("ckplus", ckplus)) == 5


def test_foreign_files_are_counted(ckplus, write, draw):
    write("Emotion/S005/001/._S005_001_00000004_emotion.txt", "x")
    write("Emotion/notes.txt", "x")
    draw(f"{IMAGES}/S005/001/.DS_Store.png")
    (ckplus / f"{IMAGES}/S005/001/._S005_001_00000001.png").write_bytes(b"x")
    skipped = read("ckplus", ckplus).skipped
    assert skipped == {NO_LABEL: 1, OTHER_NAME: 2, APPLEDOUBLE: 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("8.0", "unknown emotion code '8'"),
        ("", "no emotion code"),
        ("angry", "no emotion code"),
        ("inf", "no emotion"),
    ],
)
def test_emotion_files_that_are_wrong(ckplus, write, text, message):
    path = write("Emotion/S005/001/S005_001_00000004_emotion.txt", text)
    with pytest.raises(DataError, match=message) as caught:
        read("ckplus", ckplus)
    assert caught.value.where == str(path)


def test_frames_that_are_missing(ckplus):
    with pytest.raises(DataError, match="no frame s005_001_00000004 with 4 before it"):
        read("ckplus", ckplus, peaks=4)
    (ckplus / f"{IMAGES}/S011/001/S011_001_00000005.png").unlink()
    with pytest.raises(DataError, match="no frame s011_001_00000005"):
        read("ckplus", ckplus)
    with pytest.raises(ConfigError, match="1 frame or more"):
        read("ckplus", ckplus, peaks=0)
    (ckplus / "Emotion").rename(ckplus / "labels")
    with pytest.raises(DataError, match="no Emotion"):
        read("ckplus", ckplus)


def test_labels_whose_pictures_are_missing_are_counted(ckplus, write):
    write("Emotion/S999/001/S999_001_00000004_emotion.txt", "3.0\n")
    assert read("ckplus", ckplus).skipped == {NO_LABEL: 1, NO_SEQUENCE: 1}


def test_the_repost_keeps_its_people(draw, rows):
    root = draw("anger/S010_004_00000017.png", "disgust/S010_005_00000009.png", "happy/S011_001_00000010.png")
    draw("happy/copy of S011.png")
    samples = read("ckplus", root)
    assert samples.name == "CK+48"
    assert [row[1:] for row in rows(samples)] == [
        ("anger", "train", "S010"),
        ("disgust", "train", "S010"),
        ("happiness", "train", "S011"),
    ]
    assert samples.skipped == {OTHER_NAME: 1}
