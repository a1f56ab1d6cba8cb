"""FER2013 as csv with FER+ votes: fixtures in the official format, with drawn shapes for faces."""

import gzip
import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from fer_models.errors import ConfigError, DataError
from fer_models.labels import EXPRESSIONS, FERPLUS_COLUMNS, SEVEN
from fer_models.readers import read
from fer_models.readers.fer2013 import read_fer2013
from fer_models.readers.ferplus import NO_AGREEMENT, NO_NAME, NOT_A_FACE

HAPPY = (0, 8, 2, 0, 0, 0, 0, 0, 0, 0)
SCORN = (1, 0, 0, 0, 0, 2, 0, 7, 0, 0)
TIE = (5, 0, 0, 5, 0, 0, 0, 0, 0, 0)
NO_FACE = (0, 0, 0, 0, 0, 0, 0, 0, 0, 10)


def shape(number):
    """A 48 x 48 picture: a ring whose width and gray depend on ``number``."""
    picture = Image.new("L", (48, 48), 10 * number)
    ImageDraw.Draw(picture).ellipse((4, 4 + number, 43, 43), outline=255 - number, width=1 + number)
    return np.asarray(picture)


PICTURES = np.stack([shape(number) for number in range(6)])
ROWS = [  # code of the csv file, its part, FER+ name, FER+ votes
    ("3", "Training", "fer0000000.png", HAPPY),
    ("6", "Training", "", NO_FACE),
    ("0", "Training", "fer0000002.png", SCORN),
    ("4", "PublicTest", "fer0032200.png", TIE),
    ("5", "PublicTest", "fer0032201.png", HAPPY),
    ("2", "PrivateTest", "fer0035700.png", NO_FACE),
]


def pixels(picture):
    return " ".join(map(str, picture.ravel().tolist()))


def csv_text(rows=ROWS, cells=None):
    cells = cells or [pixels(picture) for picture in PICTURES]
    lines = [f"{code},{cell},{usage}" for (code, usage, _, _), cell in zip(rows, cells, strict=True)]
    return "\n".join(["emotion,pixels,Usage", *lines, ""])


def votes_text(rows=ROWS):
    lines = [f"{usage},{name},{','.join(map(str, votes))}" for _, usage, name, votes in rows]
    return "\n".join([f"Usage,Image name,{','.join(FERPLUS_COLUMNS)}", *lines, ""])


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "fer2013.csv").write_text(csv_text())
    (tmp_path / "fer2013new.csv").write_text(votes_text())
    return tmp_path


def test_majority_keeps_votes_and_counts_what_it_drops(folder):
    samples = read_fer2013(folder)
    assert samples.labels == EXPRESSIONS
    assert [samples.labels[i] for i in samples.label] == ["happiness", "contempt", "happiness"]
    assert samples.skipped == {NO_NAME: 1, NO_AGREEMENT: 1, NOT_A_FACE: 1}
    assert samples.split.tolist() == ["train", "train", "validation"]
    assert samples.source.tolist() == ["fer2013.csv:2", "fer2013.csv:4", "fer2013.csv:6"]
    assert np.array_equal(samples.pictures, PICTURES[[0, 2, 4]])
    np.testing.assert_allclose(samples.targets(np.array([0, 1]))[:, [1, 2, 5, 7]].sum(1), 1)
    np.testing.assert_allclose(samples.targets(np.array([0]))[0, 1:3], [0.8, 0.2])
    assert samples.subject is None
    assert not samples.groups


def test_the_number_in_a_vote_row_s_name_is_not_a_key(folder):
    renamed = [(code, usage, "fer9999999.png" if name else "", votes) for code, usage, name, votes in ROWS]
    (folder / "fer2013new.csv").write_text(votes_text(renamed))
    assert read_fer2013(folder).source.tolist() == ["fer2013.csv:2", "fer2013.csv:4", "fer2013.csv:6"]


def test_original_classes_without_votes(folder):
    (folder / "fer2013new.csv").unlink()
    samples = read_fer2013(folder, rule="original")
    assert samples.labels == SEVEN
    names = [samples.labels[i] for i in samples.label]
    assert names == ["happiness", "neutral", "anger", "sadness", "surprise", "fear"]
    assert samples.split.tolist() == ["train"] * 3 + ["validation"] * 2 + ["test"]
    assert samples.votes is None
    assert not samples.skipped


def test_other_rules_keep_the_tie(folder):
    samples = read("fer2013", folder, rule="crossentropy")
    assert samples.skipped == {NO_NAME: 1, NOT_A_FACE: 1}
    assert samples.targets(np.array([2]))[0].tolist() == [0.5, 0, 0, 0.5, 0, 0, 0, 0]


