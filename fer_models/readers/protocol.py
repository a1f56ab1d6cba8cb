"""The fair protocol's csv files for AffectNet and RAF-DB (Hu et al. 2024): splits, labels and groups by picture.

``train.csv``, ``valid.csv`` and ``test.csv`` hold the columns name, expression, age, gender and race, in any order.
Their authors send them to academics on request.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from fer_models.errors import DataError
from fer_models.labels import canonical
from fer_models.readers.listing import Listing, coded
from fer_models.readers.people import PROTOCOL_AGE, PROTOCOL_GENDER, PROTOCOL_RACE
from fer_models.readers.tables import below, table

FILES = {"train": "train.csv", "validation": "valid.csv|val.csv|validation.csv", "test": "test.csv"}
NOT_LISTED = "picture that the fair protocol does not list"

_CURE = "Give the folder that holds the fair protocol's train.csv, valid.csv and test.csv."


@dataclass(frozen=True)
class _Row:
    """What the protocol says of one picture."""

    place: str
    name: str
    split: str
    groups: dict[str, str]


def follow(listing: Listing, folder: Path) -> None:
    """Give the pictures of a listing the protocol's splits, labels and groups; leave the others out, counted.

    Raises
    ------
    DataError : a file or column is missing, a word is unknown, or a name fits no picture, several, or occurs twice.
    """
    places = _places(listing)
    told: dict[int, _Row] = {}
    for split, file in FILES.items():
        for key, row in _rows(below(folder, file, cure=_CURE), split):
            index = _only(places[key], key, row.place)
            if index in told:
                what = f"{key} occurs a second time, after {told[index].place}"
                raise DataError(what, where=row.place, cure="A picture belongs to one split: remove a line.")
            told[index] = row
    kept = Listing(listing.name, listing.root, skipped=listing.skipped)
    for index, path in enumerate(listing.paths):
        if index not in told:
            kept.skip(NOT_LISTED)
            continue
        row, box = told[index], listing.boxes[index]
        kept.add(path, row.name, split=row.split, groups=row.groups, box=box)
    vars(listing).update(vars(kept))


def _rows(path: Path, split: str) -> list[tuple[str, _Row]]:
    found = []
    for line, cells in table(path, ("name", "expression", "age", "gender", "race")):
        where = f"{path}:{line}"
        groups = {
            "gender": coded(PROTOCOL_GENDER, cells["gender"], "gender", where=where),
            "ethnicity": coded(PROTOCOL_RACE, cells["race"], "race", where=where),
            "age": coded(PROTOCOL_AGE, cells["age"], "age", where=where),
        }
        row = _Row(where, canonical(cells["expression"], where=where), split, groups)
        found.append(("/".join(Path(cells["name"]).parts[-2:]), row))
    return found


def _places(listing: Listing) -> dict[str, list[int]]:
    """File name, and folder with file name, -> rows; ``images`` and ``_aligned`` are no part of a name there."""
    places: dict[str, list[int]] = defaultdict(list)
    for index, path in enumerate(listing.paths):
        parents = [part for part in path.parts[:-1] if part.lower() != "images"]
        for name in {path.name, path.name.replace("_aligned", "")}:
            places[name].append(index)
            places["/".join((*parents[-1:], name))].append(index)
    return places


def _only(rows: list[int], key: str, where: str) -> int:
    if len(rows) != 1:
        what = f"{key} fits {len(rows)} pictures" if rows else f"there is no picture {key!r}"
        raise DataError(what, where=where, cure="Take the protocol's files of this very data set.")
    return rows[0]
