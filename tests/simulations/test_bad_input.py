"""Bad pictures through the command line: one line with the place and the cure, and no run folder."""

import numpy as np
import pytest
from PIL import Image

from fer_models import errors
from fer_models.labels import FERPLUS_COLUMNS

TINY = ("model=cnn_tiny", "partition.sites=2", "server.rounds=1", "engine.workers=1")


def picture(path, number=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(number)
    Image.fromarray(rng.integers(0, 255, (48, 48), np.uint8)).save(path)


def imagefolder(root, rows=40, labels=("happy", "sad")):
    lines = ["file_name,label"]
    for number in range(rows):
        picture(root / f"{number}.png", number)
        lines.append(f"{number}.png,{labels[number % len(labels)]}")
    (root / "metadata.csv").write_text("\n".join([*lines, ""]))


def edit(root, old, new):
    path = root / "metadata.csv"
    path.write_text(path.read_text().replace(old, new))


SPOILED = {
    "missing folder": (lambda root: root.rename(root.with_name("elsewhere")), "Set data.root"),
    "missing table": (lambda root: (root / "metadata.csv").unlink(), "metadata.csv"),
    "wrong column": (lambda root: edit(root, "file_name,label", "file_name,emotion"), "label"),
    "unknown label": (lambda root: edit(root, "7.png,sad", "7.png,bored"), "metadata.csv:9). Use one of"),
    "missing picture": (lambda root: (root / "7.png").unlink(), "7.png"),
    "unreadable picture": (lambda root: (root / "7.png").write_bytes(b"no picture"), "7.png"),
    "torn picture": (lambda root: (root / "7.png").write_bytes((root / "7.png").read_bytes()[:200]), "7.png"),
    "one class": (lambda root: edit(root, ",sad", ",happy"), "all pictures show happiness (set)"),
    "no rows": (lambda root: (root / "metadata.csv").write_text("file_name,label\n"), ""),
}


@pytest.mark.parametrize("name", SPOILED)
@pytest.mark.parametrize("command", [["simulate", *TINY], ["data", "check"]], ids=["simulate", "check"])
def test_bad_pictures_are_one_line_with_the_place(fedfer, refused, tmp_path, name, command):
    spoil, said = SPOILED[name]
    imagefolder(tmp_path / "set")
    spoil(tmp_path / "set")
    words = ["data=imagefolder", f"data.root={tmp_path / 'set'}", "--run-dir", str(tmp_path / "run")]
    found = fedfer(*command, *words)
    if name == "one class" and command[0] == "data":
        assert found[0] in (0, 3)  # a table to look at, with what is wrong in it
        assert "Traceback" not in found[2]
        return
    assert refused(found, errors.DataError, said)
    assert not (tmp_path / "run").exists()


def test_whole_pictures_run(fedfer, tmp_path):
    """The same folder, unspoiled."""
    imagefolder(tmp_path / "set")
    words = ["data=imagefolder", f"data.root={tmp_path / 'set'}", "--run-dir", str(tmp_path / "run")]
    assert fedfer("simulate", *TINY, *words)[::2] == (0, "")
    assert fedfer("data", "check", *words[:2])[::2] == (0, "")


def fer2013(root, codes="3642053642", **spoiled):
    root.mkdir()
    rows = ["emotion,pixels,Usage"]
    votes = [f"Usage,Image name,{','.join(FERPLUS_COLUMNS)}"]
    for number, code in enumerate(codes):
        pixels = " ".join(map(str, np.random.default_rng(number).integers(0, 255, 48 * 48)))
        rows.append(f"{code},{pixels},Training")
        votes.append(f"Training,fer{number:07d}.png,0,9,1,0,0,0,0,0,0,0")
    rows, votes = spoiled.get("rows", list)(rows), spoiled.get("votes", list)(votes)
    (root / "fer2013.csv").write_text("\n".join([*rows, ""]))
    (root / "fer2013new.csv").write_text("\n".join([*votes, ""]))


@pytest.mark.parametrize(
    ("spoiled", "said"),
    [
        ({"rows": lambda rows: [rows[0].replace("pixels", "picture"), *rows[1:]]}, "pixels"),
        ({"rows": lambda rows: [rows[0], "9" + rows[1][1:], *rows[2:]]}, "fer2013.csv:2"),
        ({"rows": lambda rows: [*rows[:4], rows[4].replace(" ", " 999 ", 1), *rows[5:]]}, "fer2013.csv:5"),
        ({"votes": lambda votes: votes[:-2]}, "rows"),
        ({}, "no training picture shows"),
    ],
    ids=["wrong column", "unknown label", "bad pixels", "other rows", "a class nobody has"],
)
def test_a_bad_fer2013_is_one_line_with_the_place(fedfer, refused, tmp_path, spoiled, said):
    fer2013(tmp_path / "set", **spoiled)
    words = [
        "experiment=fer2013",
        f"data.root={tmp_path / 'set'}",
        "partition.sites=2",
        "partition.minimum=1",
    ]
    found = fedfer("compare", *words, "--run-dir", str(tmp_path / "run"))
    assert refused(found, errors.DataError, said)
    assert not (tmp_path / "run").exists()


def test_the_check_ends_with_3_when_it_finds_an_error(fedfer, tmp_path):
    imagefolder(tmp_path / "set")
    edit(tmp_path / "set", "file_name,label", "file_name,label,split")
    text = (tmp_path / "set" / "metadata.csv").read_text().splitlines()
    lines = [text[0], *(f"{line},{'test' if i % 4 == 0 else 'train'}" for i, line in enumerate(text[1:]))]
    (tmp_path / "set" / "metadata.csv").write_text("\n".join([*lines, ""]))
    words = ["data", "check", "data=imagefolder", f"data.root={tmp_path / 'set'}"]
    assert fedfer(*words)[0] == 0
    (tmp_path / "set" / "0.png").write_bytes((tmp_path / "set" / "3.png").read_bytes())
    code, out, err = fedfer(*words)
    assert (code, err) == (3, "")
    assert "error" in out
