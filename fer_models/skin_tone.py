"""Skin tone from colour: the individual typology angle (ITA) of the cheeks, in two bins, and how well it repeats.

The angle of Chardon et al. (1991), arctan((L* - 50) / b*) in degrees, is high for light skin. In photographs it says
as much of light and camera as of skin, so it is measured only where both were controlled, and only as *lighter* or
*darker* than :data:`CUT`. It is no ethnicity and nothing that anybody told of themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fer_models.labels import UNDISCLOSED

CUT = 28.0
"""Degrees between the bins: where Del Bino et al. (2006) end intermediate skin and begin tan."""

BINS = ("lighter", "darker")

CHEEKS = ((0.50, 0.66, 0.24, 0.38), (0.50, 0.66, 0.62, 0.76))
"""Top, bottom, left and right of both cheeks, as shares of a square that a face seen from the front fills."""

_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE = np.array([0.95047, 1.0, 1.08883])


@dataclass(frozen=True)
class Tones:
    """Skin tones of some pictures.

    Attributes
    ----------
    values : str (N,), of :data:`BINS`, or undisclosed; that of a person where it is known who is on a picture.
    spread : standard deviation in degrees of one picture about its person's mean; None with nobody seen twice.
    agreement : share of the people seen twice or more whose pictures all lie in one bin, each taken alone.
    people : that were seen twice or more.
    """

    values: NDArray[np.str_]
    spread: float | None
    agreement: float | None
    people: int

    def note(self) -> str:
        """Return a sentence for a reader of figures by these groups."""
        begin = (
            f"skin_tone is measured from colour (ITA of the cheeks, bins at {CUT:g} degrees), nobody told it"
        )
        if self.spread is None or self.agreement is None:
            return f"{begin}; nobody is seen twice, so how well it repeats is not known"
        return (
            f"{begin}; one picture is {self.spread:.1f} degrees from its person's mean (standard deviation), and "
            f"{self.agreement:.0%} of {self.people} people seen twice or more lie in one bin by each picture alone"
        )


def angle(pixels: NDArray[np.uint8]) -> float | None:
    """Return the angle in degrees of a square colour picture (H, H, 3) of a face; None where it has no colour."""
    size = len(pixels)
    if not np.ptp(pixels, axis=2).any():
        return None
    cheeks = [
        pixels[round(top * size) : round(bottom * size), round(left * size) : round(right * size)]
        for top, bottom, left, right in CHEEKS
    ]
    light, yellow = _lab(np.concatenate([cheek.reshape(-1, 3) for cheek in cheeks]))
    return float(np.degrees(np.arctan2(np.median(light) - 50, np.median(yellow))))


def _lab(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return L* and b* of sRGB pixels (N, 3) under D65 (IEC 61966-2-1; CIE 15)."""
    value = pixels / 255.0
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    share = linear @ _TO_XYZ.T / _WHITE
    root = np.where(share > (6 / 29) ** 3, np.cbrt(share), share / (3 * (6 / 29) ** 2) + 4 / 29)
    return 116 * root[:, 1] - 16, 200 * (root[:, 1] - root[:, 2])


def tones(angles: Sequence[float | None], people: Sequence[str]) -> Tones:
    """Put pictures into bins, a person's all into one by their mean.

    Parameters
    ----------
    angles : N of them, None where a picture has no colour.
    people : N names; an empty one is a person of their own.
    """
    own = [person or f"\0{row}" for row, person in enumerate(people)]
    seen: dict[str, list[float]] = {}
    for person, value in zip(own, angles, strict=True):
        if value is not None:
            seen.setdefault(person, []).append(value)
    mean = {person: float(np.mean(values)) for person, values in seen.items()}
    values = [_bin(mean[person]) if person in mean else UNDISCLOSED for person in own]
    several = [found for found in seen.values() if len(found) > 1]
    if not several:
        return Tones(np.array(values, np.str_), None, None, 0)
    squares = sum(float(((np.array(found) - np.mean(found)) ** 2).sum()) for found in several)
    spread = (squares / sum(len(found) - 1 for found in several)) ** 0.5
    agreement = float(np.mean([len({_bin(value) for value in found}) == 1 for found in several]))
    return Tones(np.array(values, np.str_), spread, agreement, len(several))


def _bin(value: float) -> str:
    return BINS[0] if value > CUT else BINS[1]
