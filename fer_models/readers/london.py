"""The Face Research Lab London Set as its owners ship it (DeBruine and Jones 2017): ``NNN_03.jpg``, ``NNN_08.jpg``.

``london_faces_info.csv`` or ``london_info.csv`` tells age, gender and ethnicity, which people told of themselves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from fer_models.errors import DataError
from fer_models.labels import UNDISCLOSED
from fer_models.readers.groups import BANDS, group_column
from fer_models.readers.listing import OTHER_NAME, Listing, coded, reading
from fer_models.readers.people import LONDON_ETHNICITY, SEX_WORDS
from fer_models.readers.tables import table

POSES = {"03": "neutral", "08": "happiness"}
"""Number of the picture -> what the person was asked to show; the other numbers are views from the side."""

NOT_FRONTAL = "view from the side"
_NAME = re.compile(r"(\d{3})_(\d\d)\.jpe?g", re.IGNORECASE)


def list_london(root: Path) -> Listing:
    """List the London Set: pictures in any folder below, and one csv file about the people.

    Several ethnicities of one person, such as ``east_asian/white``, become ``other``.

    Raises
    ------
    DataError : there is no csv file, a person is missing in it, or a word is unknown.
    """
    files = sorted(path for path in root.rglob("london*info.csv") if not path.name.startswith("._"))
    if not files:
        cure = "Put london_faces_info.csv into the folder of the pictures."
        raise DataError("no london_faces_info.csv in the folder", where=str(root), cure=cure)
    people = _people(files[0])
    listing = Listing("London Set", root)
    for path in listing.pictures_in(root.rglob("*")):
        match = _NAME.fullmatch(path.name)
        if match is None:
            listing.skip(OTHER_NAME)
        elif match[2] not in POSES:
            listing.skip(NOT_FRONTAL)
        elif match[1] not in people:
            cure = "Take the csv file of the same release."
            raise DataError(f"person {match[1]} is not in {files[0].name}", where=str(path), cure=cure)
        else:
            listing.add(path, POSES[match[2]], subject=match[1], groups=people[match[1]])
    return listing


read_london = reading(list_london)


def _people(path: Path) -> dict[str, dict[str, str]]:
    found = {}
    for line, cells in table(path, ("face_id", "face_age", "face_gender", "face_eth")):
        where = f"{path}:{line}"
        number = cells["face_id"].upper().removeprefix("X").zfill(3)
        several = "/" in cells["face_eth"]
        found[number] = {
            "gender": _told(SEX_WORDS, cells["face_gender"], "gender", where),
            "ethnicity": "other"
            if several
            else _told(LONDON_ETHNICITY, cells["face_eth"], "ethnicity", where),
            "age": str(group_column("age", [cells["face_age"]], BANDS["age"], [where])[0]),
        }
    return found


def _told(words: Mapping[str, str], cell: str, what: str, where: str) -> str:
    return UNDISCLOSED if cell in ("", "NA") else coded(words, cell.lower(), what, where=where)
