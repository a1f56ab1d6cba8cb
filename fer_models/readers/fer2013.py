"""FER2013 as one csv file (Goodfellow et al. 2013), with FER+ votes joined by row order.

``fer2013.csv`` has the columns emotion, pixels, Usage; ``icml_face_data.csv`` the same in another order and
with blanks in the names. Both may be gzip files. ``fer2013new.csv`` holds one row of votes for each row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_models.errors import ConfigError, DataError
from fer_models.labels import EXPRESSIONS, FER2013_CODES, SEVEN
from fer_models.readers.fer2013_folders import holds_ferplus, holds_tree, list_ferplus, list_tree
from fer_models.readers.ferplus import Ballot, known_rule, read_ballot, targets
from fer_models.readers.listing import Listing, samples_of
from fer_models.readers.tables import Progress, check_header, existing, opened
from fer_models.samples import MAPPED_ABOVE, Samples, picture_store
from fer_models.stores import Building

SIZE = 48
"""Height and width of a picture in pixels."""

NAMES = ("fer2013.csv", "fer2013.csv.gz", "icml_face_data.csv", "icml_face_data.csv.gz")
"""File names looked for in a folder, in this order."""

VOTE_NAMES = ("fer2013new.csv", "fer2013new.csv.gz")
"""Names of the FER+ file looked for beside the pictures, in this order."""

USAGE = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}
"""The challenge's parts and the split each of them becomes."""

_COLUMNS = ("emotion", "pixels", "Usage")
_PIXEL_BYTES = b"0123456789 "


@dataclass
class _Rows:
    """The csv file row by row."""

    pixels: list[NDArray[np.uint8]] = field(default_factory=list)
    code: list[str] = field(default_factory=list)
    usage: list[str] = field(default_factory=list)
    line: list[int] = field(default_factory=list)


def read_fer2013(
    root: Path | str,
    *,
    votes: Path | str | None = "auto",
    rule: str = "majority",
    mapped_above: int = MAPPED_ABOVE,
    progress: Progress | None = None,
    building: Building | None = None,
) -> Samples:
    """Read FER2013 and, unless ``rule`` is ``original``, its FER+ votes.

    Parameters
    ----------
    root : the csv file, or the folder it lies in; or one of the folders of :mod:`fer_models.readers.fer2013_folders`.
    votes : the FER+ file; ``auto`` looks for it beside the csv file.
    rule : a rule of :data:`fer_models.readers.ferplus.RULES`, or ``original`` for the csv file's own seven
        classes without votes.
    mapped_above : bytes of pictures above which they lie in a memory-mapped file.

    Raises
    ------
    DataError : a file is missing or cannot be read, a cell is not what it should be, or the votes belong to
        other rows; the message names file and line.
    ConfigError : the rule is unknown, or needs votes and none are given.
    """
    listing = _folders(Path(root), rule)
    if listing is not None:
        return samples_of(
            listing,
            size=SIZE,
            labels=SEVEN if rule == "original" else EXPRESSIONS,
            mapped_above=mapped_above,
            progress=progress,
            building=building,
        )
    file = _pictures_file(root)
    ballot = _ballot(file, votes, rule)
    rows = _read_rows(file, progress, 0 if ballot is None else len(ballot.line))
    if ballot is None:
        label = np.array([SEVEN.index(FER2013_CODES[code]) for code in rows.code], np.int16)
        return _samples(file, rows, label, np.full(len(label), ""), None, SEVEN, mapped_above)
    _same_rows(file, rows, ballot)
    made = targets(ballot, rule)
    return _samples(file, rows, made.label, made.reason, made.votes, EXPRESSIONS, mapped_above)


def holds_csv(root: Path) -> bool:
    """Whether a folder holds a csv file of pictures, or is one."""
    return root.is_file() or any((root / name).is_file() for name in NAMES)


def _folders(root: Path, rule: str) -> Listing | None:
    """List what lies in folders of pictures; None where there is a csv file, or neither.

    Raises
    ------
    ConfigError : class folders, to which no votes can be joined, with a rule for votes.
    """
    if holds_csv(root) or not root.is_dir():
        return None
    if holds_ferplus(root) and rule != "original":
        known_rule(rule)
        return list_ferplus(root, rule)
    if not holds_tree(root):
        return None
    if rule != "original":
        what = "class folders have no FER+ votes: their numbers are no rows of fer2013.csv"
        raise ConfigError(what, where="rule", cure="Set rule=original, or give fer2013.csv.")
    return list_tree(root)


def _pictures_file(root: Path | str) -> Path:
    cure = f"Set the folder that holds {' or '.join(NAMES[:2])}."
    path = existing(root, cure=cure)
    if path.is_file():
        return path
    found = [path / name for name in NAMES if (path / name).is_file()]
    if not found:
        raise DataError(f"no {NAMES[0]} in the folder", where=str(path), cure=cure)
    return found[0]


