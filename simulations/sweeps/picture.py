"""Pictures of sweeps as SVG files that stand alone: panels beside each other, and one legend."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from markupsafe import Markup, escape

from fer_models.intervals import Interval
from server.report import wording
from server.report.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    MARKERS,
    RIGHT,
    TOP,
    WIDTH,
    Line,
    line_chart,
    sample,
    ticks,
)
from server.report.page import TEMPLATES
from server.report.systems import PARTS
from simulations.study.table import Facts

GAP, HEAD, ENTRY = 14, 22, 20
"""Pixels between panels, above one for its title, and of a line of the legend."""


def _percent(share: float) -> str:
    return f"{100 * share:.3g}{wording.SPACE}%"


def _size(number: float) -> str:
    """Write bytes as short as an axis has room for: 1200000 -> "1.2 MB", 50000 -> "50 kB"."""
    unit, scale = next(
        (each for each in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)) if number >= each[1]), ("B", 1.0)
    )
    return f"{number / scale:.3g}{wording.SPACE}{unit}"


def _seconds(number: float) -> str:
    return f"{number:.3g}{wording.SPACE}s"


SHOWN = {
    "accuracy": ("accuracy", _percent),
    "worst_recall": ("worst recall", _percent),
    "accuracy_gap": ("accuracy gap, gender", _percent),
    "bytes_up": ("sent up", _size),
    "cpu_seconds": ("CPU time of the sites", _seconds),
}
"""Figures of a sweep's panels -> title, and how a value is written."""


