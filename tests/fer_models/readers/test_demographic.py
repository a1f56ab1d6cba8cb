"""UTKFace and FairFace: groups from names and csv files, and no expression."""

import pytest

from fer_models.errors import DataError
from fer_models.labels import UNLABELLED
from fer_models.readers import read
from fer_models.readers.demographic import LACKS_A_FIELD


def test_utkface(draw, rows):
    root = draw(
        "part1/26_1_0_20170104235512345.jpg",
        "part1/70_0_4_20170110140000000.jpg.chip.jpg",
        "part2/39_1_20170116174525125.jpg.chip.jpg",  # lacks the race, as some do
        "part2/9_0_3_20170116174525126 .jpg",
        "part2/53__0_20170116184028385.jpg",  # an empty gender
    )
    samples = read("utkface", root)
    assert samples.labels == (UNLABELLED,)
    assert [row[1:] for row in rows(samples, "gender", "ethnicity", "age")] == [
        (UNLABELLED, "train", None, "female", "white", "18-29"),
        (UNLABELLED, "train", None, "male", "other", "60+"),
        (UNLABELLED, "train", None, "male", "indian", "0-17"),
    ]
    assert samples.skipped == {LACKS_A_FIELD: 2}


@pytest.mark.parametrize(
    ("name", "message"), [("26_3_0_2017.jpg", "unknown gender '3'"), ("26_1_5_2017.jpg", "unknown race '5'")]
)
def test_utkface_codes_that_are_unknown(draw, name, message):
    root = draw("26_1_0_2017.jpg", name)
    with pytest.raises(DataError, match=message) as caught:
        read("utkface", root)
    assert caught.value.where == str(root / name)


HEADER = "file,age,gender,race,service_test\n"


@pytest.fixture
def fairface(draw, write):
    write(
        "fairface_label_train.csv",
        f"{HEADER}train/1.jpg,50-59,Male,East Asian,True\ntrain/2.jpg,more than 70,Female,Latino_Hispanic,False\n",
    )
    write("fairface_label_val.csv", f"{HEADER}val/1.jpg,0-2,Female,Middle Eastern,False\n")
    return draw("train/1.jpg", "train/2.jpg", "val/1.jpg")


def test_fairface(fairface, rows):
    samples = read("fairface", fairface)
    assert rows(samples, "gender", "ethnicity", "age") == [
        ("train/1.jpg", UNLABELLED, "train", None, "male", "east asian", "50-59"),
        ("train/2.jpg", UNLABELLED, "train", None, "female", "latino", "70+"),
        ("val/1.jpg", UNLABELLED, "test", None, "female", "middle eastern", "0-2"),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("val/2.jpg,0-2,Unknown,White,False", "unknown gender 'Unknown'"),
        ("val/2.jpg,0-3,Male,White,False", "unknown age '0-3'"),
        ("val/2.jpg,0-2,Male,Asian,False", "unknown race 'Asian'"),
        ("train/2.jpg,0-2,Male,White,False", "lies in another part"),
        ("/val/2.jpg,0-2,Male,White,False", "leaves the folder"),
    ],
)
def test_fairface_rows_that_are_wrong(fairface, write, line, message):
    path = write("fairface_label_val.csv", f"{HEADER}val/1.jpg,0-2,Female,White,False\n{line}\n")
    with pytest.raises(DataError, match=message) as caught:
        read("fairface", fairface)
    assert caught.value.where == f"{path}:3"


def test_fairface_without_its_lists(tmp_path):
    with pytest.raises(DataError, match="no fairface_label_train"):
        read("fairface", tmp_path)
