"""Where pictures come from: files, folders, films and cameras, one frame after the other in flat memory."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from fer_models.edge.faces import Pixels
from fer_models.errors import DataError
from fer_models.readers.pictures import SUFFIXES, eight_bits

FILMS = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"})
"""Endings of the file names that are taken for films, in lower case."""

MOST_PIXELS = 64_000_000
"""Pixels of the largest picture that is decoded: 200 MB in colour."""


CONVERT = "Convert the film to H.264 in mp4, or leave it out."

CUT_SHORT = "the film ends too soon"

SLACK = 0.02
"""Share of a film's frames that may be missing of what its file tells: some formats tell the length as a time."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture.

    Attributes
    ----------
    source : the file, or ``camera 0``.
    number : of the frame, from 0; 0 for a picture.
    seconds : since the film began; None for pictures and cameras.
    pixels : None where it could not be read.
    problem : why not; empty otherwise.
    rate : frames like this one that are read of a second of the film; None for pictures and where nothing tells.
    """

    source: str
    number: int
    seconds: float | None
    pixels: Pixels | None
    problem: str = ""
    rate: float | None = None

    @property
    def cut_short(self) -> bool:
        """Whether this stands for what is missing of a film."""
        return self.problem.startswith(CUT_SHORT)


def frames(inputs: Sequence[str], every: int = 1) -> Iterator[Frame]:
    """Yield the pictures of files, folders, films and cameras (by their number), in their order.

    A damaged picture of a list or a folder is a frame with a problem, and the others go on. A film with fewer frames
    than its file tells ends in a frame with that problem.

    Parameters
    ----------
    every : of films and cameras, only each so many-th frame.

    Raises
    ------
    DataError : an input is not there or not readable as a whole; a film without a single frame; no camera there.
    """
    for name in inputs:
        if name.isascii() and name.isdigit():
            yield from _film(int(name), f"camera {name}", every)
            continue
        path = Path(name).expanduser()
        if path.is_dir():
            yield from _folder(path, every)
        elif not path.is_file():
            raise DataError(
                "no such file or folder",
                where=name,
                cure="Give pictures, folders, films or a camera's number.",
            )
        elif path.suffix.lower() in FILMS:
            yield from _film(str(path), str(path), every)
        else:
            yield picture(path)


def _folder(folder: Path, every: int) -> Iterator[Frame]:
    known = SUFFIXES | FILMS
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in known and not path.name.startswith("._") and path.is_file()
    )
    if not files:
        raise DataError(
            "the folder holds no picture and no film", where=str(folder), cure="Give another folder."
        )
    for path in files:
        if path.suffix.lower() not in FILMS:
            yield picture(path)
            continue
        try:
            yield from _film(str(path), str(path), every)
        except DataError as error:
            yield Frame(str(path), 0, None, None, error.what)


def picture(path: Path) -> Frame:
    """Return a picture file, upright as its EXIF orientation says; damaged or huge ones have a problem."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                if image.width * image.height > MOST_PIXELS:
                    most = f"more than {MOST_PIXELS // 1_000_000} megapixels"
                    return Frame(str(path), 0, None, None, f"{most}: {image.width} x {image.height}")
                upright = ImageOps.exif_transpose(image)
                gray = upright.mode in ("1", "L", "LA", "I", "I;16", "F")
                pixels = np.asarray(eight_bits(upright).convert("L" if gray else "RGB"))
    except MemoryError:
        return Frame(str(path), 0, None, None, "too large for this machine's memory")
    except Exception as error:  # damaged bytes make decoders raise nearly anything
        return Frame(str(path), 0, None, None, f"unreadable picture: {str(error) or type(error).__name__}")
    if min(pixels.shape[:2]) < 8:
        return Frame(str(path), 0, None, None, f"too small: {pixels.shape[1]} x {pixels.shape[0]}")
    return Frame(str(path), 0, None, pixels)


def _film(device: str | int, name: str, every: int) -> Iterator[Frame]:
    capture = _opened(device, name)
    import cv2

    try:
        told = [float(capture.get(each)) for each in (cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT)]
        rate, length = (each if math.isfinite(each) and each > 0 else 0.0 for each in told)
        number, last = 0, 0.0
        while capture.grab():
            shown = float(capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000
            last = max(last, shown)
            if number % every == 0:
                good, found = capture.retrieve()
                seconds = (shown or number / rate) if isinstance(device, str) and rate else None
                pixels = np.asarray(cv2.cvtColor(found, cv2.COLOR_BGR2RGB), np.uint8) if good else None
                problem = "" if good else "unreadable frame"
                yield Frame(name, number, seconds, pixels, problem, rate / every or None)
            number += 1
        if number == 0:
            raise DataError("no frame can be decoded", where=name, cure=CONVERT)
        if isinstance(device, str) and _too_soon(number, last, length, rate):
            yield Frame(name, number, None, None, f"{CUT_SHORT}: {number} of {length:.0f} frames are there")
    finally:
        capture.release()


def _too_soon(number: int, last: float, length: float, rate: float) -> bool:
    """Return whether a film is not all there: fewer frames than its file tells, and the last of them before its time.

    Containers such as Matroska tell no number of frames, and OpenCV takes it from the duration and the usual rate. A
    film whose rate varies, as telephones record, has other numbers, and a last frame where its duration says.

    Parameters
    ----------
    number, last : frames that were read, and the second at which the last one is shown; 0 where none is told.
    length, rate : frames and frames a second that the file tells; 0 where it does not.
    """
    fewer = number < (1 - SLACK) * length - 1
    return fewer and (not rate or not last or last < (1 - SLACK) * length / rate - 2 / rate)


def _opened(device: str | int, name: str) -> Any:
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    import cv2

    remarks = cv2.utils.logging
    before = remarks.setLogLevel(remarks.LOG_LEVEL_SILENT)  # those about cameras would go to the terminal
    try:
        capture = cv2.VideoCapture(device)
    finally:
        remarks.setLogLevel(before)
    if capture.isOpened():
        return capture
    capture.release()
    if isinstance(device, int):
        cure = "Look which cameras there are (ls /dev/video*), and whether you may read them."
        raise DataError("there is no such camera", where=name, cure=cure)
    raise DataError("the film cannot be decoded", where=name, cure=CONVERT)
