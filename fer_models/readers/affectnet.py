"""AffectNet as its owner ships it (Mollahosseini et al. 2017): the csv release, and the later npy release.

::

    Manually_Annotated_file_lists/{training,validation}.csv
    Manually_Annotated_Images/<folder>/<hash>.jpg                whole pictures; the csv files tell the face

    {train_set,val_set}/images/<id>.jpg                          faces, 224 x 224
    {train_set,val_set}/annotations/<id>_exp.npy

What the owner calls validation is what papers report as test: here it is the test part.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fer_models.errors import DataError
from fer_models.labels import AFFECTNET_CODES, AFFECTNET_NO_EXPRESSION
from fer_models.readers.listing import Listing, coded, reading
from fer_models.readers.pictures import Box
from fer_models.readers.protocol import follow
from fer_models.readers.tables import below, inner, inside, table

NO_BOX = "row without a face box"
NO_ANNOTATION = "picture without an annotation"

COLUMNS = (
    "subDirectory_filePath",
    "face_x",
    "face_y",
    "face_width",
    "face_height",
    "facial_landmarks",
    "expression",
    "valence",
    "arousal",
)
"""Columns of the csv release, for a file that comes without a header."""

_CURE = "Give the folder with Manually_Annotated_file_lists and Manually_Annotated_Images, or train_set and val_set."


def list_affectnet(root: Path, *, crop: bool = True, protocol: Path | str | None = None) -> Listing:
    """List AffectNet's manually annotated faces with one of the eight expressions.

    Parameters
    ----------
    root : folder of either release; which one it is shows in the folders inside.
    crop : csv release: cut the face out by the box in the csv file; False takes the central square.
    protocol : folder of the fair protocol's csv files, see :mod:`fer_models.readers.protocol`.

    Raises
    ------
    DataError : a file is missing, or holds an unknown code; the message names file and line.
    """
    listing = Listing("AffectNet", root)
    folders = {path.name.lower() for path in root.iterdir() if path.is_dir()}
    if "train_set" in folders:
        for name, split in (("train_set", "train"), ("val_set", "test")):
            _add_npy(listing, below(root, name, cure=_CURE), split)
    else:
        lists = inner(root, "Manually_Annotated_file_lists")
        images = below(root, "Manually_Annotated_Images|Manually_Annotated", cure=_CURE)
        for name, split in (("training.csv", "train"), ("validation.csv", "test")):
            _add_csv(listing, below(lists, name, cure=_CURE), images, split, crop)
    if protocol is not None:
        follow(listing, Path(protocol))
    return listing


read_affectnet = reading(list_affectnet)


def _add_csv(listing: Listing, path: Path, images: Path, split: str, crop: bool) -> None:
    required = [name for name in COLUMNS if name not in ("facial_landmarks", "valence", "arousal")]
    for line, cells in table(path, required, without=COLUMNS):
        where = f"{path}:{line}"
        name = inside(cells["subDirectory_filePath"], where=where)
        expression = _expression(listing, cells["expression"], where)
        if expression is None:
            continue
        box = _box(cells, where)
        if box is None and crop:
            listing.skip(NO_BOX)
            continue
        listing.add(images / name, expression, split=split, box=box if crop else None)


def _expression(listing: Listing, code: str, where: str) -> str | None:
    """Return the expression of a code; None for a picture without one, which is counted."""
    reason = AFFECTNET_NO_EXPRESSION.get(code)
    if reason is None:
        return coded(AFFECTNET_CODES, code, "expression", where=where)
    listing.skip(reason)
    return None


def _box(cells: dict[str, str], where: str) -> Box | None:
    """Return the face of a row, None where it has no width, which is how the owner says that there is none."""
    told = [cells[name] for name in COLUMNS[1:5]]
    if any(cell.upper() in ("NULL", "") for cell in told):
        return None
    try:
        x, y, width, height = map(float, told)
    except ValueError as error:
        cure = "Download the csv file again, or correct the line."
        raise DataError(f"no face box: {' '.join(told)}", where=where, cure=cure) from error
    return (x, y, x + width, y + height) if width > 0 and height > 0 else None


def _add_npy(listing: Listing, folder: Path, split: str) -> None:
    images = below(folder, "images", cure=_CURE)
    codes = sorted(below(folder, "annotations", cure=_CURE).glob("*_exp.npy"), key=_number)
    pictures = {path.stem: path for path in listing.pictures_in(images.iterdir())}
    for path in codes:
        stem = path.name.removesuffix("_exp.npy")
        picture = pictures.pop(stem, images / f"{stem}.jpg")
        expression = _expression(listing, _code(path), str(path))
        if expression is not None:
            listing.add(picture, expression, split=split)
    listing.skip(NO_ANNOTATION, len(pictures))


def _number(path: Path) -> tuple[int, str]:
    stem = path.name.removesuffix("_exp.npy")
    return (int(stem) if stem.isdecimal() else -1, stem)


def _code(path: Path) -> str:
    """The one value of an annotation file, which is a number in some copies and a text in others."""
    try:
        return str(int(str(np.load(path, allow_pickle=False)[()])))
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"no expression code: {str(error) or type(error).__name__}",
            where=str(path),
            cure="It holds one whole number: unpack the annotations again.",
        ) from error
