"""A folder of pictures with ``metadata.csv``, the convention of Hugging Face's ``imagefolder``.

Each row names a picture in the column file_name, relative to the csv file's folder, and says what is known
about it. The csv file lies in the root, or one lies in each folder of a split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from fer_models.errors import DataError
from fer_models.labels import canonical
from fer_models.readers.classfolders import class_names
from fer_models.readers.groups import BANDS, USUAL_GROUPS, group_column
from fer_models.readers.pictures import APPLEDOUBLE, PictureOptions, decode_all
from fer_models.readers.tables import Progress, existing, table
from fer_models.samples import MAPPED_ABOVE, Samples, is_split, split_name

METADATA = "metadata.csv"

_TREE = "Put metadata.csv with the columns file_name and label into the folder of the pictures."


@dataclass(frozen=True)
class _Columns:
    """Names of the columns to read."""

    label: str
    subject: str | None
    groups: tuple[str, ...] | None
    split: str | None


@dataclass
class _Rows:
    """Rows of the metadata, one entry a picture."""

    paths: list[Path] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    cells: list[dict[str, str]] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)


def read_imagefolder(
    root: Path | str,
    *,
    size: int = 48,
    channels: int = 1,
    label: str = "label",
    subject: str | None = "subject",
    groups: Sequence[str] | None = None,
    split: str | None = "split",
    bands: Mapping[str, Sequence[float]] | None = None,
    labels: Sequence[str] | None = None,
    unreadable: str = "error",
    mapped_above: int = MAPPED_ABOVE,
    progress: Progress | None = None,
) -> Samples:
    """Read pictures and the facts that ``metadata.csv`` tells about them.

    Parameters
    ----------
    root : folder with ``metadata.csv``, or with ``train/metadata.csv`` and so on.
    label : column of label words.
    subject : column of the person on the picture; None, or a file without the default column: unknown. Where
        one cell is empty the row counts as a person of its own.
    groups : columns of group attributes; those of :data:`fer_models.readers.groups.USUAL_GROUPS` when None.
    split : column of split words; an empty cell, or a file without the default column, means the split that
        the csv file's folder names, or train.
    bands : column -> ascending lower ends of the bands its numbers are cut into, added to
        :data:`fer_models.readers.groups.BANDS`; an empty list leaves the cells as they are.
    labels : canonical names of the classes in the wanted order; the classes found when None.
    size, channels, unreadable, mapped_above, progress :
        see :class:`fer_models.readers.pictures.PictureOptions`.

    Raises
    ------
    DataError : a file or column is missing, a cell is unknown, a name leaves the folder, or a picture cannot
        be read.
    """
    options = PictureOptions(size, channels, unreadable, mapped_above, progress)
    folder = existing(root, cure=_TREE)
    columns = _Columns(label, subject, None if groups is None else tuple(groups), split)
    rows = _Rows()
    for file, default in _metadata_files(folder):
        _read_file(file, default, columns, rows)
    if not rows.paths:
        raise DataError("no row names a picture", where=str(folder / METADATA), cure=_TREE)
    wanted = class_names(rows.names, labels, where=str(folder))
    attributes = _attributes(rows, columns, dict(BANDS) | dict(bands or {}))
    store, kept, skipped = decode_all(rows.paths, options)
    source = np.array([path.relative_to(folder).as_posix() for path in rows.paths], np.str_)
    return Samples(
        pictures=store,
        label=np.array([wanted.index(name) for name in rows.names], np.int16)[kept],
        labels=wanted,
        source=source[kept],
        split=np.array(rows.splits, np.str_)[kept],
        subject=_subjects(rows, columns.subject, source, kept),
        groups={name: column[kept] for name, column in attributes.items()},
        skipped=rows.skipped | skipped,
        name=folder.resolve().name,
    )


def _metadata_files(root: Path) -> list[tuple[Path, str]]:
    """The csv files, each with the split of a row that names none."""
    if (root / METADATA).is_file():
        return [(root / METADATA, "train")]
    inner = sorted(path for path in root.glob(f"*/{METADATA}") if is_split(path.parent.name))
    if not inner:
        raise DataError(f"no {METADATA} in the folder", where=str(root), cure=_TREE)
    return [(path, split_name(path.parent.name, where=str(path))) for path in inner]


def _read_file(file: Path, default: str, columns: _Columns, rows: _Rows) -> None:
    used = {columns.subject, *(USUAL_GROUPS if columns.groups is None else columns.groups)}
    required = ["file_name", columns.label, *(columns.groups or ())]
    required += [name for name in (columns.subject, columns.split) if name not in (None, "subject", "split")]
    for line, row in table(file, required):
        place = f"{file}:{line}"
        name = _inside(row["file_name"], place)
        if name.name.startswith("._"):
            rows.skipped[APPLEDOUBLE] = rows.skipped.get(APPLEDOUBLE, 0) + 1
            continue
        word = row.get(columns.split, "") if columns.split else ""
        rows.paths.append(file.parent / name)
        rows.places.append(place)
        rows.names.append(canonical(row[columns.label], where=place))
        rows.splits.append(split_name(word, where=place) if word else default)
        rows.cells.append({name: cell for name, cell in row.items() if name in used})


def _inside(name: str, place: str) -> PurePosixPath:
    """Return a file name as a relative path; refuse one that leaves the folder."""
    path, windows = PurePosixPath(name), PureWindowsPath(name)
    if not name or not name.isprintable() or path.is_absolute() or windows.anchor or ".." in windows.parts:
        raise DataError(
            f"file name {name!r} is empty or leaves the folder",
            where=place,
            cure="Name files inside the folder, such as images/001.png.",
        )
    return path


def _attributes(
    rows: _Rows, columns: _Columns, bands: Mapping[str, Sequence[float]]
) -> dict[str, np.ndarray]:
    names = columns.groups
    if names is None:
        present = {name for row in rows.cells for name in row}
        names = tuple(name for name in USUAL_GROUPS if name in present)
    cells = {name: [row.get(name, "") for row in rows.cells] for name in names}
    return {name: group_column(name, column, bands.get(name), rows.places) for name, column in cells.items()}


def _subjects(rows: _Rows, column: str | None, source: np.ndarray, kept: np.ndarray) -> np.ndarray | None:
    """The person of each kept row; a row without one gets its source, so that it is nobody else."""
    told = [row.get(column, "") if column else "" for row in rows.cells]
    if not any(told):
        return None
    return np.array([person or str(where) for person, where in zip(told, source, strict=True)], np.str_)[kept]
