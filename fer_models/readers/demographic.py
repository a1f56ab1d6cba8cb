"""UTKFace and FairFace: faces with gender, age and ethnicity and without an expression.

They serve audits and balanced samples; nobody labelled an expression, so every picture is ``unlabelled``.
"""

from __future__ import annotations

from pathlib import Path

from fer_models.errors import DataError
from fer_models.labels import UNLABELLED
from fer_models.readers.groups import BANDS, group_column
from fer_models.readers.listing import Listing, coded, reading
from fer_models.readers.people import (
    FAIRFACE_AGE,
    FAIRFACE_RACE,
    PROTOCOL_GENDER,
    UTKFACE_GENDER,
    UTKFACE_RACE,
)
from fer_models.readers.tables import below, inside, table

LACKS_A_FIELD = "file name that lacks age, gender or race"

_FAIRFACE = "Give the folder that holds fairface_label_train.csv, fairface_label_val.csv, train/ and val/."


def list_utkface(root: Path) -> Listing:
    """List UTKFace: ``26_1_0_20170104235512345.jpg.chip.jpg`` is [age]_[gender]_[race]_[date and time].

    Age and groups were estimated by an algorithm and checked by an annotator; ages are cut into the usual bands.

    Raises
    ------
    DataError : a name holds an unknown code.
    """
    listing = Listing("UTKFace", root)
    for path in listing.pictures_in(root.rglob("*")):
        words = path.name.split("_")
        if len(words) < 4 or not words[0].isdecimal() or not all(words[:3]):
            listing.skip(LACKS_A_FIELD)
            continue
        groups = {
            "gender": coded(UTKFACE_GENDER, words[1], "gender", where=str(path)),
            "ethnicity": coded(UTKFACE_RACE, words[2], "race", where=str(path)),
            "age": str(group_column("age", [words[0]], BANDS["age"], [str(path)])[0]),
        }
        listing.add(path, UNLABELLED, groups=groups)
    return listing


def list_fairface(root: Path) -> Listing:
    """List FairFace: ``fairface_label_{train,val}.csv`` with the columns file, age, gender, race.

    What the owner calls val is the test part here, as in its paper.

    Raises
    ------
    DataError : a file is missing, or holds an unknown word; the message names file and line.
    """
    listing = Listing("FairFace", root)
    for part, split in (("train", "train"), ("val", "test")):
        path = below(root, f"fairface_label_{part}.csv", cure=_FAIRFACE)
        for line, cells in table(path, ("file", "age", "gender", "race")):
            where = f"{path}:{line}"
            name = inside(cells["file"], where=where)
            if name.parts[0] != part:
                cure = f"Files of this list lie in {part}/: download it again."
                raise DataError(f"{name} lies in another part", where=where, cure=cure)
            groups = {
                "gender": coded(PROTOCOL_GENDER, cells["gender"], "gender", where=where),
                "ethnicity": coded(FAIRFACE_RACE, cells["race"], "race", where=where),
                "age": coded(FAIRFACE_AGE, cells["age"], "age", where=where),
            }
            listing.add(root / name, UNLABELLED, split=split, groups=groups)
    return listing


read_utkface = reading(list_utkface)
read_fairface = reading(list_fairface)
