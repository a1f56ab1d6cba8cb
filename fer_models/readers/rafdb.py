"""RAF-DB as its owner ships it (Li, Deng and Du 2017): the basic and the compound set, with gender, race and age.

::

    basic/EmoLabel/list_patition_label.txt          train_00001.jpg 5
    basic/Image/aligned/train_00001_aligned.jpg
    basic/Image/original/train_00001.jpg
    basic/Annotation/manual/train_00001_manu_attri.txt

The compound set lies in a folder ``compound`` in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fer_models.errors import DataError
from fer_models.labels import RAFDB_CODES, RAFDB_COMPOUND_CODES
from fer_models.readers.listing import Listing, coded, reading, require_choice
from fer_models.readers.people import RAF_AGE, RAF_GENDER, RAF_RACE
from fer_models.readers.protocol import follow
from fer_models.readers.tables import below, inner, text_of

LISTS = "list_patition_label.txt|list_partition_label.txt"
"""Names of the list of labels; the owner's files are spelt without the r."""

_PARTS: Mapping[str, Mapping[str, str]] = {"basic": RAFDB_CODES, "compound": RAFDB_COMPOUND_CODES}
_CURE = "Give the folder that holds basic/ with EmoLabel, Image and Annotation, as its owner ships it."


def list_rafdb(
    root: Path,
    *,
    part: str = "basic",
    pictures: str = "aligned",
    attributes: bool = True,
    protocol: Path | str | None = None,
) -> Listing:
    """List RAF-DB.

    Parameters
    ----------
    root : folder that holds ``basic`` or ``compound``, or one of these itself.
    part : ``basic``, seven classes, or ``compound``, eleven of two expressions each.
    pictures : ``aligned``, 100 x 100 pixels, or ``original``, the whole photograph.
    attributes : whether to read gender, race and age, which annotators estimated.
    protocol : folder of the fair protocol's csv files, see :mod:`fer_models.readers.protocol`.

    Raises
    ------
    DataError : a file is missing, or holds an unknown code; the message names file and line.
    """
    require_choice("part", part, _PARTS)
    require_choice("pictures", pictures, ("aligned", "original"))
    folder = inner(root, part)
    names = below(folder, "EmoLabel", LISTS, cure=_CURE)
    images = below(folder, "Image", pictures, cure=_CURE)
    cure = f"{_CURE} Or set attributes=false."
    manual = below(folder, "Annotation", "manual", cure=cure) if attributes else None
    listing = Listing(f"RAF-DB {part}", root)
    for number, line in enumerate(text_of(names).splitlines(), 1):
        if line.strip():
            _add(listing, line, f"{names}:{number}", _PARTS[part], images, manual)
    if protocol is not None:
        follow(listing, Path(protocol))
    return listing


read_rafdb = reading(list_rafdb)


def _add(
    listing: Listing, line: str, where: str, codes: Mapping[str, str], images: Path, manual: Path | None
) -> None:
    """Add the picture of one line of the list of labels."""
    cells = line.split()
    stem = Path(cells[0]).stem
    split = stem.split("_")[0]
    if len(cells) != 2 or Path(cells[0]).name != cells[0] or split not in ("train", "test"):
        cure = "A line reads: train_00001.jpg 5. Get the list again from the data set's owner."
        raise DataError(f"{line.strip()!r} names no picture and code", where=where, cure=cure)
    name = f"{stem}_aligned.jpg" if images.name.lower() == "aligned" else cells[0]
    listing.add(
        images / name,
        coded(codes, cells[1], "code", where=where),
        split=split,
        groups={} if manual is None else attributes_of(manual / f"{stem}_manu_attri.txt"),
    )


def attributes_of(path: Path) -> dict[str, str]:
    """Return gender, ethnicity and age from an attribute file: five points, then a code each.

    Raises
    ------
    DataError : the file is missing, or its last three words are no codes.
    """
    words = text_of(path).split()
    if len(words) != 13:
        cure = "It holds five points x y, then gender, race and age, a line each."
        raise DataError(f"{len(words)} words, not 13", where=str(path), cure=cure)
    gender, race, age = words[-3:]
    return {
        "gender": coded(RAF_GENDER, gender, "gender", where=str(path)),
        "ethnicity": coded(RAF_RACE, race, "race", where=str(path)),
        "age": coded(RAF_AGE, age, "age", where=str(path)),
    }
