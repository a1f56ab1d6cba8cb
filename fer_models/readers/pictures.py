"""Picture files, decoded into one store."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from fer_models.errors import ConfigError, DataError
from fer_models.readers.tables import Progress
from fer_models.readers.videos import frame_of
from fer_models.samples import MAPPED_ABOVE, picture_store
from fer_models.stores import Building

Box = tuple[float, float, float, float]
"""Left, top, right and bottom of a face in pixels of its picture as it is stored."""

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""Endings of the file names that are taken for pictures, in lower case."""

MISSING = "missing picture"
UNDECODABLE = "unreadable picture"
APPLEDOUBLE = "AppleDouble file (._*)"
"""macOS writes a ``._NAME`` beside NAME on foreign disks: file attributes, with the ending of a picture."""


@dataclass(frozen=True)
class PictureOptions:
    """How pictures are read.

    Attributes
    ----------
    size : height and width in pixels after the centre crop, 8 to 1024.
    channels : 1 for gray, 3 for colour.
    unreadable : ``error`` stops at a missing or damaged picture, ``skip`` leaves it out and counts it.
    mapped_above : bytes of pictures above which they lie in a memory-mapped file.
    progress : called now and then with the pictures read and the pictures to read.
    building : a store to decode into, which a killed process leaves to go on with; None: one without a name.
    """

    size: int = 48
    channels: int = 1
    unreadable: str = "error"
    mapped_above: int = MAPPED_ABOVE
    progress: Progress | None = None
    building: Building | None = None

    def __post_init__(self) -> None:
        if not 8 <= self.size <= 1024:
            raise ConfigError(f"size is {self.size}", where="size", cure="Use 8 to 1024 pixels.")
        if self.channels not in (1, 3):
            cure = "Use 1 for gray or 3 for colour."
            raise ConfigError(f"channels is {self.channels}", where="channels", cure=cure)
        if self.unreadable not in ("error", "skip"):
            cure = "Use error or skip."
            raise ConfigError(f"unreadable is {self.unreadable!r}", where="unreadable", cure=cure)


def decode(
    path: Path, size: int, channels: int, box: Box | None = None, moment: float | None = None
) -> NDArray[np.uint8]:
    """Return one picture as uint8 (size, size) gray or (size, size, 3) colour.

    It is turned upright as its EXIF orientation says, cropped to the central square, and resized with a
    Lanczos filter. With a ``box`` it is cropped to the square around it instead, as it is stored.
    Transparency is dropped; of an animation the first frame is read. With a ``moment`` it is a video, of which the
    frame at that share of its length is taken.

    Raises
    ------
    DataError : there is no such file, or it is damaged or no picture.
    """
    if not path.is_file():
        raise DataError(MISSING, where=str(path), cure="Add the file, or set unreadable=skip.")
    try:
        if moment is not None:
            return _square(frame_of(path, moment), size, channels)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                if box is not None:
                    return _square(eight_bits(image).crop(_around(box, image)), size, channels)
                # A JPEG can be decoded at a fraction of its size; twice the wanted size keeps it sharp.
                image.draft("L" if channels == 1 else "RGB", (2 * size, 2 * size))
                return _square(eight_bits(ImageOps.exif_transpose(image)), size, channels)
    except MemoryError:
        raise
    except Exception as error:  # damaged bytes make decoders raise nearly anything
        raise DataError(
            f"{UNDECODABLE}: {str(error) or type(error).__name__}",
            where=str(path),
            cure="Replace or remove the file, or set unreadable=skip.",
        ) from error


def _around(box: Box, image: Image.Image) -> tuple[int, int, int, int]:
    """The square around a box, moved into the picture where it reaches out, and no larger than that."""
    left, top, right, bottom = box
    side = min(max(right - left, bottom - top), *image.size)
    if side < 1 or right <= 0 or bottom <= 0 or left >= image.width or top >= image.height:
        raise ValueError(f"the face box {left:g} {top:g} {right:g} {bottom:g} lies outside the picture")
    x = min(max((left + right - side) / 2, 0), image.width - side)
    y = min(max((top + bottom - side) / 2, 0), image.height - side)
    return round(x), round(y), round(x + side), round(y + side)


def eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit gray to 8 bits, where Pillow's conversion would cut everything above 255 to white."""
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    if not image.mode.startswith("I"):
        return image
    pixels = np.asarray(image)
    return Image.fromarray((pixels >> 8 if pixels.max() > 255 else pixels).astype(np.uint8))


def _square(image: Image.Image, size: int, channels: int) -> NDArray[np.uint8]:
    image = image.convert("L" if channels == 1 else "RGB")
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    return np.asarray(image.resize((size, size), Image.Resampling.LANCZOS, box))


def decode_all(
    paths: Sequence[Path],
    options: PictureOptions,
    boxes: Sequence[Box | None] | None = None,
    moments: Sequence[float | None] | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.intp], dict[str, int]]:
    """Decode pictures into a store; return it, the indices of the pictures in it, and what was skipped.

    Raises
    ------
    DataError : a picture cannot be read and ``options.unreadable`` is ``error``, or none can.
    """
    place = options.building
    shape = (len(paths), options.size, options.size, *(() if options.channels == 1 else (3,)))
    if place is None:
        store, done = (
            picture_store(len(paths), options.size, options.channels, mapped_above=options.mapped_above),
            0,
        )
    else:
        store, done = place.begin(_digest(paths, boxes, moments), shape)
    failed = {} if place is None else place.failed
    for index in range(done, len(paths)):
        try:
            box, moment = boxes[index] if boxes else None, moments[index] if moments else None
            picture = decode(paths[index], options.size, options.channels, box, moment)
            store[index - len(failed)] = picture
        except DataError as error:
            if options.unreadable == "error":
                raise
            failed[index] = error.what.partition(":")[0]
        if place is not None:
            place.mark(index + 1)
        if options.progress and (index + 1) % 500 == 0:
            options.progress(index + 1, len(paths))
    count = len(paths) - len(failed)
    if not count:
        raise DataError("no picture can be read", where=str(paths[0].parent), cure="Check the files.")
    kept = np.delete(np.arange(len(paths)), list(failed)) if failed else np.arange(len(paths))
    found = store[:count] if place is None else place.end(count)
    return found, kept, dict(Counter(failed.values()))


def _digest(paths: Sequence[Path], *columns: Sequence[object] | None) -> str:
    """What is decoded, in which order."""
    seal = hashlib.sha256("\n".join(map(str, paths)).encode(errors="surrogateescape"))
    for column in columns:
        if column is not None and any(column):
            seal.update(repr(list(column)).encode())
    return seal.hexdigest()
