"""Faces in pictures: found, turned upright, and cropped.

Nothing is downloaded. ``haar`` is the cascade of Viola
and Jones (2001, CVPR) in the training of Lienhart and Maydt (2002, ICIP) that ships with OpenCV, for faces that look
at the camera; ``yunet`` is YuNet (Wu et al. 2023, Machine Intelligence Research 20), better from the side, and needs
its model as a file. ``whole`` takes every picture for one face.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_models.errors import ConfigError, ModelError

Pixels = NDArray[np.uint8]
"""uint8 (H, W) gray or (H, W, 3) red, green, blue."""

FINDERS = ("haar", "yunet", "whole")

SMALLEST_FACE = 24
"""Pixels a side of the smallest face that is looked for."""

LARGEST_SIDE = 1280
"""Pixels of the longer side at which faces are looked for; larger pictures are made smaller for that."""

MARGIN = {"haar": 0.0, "yunet": 0.25, "whole": 0.0}
"""Finder -> share of a box's side that is added around it; Haar's boxes have forehead and chin in them already."""

YUNET_SCORE = 0.7
"""Least score of a face that YuNet finds."""

YUNET_CURE = "Give the file face_detection_yunet_*.onnx of OpenCV's model zoo."


@dataclass(frozen=True)
class Face:
    """A face in a picture.

    Attributes
    ----------
    box : left, top, right, bottom in pixels.
    eyes : (x, y) of the eye that lies left in the picture, and of the right one; None where they were not found.
    """

    box: tuple[float, float, float, float]
    eyes: tuple[tuple[float, float], tuple[float, float]] | None = None

    @property
    def area(self) -> float:
        """Pixels that the box covers."""
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])

    @property
    def angle(self) -> float:
        """Radians by which the line of the eyes is turned; 0 where they were not found."""
        if self.eyes is None:
            return 0.0
        (x0, y0), (x1, y1) = self.eyes
        return math.atan2(y1 - y0, x1 - x0)


class FaceFinder:
    """Finds the faces of a picture, the largest first.

    Parameters
    ----------
    kind : one of :data:`FINDERS`.
    model : file of YuNet's weights (.onnx); only for ``yunet``, and needed there.

    Raises
    ------
    ConfigError : an unknown kind, or a model that is missing or not used.
    ModelError : the file is no model of YuNet, or OpenCV came without its cascades.
    """

    def __init__(self, kind: str = "haar", model: Path | None = None) -> None:
        if kind not in FINDERS:
            raise ConfigError(
                f"unknown way to find faces {kind!r}", where="faces", cure=f"Use {', '.join(FINDERS)}."
            )
        if (kind == "yunet") != (model is not None):
            cure = "Write faces=yunet face_model=FILE.onnx, or faces=haar."
            raise ConfigError("faces=yunet and face_model go together", where="faces", cure=cure)
        self.kind = kind
        self._yunet = None if model is None else _yunet(model)
        if kind == "haar":
            _cascade("haarcascade_frontalface_default.xml")

    def __call__(self, picture: Pixels) -> list[Face]:
        """Return the faces of a picture (H, W) or (H, W, 3)."""
        height, width = picture.shape[:2]
        if self.kind == "whole":
            return [Face((0.0, 0.0, float(width), float(height)))]
        share = min(1.0, LARGEST_SIDE / max(height, width))
        small = picture if share == 1 else _resized(picture, round(width * share), round(height * share))
        found = _haar(small) if self._yunet is None else self._by_yunet(small)
        return sorted((_scaled(face, 1 / share) for face in found), key=lambda face: -face.area)

    def _by_yunet(self, picture: Pixels) -> list[Face]:
        import cv2

        assert self._yunet is not None
        code = cv2.COLOR_GRAY2BGR if picture.ndim == 2 else cv2.COLOR_RGB2BGR
        self._yunet.setInputSize(picture.shape[1::-1])
        rows = self._yunet.detect(cv2.cvtColor(picture, code))[1]
        return [_of_row(row) for row in (() if rows is None else rows.tolist())]


def _of_row(row: list[float]) -> Face:
    """Return a face from a row of YuNet: box, then five points of which the first two are the eyes, then the score."""
    x, y, width, height = row[:4]
    eyes = sorted([(row[4], row[5]), (row[6], row[7])])
    return Face((x, y, x + width, y + height), (eyes[0], eyes[1]))


def _yunet(model: Path) -> Any:
    import cv2

    if not model.is_file():
        raise ModelError("no such file", where=str(model), cure=YUNET_CURE)
    try:
        made = cv2.FaceDetectorYN.create(str(model), "", (320, 320), YUNET_SCORE)
        made.detect(np.zeros((320, 320, 3), np.uint8))  # any graph can be loaded, and only then goes wrong
    except cv2.error as error:
        raise ModelError("no model of YuNet", where=str(model), cure=YUNET_CURE) from error
    return made


@functools.cache
def _cascade(name: str) -> Any:
    import cv2

    found = cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / name))
    if found.empty():
        cure = "Install opencv-python-headless 4.10 or later, or use faces=yunet or faces=whole."
        raise ModelError("OpenCV came without its cascades", where=name, cure=cure)
    return found


def _haar(picture: Pixels) -> list[Face]:
    import cv2

    gray = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    gray = np.asarray(cv2.equalizeHist(gray), np.uint8)
    least = (SMALLEST_FACE, SMALLEST_FACE)
    boxes = _cascade("haarcascade_frontalface_default.xml").detectMultiScale(gray, 1.1, 5, minSize=least)
    return [_with_eyes(gray, *(int(each) for each in box)) for box in boxes]


def _with_eyes(gray: Pixels, x: int, y: int, width: int, height: int) -> Face:
    """Return the face of a box, with its eyes where exactly one is found in each half."""
    box = (float(x), float(y), float(x + width), float(y + height))
    upper = gray[y : y + height * 6 // 10, x : x + width]
    found = _cascade("haarcascade_eye.xml").detectMultiScale(upper, 1.1, 5, minSize=(width // 8, width // 8))
    centres = [(float(x + u + w / 2), float(y + v + h / 2)) for u, v, w, h in found]
    left = [each for each in centres if each[0] < x + width / 2]
    right = [each for each in centres if each[0] >= x + width / 2]
    if len(left) != 1 or len(right) != 1:
        return Face(box)
    face = Face(box, (left[0], right[0]))
    # A brow or a nostril that is taken for an eye would turn the face: nobody's eyes are that far from level here.
    return face if abs(face.angle) < math.radians(30) else Face(box)


def _scaled(face: Face, times: float) -> Face:
    if times == 1:
        return face
    box = tuple(each * times for each in face.box)
    eyes = None if face.eyes is None else tuple((x * times, y * times) for x, y in face.eyes)
    return Face(box, eyes)  # type: ignore[arg-type]


def _resized(picture: Pixels, width: int, height: int) -> Pixels:
    import cv2

    shrinks = width * height < picture.shape[0] * picture.shape[1]
    way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (max(1, width), max(1, height)), interpolation=way), np.uint8)


def cropped(picture: Pixels, face: Face, size: int, channels: int, margin: float = 0.0) -> Pixels:
    """Return a face as uint8 (size, size) gray or (size, size, 3): the square around its box, with the eyes level.

    What lies outside the picture repeats its edge.

    Parameters
    ----------
    channels : 1 for gray, 3 for colour, whatever the picture has.
    margin : share of the side that is added around the box.
    """
    import cv2

    left, top, right, bottom = face.box
    side = max(right - left, bottom - top) * (1 + margin)
    centre = ((left + right) / 2, (top + bottom) / 2)
    whole = max(2, round(side))
    turn = cv2.getRotationMatrix2D(centre, math.degrees(face.angle), 1.0)
    turn[:, 2] += (whole / 2 - centre[0], whole / 2 - centre[1])
    square = cv2.warpAffine(
        picture, turn, (whole, whole), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return in_channels(_resized(np.asarray(square, np.uint8), size, size), channels)


def in_channels(picture: Pixels, channels: int) -> Pixels:
    """Return a picture as gray (H, W) or colour (H, W, 3)."""
    import cv2

    if (picture.ndim == 3) == (channels == 3):
        return picture
    code = cv2.COLOR_GRAY2RGB if channels == 3 else cv2.COLOR_RGB2GRAY
    return np.asarray(cv2.cvtColor(picture, code), np.uint8)
