"""DFEW, FERV39k and MAFW: clips of films and series, of which some frames are taken.

The unit is the clip: all its frames have its label and its votes, and its name keeps them in one split. Who is on a
clip is not known, so a subject is a clip and no person.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from fer_models.errors import DataError
from fer_models.labels import CLIP_CODES, DFEW_CODES, EXPRESSIONS, FURTHER, canonical
from fer_models.readers.listing import Listing, coded, reading, require_choice
from fer_models.readers.sequences import add_clip
from fer_models.readers.sheets import sheet
from fer_models.readers.tables import below, inner, table, text_of

NO_VOTES = "clip without votes"

MAFW_WORDS: Mapping[str, str] = {name: name for name in (*EXPRESSIONS, *FURTHER)}
"""Words of MAFW's own lists and of the header of its votes."""

_DFEW = "Give the folder that holds EmoLabel_DataSplit and Clip, as its owner ships it."
_LISTS = (
    "Put the owner's lists ({}), or those of DFER-CLIP (annotation/ in github.com/zengqunzhao/DFER-CLIP), "
    "into the folder."
)
_FERV39K = _LISTS.format("4_setups/All_scenes/train_All.csv and test_All.csv")
_MAFW = _LISTS.format("Train & Test Set/single/no_caption/set_1/train.txt and test.txt")
_VOTES = "Put the owner's {} into the folder, or leave votes=true out."

Votes = dict[str, dict[str, float]]
"""Clip -> class -> how many annotators saw it, or which share of them."""


def list_dfew(root: Path, *, fold: int = 1, frames: int = 1, votes: bool = False) -> Listing:
    """List DFEW: ``EmoLabel_DataSplit/train(single-labeled)/set_1.csv`` and ``Clip/clip_224x224/00001/*.jpg``.

    Parameters
    ----------
    fold : 1 to 5 of the owner's five; whose test part is the test part.
    frames : taken of a clip, evenly spaced.
    votes : train on the ten annotators' votes, of ``Annotation/annotation.xlsx``: seven votes, clip, label.

    Raises
    ------
    DataError : a file is missing, or holds an unknown code.
    """
    require_choice("fold", fold, range(1, 6))
    clips = below(root, "Clip", "clip_224x224", cure=_DFEW)
    told = (
        _dfew_votes(below(root, "Annotation", "annotation.xlsx", cure=_cure("Annotation"))) if votes else None
    )
    listing = Listing(f"DFEW fold {fold}", root, subject_is="clip")
    lists = below(root, "EmoLabel_DataSplit", cure=_DFEW)
    for split in ("train", "test"):
        path = below(lists, f"{split}(single-labeled)|{split}(single_labeled)", f"set_{fold}.csv", cure=_DFEW)
        for line, cells in table(path, ("video_name", "label")):
            where = f"{path}:{line}"
            if not cells["video_name"].isdecimal():
                cure = "It is a number such as 1 or 00001: get the csv file again."
                raise DataError(f"no clip {cells['video_name']!r}", where=where, cure=cure)
            name = coded(DFEW_CODES, cells["label"], "label", where=where)
            _add(listing, clips / cells["video_name"].zfill(5), frames, name, split, told)
    return listing


def list_ferv39k(root: Path, *, frames: int = 1) -> Listing:
    """List FERV39k: ``2_ClipsforFaceCrop/<scene>/<class>/<clip>/*.jpg``.

    With the owner's lists, ``4_setups/All_scenes/train_All.csv``, or those of DFER-CLIP, ``FERV39K_train.txt``.

    Parameters
    ----------
    frames : taken of a clip, evenly spaced.

    Raises
    ------
    DataError : a list is missing, a code or word is unknown, or the list and a folder's class differ.
    """
    clips = below(root, "2_ClipsforFaceCrop", cure=_FERV39K)
    listing = Listing("FERV39k", root, subject_is="clip")
    own = inner(inner(root, "4_setups"), "All_scenes")
    lists = ("{}_All.csv", own, 2) if own != root else ("FERV39K_{}.txt", root, 3)
    for split, where, parts, told in _clips(*lists, 3, _FERV39K):
        name = canonical(told, where=where) if own != root else coded(CLIP_CODES, told, "code", where=where)
        scene, word, clip = parts
        if canonical(word, where=where) != name:
            cure = "Take the list of this very data set; codes differ between lists."
            raise DataError(f"the list says {name}, the folder {word}", where=where, cure=cure)
        _add(listing, clips / scene / word / clip, frames, name, split, None, {"scene": scene})
    return listing