def _ballot(file: Path, votes: Path | str | None, rule: str) -> Ballot | None:
    """Read the FER+ file that the options name, None where the rule needs none."""
    if rule == "original":
        return None
    known_rule(rule)
    if votes is None:
        raise ConfigError(f"rule {rule} needs FER+ votes", where="votes", cure="Set votes, or rule=original.")
    cure = f"Put {VOTE_NAMES[0]} of FER+ beside {file.name}, set votes to its path, or set rule=original."
    if str(votes) != "auto":
        return read_ballot(existing(votes, cure=cure))
    found = [file.parent / name for name in VOTE_NAMES if (file.parent / name).is_file()]
    if not found:
        raise DataError(f"no {VOTE_NAMES[0]} in the folder", where=str(file.parent), cure=cure)
    return read_ballot(found[0])


def _read_rows(file: Path, progress: Progress | None, total: int) -> _Rows:
    rows = _Rows()
    with opened(file) as lines:
        header = lines.readline().decode("utf-8-sig", "replace").replace('"', "").split(",")
        header = [name.strip() for name in header]
        check_header(header, _COLUMNS, where=f"{file}:1")
        emotion, pixels, usage = (header.index(name) for name in _COLUMNS)
        for number, line in enumerate(lines, 2):
            cells = [cell.strip(b' "\r\n') for cell in line.split(b",")]
            if cells == [b""]:
                continue
            if len(cells) != len(header):
                raise _bad(f"{len(cells)} cells for {len(header)} columns", file, number)
            rows.code.append(_known(cells[emotion], FER2013_CODES, "emotion code", file, number))
            rows.usage.append(_known(cells[usage], USAGE, "Usage", file, number))
            rows.pixels.append(_pixels(cells[pixels], file, number))
            rows.line.append(number)
            if progress and len(rows.line) % 1000 == 0:
                progress(len(rows.line), total)
    return rows


def _known(cell: bytes, table: Mapping[str, str], what: str, file: Path, line: int) -> str:
    word = cell.decode("utf-8", "replace")
    if word not in table:
        raise _bad(f"unknown {what} {word!r}", file, line)
    return word


def _pixels(cell: bytes, file: Path, line: int) -> NDArray[np.uint8]:
    """Parse one cell of 48 x 48 numbers, row by row; anything but digits and blanks is refused beforehand."""
    strange = cell.translate(None, _PIXEL_BYTES)
    if strange:
        raise _bad(f"a pixel holds {strange[:8].decode('utf-8', 'replace')!r}", file, line)
    values = np.fromstring(cell, np.int64, sep=" ") if cell else np.zeros(0, np.int64)
    if len(values) != SIZE * SIZE:
        raise _bad(f"{len(values)} pixels, not {SIZE * SIZE}", file, line)
    if values.max() > 255:
        raise _bad(f"pixel value {values.max()} above 255", file, line)
    return values.astype(np.uint8)


def _bad(what: str, file: Path, line: int) -> DataError:
    return DataError(what, where=f"{file}:{line}", cure="Download the file again, or correct the line.")


def _same_rows(file: Path, rows: _Rows, ballot: Ballot) -> None:
    """Refuse votes of other rows: row order is the only key the two files share."""
    cure = "Take both files whole and unsorted from the same release; FER+ is joined by row order."
    if len(rows.usage) != len(ballot.usage):
        raise DataError(
            f"{len(rows.usage)} pictures but {len(ballot.usage)} rows of votes", where=str(file), cure=cure
        )
    for ours, theirs, line, vote_line in zip(rows.usage, ballot.usage, rows.line, ballot.line, strict=True):
        if ours != theirs:
            raise DataError(
                f"Usage is {ours!r} but {theirs!r} in line {vote_line} of the votes",
                where=f"{file}:{line}",
                cure=cure,
            )


def _samples(
    file: Path,
    rows: _Rows,
    label: NDArray[np.int16],
    reason: NDArray[np.str_],
    votes: NDArray[np.float32] | None,
    labels: tuple[str, ...],
    mapped_above: int,
) -> Samples:
    kept = np.flatnonzero(reason == "")
    if not len(kept):
        raise DataError("no row is left", where=str(file), cure="Set another rule, or rule=original.")
    store = picture_store(len(kept), SIZE, 1, mapped_above=mapped_above)
    for place, row in enumerate(kept):
        store[place] = rows.pixels[row].reshape(SIZE, SIZE)
    name = file.name.removesuffix(".gz")
    return Samples(
        pictures=store,
        label=label[kept],
        labels=labels,
        source=np.array([f"{name}:{rows.line[row]}" for row in kept]),
        split=np.array([USAGE[rows.usage[row]] for row in kept]),
        votes=None if votes is None else votes[kept],
        skipped=dict(Counter(reason[reason != ""].tolist())),
        name="FER2013" if votes is None else "FER2013 with FER+ votes",
    )
