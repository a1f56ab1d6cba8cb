"""Group columns: words as they stand, numbers cut into bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fer_models.errors import ConfigError, DataError
from fer_models.labels import UNDISCLOSED

USUAL_GROUPS = ("gender", "sex", "age", "ethnicity", "race", "skin_tone", "fitzpatrick")
"""Columns taken as group attributes when the options name none."""

BANDS: Mapping[str, tuple[float, ...]] = {"age": (0, 18, 30, 45, 60)}
"""Lower ends of the bands of a numeric column, by column name; the last band is open."""

MOST_VALUES = 20
"""Values a numeric column may have without bands; more would leave hardly a row a group."""

CROSS = "*"
"""Joins the columns of an attribute of groups within groups, and the names of such a group."""

_NOTHING = frozenset({"", "na", "n/a", "nan", "null", "unknown", "prefer not to say", UNDISCLOSED})


def group_column(
    name: str, cells: Sequence[str], bands: Sequence[float] | None, places: Sequence[str]
) -> NDArray[np.str_]:
    """Return one value a row, str (N,); cells that tell nothing become ``undisclosed``.

    Parameters
    ----------
    bands : ascending lower ends of the bands that a column of numbers is cut into; a band holds its lower
        end and ends before the next. None or empty: the words as they stand; empty, also many numbers, such as
        those of annotators.
    places : N places of the cells, for errors.

    Raises
    ------
    DataError : a cell of a banded column is no number or lies below the lowest band, or a column of numbers
        has more than :data:`MOST_VALUES` values and ``bands`` is None.
    ConfigError : the bands do not ascend.
    """
    told = ["" if cell.lower() in _NOTHING else cell for cell in cells]
    if not bands:
        if bands is None:
            _few_values(name, {cell for cell in told if cell}, places)
        return np.array([cell or UNDISCLOSED for cell in told], np.str_)
    ends = [float(end) for end in bands]
    if sorted(set(ends)) != ends:
        raise ConfigError("the bands do not ascend", where=f"bands.{name}", cure="Give ascending lower ends.")
    titles = _titles(ends)
    pairs = zip(told, places, strict=True)
    return np.array(
        [titles[_band(name, cell, ends, at)] if cell else UNDISCLOSED for cell, at in pairs], np.str_
    )


def crossed_parts(name: str) -> tuple[str, ...]:
    """Return the columns of an attribute: ``gender`` and ``age`` of ``gender*age``."""
    return tuple(part.strip() for part in name.split(CROSS))


def crossed_name(names: Sequence[str]) -> str:
    """Return the group of a row from its groups by column: ``f*18-29``; ``undisclosed`` if one of them is."""
    return UNDISCLOSED if UNDISCLOSED in names else CROSS.join(names)


def _few_values(name: str, values: set[str], places: Sequence[str]) -> None:
    if len(values) > MOST_VALUES and all(_number(value) is not None for value in values):
        raise DataError(
            f"column {name!r} holds {len(values)} different numbers",
            where=places[0].rpartition(":")[0],
            cure=f"Cut it into bands, such as bands.{name}=[0,10,20], or leave the numbers with bands.{name}=[].",
        )


def _number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _band(name: str, cell: str, ends: list[float], where: str) -> int:
    value = _number(cell)
    if value is None or value < ends[0]:
        raise DataError(
            f"{cell!r} in column {name!r} is no number from {ends[0]:g} on",
            where=where,
            cure=f"Correct the cell, leave it empty where nothing is known, or set other bands.{name}.",
        )
    return int(np.searchsorted(ends, value, "right")) - 1


def _titles(ends: list[float]) -> list[str]:
    """``0-17`` for whole ends, where 17.9 still belongs to it; ``0.5 to 1`` for others."""
    whole = all(end == int(end) and end >= 0 for end in ends)
    pairs = pairwise(ends)
    inner = [
        f"{low:g}-{high - 1:g}" if whole and high - low > 1 else f"{low:g} to {high:g}" for low, high in pairs
    ]
    return [*inner, f"{ends[-1]:g}+"]
