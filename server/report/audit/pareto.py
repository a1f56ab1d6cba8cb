"""Every system of a run between accuracy and fairness: which of them no other one betters in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from server.report import wording
from server.report.charts import BOTTOM, HEIGHT, LEFT, MARKERS, RIGHT, TOP, WIDTH, ticks
from server.report.folder import Interval
from server.report.systems import System


@dataclass(frozen=True)
class Point:
    """A system in the plane; ``y`` is the share that fairness asks to be small or large."""

    system: System
    x: float
    y: float
    x_limits: Interval
    y_limits: Interval


def pareto(systems: Sequence[System], attributes: Sequence[str]) -> dict[str, Any] | None:
    """Return pictures of accuracy against the worst class and against each attribute's gap; None for one system."""
    charts = [_chart("Recall of the worst class", "worst", _worst(systems), high_is_good=True)]
    for index, name in enumerate(attributes):
        title = f"Accuracy gap by {wording.spaced(name)}"
        charts.append(_chart(title, f"gap-{index}", _gaps(systems, name), high_is_good=False))
    told = [chart for chart in charts if chart]
    return {"charts": told, "legend": list(systems)} if told else None


def _worst(systems: Sequence[System]) -> list[Point]:
    return [point for system in systems if (point := _point(system, system.facts, "worst_recall"))]


def _gaps(systems: Sequence[System], attribute: str) -> list[Point]:
    told = [(system, system.facts.child("parity").child(attribute)) for system in systems]
    return [point for system, facts in told if (point := _point(system, facts, "accuracy_gap"))]


def _point(system: System, facts: Any, key: str) -> Point | None:
    x, y = system.facts.number("accuracy"), facts.number(key)
    if x is None or y is None:
        return None
    limits = system.facts.interval("accuracy") or (x, x), facts.interval(key) or (y, y)
    return Point(system, x, y, *limits)


def bettered(point: Point, others: Sequence[Point], *, high_is_good: bool) -> bool:
    """Tell whether another system is at least as good in both figures and better in one."""
    sign = 1 if high_is_good else -1
    own = (point.x, sign * point.y)
    return any(
        other.x >= own[0] and sign * other.y >= own[1] and (other.x, sign * other.y) != own
        for other in others
    )


def _chart(title: str, key: str, points: Sequence[Point], *, high_is_good: bool) -> dict[str, Any] | None:
    if len(points) < 2:
        return None
    best = [p.system.name for p in points if not bettered(p, points, high_is_good=high_is_good)]
    return {
        "title": title,
        "hint": "up and to the right is better" if high_is_good else "down and to the right is better",
        "svg": _drawn(f"Accuracy and {title[:1].lower()}{title[1:]}", key, points),
        "best": best,
        "rows": [(p.system, _said(p.x, p.x_limits), _said(p.y, p.y_limits)) for p in points],
    }


def _said(value: float, limits: Interval) -> str:
    return f"{wording.percent(value)} ({wording.bare(limits[0])} to {wording.bare(limits[1])})"


def _drawn(title: str, key: str, points: Sequence[Point]) -> Markup:
    across = _axis([limit for p in points for limit in p.x_limits])
    up = _axis([limit for p in points for limit in p.y_limits])

    def place(x: float, y: float) -> tuple[float, float]:
        right = LEFT + (RIGHT - LEFT) * (x - across[0]) / (across[-1] - across[0])
        return right, BOTTOM - (BOTTOM - TOP) * (y - up[0]) / (up[-1] - up[0])

    text = " ".join(f"{p.system.name}: {wording.percent(p.x)} and {wording.percent(p.y)}." for p in points)
    parts = [Markup('<title id="{0}-t">{1}</title><desc id="{0}-d">{2}</desc>').format(key, title, text)]
    parts += [_grid(place(across[0], tick)[1], tick) for tick in up]
    parts += [
        Markup('<text class="tick x" x="{:.1f}" y="{}">{:.4g}</text>').format(
            place(tick, up[0])[0], BOTTOM + 16, 100 * tick
        )
        for tick in across
    ]
    parts.append(Markup('<text class="axis-name" x="{}" y="{}">accuracy, %</text>').format(RIGHT, HEIGHT - 4))
    parts += [_mark(point, place) for point in points]
    return Markup(
        '<svg viewBox="0 0 {} {}" role="img" aria-labelledby="{}-t {}-d" class="chart">{}</svg>'
    ).format(WIDTH, HEIGHT, key, key, Markup("").join(parts))


def _axis(values: Sequence[float]) -> list[float]:
    low, high = max(min(values), 0.0), max(values)
    return ticks(low, max(high, low + 0.05), 5)


def _grid(y: float, tick: float) -> Markup:
    return Markup(
        '<path class="grid" d="M{},{:.1f}H{}"/><text class="tick y" x="{}" y="{:.1f}">{:.4g}</text>'
    ).format(LEFT, y, RIGHT, LEFT - 7, y + 3.5, 100 * tick)


def _mark(point: Point, place: Any) -> Markup:
    """One system with the intervals of both figures as a cross."""
    x, y = place(point.x, point.y)
    (left, right), (low, high) = point.x_limits, point.y_limits
    return Markup(
        '<g style="--c:var({})"><title>{}</title><path class="cross" d="M{:.1f},{:.1f}H{:.1f}M{:.1f},{:.1f}V{:.1f}"/>'
        '<path class="mark" d="{}" transform="translate({:.1f},{:.1f})"/></g>'
    ).format(
        point.system.colour,
        point.system.name,
        *(place(left, point.y)[0], y, place(right, point.y)[0]),
        *(x, place(point.x, low)[1], place(point.x, high)[1]),
        MARKERS[point.system.marker],
        x,
        y,
    )
