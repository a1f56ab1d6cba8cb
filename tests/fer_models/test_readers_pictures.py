"""Decoding of picture files: upright, square, 8 bits, and damage named."""

import numpy as np
import pytest
from PIL import Image

from fer_models.errors import ConfigError, DataError
from fer_models.readers.pictures import MISSING, UNDECODABLE, PictureOptions, decode, decode_all


def halves(width=32, height=32):
    """Left half dark, right half bright."""
    picture = np.full((height, width), 40, np.uint8)
    picture[:, width // 2 :] = 200
    return Image.fromarray(picture)


def test_gray_and_colour_shapes(tmp_path):
    Image.new("RGB", (32, 32), (200, 100, 0)).save(tmp_path / "a.png")
    colour = decode(tmp_path / "a.png", 16, 3)
    assert colour.shape == (16, 16, 3)
    assert colour[8, 8].tolist() == [200, 100, 0]
    gray = decode(tmp_path / "a.png", 16, 1)
    assert gray.shape == (16, 16)
    assert gray[0, 0] == round(0.299 * 200 + 0.587 * 100)


def test_a_picture_of_the_wanted_size_is_not_touched(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(decode(tmp_path / "a.png", 16, 1), pixels)


def test_the_central_square_is_kept(tmp_path):
    pixels = np.zeros((16, 48), np.uint8)
    pixels[:, 16:32] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert decode(tmp_path / "a.png", 16, 1).min() == 255


def test_exif_orientation_is_honoured(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown upright after a quarter turn clockwise
    halves().save(tmp_path / "a.jpg", exif=exif, quality=95)
    picture = decode(tmp_path / "a.jpg", 16, 1).astype(int)
    assert picture[:4].mean() < 60 < 180 < picture[-4:].mean(), "the dark left half came on top"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_every_usual_mode_reads_alike(tmp_path, mode):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    halves().convert(mode).save(path)
    picture = decode(path, 16, 1).astype(int)
    assert picture[8, 2] < picture[8, 13]


def test_16_bit_gray_is_scaled_not_cut(tmp_path):
    pixels = np.repeat(np.array([[0, 30000, 65535]], np.uint16), 3, 0).repeat(16, 1).repeat(16, 0)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    picture = decode(tmp_path / "a.png", 48, 1)
    assert picture[24, [4, 24, 44]].tolist() == [0, 30000 >> 8, 255]


def test_a_large_jpeg_keeps_its_halves(tmp_path):
    halves(512, 512).save(tmp_path / "a.jpg", quality=95)
    picture = decode(tmp_path / "a.jpg", 16, 1).astype(int)
    assert abs(picture[8, 2] - 40) < 5
    assert abs(picture[8, 13] - 200) < 5


def damaged(tmp_path):
    halves().save(tmp_path / "good.png")
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").touch()
    Image.new("F", (16, 16)).save(tmp_path / "float.tif")
    return ["good.png", "cut.png", "text.png", "empty.png", "float.tif", "absent.png"]


def test_damage_stops_or_is_counted(tmp_path):
    paths = [tmp_path / name for name in damaged(tmp_path)]
    for path in paths[1:]:
        with pytest.raises(DataError, match="unreadable=skip") as caught:
            decode_all([paths[0], path], PictureOptions(size=16))
        assert caught.value.where == str(path)
    store, kept, skipped = decode_all([*paths, paths[0]], PictureOptions(size=16, unreadable="skip"))
    assert store.shape == (2, 16, 16)
    assert kept.tolist() == [0, 6]
    assert skipped == {UNDECODABLE: 4, MISSING: 1}
    with pytest.raises(DataError, match="no picture can be read"):
        decode_all(paths[1:], PictureOptions(size=16, unreadable="skip"))


def test_a_picture_that_would_fill_the_memory_is_unreadable(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    halves().save(tmp_path / "a.png")
    with pytest.raises(DataError, match="unreadable picture"):
        decode(tmp_path / "a.png", 16, 1)


def test_progress_and_mapped_stores(tmp_path):
    halves().save(tmp_path / "a.png")
    seen = []
    options = PictureOptions(8, 3, mapped_above=1, progress=lambda done, total: seen.append((done, total)))
    store, _, _ = decode_all([tmp_path / "a.png"] * 501, options)
    assert isinstance(store, np.memmap)
    assert seen == [(500, 501)]


@pytest.mark.parametrize("options", [{"size": 7}, {"size": 1025}, {"channels": 2}, {"unreadable": "ignore"}])
def test_impossible_options(options):
    with pytest.raises(ConfigError, match="Use ") as caught:
        PictureOptions(**options)
    assert caught.value.where in options


@pytest.mark.parametrize(
    ("box", "ends"),
    [
        ((16, 0, 32, 16), [255, 255]),
        ((18, 2, 30, 14), [255, 255]),
        ((40, 0, 56, 16), [0, 0]),  # moved left into the picture, to 32 to 48
        ((-8, 0, 8, 16), [0, 0]),
        ((8, -4, 24, 12), [0, 255]),
        ((0, 0, 48, 16), [255, 255]),  # wider than the picture is high: its middle
    ],
)
def test_a_box_is_cropped_to_the_square_around_it(tmp_path, box, ends):
    pixels = np.zeros((16, 48), np.uint8)
    pixels[:, 16:32] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert decode(tmp_path / "a.png", 16, 1, box)[8, [0, 15]].tolist() == ends


@pytest.mark.parametrize("box", [(48, 0, 60, 16), (0, 16, 16, 20), (5, 5, 5, 5), (-9, 0, -1, 8)])
def test_a_box_outside_the_picture_is_unreadable(tmp_path, box):
    Image.new("L", (48, 16)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"unreadable picture: .*outside"):
        decode(tmp_path / "a.png", 16, 1, box)
