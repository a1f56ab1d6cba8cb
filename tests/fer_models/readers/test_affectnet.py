"""AffectNet in both of its releases: codes without an expression, face boxes, values that are text."""

import numpy as np
import pytest

from fer_models.errors import DataError
from fer_models.readers import read
from fer_models.readers.affectnet import COLUMNS, NO_ANNOTATION, NO_BOX
from fer_models.readers.pictures import UNDECODABLE
from fer_models.readers.protocol import NOT_LISTED

LISTS = "Manually_Annotated_file_lists"
IMAGES = "Manually_Annotated_Images"


def row(name, code, box="0,0,16,16"):
    return f"{name},{box},1;2;3;4,{code},0.1,-0.2\n"


@pytest.fixture
def csv_release(draw, write):
    text = ",".join(COLUMNS) + "\n"
    text += row("1/a.jpg", 3) + row("1/b.jpg", 8) + row("2/c.jpg", 7) + row("2/d.jpg", 10)
    text += row("2/e.jpg", 0, "NULL,NULL,NULL,NULL") + row("2/f.jpg", 9) + row("2/f.jpg", 1, "0,0,-1,-1")
    write(f"{LISTS}/training.csv", text)
    write(f"{LISTS}/validation.csv", row("9/v.jpg", 6))  # comes without a header
    return draw(
        f"{IMAGES}/1/a.jpg", f"{IMAGES}/2/c.jpg", f"{IMAGES}/9/v.jpg", f"{IMAGES}/2/e.jpg", size=(48, 16)
    )


def test_csv_release(csv_release, rows):
    samples = read("affectnet", csv_release, size=16)
    assert rows(samples) == [
        (f"{IMAGES}/1/a.jpg", "surprise", "train", None),
        (f"{IMAGES}/2/c.jpg", "contempt", "train", None),
        (f"{IMAGES}/9/v.jpg", "anger", "test", None),
    ]
    assert samples.skipped == {
        "AffectNet code 8: none of the expressions": 1,
        "AffectNet code 9: annotator uncertain": 1,
        "AffectNet code 10: no face": 1,
        NO_BOX: 2,
    }


def test_the_face_is_cut_out(csv_release):
    cut = read("affectnet", csv_release, size=16)
    middle = read("affectnet", csv_release, size=16, crop=False, unreadable="skip")
    assert len(middle) == 4, "no box is needed, and f.jpg is missing"
    assert cut.pictures[0, :8, 1:4].min() > 200, "the bar on the left is in the box"
    assert middle.pictures[0, :8].max() < 200, "and not in the middle"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (row("1/a.jpg", 11), "unknown expression '11'"),
        (row("1/a.jpg", ""), "unknown expression ''"),
        (row("../a.jpg", 1), "leaves the folder"),
        (row("1/a.jpg", 1, "x,0,16,16"), "no face box: x 0 16 16"),
        ("1/a.jpg,1\n", "2 cells for 9 columns"),
    ],
)
def test_rows_that_are_wrong(csv_release, write, bad, message):
    path = write(f"{LISTS}/validation.csv", row("9/v.jpg", 6) + bad)
    with pytest.raises(DataError, match=message) as caught:
        read("affectnet", csv_release)
    assert caught.value.where == f"{path}:2"


@pytest.fixture
def npy_release(draw):
    root = draw(
        "train_set/images/10.jpg", "train_set/images/9.jpg", "val_set/images/10.jpg", "val_set/images/4.jpg"
    )
    values = {"train_set/9": "1", "train_set/10": np.int64(8), "val_set/10": "5", "val_set/7": 2}
    for name, value in values.items():
        folder, stem = name.split("/")
        (root / folder / "annotations").mkdir(exist_ok=True)
        np.save(root / folder / "annotations" / f"{stem}_exp.npy", np.array(value))
    return root


def test_npy_release(npy_release, rows):
    with pytest.raises(DataError, match="missing picture"):
        read("affectnet", npy_release)
    samples = read("affectnet", npy_release, unreadable="skip")
    assert rows(samples) == [
        ("train_set/images/9.jpg", "happiness", "train", None),
        ("val_set/images/10.jpg", "disgust", "test", None),
    ]
    assert samples.skipped == {
        "AffectNet code 8: none of the expressions": 1,
        "missing picture": 1,
        NO_ANNOTATION: 1,
    }
    (npy_release / "val_set/images/10.jpg").write_bytes(b"broken")
    assert read("affectnet", npy_release, unreadable="skip").skipped[UNDECODABLE] == 1


@pytest.mark.parametrize("value", ["anger", np.array([1, 2]), 11, 2.5])
def test_annotations_that_are_wrong(npy_release, value):
    path = npy_release / "train_set/annotations/9_exp.npy"
    np.save(path, np.array(value))
    with pytest.raises(DataError, match="expression") as caught:
        read("affectnet", npy_release)
    assert caught.value.where == str(path)


def test_objects_are_not_unpacked(npy_release):
    path = npy_release / "train_set/annotations/9_exp.npy"
    np.save(path, np.array({"code": 1}), allow_pickle=True)
    with pytest.raises(DataError, match="no expression code"):
        read("affectnet", npy_release)


def test_fair_protocol_tells_pictures_of_one_number_apart(npy_release, write, rows):
    header = "name,expression,age,gender,race\n"
    write("fair/train.csv", f"{header}val_set/10.jpg,Disgust,00-02,Male,Asian\n")
    write("fair/valid.csv", f"{header}train_set/9.jpg,Happiness,30-39,Female,Black\n")
    path = write("fair/test.csv", header)
    samples = read("affectnet", npy_release, protocol=npy_release / "fair", unreadable="skip")
    assert rows(samples, "gender", "ethnicity", "age") == [
        ("train_set/images/9.jpg", "happiness", "validation", None, "female", "black", "30-39"),
        ("val_set/images/10.jpg", "disgust", "train", None, "male", "asian", "0-2"),
    ]
    assert samples.skipped[NOT_LISTED] == 1
    np.save(npy_release / "train_set/annotations/10_exp.npy", np.array(3))
    path.write_text(f"{header}10.jpg,Fear,70+,Male,Asian\n")
    with pytest.raises(DataError, match=r"10\.jpg fits 2 pictures"):
        read("affectnet", npy_release, protocol=npy_release / "fair")


def test_another_folder_is_told_what_to_give(tmp_path):
    with pytest.raises(DataError, match="or train_set and val_set"):
        read("affectnet", tmp_path)
