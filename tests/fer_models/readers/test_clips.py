"""Clips of films: lists of the owners and of others, folds, and annotators' votes in spreadsheets."""

import zipfile
from xml.sax.saxutils import escape

import pytest

from fer_models.errors import ConfigError, DataError
from fer_models.readers import read
from fer_models.readers.clips import MAFW_WORDS, NO_VOTES
from fer_models.readers.sequences import EMPTY
from fer_models.readers.sheets import sheet

SPACE = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"


def write_sheet(path, rows):
    """Write a spreadsheet as programs do: words as shared strings, numbers as numbers, empty cells left out."""
    words = sorted({cell for row in rows for cell in row if isinstance(cell, str)})
    lines = []
    for number, row in enumerate(rows, 1):
        cells = []
        for at, cell in enumerate(row):
            kind, text = (' t="s"', words.index(cell)) if isinstance(cell, str) else ("", cell)
            if cell is not None:
                cells.append(f'<c r="{chr(65 + at)}{number}"{kind}><v>{text}</v></c>')
        lines.append(f'<row r="{number}">{"".join(cells)}</row>')
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        shared = "".join(f"<si><t>{escape(word)}</t></si>" for word in words)
        archive.writestr("xl/sharedStrings.xml", f'<sst xmlns="{SPACE}">{shared}</sst>')
        data = f'<worksheet xmlns="{SPACE}"><sheetData>{"".join(lines)}</sheetData></worksheet>'
        archive.writestr("xl/worksheets/sheet1.xml", data)
    return path


def test_a_sheet_is_read_cell_by_cell(tmp_path):
    path = write_sheet(tmp_path / "a.xlsx", [["clip", "a & b"], ["00001.mp4", None, 0.5], []])
    assert sheet(path) == [["clip", "a & b"], ["00001.mp4", "", "0.5"], []]


@pytest.mark.parametrize("kind", ["no zip", "no sheet", "no xml", "entities"])
def test_files_that_are_no_sheets(tmp_path, kind):
    path = tmp_path / "a.xlsx"
    text = {"no xml": "<worksheet>", "entities": '<!DOCTYPE a [<!ENTITY b "c">]><a/>'}.get(kind, "")
    if kind == "no zip":
        path.write_text("version https://git-lfs.github.com/spec/v1")
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("other" if kind == "no sheet" else "xl/worksheets/sheet1.xml", text)
    with pytest.raises(DataError, match="no table of a spreadsheet") as caught:
        sheet(path)
    assert caught.value.where == str(path)


def test_dfew(draw, write, rows):
    root = draw(*(f"Clip/clip_224x224/00007/{n}.jpg" for n in range(1, 4)), "Clip/clip_224x224/00123/1.jpg")
    write("EmoLabel_DataSplit/train(single-labeled)/set_2.csv", "video_name,label\n7,1\n9,4\n")
    path = write("EmoLabel_DataSplit/test(single-labeled)/set_2.csv", "video_name,label\n00123,7\n")
    samples = read("dfew", root, fold=2)
    assert rows(samples) == [
        ("Clip/clip_224x224/00007/2.jpg", "happiness", "train", "Clip/clip_224x224/00007"),
        ("Clip/clip_224x224/00123/1.jpg", "fear", "test", "Clip/clip_224x224/00123"),
    ]
    assert samples.skipped == {EMPTY: 1}
    assert len(read("dfew", root, fold=2, frames=3)) == 4
    for row, message in {"00123,0": "unknown label '0'", "../1,2": "no clip '../1'"}.items():
        path.write_text(f"video_name,label\n{row}\n")
        with pytest.raises(DataError, match=message) as caught:
            read("dfew", root, fold=2)
        assert caught.value.where == f"{path}:2"
    with pytest.raises(DataError, match=r"no set_1\.csv"):
        read("dfew", root)
    with pytest.raises(ConfigError, match="fold is 6"):
        read("dfew", root, fold=6)


PREFIX = "/data/somebody/FERV39K/2_ClipsforFaceCrop"


def test_ferv39k(draw, write, rows):
    root = draw("2_ClipsforFaceCrop/Terror/Neutral/0026/1.jpg", "2_ClipsforFaceCrop/War/Angry/0001/1.jpg")
    write("FERV39K_train.txt", f"{PREFIX}/Terror/Neutral/0026 12 2\n")
    path = write("FERV39K_test.txt", f"{PREFIX}/War/Angry/0001 9 3\n")
    samples = read("ferv39k", root)
    assert [row[1:3] + row[4:] for row in rows(samples, "scene")] == [
        ("neutral", "train", "Terror"),
        ("anger", "test", "War"),
    ]
    wrong = {
        f"{PREFIX}/War/Angry/0001 9 4": "the list says surprise, the folder Angry",
        f"{PREFIX}/War/Angry/0001 9 11": "unknown code '11'",
        f"{PREFIX}/War/Angry/0001 9": "names no clip",
        "Angry/0001 9 3": "names no clip",
    }
    for line, message in wrong.items():
        path.write_text(line)
        with pytest.raises(DataError, match=message) as caught:
            read("ferv39k", root)
        assert caught.value.where == f"{path}:1"


