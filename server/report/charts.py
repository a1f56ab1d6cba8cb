"""Curves as SVG elements that take their colours from the page's style sheet, in light and in dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, HEIGHT = 320, 206
LEFT, RIGHT, TOP, BOTTOM = 46, 312, 10, 164
MOST_POINTS = 300
"""A longer curve is drawn with every so-manieth point, and its last one."""

MARKERS = {
    "circle": "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0z",
    "square": "M-3.6,-3.6h7.2v7.2h-7.2z",
    "diamond": "M0,-5L5,0L0,5L-5,0z",
    "triangle": "M0,-4.8L4.6,3.6L-4.6,3.6z",
}
DASHES = {"circle": "none", "square": "7 3", "diamond": "2 3", "triangle": "8 3 2 3"}


@dataclass(frozen=True)
class Line:
    """One curve or, with a single value of ``y`` and no ``x``, a level across the chart.

    Attributes
    ----------
    name : for the description and the tooltip.
    colour : a custom property of the style sheet, such as ``--federated``.
    marker : a key of :data:`MARKERS`; also decides the dashes.
    x, y : finite coordinates, x >= 0 and ascending.
    """

    name: str
    colour: str
    marker: str
    x: Sequence[float]
    y: Sequence[float]


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return at most ``most`` + 1 round values 1, 2 or 5 x 10^k apart around low < high."""
    raw = (high - low) / max(most - 1, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def line_chart(
    title: str,
    lines: Sequence[Line],
    *,
    key: str,
    x_name: str,
    x_format: Callable[[float], str],
    y_format: Callable[[float], str],
    zero: bool = False,
) -> Markup:
    """Draw curves over a common x axis.

    Parameters
    ----------
    title : of the chart; the description for screen readers is made from it and the ends of the curves.
    lines : at least one with points.
    key : a word that is unique on the page.
    x_name : under the axis.
    x_format, y_format : values of the axes -> text.
    zero : start the y axis at 0. Otherwise it spans at least 0.1, so that noise does not look like progress.
    """
    low, high = min(min(line.y) for line in lines), max(max(line.y) for line in lines)
    spare = max(0.0, 0.1 - (high - low)) / 2
    bottom = min(low, 0.0) if zero else max(low - spare, min(low, 0.0))
    y_ticks = ticks(bottom, max(high + spare, bottom + 0.1))
    x_end = max((value for line in lines for value in line.x), default=0) or 1
    x_ticks = [tick for tick in ticks(0, x_end) if tick <= x_end * (1 + 1e-9)]

    def place(x: float, y: float) -> tuple[float, float]:
        share = (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return LEFT + (RIGHT - LEFT) * x / x_end, BOTTOM - (BOTTOM - TOP) * share

    text = f"{title}. " + " ".join(_said(line, x_name, x_format, y_format) for line in lines)
    parts = [
        Markup('<title id="{}-title">{}</title>').format(key, title),
        Markup('<desc id="{}-desc">{}</desc>').format(key, text),
        *(_y_axis(place(0, tick)[1], y_format(tick)) for tick in y_ticks),
        *(_x_axis(place(tick, y_ticks[0])[0], x_format(tick)) for tick in x_ticks),
        Markup('<text class="axis-name" x="{}" y="{}">{}</text>').format(RIGHT, HEIGHT - 4, x_name),
        *(_curve(line, place, x_end, y_format) for line in lines),
    ]
    return Markup(
        '<svg viewBox="0 0 {} {}" role="img" aria-labelledby="{}-title {}-desc" class="chart">{}</svg>'
    ).format(WIDTH, HEIGHT, key, key, Markup("").join(parts))


def sample(marker: str, colour: str) -> Markup:
    """Return a short piece of a curve with its marker, for a legend."""
    return Markup(
        '<svg class="sample" viewBox="-14 -6 28 12" aria-hidden="true" style="--c:var({})">'
        '<path class="curve" d="M-14,0H14" stroke-dasharray="{}"/><path class="mark" d="{}"/></svg>'
    ).format(colour, DASHES[marker], MARKERS[marker])


def _y_axis(y: float, label: str) -> Markup:
    return Markup(
        '<path class="grid" d="M{},{:.1f}H{}"/><text class="tick y" x="{}" y="{:.1f}">{}</text>'
    ).format(LEFT, y, RIGHT, LEFT - 7, y + 3.5, label)


def _x_axis(x: float, label: str) -> Markup:
    return Markup('<text class="tick x" x="{:.1f}" y="{}">{}</text>').format(x, BOTTOM + 16, label)


def _curve(
    line: Line,
    place: Callable[[float, float], tuple[float, float]],
    end: float,
    y_format: Callable[[float], str],
) -> Markup:
    level = not line.x
    shown = [(0.0, line.y[0]), (end, line.y[0])] if level else _thinned(line)
    path = "M" + "L".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in shown)
    last = place(*shown[-1])
    return Markup(
        '<g style="--c:var({})"><title>{}: {}</title><path class="curve{}" d="{}" stroke-dasharray="{}"/>'
        '<path class="mark" d="{}" transform="translate({:.1f},{:.1f})"/></g>'
    ).format(
        line.colour,
        line.name,
        y_format(line.y[-1]),
        " level" if level else "",
        path,
        DASHES[line.marker],
        MARKERS[line.marker],
        *last,
    )


def _thinned(line: Line) -> list[tuple[float, float]]:
    every = max(1, math.ceil(len(line.x) / MOST_POINTS))
    points = list(zip(line.x, line.y, strict=True))
    return points[::every] if (len(points) - 1) % every == 0 else [*points[::every], points[-1]]


def _said(line: Line, x_name: str, x_format: Callable[[float], str], y_format: Callable[[float], str]) -> str:
    if not line.x:
        return f"{line.name}: {y_format(line.y[0])} at the end."
    ends = f"from {y_format(line.y[0])} to {y_format(line.y[-1])}"
    return f"{line.name}: {ends} at {x_format(line.x[-1])} {x_name}."
