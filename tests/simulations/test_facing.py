"""Faces out of raw pictures: cropped with what is known of them, and nothing left out without being told."""

import csv
import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from fer_models import errors
from simulations.faces import FacesConfig, draw
from simulations.facing import face_files


@pytest.fixture(scope="module")
def faces():
    plain = FacesConfig(count=8, size=96, channels=3, pose=0, light=0, occlusion=0, noise=0)
    return draw(plain, 0).pictures


@pytest.fixture
def raw(tmp_path, faces):
    """Scenes of one, of two and of no face, a damaged file, and one that is not there."""
    folder = tmp_path / "raw"
    (folder / "images").mkdir(parents=True)

    def save(name, *placed):
        scene = np.full((200, 300, 3), np.median(faces[0][:6].reshape(-1, 3), 0).astype(np.uint8), np.uint8)
        for face, left in placed:
            scene[60:156, left : left + 96] = face
        Image.fromarray(scene).save(folder / "images" / name)

    save("one.png", (faces[0], 100))
    save("two.jpg", (faces[0], 20), (faces[1], 180))
    save("none.png")
    (folder / "images" / "broken.png").write_bytes(b"no picture")
    rows = ["file_name,label,subject,gender,note"]
    rows += [f"images/{name},fear,p-{i},female,n{i}" for i, name in enumerate(NAMES)]
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")
    return folder


NAMES = ("one.png", "two.jpg", "none.png", "broken.png", "gone.png")


def rows(path):
    return list(csv.DictReader(io.StringIO(path.read_text())))


def test_faces_are_cropped_and_every_picture_is_accounted_for(raw, fedfer, tmp_path, faces):
    out = tmp_path / "out"
    code, told, err = fedfer("data", "prepare", str(raw), str(out), "size=64")
    assert (code, err) == (0, "")
    assert "2 faces of 5 pictures" in told
    for words in ("no face found: 1, such as images/none.png", "missing picture: 1", "unreadable picture: 1"):
        assert words in told
    assert "1 pictures have several faces" in told
    assert "3 rows of metadata.csv have no face" in told
    report = {row["file_name"]: row for row in rows(out / "faces.csv")}
    assert set(report) == {f"images/{name}" for name in NAMES}
    assert report["images/two.jpg"]["faces"] == "2"
    assert report["images/gone.png"]["outcome"] == "missing picture"
    kept = rows(out / "metadata.csv")
    assert [row["file_name"] for row in kept] == ["images/one.png", "images/two.jpg.png"]
    assert [(row["subject"], row["gender"], row["note"]) for row in kept] == [
        ("p-0", "female", "n0"),
        ("p-1", "female", "n1"),
    ]
    with Image.open(out / "images" / "one.png") as image:
        assert image.size == (64, 64)
        face = np.asarray(image.convert("L"), float)
    original = np.asarray(Image.fromarray(faces[0]).convert("L").resize((64, 64)), float)
    assert np.corrcoef(face.ravel(), original.ravel())[0, 1] > 0.3


def test_pictures_whose_faces_would_have_one_name_keep_both(fedfer, tmp_path, faces):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for i, name in enumerate(("a.jpg", "a.jpg.png", "A.JPG.2.png", "a.bmp")):
        Image.fromarray(faces[i]).save(source / name)
    assert fedfer("data", "prepare", str(source), str(out), "faces=whole", "size=32")[0] == 0
    names = {row["file_name"]: row["face_file"] for row in rows(out / "faces.csv")}
    assert names == {
        "a.jpg": "a.jpg.3.png",
        "a.jpg.png": "a.jpg.png",
        "A.JPG.2.png": "A.JPG.2.png",
        "a.bmp": "a.bmp.png",
    }
    for i, name in enumerate(("a.jpg", "a.jpg.png", "A.JPG.2.png", "a.bmp")):
        with Image.open(out / names[name]) as image:
            own = np.asarray(Image.fromarray(faces[i]).resize((32, 32)), float)
            assert np.abs(np.asarray(image, float) - own).mean() < 8


def test_what_is_prepared_is_read_as_a_data_set(raw, fedfer, tmp_path):
    out = tmp_path / "out"
    fedfer("data", "prepare", str(raw), str(out), "size=48", "channels=1")
    code, told, _ = fedfer("data", "validate", str(out))
    assert (code, "2 rows, nothing to correct" in told) == (0, True)


