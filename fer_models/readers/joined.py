"""The predictions of several systems for the same rows, from csv files that are joined by a column of ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_models.errors import DataError
from fer_models.paired import Judged
from fer_models.readers.predictions import Layout
from fer_models.readers.rows import Table, read_rows
from fer_models.readers.tables import blocks, existing, header_of


def read_joined(paths: Sequence[Path], layout: Layout) -> Judged:
    """Read what several systems say of the same rows.

    Groups and persons are those of the first file; the others need the columns of ids, of true and of predicted
    classes. Rows may stand in any order.

    Raises
    ------
    DataError : what :func:`fer_models.readers.predictions.read_rows` refuses, an id that a file lacks, or one whose
        true class differs between files.
    """
    first = read_rows(paths[0], layout)
    others = [_answers(path, layout) for path in paths[1:]]
    labels = tuple(dict.fromkeys(name for table in (first, *others) for name in table.labels))
    true, said = _coded(first.true, first, labels), [_coded(first.predicted, first, labels)]
    for table in others:
        place = _places(first, table, layout)
        _require_same(true, _coded(table.true, table, labels)[place], labels, (first, table), layout)
        said.append(_coded(table.predicted, table, labels)[place])
    return Judged(true, tuple(said), labels, first.groups, first.values, first.person).without_unused()


def _answers(path: Path, layout: Layout) -> Table:
    """Read another file than the first: ids, true and predicted classes alone."""
    header = header_of(existing(path, cure="Give a csv file of predictions."))
    kept = tuple(name for name in layout.ignore if name in header)
    return read_rows(path, replace(layout, groups=(), subject="", ignore=kept))


def _coded(column: NDArray[np.int64], table: Table, labels: Sequence[str]) -> NDArray[np.int64]:
    """Return a column as indices of ``labels``."""
    return np.array([labels.index(name) for name in table.labels], np.int64)[column]


def _places(first: Table, table: Table, layout: Layout) -> NDArray[np.intp]:
    """Return where in ``table`` each row of the first file stands."""
    order = np.argsort(table.ids)
    at = np.searchsorted(table.ids, first.ids, sorter=order)
    place = order[np.minimum(at, len(order) - 1)]
    missing = table.ids[place] != first.ids
    if missing.any():
        raise _without(str(first.ids[missing.argmax()]), first, table, layout)
    if len(table.ids) > len(first.ids):
        raise _without(
            str(table.ids[np.isin(table.ids, first.ids, invert=True).argmax()]), table, first, layout
        )
    return place


def _without(name: str, here: Table, there: Table, layout: Layout) -> DataError:
    return DataError(
        f"{name!r} has no row in {there.path}",
        where=f"{_place(here, name, layout)}, column {layout.id}",
        cure="Give files of the same rows: a comparison of different rows would not be paired.",
    )


def _require_same(
    true: NDArray[np.int64],
    other: NDArray[np.int64],
    labels: Sequence[str],
    tables: tuple[Table, Table],
    layout: Layout,
) -> None:
    wrong = true != other
    if wrong.any():
        row, (first, table) = int(wrong.argmax()), tables
        name = str(first.ids[row])
        raise DataError(
            f"{name!r} is {labels[other[row]]} here and {labels[true[row]]} in {_place(first, name, layout)}",
            where=f"{_place(table, name, layout)}, column {layout.true}",
            cure="Compare systems by the same labels.",
        )


def _place(table: Table, name: str, layout: Layout) -> str:
    """Return the file and line of an id."""
    at = header_of(table.path).index(layout.id)
    for block in blocks(table.path):
        for index, cell in enumerate(block.columns[at]):
            if cell.strip() == name:
                return block.place(index)
    return str(table.path)
