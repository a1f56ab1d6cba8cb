"""The Pareto picture: methods as points of two figures, and the edge that no method is beyond."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from fer_models.intervals import Interval
from server.report.charts import BOTTOM, HEIGHT, LEFT, MARKERS, RIGHT, TOP, WIDTH, ticks


@dataclass(frozen=True)
class Point:
    """One method.

    Attributes
    ----------
    name : for the tooltip.
    colour : a custom property of the style sheet.
    marker : a key of :data:`server.report.charts.MARKERS`.
    x, y : shares of 1.
    x_limits, y_limits : whiskers, None for none.
    best : no other method is better in both figures.
    """

    name: str
    colour: str
    marker: str
    x: float
    y: float
    x_limits: Interval | None = None
    y_limits: Interval | None = None
    best: bool = False


def pareto(title: str, points: Sequence[Point], *, key: str, x_name: str, y_name: str) -> Markup:
    """Draw points in percent, with whiskers, and a dashed line through the best of them.

    Parameters
    ----------
    points : at least one.
    key : a word that is unique on the page.
    x_name, y_name : what the axes show.
    """
    x_ticks, y_ticks = _axis([point.x for point in points]), _axis([point.y for point in points])

    def across(x: float) -> float:
        share = (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0])
        return LEFT + (RIGHT - LEFT) * min(max(share, 0.0), 1.0)

    def up(y: float) -> float:
        share = (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return BOTTOM - (BOTTOM - TOP) * min(max(share, 0.0), 1.0)

    said = "; ".join(f"{p.name}: {x_name} {_percent(p.x)}, {y_name} {_percent(p.y)}" for p in points)
    edge = sorted((p for p in points if p.best), key=lambda p: p.x)
    parts = [
        Markup('<title id="{}-title">{}</title><desc id="{}-desc">{}.</desc>').format(key, title, key, said),
        *(
            Markup(
                '<path class="grid" d="M{},{:.1f}H{}"/><text class="tick y" x="{}" y="{:.1f}">{}</text>'
            ).format(LEFT, up(tick), RIGHT, LEFT - 7, up(tick) + 3.5, _percent(tick))
            for tick in y_ticks
        ),
        *(
            Markup('<text class="tick x" x="{:.1f}" y="{}">{}</text>').format(
                across(tick), BOTTOM + 16, _percent(tick)
            )
            for tick in x_ticks
        ),
        Markup('<text class="axis-name" x="{}" y="{}">{}</text>').format(RIGHT, HEIGHT - 4, x_name),
        _line("L".join(f"{across(p.x):.1f},{up(p.y):.1f}" for p in edge), "--soft", "2 4"),
        *(_drawn(point, across, up) for point in points),
    ]
    return Markup(
        '<svg viewBox="0 0 {} {}" role="img" aria-labelledby="{}-title {}-desc" class="chart">{}</svg>'
    ).format(WIDTH, HEIGHT, key, key, Markup("").join(parts))


def _axis(values: Sequence[float]) -> list[float]:
    """Return round ticks around values, at least 4 points apart, so that noise does not look like a difference."""
    low, high = min(values), max(values)
    spare = 0.15 * (high - low) + max(0.0, 0.04 - (high - low)) / 2
    bottom, top = max(0.0, low - spare), min(1.0, high + spare)
    return ticks(bottom, max(top, bottom + 0.01), most=5)


def _percent(share: float) -> str:
    return f"{100 * share:.3g}\N{NARROW NO-BREAK SPACE}%"


def _line(path: str, colour: str, dashes: str) -> Markup:
    return Markup('<path class="curve level" style="--c:var({})" d="M{}" stroke-dasharray="{}"/>').format(
        colour, path, dashes
    )


def _drawn(point: Point, across: Callable[[float], float], up: Callable[[float], float]) -> Markup:
    x, y = across(point.x), up(point.y)
    whiskers = Markup("")
    if point.x_limits is not None:
        low, high = map(across, point.x_limits)
        whiskers += _line(f"{low:.1f},{y:.1f}H{high:.1f}", point.colour, "none")
    if point.y_limits is not None:
        low, high = map(up, point.y_limits)
        whiskers += _line(f"{x:.1f},{low:.1f}V{high:.1f}", point.colour, "none")
    return Markup(
        '<g style="--c:var({})"><title>{}: {}, {}</title>{}'
        '<path class="mark" d="{}" transform="translate({:.1f},{:.1f})"/></g>'
    ).format(
        point.colour, point.name, _percent(point.x), _percent(point.y), whiskers, MARKERS[point.marker], x, y
    )