def look(index: int) -> tuple[str, str]:
    """Return a line's colour and marker; no two of 24 share both."""
    return f"--part-{index % PARTS}", list(MARKERS)[(index + index // PARTS) % len(MARKERS)]


def standalone(
    title: str, rows: Sequence[Sequence[tuple[str, Markup]]], legend: Sequence[tuple[str, Markup]]
) -> str:
    """Return panels, each with its title, and a legend as one SVG file in light and dark colours.

    Parameters
    ----------
    rows : of panels, each an ``<svg>`` of :data:`server.report.charts.WIDTH` by HEIGHT.
    legend : name and sample of each line.
    """
    columns = max(map(len, rows))
    width = columns * (WIDTH + GAP) + GAP
    per_row = max(1, width // 230)
    below = ENTRY * -(-len(legend) // per_row) + GAP
    height = len(rows) * (HEIGHT + HEAD + GAP) + GAP + below
    parts = []
    for down, panels in enumerate(rows):
        for across, (name, panel) in enumerate(panels):
            x, y = GAP + across * (WIDTH + GAP), GAP + down * (HEIGHT + HEAD + GAP)
            parts.append(Markup('<text class="panel" x="{}" y="{}">{}</text>').format(x, y + 12, name))
            parts.append(_placed(panel, x, y + HEAD, WIDTH, HEIGHT))
    for index, (name, mark) in enumerate(legend):
        x = GAP + (index % per_row) * (width - 2 * GAP) // per_row
        y = height - below + ENTRY * (index // per_row)
        parts.append(_placed(mark, x, y, 28, 12))
        parts.append(Markup('<text class="entry" x="{}" y="{}">{}</text>').format(x + 34, y + 10, name))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img" '
        f'font-family="system-ui, sans-serif"><title>{escape(title)}</title><style>{_style()}</style>'
        f'<rect width="{width}" height="{height}" fill="var(--card)"/>{Markup("").join(parts)}</svg>\n'
    )


def _placed(svg: Markup, x: float, y: float, width: float, height: float) -> Markup:
    """Return an ``<svg>`` at a place within another one."""
    return Markup(
        str(svg).replace(
            "<svg ", f'<svg x="{x}" y="{y}" width="{width}" height="{height}" overflow="visible" ', 1
        )
    )


def _style() -> str:
    """Return the colours and the lines of the report's style sheet, which its charts are drawn for."""
    sheet = (TEMPLATES / "style.css.jinja").read_text()
    colours = re.findall(r"(--[a-z0-9-]+:\s*#[0-9a-f]{6})", sheet)
    half = len(colours) // 2
    rules = re.findall(r"^\.(?:grid|tick|curve|mark)[^\n]*", sheet, re.MULTILINE)
    own = ".panel{font-size:14px;font-weight:600;fill:var(--ink)}.entry{font-size:12.5px;fill:var(--ink)}"
    dark = f"@media (prefers-color-scheme: dark){{:root{{{';'.join(colours[half:])}}}}}"
    return f":root{{{';'.join(colours[:half])}}}{dark}{''.join(rules)}{own}"


def curves(facts: Facts) -> str:
    """Return accuracy and worst recall against rounds and against bytes: a row a work of a round, a line a method."""
    names = list(dict.fromkeys(found["line"] for found in facts["systems"].values()))
    rows = []
    for group in facts["groups"]:
        found = [each for each in facts["systems"].values() if each["group"] == group]
        panels = []
        for x_key, x_name, x_format in (("round", "round", wording.count), ("bytes_up", "sent up", _size)):
            for key in ("accuracy", "worst_recall"):
                title = f"{group} a round: {SHOWN[key][0]}"
                lines = [_line(each, names.index(each["line"]), x_key, key) for each in found]
                if lines := [line for line in lines if line.x]:
                    mark = f"{group}-{x_key}-{key}".replace(" ", "-")
                    panels.append(
                        (
                            title,
                            line_chart(
                                title,
                                lines,
                                key=mark,
                                x_name=x_name,
                                x_format=x_format,
                                y_format=SHOWN[key][1],
                            ),
                        )
                    )
        rows.append(panels)
    legend = [(name, sample(look(i)[1], look(i)[0])) for i, name in enumerate(names)]
    return standalone("Federated methods against rounds and bytes", rows, legend)


def _line(found: Facts, index: int, x_key: str, key: str) -> Line:
    colour, marker = look(index)
    pairs = [(x, y) for x, y in zip(found["curve"][x_key], found["curve"][key], strict=True) if y is not None]
    return Line(found["line"], colour, marker, [x for x, _ in pairs], [y for _, y in pairs])


def moves(facts: Facts) -> str:
    """Return how each figure moves with each setting: a row a setting, a panel a figure, whiskers over the seeds."""
    rows, legend, names = [], {}, list(dict.fromkeys(found["line"] for found in facts["systems"].values()))
    for group, axis in facts["groups"].items():
        cells = [each for each in facts["systems"].values() if each["group"] == group]
        places = list(dict.fromkeys(each["name"] for each in cells))
        panels = []
        for key, (title, said) in SHOWN.items():
            points = [
                (
                    places.index(each["name"]),
                    each[key],
                    each.get(f"{key}_interval"),
                    names.index(each["line"]),
                )
                for each in cells
                if each[key] is not None
            ]
            if points:
                mark = f"{group}-{key}".replace(" ", "-")
                panels.append(
                    (f"{group}: {title}", panel(f"{group}: {title}", places, points, mark, axis, said))
                )
        rows.append(panels)
        for each in cells:
            index = names.index(each["line"])
            legend[each["line"]] = sample(look(index)[1], look(index)[0])
    return standalone("How each figure moves", rows, list(legend.items()))


def panel(
    title: str,
    places: Sequence[str],
    points: Sequence[tuple[int, float, Interval | None, int]],
    key: str,
    axis: str,
    said: Callable[[float], str],
) -> Markup:
    """Draw points over names along an axis, joined line by line, with whiskers.

    Parameters
    ----------
    points : place, value, interval, and the number of the line.
    key : a word that is unique in the file.
    """
    ends = [end for _, value, limits, _ in points for end in (value, *(limits or ()))]
    low, high = min(ends), max(ends)
    levels = ticks(
        max(0.0, low - 0.05 * (high - low)), high if high > low else low + max(abs(low), 1.0), most=5
    )

    def up(value: float) -> float:
        share = (value - levels[0]) / (levels[-1] - levels[0])
        return BOTTOM - (BOTTOM - TOP) * min(max(share, 0.0), 1.0)

    def across(place: int) -> float:
        return LEFT + (RIGHT - LEFT) * (place + 0.5) / len(places)

    parts = [
        Markup('<title id="{}-title">{}</title>').format(key, title),
        *(
            Markup(
                '<path class="grid" d="M{},{:.1f}H{}"/><text class="tick y" x="{}" y="{:.1f}">{}</text>'
            ).format(LEFT, up(level), RIGHT, LEFT - 7, up(level) + 3.5, said(level))
            for level in levels
        ),
        *(
            Markup('<text class="tick x" x="{:.1f}" y="{}">{}</text>').format(
                across(place), BOTTOM + 16, name
            )
            for place, name in enumerate(places)
        ),
        Markup('<text class="axis-name" x="{}" y="{}">{}</text>').format(RIGHT, HEIGHT - 4, axis),
    ]
    for index in dict.fromkeys(each[3] for each in points):
        own = sorted(each for each in points if each[3] == index)
        parts.append(_joined(own, index, places, across, up, said))
    return Markup(
        '<svg viewBox="0 0 {} {}" role="img" aria-labelledby="{}-title" class="chart">{}</svg>'
    ).format(WIDTH, HEIGHT, key, Markup("").join(parts))


def _joined(
    own: Sequence[tuple[int, float, Interval | None, int]],
    index: int,
    places: Sequence[str],
    across: Callable[[int], float],
    up: Callable[[float], float],
    said: Callable[[float], str],
) -> Markup:
    """Return the points of one line, joined, with their whiskers."""
    colour, marker = look(index)
    path = "M" + "L".join(f"{across(place):.1f},{up(value):.1f}" for place, value, _, _ in own)
    spread = [
        f"M{across(place):.1f},{up(limits[0]):.1f}V{up(limits[1]):.1f}"
        for place, _, limits, _ in own
        if limits
    ]
    marks = [
        Markup(
            '<path class="mark" d="{}" transform="translate({:.1f},{:.1f})"><title>{}: {}</title></path>'
        ).format(MARKERS[marker], across(place), up(value), places[place], said(value))
        for place, value, _, _ in own
    ]
    whiskers = Markup('<path class="curve level" d="{}"/>').format("".join(spread)) if spread else Markup("")
    return Markup('<g style="--c:var({})"><path class="curve" d="{}"/>{}{}</g>').format(
        colour, path, whiskers, Markup("").join(marks)
    )
