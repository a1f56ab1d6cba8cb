"""RAF-DB in its owner's layout: list of labels, attributes, the compound set, and the fair protocol's csv files."""

import pytest

from fer_models.errors import ConfigError, DataError
from fer_models.labels import COMPOUND
from fer_models.readers import read
from fer_models.readers.pictures import MISSING
from fer_models.readers.protocol import NOT_LISTED

POINTS = "10.5\t20\n30 20\n20 30\n12 40\n28 40\n"
LIST = "basic/EmoLabel/list_patition_label.txt"


@pytest.fixture
def rafdb(draw, write):
    write(LIST, "train_00001.jpg 5\ntrain_00002.jpg 4\n\ntest_0001.jpg 7\n")
    for name, codes in {"train_00001": "1\n0\n2", "train_00002": "2\n1\n4", "test_0001": "0\n2\n0"}.items():
        write(f"basic/Annotation/manual/{name}_manu_attri.txt", f"{POINTS}{codes}\n")
    draw("basic/Image/original/train_00001.jpg", size=(32, 20))
    return draw(
        *(f"basic/Image/aligned/{n}_aligned.jpg" for n in ("train_00001", "train_00002", "test_0001"))
    )


def test_basic_set(rafdb, rows):
    samples = read("rafdb", rafdb, size=16)
    assert rows(samples, "gender", "ethnicity", "age") == [
        ("basic/Image/aligned/test_0001_aligned.jpg", "neutral", "test", None, "male", "asian", "0-3"),
        ("basic/Image/aligned/train_00001_aligned.jpg", "sadness", "train", None, "female", "white", "20-39"),
        (
            "basic/Image/aligned/train_00002_aligned.jpg",
            "happiness",
            "train",
            None,
            "undisclosed",
            "black",
            "70+",
        ),
    ]
    assert samples.name == "RAF-DB basic"
    assert samples.skipped == {}
    inside = read("rafdb", rafdb / "basic", attributes=False)
    assert len(inside) == 3
    assert inside.groups == {}


def test_the_other_spelling_of_the_list(rafdb):
    (rafdb / LIST).rename(rafdb / "basic/EmoLabel/list_partition_label.txt")
    assert len(read("rafdb", rafdb)) == 3


def test_original_pictures(rafdb):
    with pytest.raises(DataError, match="missing picture"):
        read("rafdb", rafdb, pictures="original")
    samples = read("rafdb", rafdb, pictures="original", unreadable="skip")
    assert samples.source.tolist() == ["basic/Image/original/train_00001.jpg"]
    assert samples.skipped == {MISSING: 2}


def test_compound_set(draw, write):
    names = [f"train_{code:05}" for code in range(1, 12)]
    write(
        "compound/EmoLabel/list_patition_label.txt",
        "".join(f"{n}.jpg {code}\n" for code, n in enumerate(names, 1)),
    )
    root = draw(*(f"compound/Image/aligned/{name}_aligned.jpg" for name in names))
    samples = read("rafdb", root, part="compound", attributes=False)
    assert samples.labels == COMPOUND
    assert samples.label.tolist() == list(range(11))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train_00001.jpg 8", "unknown code '8'"),
        ("train_00001.jpg 0", "unknown code '0'"),
        ("train_00001.jpg", "names no picture and code"),
        ("dev_00001.jpg 1", "names no picture and code"),
        ("../train_00001.jpg 1", "names no picture and code"),
    ],
)
def test_lines_that_are_wrong(rafdb, write, line, message):
    path = write(LIST, f"train_00002.jpg 4\n{line}\n")
    with pytest.raises(DataError, match=message) as caught:
        read("rafdb", rafdb)
    assert caught.value.where == f"{path}:2"
    assert "owner" in caught.value.cure


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ("3\n0\n0", "unknown gender '3'"),
        ("0\n3\n0", "unknown race"),
        ("0\n0\n5", "unknown age"),
        ("0\n0", "12 words"),
    ],
)
def test_attributes_that_are_wrong(rafdb, write, codes, message):
    path = write("basic/Annotation/manual/test_0001_manu_attri.txt", POINTS + codes)
    with pytest.raises(DataError, match=message) as caught:
        read("rafdb", rafdb)
    assert caught.value.where == str(path)


def test_what_is_missing_is_named(rafdb, tmp_path):
    (rafdb / "basic/Annotation/manual/test_0001_manu_attri.txt").unlink()
    with pytest.raises(DataError, match="No such file"):
        read("rafdb", rafdb)
    (rafdb / "basic/Annotation").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="attributes=false"):
        read("rafdb", rafdb)
    with pytest.raises(DataError, match="no EmoLabel in the folder"):
        read("rafdb", tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="basic, compound"):
        read("rafdb", rafdb, part="both")
    with pytest.raises(ConfigError, match="aligned, original"):
        read("rafdb", rafdb, pictures="cropped")


HEADER = "name,gender,race,age,expression\n"


@pytest.fixture
def protocol(write):
    write("fair/train.csv", f"{HEADER}train_00001.jpg,Unsure,Indian,04-19,Sadness\n")
    write("fair/test.csv", f"{HEADER}train_00002_aligned.jpg,Female,White,70+,Happiness\n")
    return write("fair/valid.csv", HEADER).parent


def test_fair_protocol(rafdb, protocol, rows):
    samples = read("rafdb", rafdb, protocol=protocol)
    assert [row[1:] for row in rows(samples, "gender", "ethnicity", "age")] == [
        ("sadness", "train", None, "undisclosed", "indian", "4-19"),
        ("happiness", "test", None, "female", "white", "70+"),
    ]
    assert samples.skipped == {NOT_LISTED: 1}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("train_00009.jpg,Male,White,70+,Fear", "there is no picture 'train_00009.jpg'"),
        ("train_00001.jpg,Male,White,70+,Fear", "a second time"),
        ("test_0001.jpg,Other,White,70+,Fear", "unknown gender 'Other'"),
        ("test_0001.jpg,Male,Latino,70+,Fear", "unknown race 'Latino'"),
        ("test_0001.jpg,Male,White,71,Fear", "unknown age '71'"),
        ("test_0001.jpg,Male,White,70+,Awe", "unknown label 'Awe'"),
    ],
)
def test_protocols_that_are_wrong(rafdb, protocol, write, row, message):
    path = write("fair/valid.csv", f"{HEADER}{row}\n")
    with pytest.raises(DataError, match=message) as caught:
        read("rafdb", rafdb, protocol=protocol)
    assert caught.value.where == f"{path}:2"


def test_leaving_classes_out(rafdb):
    samples = read("rafdb", rafdb, leave_out=["neutral"], labels=["happiness", "sadness", "fear"])
    assert samples.label.tolist() == [1, 0]
    assert samples.skipped == {"class left out on request: neutral": 1}
    with pytest.raises(DataError, match=r"leave_out=\[neutral\]"):
        read("rafdb", rafdb, labels=["happiness", "sadness"])
    with pytest.raises(ConfigError, match="unknown class 'boredom'"):
        read("rafdb", rafdb, leave_out=["boredom"])
    with pytest.raises(DataError, match="no picture of RAF-DB basic is left"):
        read("rafdb", rafdb, leave_out=["neutral", "happiness", "sadness"])
