"""FER2013 as folders of pictures: the reposted class folders, and the pictures that FER+ writes beside its votes.

::

    train/angry/Training_3908.jpg  test/angry/PublicTest_10.jpg     class folders; the number is no row of the csv file
    FER2013Train/label.csv  FER2013Train/fer0000000.png             also FER2013Valid, FER2013Test; without a header

The names of the first say the challenge's part, whatever folder they lie in.
"""

from __future__ import annotations

import csv
import io
import re
from collections import defaultdict
from pathlib import Path

import numpy as np

from fer_models.errors import DataError
from fer_models.labels import EXPRESSIONS, FERPLUS_COLUMNS, canonical
from fer_models.readers.classfolders import folders
from fer_models.readers.ferplus import NO_NAME, Ballot, is_votes, targets
from fer_models.readers.listing import OTHER_NAME, Listing
from fer_models.readers.tables import below, inside, text_of
from fer_models.samples import is_split, split_name

PARTS = {"FER2013Train": "train", "FER2013Valid": "validation", "FER2013Test": "test"}
"""Folders that FER+ writes, and the split each of them becomes."""

TWICE = "FER+ line that repeats a picture"
CONFLICT = "FER+ picture with several vectors of votes"

_NAME = re.compile(r"(Training|PublicTest|PrivateTest)_\d+\.\w+", re.IGNORECASE)
_NUMBER = re.compile(r"\d+\.\w+")
_FERPLUS = "Give the folder that holds FER2013Train, FER2013Valid and FER2013Test, each with its label.csv."


def holds_tree(root: Path) -> bool:
    """Whether a folder holds class folders in folders of splits, or ``images`` that does."""
    return any(is_split(path.name) for path in folders(_inner(root)))


def holds_ferplus(root: Path) -> bool:
    """Whether a folder holds what FER+ writes, or ``data`` that does."""
    return any(path.name in PARTS for path in folders(_inner(root)))


def _inner(root: Path) -> Path:
    return next((root / name for name in ("images", "data") if (root / name).is_dir()), root)


def list_tree(root: Path) -> Listing:
    """List class folders: ``{train,test}/angry/PrivateTest_17.jpg``, or ``images/{train,validation}/angry/17.jpg``.

    In the first form the names tell validation from test, which lie in one folder. The second was divided by who
    reposted it.

    Raises
    ------
    DataError : a folder name is neither class nor split, or a picture of Training does not lie in train.
    """
    listing = Listing("FER2013", root)
    for part in folders(_inner(root)):
        split = split_name(part.name, where=str(part))
        for folder in folders(part):
            name = canonical(folder.name, where=str(folder))
            for path in listing.pictures_in(folder.iterdir()):
                match = _NAME.fullmatch(path.name)
                own = split_name(match[1], where=str(path)) if match else split
                if not match and not _NUMBER.fullmatch(path.name):
                    listing.skip(OTHER_NAME)
                elif (own == "train") != (split == "train"):
                    cure = "Unpack the folders again: this picture lies in another part than its name says."
                    raise DataError(f"a picture of {own} in {part.name}", where=str(path), cure=cure)
                else:
                    listing.add(path, name, split=own)
    return listing


def list_ferplus(root: Path, rule: str) -> Listing:
    """List the pictures that FER+ writes, with its votes: ``fer0000000.png,"(0, 0, 48, 48)",4,0,0,1,3,2,0,0,0,0``.

    A line that says of a picture what another line says already is counted; a picture with two different vectors of
    votes is left out.

    Parameters
    ----------
    rule : of :data:`fer_models.readers.ferplus.RULES`.

    Raises
    ------
    DataError : a part is missing, or a line is not of that form.
    """
    listing = Listing("FER2013 with FER+ votes", root)
    for part, split in PARTS.items():
        folder = below(_inner(root), part, cure=_FERPLUS)
        path = below(folder, "label.csv", cure=_FERPLUS)
        told: dict[str, set[tuple[int, ...]]] = defaultdict(set)
        for number, row in enumerate(csv.reader(io.StringIO(text_of(path))), 1):
            _take(listing, row, told, f"{path}:{number}")
        sure = [(name, next(iter(votes))) for name, votes in told.items() if len(votes) == 1]
        listing.skip(CONFLICT, len(told) - len(sure))
        _add(listing, folder, sure, split, rule)
    return listing


def _take(listing: Listing, row: list[str], told: dict[str, set[tuple[int, ...]]], where: str) -> None:
    """Add the votes of one line to those of its picture."""
    if not row:
        return
    cells = [cell.strip() for cell in row]
    if len(cells) != 2 + len(FERPLUS_COLUMNS) or not is_votes(cells[2:]):
        cure = "A line reads: name of the picture, its box, ten numbers of votes. Make label.csv again."
        raise DataError(f"{len(cells)} cells, or no numbers of votes", where=where, cure=cure)
    if not cells[0]:
        listing.skip(NO_NAME)
        return
    votes = tuple(int(cell) for cell in cells[2:])
    listing.skip(TWICE, int(votes in told[inside(cells[0], where=where).as_posix()]))
    told[cells[0]].add(votes)


def _add(
    listing: Listing, folder: Path, sure: list[tuple[str, tuple[int, ...]]], split: str, rule: str
) -> None:
    """Add the pictures of one part that the rule keeps; count the others."""
    votes = np.array([each for _, each in sure], np.int32).reshape(-1, len(FERPLUS_COLUMNS))
    made = targets(Ballot([], [], np.ones(len(sure), bool), votes), rule)
    for (name, _), label, weights, reason in zip(sure, made.label, made.votes, made.reason, strict=True):
        if reason:
            listing.skip(str(reason))
        else:
            weighted: dict[str, float] = dict(zip(EXPRESSIONS, weights.tolist(), strict=True))
            listing.add(folder / name, EXPRESSIONS[label], split=split, votes=weighted)
