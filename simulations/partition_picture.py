"""A picture of who holds what."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from fer_models.samples import Samples
from simulations.dealing import Counts
from simulations.partition import Partition, values_of

COLOURS = ("#9aa0a6", "#e69f00", "#56b4e9", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#6a3d9a")
"""Colours of the values, tellable apart with colour-blindness (after Okabe & Ito 2008)."""

MOST_BARS = 50
"""Sites that get a bar of their own; above, the picture is an area."""


def partition_picture(
    partition: Partition, samples: Samples, *, by: str = "label", split: str | None = None
) -> Figure:
    """Draw the rows of every site, stacked by the values of a column.

    Up to 50 sites stand as bars in their order. More are drawn as one area, sorted by the value they hold
    most of and then by size.

    Parameters
    ----------
    by : ``label``, ``split`` or a group attribute.
    split : draw the rows of this split only.

    Raises
    ------
    PartitionError : the column does not exist.
    """
    values, _ = values_of(samples, by)
    table = partition.table(samples, by, split)
    bars = partition.sites <= MOST_BARS
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.add_subplot()
    colours = _colours(len(values))
    (_bars if bars else _area)(axes, table, values, colours)
    axes.set_xlabel("site" if bars else "sites, by what they hold most of, large ones first")
    axes.set_ylabel(f"{split} rows" if split else "rows")
    axes.set_ylim(0, 1.04 * max(1, int(table.sum(1).max())))
    axes.spines[["top", "right"]].set_visible(False)
    handles, names = axes.get_legend_handles_labels()
    figure.legend(
        handles[::-1], names[::-1], loc="outside right center", frameon=False, title=by.replace("_", " ")
    )
    return figure


def _colours(values: int) -> list[str]:
    """Return one colour a value."""
    if values <= len(COLOURS):
        return list(COLOURS[:values])
    shades = matplotlib.colormaps["turbo"](np.linspace(0.05, 0.95, values))
    return [to_hex(shade) for shade in shades]


def _bars(axes: Axes, table: Counts, values: Sequence[str], colours: list[str]) -> None:
    bottom = np.zeros(len(table), np.int64)
    places = np.arange(len(table))
    for column, value, colour in zip(table.T, values, colours, strict=True):
        axes.bar(places, column, bottom=bottom, color=colour, label=value, width=0.86)
        bottom += column
    axes.set_xlim(-0.6, len(table) - 0.4)
    axes.set_xticks(places[:: 1 if len(table) <= 25 else 5])
    axes.tick_params(axis="x", length=0)


def _area(axes: Axes, table: Counts, values: Sequence[str], colours: list[str]) -> None:
    order = np.lexsort((-table.sum(1), table.argmax(1)))
    edges = np.arange(len(table) + 1)
    heights = np.cumsum(table[order], 1)
    base = np.zeros(len(table), np.int64)
    for column, value, colour in zip(heights.T, values, colours, strict=True):
        axes.stairs(column, edges, baseline=base, fill=True, color=colour, label=value)
        base = column
    axes.set_xlim(0, len(table))
