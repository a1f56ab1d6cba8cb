"""A folder of pictures with ``metadata.csv``, the convention of Hugging Face's ``imagefolder``.

Each row names a picture in the column file_name, relative to the csv file's folder, and says what is known
about it. The csv file lies in the root, or one lies in each folder of a split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fer_models.errors import ConfigError, DataError
from fer_models.labels import canonical
from fer_models.readers.groups import BANDS, USUAL_GROUPS, group_column
from fer_models.readers.listing import Listing, reading, require_choice
from fer_models.readers.pictures import APPLEDOUBLE, decode
from fer_models.readers.tables import inside, table
from fer_models.samples import is_split, split_name
from fer_models.skin_tone import angle, tones

METADATA = "metadata.csv"

MEASURED = 224
"""Pixels of the square that colour is measured in."""

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
    """What the metadata say beside the listing, one entry a picture."""

    listing: Listing
    places: list[str] = field(default_factory=list)
    cells: list[dict[str, str]] = field(default_factory=list)


def list_imagefolder(
    root: Path,
    *,
    label: str = "label",
    subject: str | None = "subject",
    groups: Sequence[str] | None = None,
    split: str | None = "split",
    bands: Mapping[str, Sequence[float]] | None = None,
    skin_tone: str = "told",
) -> Listing:
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
    skin_tone : ``told``, a column like others; ``controlled``: measured from colour, see
        :mod:`fer_models.skin_tone`, which you may ask for where all photographs are in colour, of faces seen from the
        front that fill the square, and were taken in one controlled light.

    Raises
    ------
    DataError : a file or column is missing, a cell is unknown, or a name leaves the folder.
    """
    require_choice("skin_tone", skin_tone, ("told", "controlled"))
    columns = _Columns(label, subject, None if groups is None else tuple(groups), split)
    rows = _Rows(Listing(root.resolve().name, root))
    for file, default in metadata_files(root):
        _read_file(file, default, columns, rows)
    if not rows.places:
        raise DataError("no row names a picture", where=str(root / METADATA), cure=_TREE)
    attributes = _attributes(rows, columns, dict(BANDS) | dict(bands or {}))
    rows.listing.groups = {name: column.tolist() for name, column in attributes.items()}
    if skin_tone == "controlled":
        _measure(rows.listing)
    return rows.listing


read_imagefolder = reading(list_imagefolder)


def _measure(listing: Listing) -> None:
    """Add a group of skin tone, measured from colour.

    Raises
    ------
    ConfigError : the table tells one already.
    """
    if "skin_tone" in listing.groups:
        what = "the table tells a skin_tone: two sources of one group cannot be told apart"
        raise ConfigError(what, where="skin_tone", cure="Set skin_tone=told, or name groups without it.")
    angles: list[float | None] = []
    for path in listing.paths:
        try:
            angles.append(angle(decode(path, MEASURED, 3)))
        except DataError:  # of which the decoder makes an error or a count, as asked
            angles.append(None)
    found = tones(angles, listing.subjects)
    listing.groups["skin_tone"] = found.values.tolist()
    listing.notes = (*listing.notes, found.note())


def metadata_files(root: Path) -> list[tuple[Path, str]]:
    """Return the csv files of a folder, each with the split of a row that names none.

    Raises
    ------
    DataError : there is none.
    """
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
        name = inside(row["file_name"], where=place)
        if name.name.startswith("._"):
            rows.listing.skip(APPLEDOUBLE)
            continue
        word = row.get(columns.split, "") if columns.split else ""
        rows.listing.add(
            file.parent / name,
            canonical(row[columns.label], where=place),
            split=split_name(word, where=place) if word else default,
            subject=row.get(columns.subject, "") if columns.subject else "",
        )
        rows.places.append(place)
        rows.cells.append({name: cell for name, cell in row.items() if name in used})


def _attributes(
    rows: _Rows, columns: _Columns, bands: Mapping[str, Sequence[float]]
) -> dict[str, np.ndarray]:
    names = columns.groups
    if names is None:
        present = {name for row in rows.cells for name in row}
        names = tuple(name for name in USUAL_GROUPS if name in present)
    cells = {name: [row.get(name, "") for row in rows.cells] for name in names}
    return {name: group_column(name, column, bands.get(name), rows.places) for name, column in cells.items()}