def test_gzip_and_the_icml_layout_read_alike(folder, tmp_path):
    expected = read_fer2013(folder)
    packed = tmp_path / "packed"
    packed.mkdir()
    (packed / "fer2013.csv.gz").write_bytes(gzip.compress(csv_text().encode()))
    lines = [f"{row[0]},{row[1]},{pixels(picture)}" for row, picture in zip(ROWS, PICTURES, strict=True)]
    icml = tmp_path / "icml_face_data.csv"
    icml.write_text("\r\n".join(["emotion, Usage, pixels", *lines]) + "\r\n")
    votes = folder / "fer2013new.csv"
    for root, name in ((packed, "fer2013.csv"), (icml, "icml_face_data.csv")):
        samples = read_fer2013(root, votes=votes)
        assert np.array_equal(samples.pictures, expected.pictures)
        assert samples.label.tolist() == expected.label.tolist()
        assert samples.source[0] == f"{name}:2"


def test_a_large_store_is_a_mapped_file(folder):
    samples = read_fer2013(folder, mapped_above=1)
    assert isinstance(samples.pictures, np.memmap)
    assert np.array_equal(samples.pictures, PICTURES[[0, 2, 4]])


def changed(column, row, value):
    """The csv text with one cell changed; columns 0 emotion, 1 pixels, 2 Usage."""
    lines = csv_text().splitlines()
    cells = lines[row].split(",")
    cells[column] = value
    lines[row] = ",".join(cells)
    return "\n".join(lines) + "\n"


PLAIN = pixels(PICTURES[0])


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        (changed(0, 2, "7"), ":3", "unknown emotion code '7'"),
        (changed(2, 3, "Test"), ":4", "unknown Usage 'Test'"),
        (changed(1, 4, "1 2 3"), ":5", "3 pixels, not 2304"),
        (changed(1, 4, ""), ":5", "0 pixels, not 2304"),
        (changed(1, 1, PLAIN.rpartition(" ")[0] + " 256"), ":2", "pixel value 256 above 255"),
        (changed(1, 1, PLAIN.rpartition(" ")[0] + " 9999999999999999999999"), ":2", "above 255"),
        (changed(1, 1, PLAIN.rpartition(" ")[0] + " -1"), ":2", "a pixel holds '-'"),
        (changed(1, 1, PLAIN.rpartition(" ")[0] + " x"), ":2", "a pixel holds 'x'"),
        ("emotion,pixels\n0,1\n", ":1", "no column 'Usage'"),
        (csv_text().replace("Training", "Training,extra", 1), ":2", "4 cells for 3 columns"),
        ("", ":1", "no column 'emotion'"),
    ],
)
def test_a_bad_cell_names_file_and_line(folder, text, place, message):
    path = folder / "fer2013.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_fer2013(folder)
    assert caught.value.where == f"{path}{place}"
    assert caught.value.cure


def test_votes_of_other_rows_are_refused(folder):
    swapped = [*ROWS[:2], (ROWS[2][0], "PrivateTest", *ROWS[2][2:]), *ROWS[3:]]
    (folder / "fer2013new.csv").write_text(votes_text(swapped))
    with pytest.raises(DataError, match=r"Usage is 'Training' but 'PrivateTest' in line 4 of the votes"):
        read_fer2013(folder)
    (folder / "fer2013new.csv").write_text(votes_text(ROWS[:-1]))
    with pytest.raises(DataError, match="6 pictures but 5 rows of votes"):
        read_fer2013(folder)


def test_missing_files_say_where_to_put_them(folder):
    (folder / "fer2013new.csv").unlink()
    with pytest.raises(DataError, match="set rule=original"):
        read_fer2013(folder)
    with pytest.raises(DataError, match="no such file"):
        read_fer2013(folder, votes=folder / "elsewhere.csv")
    (folder / "fer2013.csv").unlink()
    with pytest.raises(DataError, match=r"no fer2013\.csv in the folder"):
        read_fer2013(folder, rule="original")


def test_options_that_cannot_be_met(folder):
    with pytest.raises(ConfigError, match="unknown rule"):
        read_fer2013(folder, rule="mode")
    with pytest.raises(ConfigError, match="needs FER\\+ votes"):
        read_fer2013(folder, votes=None)
    (folder / "fer2013.csv").write_text(csv_text(ROWS[1:2], [pixels(PICTURES[1])]))
    (folder / "fer2013new.csv").write_text(votes_text(ROWS[1:2]))
    with pytest.raises(DataError, match="no row is left"):
        read_fer2013(folder)


@pytest.mark.parametrize("damage", ["cut", "flip", "text"])
def test_a_damaged_gzip_file_is_named(tmp_path, damage):
    whole = gzip.compress(csv_text().encode())
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
    damaged = {"cut": whole[:middle], "flip": flipped, "text": b"emotion,pixels,Usage\n"}[damage]
    (tmp_path / "fer2013.csv.gz").write_bytes(damaged)
    with pytest.raises(DataError) as caught:
        read_fer2013(tmp_path, rule="original")
    assert str(tmp_path / "fer2013.csv.gz") in caught.value.where


def test_progress_counts_rows(tmp_path):
    lines = io.StringIO()
    lines.write("emotion,pixels,Usage\n")
    lines.writelines(f"3,{PLAIN},Training\n" for _ in range(1000))
    (tmp_path / "fer2013.csv").write_text(lines.getvalue())
    seen = []
    read_fer2013(tmp_path, rule="original", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1000, 0)]
