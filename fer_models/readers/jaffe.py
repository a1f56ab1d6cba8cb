"""JAFFE as its owner ships it (Lyons et al. 1998): posed faces of ten women, and what 60 raters saw in them.

``KA.AN1.39.tiff`` is picture 39, the first of person KA posing anger. ``README_FIRST.txt`` beside the pictures holds
a table of mean ratings from 1 to 5 of six expressions, neutral is not among them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from fer_models.errors import DataError
from fer_models.labels import TWO_LETTER_CODES
from fer_models.readers.listing import OTHER_NAME, Listing, coded, reading, require_choice
from fer_models.readers.tables import text_of

SUBJECTS = ("KA", "KL", "KM", "KR", "MK", "NA", "NM", "TM", "UY", "YM")
"""The ten people."""

CODES = {code: TWO_LETTER_CODES[code] for code in ("AN", "DI", "FE", "HA", "NE", "SA", "SU")}
RATED = {
    "HAP": "happiness",
    "SAD": "sadness",
    "SUR": "surprise",
    "ANG": "anger",
    "DIS": "disgust",
    "FEA": "fear",
}
"""Columns of the table of ratings."""

NO_RATING = "picture without ratings"
UNDECIDED = "ratings have no single highest"

_NAME = re.compile(r"([A-Z]{2})\.([A-Z]{2})(\d*)\.(\d+)\.tiff?", re.IGNORECASE)
_ROW = re.compile(r"\s*(\d+)\s+((?:\d\.\d+\s+){6})([A-Z]{2})-([A-Z]{2}\d)\s*")


def list_jaffe(root: Path, *, target: str = "posed", ratings: Path | str | None = None) -> Listing:
    """List JAFFE.

    Parameters
    ----------
    root : folder of the pictures, or one that holds it.
    target : ``posed``, what the person was asked to show; ``rated``, the expression that raters saw most of, with
        the ratings as training targets; pictures posed neutral stay neutral, since nobody was asked about that.
    ratings : the text file with the ratings; the README_FIRST beside the pictures when None.

    Raises
    ------
    DataError : a name holds an unknown code, or the ratings cannot be found or read.
    """
    require_choice("target", target, ("posed", "rated"))
    listing = Listing("JAFFE", root)
    paths = [path for path in root.rglob("*") if path.is_file() and "__MACOSX" not in path.parts]
    rated = _ratings(_file(root, paths, ratings)) if target == "rated" else None
    for path in listing.pictures_in(paths):
        match = _NAME.fullmatch(path.name)
        if match is None:
            listing.skip(OTHER_NAME)
            continue
        person, code, take = match[1].upper(), match[2].upper(), match[3]
        coded({name: name for name in SUBJECTS}, person, "person", where=str(path))
        name = coded(CODES, code, "expression", where=str(path))
        votes = None
        if rated is not None and name != "neutral":
            ratings_here = rated.get((person, f"{code}{take}"))
            name = _seen(listing, ratings_here)
            votes = {shown: value - 1 for shown, value in (ratings_here or {}).items()}  # 1 says: not at all
        if name:
            groups = {"gender": "female", "ethnicity": "asian"}
            listing.add(path, name, subject=person, groups=groups, votes=votes)
    return listing


read_jaffe = reading(list_jaffe)


def _seen(listing: Listing, ratings: dict[str, float] | None) -> str:
    """The expression rated highest; empty where there is none, which is counted."""
    if ratings is None:
        listing.skip(NO_RATING)
        return ""
    highest = [name for name, value in ratings.items() if value == max(ratings.values())]
    if len(highest) > 1:
        listing.skip(UNDECIDED)
        return ""
    return highest[0]


def _file(root: Path, paths: list[Path], ratings: Path | str | None) -> Path:
    if ratings is not None:
        return Path(ratings).expanduser()
    found = sorted(path for path in paths if "README" in path.name.upper() and path.suffix.lower() != ".tiff")
    if not found:
        cure = "Put README_FIRST.txt beside the pictures, set ratings to its path, or set target=posed."
        raise DataError("no README_FIRST.txt with the ratings", where=str(root), cure=cure)
    return found[0]


def _ratings(path: Path) -> dict[tuple[str, str], dict[str, float]]:
    """(person, expression and take) -> expression -> mean rating, from the table with all six columns."""
    found = dict(_rows(path))
    if not found:
        cure = f"It holds a table with the columns {' '.join(RATED)} and PIC, such as KM-NE1."
        raise DataError("no table of ratings", where=str(path), cure=cure)
    return found


def _rows(path: Path) -> Iterator[tuple[tuple[str, str], dict[str, float]]]:
    columns: list[str] = []
    for line in text_of(path).splitlines():
        words = line.split()
        if any(word in RATED for word in words):
            columns = [RATED[word] for word in words if word in RATED]
        match = _ROW.fullmatch(line)
        if match and len(columns) == len(RATED):  # a second table leaves fear out
            values = map(float, match[2].split())
            yield (match[3], match[4]), dict(zip(columns, values, strict=True))
