"""Folders with metadata.csv: columns, bands, splits, and every kind of bad row."""

import numpy as np
import pytest
from PIL import Image

from fer_models.errors import ConfigError, DataError
from fer_models.readers import read
from fer_models.readers.imagefolder import read_imagefolder
from fer_models.readers.pictures import APPLEDOUBLE, MISSING, UNDECODABLE
from fer_models.samples import Samples

HEADER = "file_name,label,subject,gender,age,ethnicity,ita,split"
ROWS = [
    "images/001_03.png,neutral,001,female,24,white,55.37,",
    "images/001_08.png,Smiling,001,female,24,white,54.9,",
    "images/002_03.png,neutral,002,male,17,east_asian/white,,test",
    "images/003_08.png,happy,,,NA,,12,val",
]


def folder_of(root, rows, header=HEADER):
    """Write metadata and draw a 16 x 16 picture for every file name that has none."""
    root.mkdir(exist_ok=True)
    (root / "metadata.csv").write_text("\n".join([header, *rows, ""]), encoding="utf-8-sig")
    for number, row in enumerate(rows):
        path = root / row.split(",")[0]
        path.parent.mkdir(exist_ok=True, parents=True)
        if not path.exists():
            Image.new("RGB", (16, 16), (20 * number, 100, 200)).save(path)
    return root


@pytest.fixture
def folder(tmp_path):
    return folder_of(tmp_path / "set", ROWS)


def test_columns_become_samples(folder):
    samples = read("imagefolder", folder, size=16, channels=3)
    assert samples.labels == ("neutral", "happiness")
    assert samples.label.tolist() == [0, 1, 0, 1]
    assert samples.split.tolist() == ["train", "train", "test", "validation"]
    assert samples.source.tolist() == [row.split(",")[0] for row in ROWS]
    assert samples.subject is not None
    assert samples.subject.tolist() == ["001", "001", "002", "images/003_08.png"], "nobody else's picture"
    assert {name: column.tolist() for name, column in samples.groups.items()} == {
        "gender": ["female", "female", "male", "undisclosed"],
        "age": ["18-29", "18-29", "0-17", "undisclosed"],
        "ethnicity": ["white", "white", "east_asian/white", "undisclosed"],
    }
    assert samples.pictures.shape == (4, 16, 16, 3)
    assert samples.pictures[3, 0, 0].tolist() == [60, 100, 200]
    assert samples.name == "set"


def test_groups_and_bands_can_be_named(folder):
    samples = read_imagefolder(
        folder, size=16, groups=["ita", "age"], bands={"ita": [-90, 10.5, 55], "age": []}
    )
    assert samples.groups["ita"].tolist() == ["55+", "10.5 to 55", "undisclosed", "10.5 to 55"]
    assert samples.groups["age"].tolist() == ["24", "24", "17", "undisclosed"]
    assert not read_imagefolder(folder, size=16, groups=[]).groups


def test_other_column_names(tmp_path):
    rows = ["a.png,sad,p1,test", "b.png,fear,p2,train"]
    root = folder_of(tmp_path / "set", rows, "file_name,emotion,person,part")
    samples = read_imagefolder(root, label="emotion", subject="person", split="part")
    assert samples.labels == ("sadness", "fear")
    assert samples.subject is not None
    assert samples.subject.tolist() == ["p1", "p2"]
    assert samples.split.tolist() == ["test", "train"]
    with pytest.raises(DataError, match="no column 'who'"):
        read_imagefolder(root, label="emotion", subject="who")
    plain = read_imagefolder(root, label="emotion", subject=None, split=None)
    assert plain.subject is None
    assert set(plain.split) == {"train"}


def test_one_metadata_file_a_split(tmp_path):
    folder_of(tmp_path / "set", [])
    (tmp_path / "set" / "metadata.csv").unlink()
    folder_of(tmp_path / "set" / "train", ["a.png,sad"], "file_name,label")
    folder_of(tmp_path / "set" / "Valid", ["a.png,angry"], "file_name,label")
    samples = read_imagefolder(tmp_path / "set")
    assert dict(zip(samples.source.tolist(), samples.split.tolist(), strict=True)) == {
        "Valid/a.png": "validation",
        "train/a.png": "train",
    }


def test_wanted_classes_fix_the_order(folder):
    samples = read_imagefolder(folder, labels=["happiness", "anger", "neutral"])
    assert samples.labels == ("happiness", "anger", "neutral")
    assert samples.label.tolist() == [2, 0, 2, 0]
    with pytest.raises(DataError, match="pictures of happiness"):
        read_imagefolder(folder, labels=["neutral", "anger"])
    for labels in (["neutral", "joyful"], ["neutral", "neutral"]):
        with pytest.raises(ConfigError, match="Name each once"):
            read_imagefolder(folder, labels=labels)


