"""CK+ as its owner ships it (Lucey et al. 2010), and the reposted pictures known as CK+48.

::

    cohn-kanade-images/S005/001/S005_001_00000011.png
    Emotion/S005/001/S005_001_00000011_emotion.txt               3.0000000e+00

A sequence runs from a neutral face to the peak; 327 of the 593 have an emotion file, named after the peak's frame.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from fer_models.errors import DataError
from fer_models.labels import CKPLUS_CODES, canonical
from fer_models.readers.classfolders import folders
from fer_models.readers.listing import OTHER_NAME, Listing, coded, reading, require_choice, require_frames
from fer_models.readers.pictures import APPLEDOUBLE
from fer_models.readers.tables import below, inner, text_of

NO_LABEL = "sequence without an emotion file"
NO_SEQUENCE = "emotion file without its sequence"

_CURE = "Give the folder that holds cohn-kanade-images and Emotion, as their owner ships them."
_LABEL = re.compile(r"(S\d{3})_(\d{3})_(\d{8})_emotion\.txt", re.IGNORECASE)
_FRAME = re.compile(r"(S\d{3})_(\d{3})_(\d{8})\.\w+", re.IGNORECASE)


def list_ckplus(root: Path, *, neutral: str = "subject", peaks: int = 1) -> Listing:
    """List CK+: the last frames of labelled sequences, and first frames as neutral.

    Parameters
    ----------
    root : folder with ``cohn-kanade-images`` and ``Emotion``; or class folders of CK+48, whose options are none.
    neutral : whose first frame is taken as neutral: ``subject``, of each person's first labelled sequence;
        ``sequence``, of every labelled sequence; ``none``.
    peaks : how many of a sequence's last frames are taken, 1 or 3 usually. They are nearly the same picture.

    Raises
    ------
    DataError : a file is missing, or holds an unknown code; the message names the file.
    """
    require_choice("neutral", neutral, ("subject", "sequence", "none"))
    require_frames("peaks", peaks)
    inside = {path.name.lower() for path in root.iterdir() if path.is_dir()}
    listing = Listing("CK+", root)
    if {"anger", "disgust"} <= inside:
        _add_reposted(listing)
        return listing
    images = below(inner(root, "extended-cohn-kanade-images"), "cohn-kanade-images", cure=_CURE)
    labels = inner(below(root, "Emotion|Emotion_labels", cure=_CURE), "Emotion")
    told = dict(_labels(listing, labels))
    sequences = [sequence for person in folders(images) for sequence in folders(person)]
    seen: set[str] = set()
    for sequence in sequences:
        subject, key = sequence.parent.name, (sequence.parent.name.upper(), sequence.name)
        if key not in told:
            listing.skip(NO_LABEL)
            continue
        label, expression = told.pop(key)
        frames = _frames(listing, sequence)
        _add_peaks(listing, frames, label, expression, peaks)
        if neutral == "sequence" or (neutral == "subject" and subject not in seen):
            listing.add(frames[0], "neutral", subject=subject.upper())
        seen.add(subject)
    listing.skip(NO_SEQUENCE, len(told))
    return listing


read_ckplus = reading(list_ckplus)


def _labels(listing: Listing, folder: Path) -> Iterator[tuple[tuple[str, str], tuple[Path, str]]]:
    """Yield (subject, sequence) -> (label file, expression); a folder without a file yields none."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        match = _LABEL.fullmatch(path.name)
        if match is None:
            listing.skip(APPLEDOUBLE if path.name.startswith("._") else OTHER_NAME)
            continue
        words = text_of(path).split()
        try:
            code = str(int(float(words[0])))
        except (IndexError, ValueError, OverflowError) as error:
            cure = "It holds one number from 0 to 7: unpack Emotion_labels again."
            raise DataError("no emotion code", where=str(path), cure=cure) from error
        expression = coded(CKPLUS_CODES, code, "emotion code", where=str(path))
        yield (match[1].upper(), match[2]), (path, expression)


def _frames(listing: Listing, folder: Path) -> list[Path]:
    """The pictures of a folder under the owner's names, in order; the others are counted."""
    pictures = listing.pictures_in(folder.iterdir())
    frames = [path for path in pictures if _FRAME.fullmatch(path.name)]
    listing.skip(OTHER_NAME, len(pictures) - len(frames))
    return frames


def _add_peaks(listing: Listing, frames: list[Path], label: Path, expression: str, peaks: int) -> None:
    """Add the frames that end with the one that the label file is named after."""
    peak = label.name.lower().removesuffix("_emotion.txt")
    ends = [index for index, frame in enumerate(frames) if frame.stem.lower() == peak]
    if not ends or ends[0] < peaks:
        what = f"there is no frame {peak} with {peaks} before it"
        raise DataError(what, where=str(label), cure="Unpack cohn-kanade-images again, or set peaks lower.")
    for frame in frames[ends[0] + 1 - peaks : ends[0] + 1]:
        listing.add(frame, expression, subject=frame.name[:4].upper())


def _add_reposted(listing: Listing) -> None:
    """CK+48: the last three frames of the labelled sequences, cropped to 48 x 48, one folder a class."""
    listing.name = "CK+48"
    for folder in folders(listing.root):
        name = canonical(folder.name, where=str(folder))
        for path in _frames(listing, folder):
            listing.add(path, name, subject=path.name[:4].upper())
