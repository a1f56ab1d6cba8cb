"""Class-folder trees, with and without split folders."""

import pytest
from PIL import Image

from fer_models.errors import ConfigError, DataError
from fer_models.readers import READERS, options_of, read
from fer_models.readers.classfolders import read_classfolders
from fer_models.readers.listing import OTHER_FILE
from fer_models.readers.pictures import APPLEDOUBLE, UNDECODABLE


def draw(root, *names):
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (16, 16), 30 * number).save(root / name)
    return root


def test_split_folders_in_any_spelling(tmp_path):
    draw(
        tmp_path,
        "Training/happy/1.jpg",
        "Training/Sad/2.png",
        "Public Test/sad/3.png",
        "PrivateTest/angry/4.bmp",
    )
    samples = read_classfolders(tmp_path, size=16)
    assert samples.labels == ("happiness", "sadness", "anger")
    rows = zip(samples.source.tolist(), samples.split.tolist(), samples.label.tolist(), strict=True)
    assert sorted(rows) == [
        ("PrivateTest/angry/4.bmp", "test", 2),
        ("Public Test/sad/3.png", "validation", 1),
        ("Training/Sad/2.png", "train", 1),
        ("Training/happy/1.jpg", "train", 0),
    ]
    assert samples.subject is None


def test_class_folders_alone_are_all_train(tmp_path):
    draw(tmp_path, "contempt/b.png", "contempt/a.png", "fear/c.png")
    (tmp_path / "README.md").write_text("about the set")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "__MACOSX").mkdir()
    samples = read_classfolders(tmp_path, channels=3)
    assert samples.source.tolist() == ["contempt/a.png", "contempt/b.png", "fear/c.png"]
    assert set(samples.split) == {"train"}
    assert samples.pictures.shape == (3, 48, 48, 3)


def test_what_is_left_out_is_counted(tmp_path):
    draw(tmp_path, "train/disgust/a.png", "train/disgust/b.png")
    (tmp_path / "train/disgust/._a.png").write_bytes(b"\0\5\26\7")
    (tmp_path / "train/disgust/Thumbs.db").write_bytes(b"x")
    (tmp_path / "train/disgust/b.png").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"b\.png"):
        read_classfolders(tmp_path)
    samples = read_classfolders(tmp_path, unreadable="skip")
    assert samples.skipped == {APPLEDOUBLE: 1, OTHER_FILE: 1, UNDECODABLE: 1}
    assert samples.source.tolist() == ["train/disgust/a.png"]


def test_wanted_classes(tmp_path):
    draw(tmp_path, "happy/a.png")
    assert read_classfolders(tmp_path, labels=("neutral", "happiness")).label.tolist() == [1]
    with pytest.raises(DataError, match="pictures of happiness"):
        read_classfolders(tmp_path, labels=("neutral",))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["blissful/a.png"], "unknown label 'blissful'"),
        (["train/blissful/a.png"], "unknown label 'blissful'"),
        (["train/happy/a.png", "happy/b.png"], "unknown split 'happy'"),
        (["happy/session 1/a.png"], "a folder inside a class folder"),
        ([], "no picture in the class folders"),
    ],
)
def test_trees_that_are_none(tmp_path, names, message):
    draw(tmp_path, *names)
    with pytest.raises(DataError, match=message) as caught:
        read_classfolders(tmp_path)
    assert str(tmp_path) in caught.value.where


def test_a_file_is_no_tree(tmp_path):
    (tmp_path / "pictures.zip").touch()
    with pytest.raises(DataError, match="this is no folder"):
        read_classfolders(tmp_path / "pictures.zip")


def test_read_by_name(tmp_path):
    draw(tmp_path, "happy/a.png")
    assert len(read("classfolders", tmp_path, size=16)) == 1
    assert {"fer2013", "imagefolder", "classfolders"} <= set(READERS)
    assert {"size", "channels", "unreadable"} <= set(options_of("classfolders"))
    with pytest.raises(DataError, match="Use one of fer2013, imagefolder, classfolders,"):
        read("nowhere", tmp_path)
    with pytest.raises(DataError, match=r"Set data\.root"):
        read("classfolders", tmp_path / "absent")
    with pytest.raises(ConfigError, match="no option 'colour'"):
        read("classfolders", tmp_path, colour=True)