def test_a_killed_run_goes_on(raw, fedfer, tmp_path):
    out = tmp_path / "out"
    words = ["data", "prepare", str(raw), str(out)]
    fedfer(*words)
    wanted = {
        path.name: path.read_bytes()
        for path in out.rglob("*")
        if path.is_file() and path.name != "state.jsonl"
    }
    lines = (out / "state.jsonl").read_text().splitlines(keepends=True)
    (out / "state.jsonl").write_text(lines[0] + lines[1][:20])  # killed while it wrote the second line
    (out / "metadata.csv").unlink()
    (out / "images" / "one.png").touch()
    before = (out / "images" / "one.png").stat().st_mtime_ns
    assert fedfer(*words)[0] == 0
    assert (out / "images" / "one.png").stat().st_mtime_ns == before
    found = {
        path.name: path.read_bytes()
        for path in out.rglob("*")
        if path.is_file() and path.name != "state.jsonl"
    }
    assert found == wanted


def test_faces_that_were_asked_for_otherwise_are_not_mixed(raw, fedfer, refused, tmp_path):
    out = tmp_path / "out"
    fedfer("data", "prepare", str(raw), str(out), "size=48")
    found = fedfer("data", "prepare", str(raw), str(out), "size=64")
    assert refused(found, errors.RunFolderError, "asked for otherwise")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    found = fedfer("data", "prepare", str(raw), str(tmp_path / "full"))
    assert refused(found, errors.RunFolderError, "holds something else")


def test_one_may_choose_what_becomes_of_several_and_of_none(raw, fedfer, tmp_path):
    out = tmp_path / "out"
    assert fedfer("data", "prepare", str(raw), str(out), "several=skip", "missing=whole")[0] == 0
    report = {row["file_name"]: row["outcome"] for row in rows(out / "faces.csv")}
    assert report["images/two.jpg"] == "several faces"
    assert report["images/none.png"] == "no face found, taken whole"


def test_a_folder_without_a_table(raw, fedfer, tmp_path):
    (raw / "metadata.csv").unlink()
    out = tmp_path / "out"
    assert fedfer("data", "prepare", str(raw), str(out))[0] == 0
    assert {path.name for path in (out / "images").iterdir()} == {"one.png", "two.jpg.png"}
    assert not (out / "metadata.csv").exists()
    facts = json.loads((out / "prepare.json").read_text())
    assert (facts["faces"], facts["size"]) == ("haar", 112)


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        (["RAW"], errors.ConfigError, "needs two folders"),
        (["none", "out"], errors.DataError, "Name the folder that holds the pictures"),
        (["RAW", "RAW/out"], errors.ConfigError, "lie among the pictures"),
        (["RAW", "out", "sise=4"], errors.ConfigError, "Did you mean size?"),
        (["RAW", "out", "size=4"], errors.ConfigError, "Give 8 to 1024 pixels"),
        (["RAW", "out", "size=big"], errors.ConfigError, "no number"),
        (["RAW", "out", "several=all"], errors.ConfigError, "unknown several"),
        (["empty", "out"], errors.DataError, "holds no picture"),
        (["walls", "out"], errors.DataError, "no face is found in any picture"),
    ],
)
def test_mistakes(raw, fedfer, refused, tmp_path, monkeypatch, words, kind, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "walls").mkdir()
    shutil.copy(raw / "images" / "none.png", tmp_path / "walls")
    code, _, err = fedfer("data", "prepare", *(word.replace("RAW", str(raw)) for word in words))
    assert code == kind.exit_code
    assert said in err


def test_a_picture_that_came_later_takes_no_face_of_an_earlier_run():
    assert face_files(["a.jpg", "a.jpg.png"]) == {"a.jpg": "a.jpg.2.png", "a.jpg.png": "a.jpg.png"}
    later = face_files(["a.jpg", "a.jpg.png", "b.jpg"], {"a.jpg": "a.jpg.png"})
    assert later == {"a.jpg": "a.jpg.png", "a.jpg.png": "a.jpg.png.2.png", "b.jpg": "b.jpg.png"}
