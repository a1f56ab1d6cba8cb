"""Skin tone from colour: the angle by another library's colours, bins a person, and how well it repeats."""

import numpy as np
import pytest
from skimage.color import rgb2lab

from fer_models.skin_tone import CHEEKS, angle, tones


def painted(colour, size=100):
    """A face of which nothing but the cheeks has a colour."""
    pixels = np.zeros((size, size, 3), np.uint8)
    for top, bottom, left, right in CHEEKS:
        pixels[round(top * size) : round(bottom * size), round(left * size) : round(right * size)] = colour
    return pixels


@pytest.mark.parametrize("colour", [(236, 188, 158), (198, 134, 96), (120, 72, 44), (60, 36, 24)])
def test_the_angle_is_that_of_the_cheeks(colour):
    light, _, yellow = rgb2lab(np.array(colour, np.uint8)[None, None])[0, 0]
    assert angle(painted(colour)) == pytest.approx(np.degrees(np.arctan2(light - 50, yellow)), abs=0.05)


def test_a_gray_picture_has_none():
    assert angle(painted((90, 90, 90))) is None


def test_a_person_has_one_bin_and_repeats_so_well():
    found = tones([40, 20, 60, 10, None, 25, None], ["a", "a", "b", "b", "b", "", "c"])
    assert found.values.tolist() == [
        *("lighter", "lighter", "lighter", "lighter", "lighter"),
        *("darker", "undisclosed"),
    ]
    assert found.spread == pytest.approx(((2 * 10**2 + 2 * 25**2) / 2) ** 0.5)
    assert (found.agreement, found.people) == (0, 2)
    assert "0% of 2 people" in found.note()
    alone = tones([40, 20], ["", ""])
    assert (alone.spread, alone.agreement) == (None, None)
    assert "not known" in alone.note()