def test_mafw(draw, write, rows):
    root = draw("data/faces/00001/1.jpg", "data/faces/00215/1.jpg")
    write("MAFW_set_1_train.txt", "/data/somebody/MAFW/data/faces/00001 65 7\n\n")
    write("MAFW_set_1_test.txt", "/data/somebody/MAFW/data/faces/00215 87 10\n")
    samples = read("mafw", root)
    assert samples.labels == ("contempt", "disappointment")
    assert [row[2] for row in rows(samples)] == ["train", "test"]


def test_ferv39k_with_the_owner_s_lists(draw, write, rows):
    root = draw("2_ClipsforFaceCrop/Terror/Neutral/0026/1.jpg", "2_ClipsforFaceCrop/War/Angry/0001/1.jpg")
    write("4_setups/All_scenes/train_All.csv", "Terror/Neutral/0026 Neutral\n")
    path = write("4_setups/All_scenes/test_All.csv", "War/Angry/0001 Angry\n")
    samples = read("ferv39k", root)
    assert [row[1:3] for row in rows(samples)] == [("neutral", "train"), ("anger", "test")]
    assert samples.subject_is == "clip"
    assert samples.people is None
    for line, message in {
        "War/Angry/0001 Sad": "the list says sadness",
        "War/Angry/0001 3": "unknown label '3'",
    }.items():
        path.write_text(line)
        with pytest.raises(DataError, match=message):
            read("ferv39k", root)


def test_dfew_votes(draw, write):
    root = draw(*(f"Clip/clip_224x224/{n:05}/1.jpg" for n in (7, 9, 123)))
    write("EmoLabel_DataSplit/train(single_labeled)/set_1.csv", "video_name,label\n7,1\n9,2\n")
    write("EmoLabel_DataSplit/test(single_labeled)/set_1.csv", "video_name,label\n123,7\n")
    header = ["1happy", "2sad", "3neutral", "4angry", "5surprise", "6disgust", "7fear", "order", "label"]
    kept = [[8, 1, 1, 0, 0, 0, 0, 7, 1], [0, 0, 2, 0, 0, 0, 8, "00123", 7]]
    path = root / "Annotation/annotation.xlsx"
    for rows in ([header, *kept], kept):
        write_sheet(path, rows)
        samples = read("dfew", root, votes=True)
        assert samples.labels == ("happiness", "fear")
        assert samples.votes.tolist() == [[8, 0], [0, 8]]
        assert samples.skipped == {NO_VOTES: 1}
    assert read("dfew", root).votes is None
    for row, message in {
        (8, 1, 1, 0, 0, 0, "x", 7, 1): "no votes",
        (8, 1): "2 cells",
        (-1,) * 8: "no votes",
    }.items():
        write_sheet(path, [header, list(row)])
        with pytest.raises(DataError, match=message) as caught:
            read("dfew", root, votes=True)
        assert caught.value.where == f"{path}, row 2"
    path.unlink()
    with pytest.raises(DataError, match="leave votes=true out"):
        read("dfew", root, votes=True)


def test_mafw_with_the_owner_s_lists_and_votes(draw, write, rows):
    root = draw("data/faces/00001/1.jpg", "data/faces/00215/1.jpg", "data/faces/00216/1.jpg")
    base = "Train & Test Set/single/no_caption/set_3"
    write(f"{base}/train.txt", "00001.mp4 contempt\n00216.mp4 anxiety\n")
    path = write(f"{base}/test.txt", "00215.mp4 disappointment\n")
    samples = read("mafw", root, fold=3)
    assert [row[1:3] for row in rows(samples)] == [
        ("contempt", "train"),
        ("disappointment", "test"),
        ("anxiety", "train"),
    ]
    header = ["clip", "invalid", *MAFW_WORDS]
    shares = {"00001.mp4": {"contempt": 7, "anger": 4}, "00215.mp4": {"disappointment": 11}, "00216.mp4": {}}
    table = [[clip, -1, *(told.get(name, 0) for name in MAFW_WORDS)] for clip, told in shares.items()]
    file = write_sheet(root / "Labels/annotation.xlsx", [header, *table])
    voted = read("mafw", root, fold=3, votes=True, labels=["anger", "contempt", "disappointment"])
    assert voted.votes.tolist() == [[4, 7, 0], [0, 0, 11]]
    assert voted.skipped == {NO_VOTES: 1}
    write_sheet(file, [["clip", "anger"], *table])
    with pytest.raises(DataError, match="no column 'neutral'"):
        read("mafw", root, fold=3, votes=True)
    path.write_text("00215.mp4 3")
    with pytest.raises(DataError, match="unknown code or word '3'"):
        read("mafw", root, fold=3)
