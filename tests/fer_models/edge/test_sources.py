"""Pictures, folders, films and cameras, and everything that can be wrong with them."""

import cv2
import numpy as np
import pytest
from PIL import Image

from fer_models.edge import sources
from fer_models.edge.sources import frames
from fer_models.errors import DataError


@pytest.fixture
def film(tmp_path):
    """Ten gray frames, each a little brighter."""
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5, (64, 48))
    for i in range(10):
        writer.write(np.full((48, 64, 3), 20 * i, np.uint8))
    writer.release()
    return path


def test_a_film_is_a_stream_of_frames(film):
    found = list(frames([str(film)]))
    assert [frame.number for frame in found] == list(range(10))
    assert [frame.seconds for frame in found][:3] == [0, 0.2, 0.4]
    levels = [frame.pixels.mean() for frame in found]
    assert np.abs(np.array(levels) - 20 * np.arange(10)).max() < 4
    assert [frame.number for frame in frames([str(film)], every=4)] == [0, 4, 8]


def test_a_film_is_read_only_as_far_as_it_is_asked(film, monkeypatch):
    read = []
    grab = cv2.VideoCapture

    class Counting:
        def __init__(self, device):
            self._own = grab(device)

        def grab(self):
            read.append(1)
            return self._own.grab()

        def __getattr__(self, name):
            return getattr(self._own, name)

    monkeypatch.setattr(cv2, "VideoCapture", Counting)
    stream = frames([str(film)])
    next(stream)
    assert len(read) == 1
    stream.close()


def test_a_frame_of_a_film_that_cannot_be_decoded_is_told(film, monkeypatch):
    own, asked = cv2.VideoCapture, []

    class Torn:
        def __init__(self, device):
            self._own = own(device)

        def retrieve(self):
            asked.append(1)
            return (False, None) if len(asked) == 4 else self._own.retrieve()

        def __getattr__(self, name):
            return getattr(self._own, name)

    monkeypatch.setattr(cv2, "VideoCapture", Torn)
    found = list(frames([str(film)]))
    assert [frame.number for frame in found] == list(range(10))
    assert [frame.number for frame in found if frame.pixels is None] == [3]
    assert found[3].problem == "unreadable frame"


def _varying(folder, frames, name):
    """Return a Matroska film of 10 frames a second that calls its usual rate 30, as one whose rate varies does."""
    path = folder / name
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    rng = np.random.default_rng(0)
    for _ in range(frames):
        writer.write(rng.integers(0, 256, (48, 64, 3), np.uint8))
    writer.release()
    held = path.read_bytes()
    usual = b"\x23\xe3\x83\x84"  # DefaultDuration, in nanoseconds
    assert held.count(usual + (100_000_000).to_bytes(4)) == 1
    path.write_bytes(held.replace(usual + (100_000_000).to_bytes(4), usual + (33_333_333).to_bytes(4)))
    return path


def test_a_film_whose_rate_varies_is_not_called_short(tmp_path):
    path = _varying(tmp_path, 30, "phone.mkv")
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT) == pytest.approx(90, abs=2)
    found = list(frames([str(path)]))
    assert [frame.cut_short for frame in found] == 30 * [False]
    assert [frame.seconds for frame in found][10:13] == pytest.approx([1, 1.1, 1.2])
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    *read, last = frames([str(path)])
    assert 10 < len(read) < 20
    assert last.cut_short


def test_a_film_that_ends_too_soon_is_told(tmp_path):
    rng, whole, cut = np.random.default_rng(0), tmp_path / "film.avi", tmp_path / "cut.avi"
    writer = cv2.VideoWriter(str(whole), cv2.VideoWriter.fourcc(*"MJPG"), 5, (64, 48))
    for _ in range(10):
        writer.write(rng.integers(0, 256, (48, 64, 3), np.uint8))
    writer.release()
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    *read, last = frames([str(cut)])
    assert 3 <= len(read) <= 7
    assert all(frame.pixels is not None and not frame.cut_short for frame in read)
    assert last.cut_short
    assert last.pixels is None
    assert last.problem == f"the film ends too soon: {len(read)} of 10 frames are there"
    assert [frame.cut_short for frame in frames([str(whole)])] == 10 * [False]


def test_frames_tell_how_many_there_are_a_second(film, tmp_path):
    assert {frame.rate for frame in frames([str(film)])} == {5.0}
    assert {frame.rate for frame in frames([str(film)], every=2)} == {2.5}
    Image.new("L", (40, 40)).save(tmp_path / "a.png")
    assert [frame.rate for frame in frames([str(tmp_path / "a.png")])] == [None]


def test_films_that_cannot_be_decoded(tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no film")
    with pytest.raises(DataError, match="the film cannot be decoded"):
        list(frames([str(tmp_path / "broken.mp4")]))
    found = list(frames([str(tmp_path)]))  # in a folder it is one problem among others
    assert [frame.problem for frame in found] == ["the film cannot be decoded"]


def test_no_camera(capfd):
    with pytest.raises(DataError, match=r"no such camera .*|no frame can be decoded"):
        list(frames(["977"]))
    assert capfd.readouterr().err == ""


def test_damaged_huge_and_tiny_pictures_are_problems(tmp_path, monkeypatch):
    Image.new("L", (40, 40), 7).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    Image.new("RGB", (300, 300)).save(tmp_path / "c.jpg")
    Image.new("L", (4, 90)).save(tmp_path / "d.png")
    (tmp_path / "e.txt").write_text("no picture")
    (tmp_path / "._a.png").write_bytes(b"of another system")
    monkeypatch.setattr(sources, "MOST_PIXELS", 10_000)
    found = {frame.source.rpartition("/")[2]: frame for frame in frames([str(tmp_path)])}
    assert list(found) == ["a.png", "b.png", "c.jpg", "d.png"]
    assert found["a.png"].pixels.shape == (40, 40)
    assert found["b.png"].problem.startswith("unreadable picture")
    assert "0 megapixels: 300 x 300" in found["c.jpg"].problem
    assert found["d.png"].problem == "too small: 4 x 90"


def test_pictures_of_other_forms_become_gray_or_colour(tmp_path):
    Image.new("RGBA", (20, 20), (10, 20, 30, 0)).save(tmp_path / "a.png")
    Image.fromarray(np.full((20, 20), 40_000, np.uint16)).save(tmp_path / "b.png")
    Image.new("CMYK", (20, 20)).save(tmp_path / "c.jpg")
    a, b, c = frames([str(tmp_path)])
    assert (a.pixels.shape, c.pixels.shape) == ((20, 20, 3), (20, 20, 3))
    assert b.pixels.shape == (20, 20)
    assert int(b.pixels[0, 0]) == 40_000 >> 8


def test_what_is_not_there(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        list(frames([str(tmp_path / "none.png")]))
    with pytest.raises(DataError, match="holds no picture"):
        list(frames([str(tmp_path)]))
