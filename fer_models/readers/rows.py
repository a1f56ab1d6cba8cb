"""The rows of a csv file of predictions, kept as numbers: what systems are compared by, row by row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_models.readers.predictions import Coded, Layout, Tally
from fer_models.readers.tables import blocks, existing, header_of


@dataclass(frozen=True, eq=False)
class Table(Coded):
    """All rows of a file.

    Attributes
    ----------
    path : the file.
    ids : str (N,), each once.
    labels : names of the classes.
    values : attribute -> names of its groups.
    """

    path: Path
    ids: NDArray[np.str_]
    labels: tuple[str, ...]
    values: Mapping[str, tuple[str, ...]]


def read_rows(path: Path | str, layout: Layout) -> Table:
    """Read a csv file as ``read_predictions`` does, and keep every row; ``layout.id`` is given.

    Raises
    ------
    DataError : as there.
    """
    file = existing(path, cure="Give a csv file of predictions.")
    tally, cells, coded = Tally(file, header_of(file), layout), [], []
    at = tally.header.index(layout.id)
    for block in blocks(file):
        coded.append(tally.add(block))
        cells.append(np.array([cell.strip() for cell in block.columns[at]], np.str_))
    counts = tally.result().counts
    order = {name: list(codes.order) for name, codes in tally.attributes.items()}
    places = {
        name: np.array([counts.groups[name].index(group) for group in order[name]], np.int64)
        for name in order
    }
    return Table(
        path=file,
        ids=np.concatenate(cells),
        labels=tuple(tally.labels),
        true=np.concatenate([part.true for part in coded]),
        predicted=np.concatenate([part.predicted for part in coded]),
        groups={name: places[name][np.concatenate([part.groups[name] for part in coded])] for name in order},
        values=counts.groups,
        person=np.concatenate([part.person for part in coded if part.person is not None])
        if layout.subject
        else None,
    )