def test_poisoned_files_are_counted(folder):
    (folder / "images" / "._001_03.png").write_bytes(b"\0\5\26\7" + b"\0" * 213)
    (folder / "images" / "damaged.png").write_bytes(b"\x89PNG\r\n")
    rows = [
        *ROWS,
        "images/._001_03.png,neutral,001,female,24,white,55.37,",
        "images/damaged.png,neutral,004,female,24,white,55.37,",
        "images/absent.png,neutral,005,female,24,white,55.37,",
    ]
    (folder / "metadata.csv").write_text("\n".join([HEADER, *rows]))
    with pytest.raises(DataError, match="unreadable picture"):
        read_imagefolder(folder, size=16)
    samples = read_imagefolder(folder, size=16, unreadable="skip")
    assert samples.skipped == {APPLEDOUBLE: 1, UNDECODABLE: 1, MISSING: 1}
    assert samples.source.tolist() == [row.split(",")[0] for row in ROWS]
    assert samples.groups["gender"].tolist() == ["female", "female", "male", "undisclosed"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("images/001_03.png,cheerful,1,f,24,w,,", "unknown label 'cheerful'"),
        ("images/001_03.png,,1,f,24,w,,", "unknown label ''"),
        ("images/001_03.png,neutral,1,f,24,w,,holdout", "unknown split 'holdout'"),
        ("images/001_03.png,neutral,1,f,young,w,,", "'young' in column 'age' is no number"),
        ("images/001_03.png,neutral,1,f,-3,w,,", "'-3' in column 'age'"),
        ("images/001_03.png,neutral,1,f,inf,w,,", "'inf' in column 'age'"),
        ("images/001_03.png,neutral,1,f", "4 cells for 8 columns"),
        ("../secret.png,neutral,1,f,24,w,,", "leaves the folder"),
        ("images/../../secret.png,neutral,1,f,24,w,,", "leaves the folder"),
        ("/etc/secret.png,neutral,1,f,24,w,,", "leaves the folder"),
        (r"..\secret.png,neutral,1,f,24,w,,", "leaves the folder"),
        (r"C:\secret.png,neutral,1,f,24,w,,", "leaves the folder"),
        (",neutral,1,f,24,w,,", "is empty or leaves"),
        ("a\0.png,neutral,1,f,24,w,,", "is empty or leaves"),
    ],
)
def test_a_bad_row_names_file_and_line(folder, row, message):
    (folder / "metadata.csv").write_text("\n".join([HEADER, *ROWS, row]))
    with pytest.raises(DataError, match=message) as caught:
        read_imagefolder(folder, size=16)
    assert caught.value.where == f"{folder / 'metadata.csv'}:6"
    assert caught.value.cure


def test_bad_tables(folder, tmp_path):
    with pytest.raises(DataError, match=r"no metadata\.csv in the folder"):
        read_imagefolder(tmp_path)
    with pytest.raises(DataError, match="no column 'emotion'"):
        read_imagefolder(folder, label="emotion")
    with pytest.raises(DataError, match="no column 'height'"):
        read_imagefolder(folder, groups=["height"])
    with pytest.raises(ConfigError, match="do not ascend"):
        read_imagefolder(folder, bands={"age": [30, 18]})
    (folder / "metadata.csv").write_text(HEADER)
    with pytest.raises(DataError, match="no row names a picture"):
        read_imagefolder(folder)
    (folder / "metadata.csv").write_bytes(HEADER.encode() + b"\n\xff\xfe,\n")
    with pytest.raises(DataError, match="no csv text"):
        read_imagefolder(folder)


def test_many_numbers_without_bands_are_refused(tmp_path):
    rows = [f"a.png,neutral,{number / 7}" for number in range(21)]
    root = folder_of(tmp_path / "set", rows, "file_name,label,ita")
    with pytest.raises(DataError, match="holds 21 different numbers"):
        read_imagefolder(root, groups=["ita"])
    assert len(np.unique(read_imagefolder(root, groups=["ita"], bands={"ita": [0, 1, 2]}).groups["ita"])) == 3
    assert len(np.unique(read_imagefolder(root, groups=["ita"], bands={"ita": []}).groups["ita"])) == 21


def test_skin_tone_is_measured_only_on_request_and_says_how_well_it_repeats(tmp_path):
    shades = {"a1": (236, 188, 158), "a2": (230, 180, 150), "b1": (90, 54, 33), "c1": (120, 120, 120)}
    for name, colour in shades.items():
        Image.new("RGB", (64, 64), colour).save(tmp_path / f"{name}.png")
    lines = [f"{name}.png,happy,{name[0]},x" for name in shades]
    (tmp_path / "metadata.csv").write_text("file_name,label,subject,skin_tone\n" + "\n".join(lines))
    assert read("imagefolder", tmp_path).groups["skin_tone"].tolist() == ["x"] * 4
    found = read("imagefolder", tmp_path, groups=[], skin_tone="controlled")
    assert found.groups["skin_tone"].tolist() == ["lighter", "lighter", "darker", "undisclosed"]
    assert "100% of 1 people" in found.notes[0]
    with pytest.raises(ConfigError, match="two sources of one group"):
        read("imagefolder", tmp_path, skin_tone="controlled")
    found.save(tmp_path / "saved")
    assert Samples.load(tmp_path / "saved").notes == found.notes