def list_mafw(root: Path, *, fold: int = 1, frames: int = 1, votes: bool = False) -> Listing:
    """List MAFW: ``data/faces/00001/*.jpg``; eleven classes.

    With the owner's lists, ``Train & Test Set/single/no_caption/set_1/train.txt``, or those of DFER-CLIP,
    ``MAFW_set_1_train.txt``.

    Parameters
    ----------
    fold : 1 to 5, whose test part is the test part.
    frames : taken of a clip, evenly spaced.
    votes : train on the eleven annotators' votes, of ``Labels/annotation.xlsx``, a column a class.

    Raises
    ------
    DataError : a list is missing, or holds an unknown code or word.
    """
    require_choice("fold", fold, range(1, 6))
    clips = below(root, "data", "faces|frames", cure=_MAFW)
    told = _mafw_votes(below(root, "Labels", "annotation.xlsx", cure=_cure("Labels"))) if votes else None
    listing = Listing(f"MAFW fold {fold}", root, subject_is="clip")
    own = root
    for step in ("Train & Test Set", "single", "no_caption", f"set_{fold}"):
        own = inner(own, step)
    lists = (f"MAFW_set_{fold}_{{}}.txt", root, 3) if own == root else ("{}.txt", own, 2)
    for split, where, parts, word in _clips(*lists, 1, _MAFW):
        codes = CLIP_CODES if own == root else MAFW_WORDS
        name = coded(codes, word, "code or word", where=where)
        _add(listing, clips / Path(parts[0]).stem, frames, name, split, told)
    return listing


def _cure(folder: str) -> str:
    return _VOTES.format(f"{folder}/annotation.xlsx")


def _add(
    listing: Listing,
    clip: Path,
    frames: int,
    name: str,
    split: str,
    told: Votes | None,
    groups: Mapping[str, str] | None = None,
) -> None:
    """Add frames of one clip, with its votes where these are asked for; a clip without any is counted."""
    votes = None if told is None else told.get(clip.name)
    if told is not None and not any((votes or {}).values()):
        listing.skip(NO_VOTES)
        return
    add_clip(listing, clip, frames, name, split=split, groups=groups, votes=votes)


def _clips(
    file: str, folder: Path, length: int, depth: int, cure: str
) -> Iterator[tuple[str, str, tuple[str, ...], str]]:
    """Yield split, place, last parts of the clip's folder, and code or word of every line of the lists ``file``.

    The braces in the name stand for train and test; a line of two words reads ``<clip> <class>``, one of three
    ``<clip> <frames> <code>``.
    """
    for split in ("train", "test"):
        path = below(folder, file.format(split), cure=cure)
        for number, line in enumerate(text_of(path).splitlines(), 1):
            words = line.split()
            if not words:
                continue
            where = f"{path}:{number}"
            parts = Path(words[0]).parts[-depth:]
            if len(words) != length or len(parts) != depth or ".." in parts:
                cure = "A line reads: the clip, or its folder and number of frames, and its code or class."
                raise DataError(f"{line.strip()!r} names no clip", where=where, cure=cure)
            yield split, where, parts, words[-1]


def _dfew_votes(path: Path) -> Votes:
    names, found = list(DFEW_CODES.values()), {}
    for number, row in enumerate(sheet(path), 1):
        if number == 1 and row and not _is_number(row[0]):
            continue  # a header
        if len(row) < 8:
            cure = "A row reads: seven votes, clip, label. Get annotation.xlsx again."
            raise DataError(f"{len(row)} cells, not 8 or more", where=f"{path}, row {number}", cure=cure)
        clip = Path(row[7]).stem.partition(".")[0].zfill(5)
        found[clip] = _votes(names, row[:7], f"{path}, row {number}")
    return found


def _mafw_votes(path: Path) -> Votes:
    rows = sheet(path)
    header = [cell.lower() for cell in rows[0]] if rows else []
    missing = [name for name in ("clip", *MAFW_WORDS) if name not in header]
    if missing:
        cure = "Its first row names clip and the eleven classes. Get annotation.xlsx again."
        raise DataError(f"no column {missing[0]!r}", where=f"{path}, row 1", cure=cure)
    columns, found = [header.index(name) for name in MAFW_WORDS], {}
    for number, row in enumerate(rows[1:], 2):
        cells = row + [""] * (len(header) - len(row))
        clip = Path(cells[header.index("clip")]).stem
        found[clip] = _votes(list(MAFW_WORDS), [cells[at] for at in columns], f"{path}, row {number}")
    return found


def _votes(names: list[str], cells: list[str], where: str) -> dict[str, float]:
    if not all(_is_number(cell) for cell in cells):
        raise DataError(f"no votes: {' '.join(cells)}", where=where, cure="Get annotation.xlsx again.")
    return dict(zip(names, map(float, cells), strict=True))


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell)) and float(cell) >= 0
    except ValueError:
        return False


read_dfew = reading(list_dfew)
read_ferv39k = reading(list_ferv39k)
read_mafw = reading(list_mafw)
