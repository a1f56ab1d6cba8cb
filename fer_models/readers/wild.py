"""SFEW 2.0, CAER-S, ExpW and FERG, each in its owner's tree."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from fer_models.errors import DataError
from fer_models.labels import EXPW_CODES, canonical
from fer_models.readers.classfolders import folders, list_classfolders
from fer_models.readers.listing import OTHER_NAME, Listing, coded, reading, require_choice
from fer_models.readers.people import FERG_GENDER
from fer_models.readers.tables import below, inner, inside, text_of

NO_LABEL = "test picture without a label"
TWICE = "line that repeats a face"
CONFLICT = "face with several labels or boxes"

_SFEW = "Give the folder that holds Train and Val, or Train_Aligned_Faces and Val_Aligned_Faces, of SFEW 2.0."
_EXPW = "Give the folder that holds label/label.lst and image/origin, as its owner ships it."
_FRAME = re.compile(r"(.+)_(\d{9})_(\d{8})\.\w+")


def list_sfew(root: Path, *, pictures: str = "aligned") -> Listing:
    """List SFEW 2.0: ``Train_Aligned_Faces/Angry/<film>_<time>_<frame>.png``.

    Val is the test part here, as in papers: the owner's Test comes without labels and is counted. The film stands
    for the person, so that no film lies on both sides of a split.

    Parameters
    ----------
    pictures : ``aligned`` faces, or ``whole`` frames.

    Raises
    ------
    DataError : a part is missing, or a class folder has an unknown name.
    """
    require_choice("pictures", pictures, ("aligned", "whole"))
    ending = "_Aligned_Faces" if pictures == "aligned" else ""
    listing = Listing("SFEW 2.0", root, subject_is="film")
    for part, split in (("Train", "train"), ("Val", "test")):
        for folder in folders(below(root, part + ending, cure=_SFEW)):
            name = canonical(folder.name, where=str(folder))
            for path in listing.pictures_in(folder.iterdir()):
                match = _FRAME.fullmatch(path.name)
                if match is None:
                    listing.skip(OTHER_NAME)
                else:
                    listing.add(path, name, split=split, subject=match[1])
    hidden = [path for path in folders(root) if path.name.lower() == f"test{ending.lower()}"]
    listing.skip(NO_LABEL, sum(path.suffix == ".png" for folder in hidden for path in folder.rglob("*")))
    return listing


def list_caers(root: Path) -> Listing:
    """List CAER-S: ``{train,test}/Anger/0001.png``, whole scenes of television series.

    Raises
    ------
    DataError : a folder name is neither class nor split.
    """
    listing = list_classfolders(inner(root, "CAER-S"))
    listing.name = "CAER-S"
    return listing


def list_expw(root: Path, *, confidence: float = 0.0) -> Listing:
    """List ExpW: ``label/label.lst`` with name, face number, box (top left right bottom), confidence and code.

    The photograph stands for the person, so that faces of one photograph lie on one side of a split.

    Parameters
    ----------
    confidence : of the face detector, below which a face is left out and counted.

    Raises
    ------
    DataError : a line is not of that form, or holds an unknown code.
    """
    labels = below(root, "label", "label.lst", cure=_EXPW)
    images = below(root, "image", "origin", cure=_EXPW)
    listing = Listing("ExpW", root, subject_is="photograph")
    faces: dict[tuple[str, str], set[tuple[str, ...]]] = defaultdict(set)
    places: dict[tuple[str, str], str] = {}
    for number, line in enumerate(text_of(labels).splitlines(), 1):
        words = tuple(line.split())
        if not words:
            continue
        where = f"{labels}:{number}"
        if len(words) != 8:
            cure = "A line reads: name face top left right bottom confidence code."
            raise DataError(f"{len(words)} words, not 8", where=where, cure=cure)
        coded(EXPW_CODES, words[7], "expression", where=where)
        inside(words[0], where=where)
        listing.skip(TWICE, int(words[2:] in faces[words[:2]]))
        faces[words[:2]].add(words[2:])
        places.setdefault(words[:2], where)
    for key, told in faces.items():
        if len(told) > 1:
            listing.skip(CONFLICT, len(told))
        else:
            _add_face(listing, images, key, next(iter(told)), confidence, places[key])
    return listing


def _add_face(
    listing: Listing,
    images: Path,
    key: tuple[str, str],
    words: tuple[str, ...],
    confidence: float,
    where: str,
) -> None:
    try:
        top, left, right, bottom, sure = map(float, words[:5])
    except ValueError as error:
        cure = "The box and the confidence are numbers: get the list again."
        raise DataError(f"no face box: {' '.join(words[:5])}", where=where, cure=cure) from error
    if sure < confidence:
        listing.skip(f"confidence of the face below {confidence:g}")
        return
    name, face = key
    box = (left, top, right, bottom)
    listing.add(images / name, EXPW_CODES[words[5]], subject=name, box=box, mark=f"#{face}")


def list_ferg(root: Path) -> Listing:
    """List FERG: ``FERG_DB_256/<character>/<character>_<emotion>/*.png``, drawn characters.

    Raises
    ------
    DataError : a character or an emotion is unknown.
    """
    base = inner(root, "FERG_DB_256")
    listing = Listing("FERG", base, subject_is="drawn character")
    for character in folders(base):
        person = character.name.lower()
        groups: Mapping[str, str] = {
            "gender": coded(FERG_GENDER, person, "character", where=str(character)),
            "style": "drawn character",
        }
        for folder in folders(character):
            word = folder.name.lower().removeprefix(f"{person}_")
            name = canonical(word, where=str(folder))
            for path in listing.pictures_in(folder.iterdir()):
                listing.add(path, name, subject=person, groups=groups)
    return listing


read_sfew = reading(list_sfew)
read_caers = reading(list_caers)
read_expw = reading(list_expw)
read_ferg = reading(list_ferg)
