"""SFEW, CAER-S, ExpW and FERG in their owners' trees, with the rows that trip loaders."""

import numpy as np
import pytest
from PIL import Image

from fer_models.errors import ConfigError, DataError
from fer_models.readers import read
from fer_models.readers.pictures import APPLEDOUBLE
from fer_models.readers.wild import CONFLICT, NO_LABEL, OTHER_NAME, TWICE


def test_sfew(draw, rows):
    root = draw(
        "Train_Aligned_Faces/Angry/21_000105840_00000035.png",
        "Train_Aligned_Faces/Happy/About_a_Boy_000105840_00000035.png",
        "Train_Aligned_Faces/Happy/face.png",
        "Val_Aligned_Faces/Surprise/Hangover_000105840_00000035.png",
        "Test_Aligned_Faces/Juno_000105840_00000035.png",
        "Train/Angry/21_000105840_00000035.png",
    )
    samples = read("sfew", root)
    assert [row[1:] for row in rows(samples)] == [
        ("anger", "train", "21"),
        ("happiness", "train", "About_a_Boy"),
        ("surprise", "test", "Hangover"),
    ]
    assert samples.skipped == {OTHER_NAME: 1, NO_LABEL: 1}
    with pytest.raises(DataError, match="no Val in the folder"):
        read("sfew", root, pictures="whole")
    with pytest.raises(ConfigError, match="aligned, whole"):
        read("sfew", root, pictures="faces")
    draw("Val_Aligned_Faces/Bored/21_000105840_00000036.png")
    with pytest.raises(DataError, match="unknown label 'Bored'"):
        read("sfew", root)


def test_a_skip_list_leaves_pictures_without_a_face_out(draw, write):
    root = draw("Train/Angry/21_000105840_00000035.png", "Val/Sad/22_000105840_00000035.png")
    path = write("without.txt", "Train/Angry/21_000105840_00000035.png\n\n")
    samples = read("sfew", root, pictures="whole", skip_list=path)
    assert samples.source.tolist() == ["Val/Sad/22_000105840_00000035.png"]
    assert samples.skipped == {"on your skip list": 1}
    path.write_text("\nTrain/1.png\n")
    with pytest.raises(DataError, match=r"no picture 'Train/1\.png'") as caught:
        read("sfew", root, pictures="whole", skip_list=path)
    assert caught.value.where == f"{path}:2"


def test_caers(draw, rows):
    root = draw("CAER-S/train/Anger/0001.png", "CAER-S/test/Neutral/0001.png")
    samples = read("caers", root)
    assert samples.name == "CAER-S"
    assert rows(samples) == [
        ("test/Neutral/0001.png", "neutral", "test", None),
        ("train/Anger/0001.png", "anger", "train", None),
    ]
    draw("CAER-S/train/Awe/0001.png")
    with pytest.raises(DataError, match="unknown label 'Awe'"):
        read("caers", root)


@pytest.fixture
def expw(draw, write):
    root = draw("image/origin/angry_actor_1.jpg", "image/origin/happy_child_2.jpg", size=(48, 16))
    pixels = np.zeros((16, 48), np.uint8)
    pixels[:, 32:] = 255
    Image.fromarray(pixels).save(root / "image/origin/two.png")
    write(
        "label/label.lst",
        "angry_actor_1.jpg 0 0 0 16 16 95.5 0\n"
        "happy_child_2.jpg 0 0 0 16 16 20 3\n"
        "angry_actor_1.jpg 0 0 0 16 16 95.5 0\n"  # twice the same line
        "two.png 0 0 0 16 16 80 6\n"
        "two.png 1 0 32 48 16 80 5\n"  # another face of the picture: top left right bottom
        "happy_child_2.jpg 1 0 0 16 16 60 3\n"
        "happy_child_2.jpg 1 0 0 16 16 60 4\n",  # one face, two labels
    )
    return root


def test_expw(expw, rows):
    samples = read("expw", expw, size=16)
    assert rows(samples) == [
        ("image/origin/angry_actor_1.jpg#0", "anger", "train", "angry_actor_1.jpg"),
        ("image/origin/happy_child_2.jpg#0", "happiness", "train", "happy_child_2.jpg"),
        ("image/origin/two.png#0", "neutral", "train", "two.png"),
        ("image/origin/two.png#1", "surprise", "train", "two.png"),
    ]
    assert samples.subject_is == "photograph"
    assert samples.people is None
    assert samples.skipped == {TWICE: 1, CONFLICT: 2}
    means = dict(zip(samples.source.tolist(), samples.pictures.mean((1, 2)), strict=True))
    assert means["image/origin/two.png#0"] == 0
    assert means["image/origin/two.png#1"] == 255, "the box is top, left, right, bottom"
    sure = read("expw", expw, confidence=50)
    assert sure.skipped["confidence of the face below 50"] == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.jpg 0 0 0 9 9 90 7", "unknown expression '7'"),
        ("a.jpg 0 0 0 9 9 90", "7 words, not 8"),
        ("a.jpg 0 0 x 9 9 90 1", "no face box"),
        ("../a.jpg 0 0 0 9 9 90 1", "leaves the folder"),
    ],
)
def test_expw_lines_that_are_wrong(expw, write, line, message):
    path = write("label/label.lst", f"angry_actor_1.jpg 0 0 0 16 16 95.5 0\n{line}\n")
    with pytest.raises(DataError, match=message) as caught:
        read("expw", expw)
    assert caught.value.where == f"{path}:2"


def test_ferg(draw, rows):
    root = draw("FERG_DB_256/aia/aia_anger/aia_anger_1.png", "FERG_DB_256/ray/ray_joy/ray_joy_7.png")
    (root / "FERG_DB_256/ray/ray_joy/._ray_joy_7.png").write_bytes(b"x")
    samples = read("ferg", root)
    assert [row[1:] for row in rows(samples, "gender", "style")] == [
        ("anger", "train", "aia", "female", "drawn character"),
        ("happiness", "train", "ray", "male", "drawn character"),
    ]
    assert samples.skipped == {APPLEDOUBLE: 1}
    draw("FERG_DB_256/ray/ray_awe/1.png")
    with pytest.raises(DataError, match="unknown label 'awe'"):
        read("ferg", root)
    draw("FERG_DB_256/bob/bob_joy/1.png")
    with pytest.raises(DataError, match="unknown character 'bob'"):
        read("ferg", root)
