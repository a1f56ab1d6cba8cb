"""Columns of predictions turned into numbers while they are read: classes, groups, and groups within groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fer_models.errors import DataError
from fer_models.readers.groups import BANDS, crossed_name, group_column
from fer_models.readers.tables import Block

MOST_GROUPS = 100
"""Groups that a column may hold; a column with more, such as file names, is no group attribute."""

MOST_WORDS = 1000
"""Different cells that a column may hold before bands make groups of them."""


class Codes:
    """Turns the cells of one column into numbers, and remembers what each number is called.

    Attributes
    ----------
    column : its name.
    order : name -> number, in the order of the numbers.
    """

    def __init__(self, column: str, name_of: Callable[[str, str], str], names: Sequence[str] = ()) -> None:
        self.column, self.name_of = column, name_of
        self.order = {name: code for code, name in enumerate(names)}
        self.known: dict[str, int] = {}

    def encode(self, cells: tuple[str, ...], block: Block) -> NDArray[np.int64]:
        """Return the number of each cell (N,).

        Raises
        ------
        DataError : more different cells or names than a column of classes or groups has.
        """
        new = set(cells) - self.known.keys()
        if len(self.known) + len(new) > MOST_WORDS:
            raise _many(self.column, MOST_WORDS, str(block.path))
        for cell in sorted(new, key=cells.index):
            name = self.name_of(cell.strip(), f"{block.place(cells.index(cell))}, column {self.column}")
            self.known[cell] = self.order.setdefault(name, len(self.order))
        _require_few(self, block)
        return np.fromiter(map(self.known.__getitem__, cells), np.int64, len(cells))


class JointCodes:
    """Numbers the groups of several columns taken together, such as ``f*18-29`` of ``gender*age``.

    Attributes
    ----------
    column : name of the attribute.
    parts : of its columns.
    order : name -> number, in the order of the numbers.
    """

    def __init__(self, column: str, parts: Sequence[Codes]) -> None:
        self.column, self.parts = column, tuple(parts)
        self.order: dict[str, int] = {}

    def encode(self, codes: Sequence[NDArray[np.int64]], block: Block) -> NDArray[np.int64]:
        """Return the number of each row (N,) from those of its parts.

        Raises
        ------
        DataError : more groups than an attribute may have.
        """
        sizes = [len(part.order) for part in self.parts]
        found, row = np.unique(np.ravel_multi_index(tuple(codes), sizes), return_inverse=True)
        names = [list(part.order) for part in self.parts]
        told = []
        for place in zip(*np.unravel_index(found, sizes), strict=True):
            name = crossed_name([own[code] for own, code in zip(names, place, strict=True)])
            told.append(self.order.setdefault(name, len(self.order)))
        _require_few(self, block)
        return np.array(told, np.int64)[row]


def group_codes(column: str) -> Codes:
    """Return the codes of a column of groups; a column of BANDS is cut into bands."""

    def name_of(cell: str, where: str) -> str:
        return str(group_column(column, [cell], BANDS.get(column, ()), [where])[0])

    return Codes(column, name_of)


def _require_few(codes: Codes | JointCodes, block: Block) -> None:
    if len(codes.order) > MOST_GROUPS:
        raise _many(codes.column, MOST_GROUPS, str(block.path))


def _many(column: str, most: int, path: str) -> DataError:
    return DataError(
        f"more than {most} different values",
        where=f"{path}, column {column}",
        cure=f"Group attributes have few values: leave it out with ignore=[{column}], or say what it is with "
        f"subject={column} or id={column}.",
    )
