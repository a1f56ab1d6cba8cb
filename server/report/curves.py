"""The charts of the report: what was measured round by round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from server.report import wording
from server.report.charts import Line, line_chart, sample
from server.report.systems import PARTS, System, judged

BASELINES = ("pooled", "local_only")
MARKERS = ("circle", "square", "diamond", "triangle")


def curves(found: Sequence[System]) -> dict[str, Any] | None:
    """Return the charts of what was measured round by round; None with fewer than two rounds."""
    moving = [system for system in found if len(system.curve) > 1]
    if not moving:
        return None
    levels = [system for system in judged(found) if system.key in BASELINES]
    rounds = [system for system in moving if system.key not in BASELINES]
    charts = [
        _chart("Accuracy", "accuracy", rounds, "round", levels),
        _chart("Balanced accuracy", "balanced_accuracy", rounds, "round", levels),
        _chart("Recall of the worst class", "worst_recall", rounds, "round", levels),
        _parity_chart(rounds),
        _chart("Privacy spent: epsilon", "epsilon", rounds, "round", []),
        _chart("Accuracy for the work done", "accuracy", moving, "visits", []),
    ]
    legend = list({system.key: system for system in (*moving, *levels)}.values())
    return {"charts": [chart for chart in charts if chart], "legend": legend}


def _points(system: System, key: str, x: str) -> list[tuple[float, float]]:
    pairs = [(line.number(x), line.number(key)) for line in system.curve]
    return [(a, b) for a, b in pairs if a is not None and b is not None]


def _chart(
    title: str, key: str, moving: Sequence[System], x: str, levels: Sequence[System]
) -> dict[str, Any] | None:
    lines = []
    for system in moving:
        if points := _points(system, key, x):
            xs, ys = zip(*points, strict=True)
            lines.append(Line(system.name, system.colour, system.marker, xs, ys))
    if not lines:
        return None
    ends = ((system, system.facts.number(key)) for system in levels)
    lines += [Line(s.name, s.colour, s.marker, (), (end,)) for s, end in ends if end is not None]
    say = (lambda value: f"{value:.3g}") if key == "epsilon" else _tick
    names = {"round": "rounds", "visits": "sample visits"}
    drawn = line_chart(
        title,
        lines,
        key=f"{key}-{x}",
        x_name=names[x],
        x_format=_short,
        y_format=say,
        zero=key == "epsilon",
    )
    return {"title": title, "svg": drawn, "legend": [], "note": ""}


def _parity_chart(moving: Sequence[System]) -> dict[str, Any] | None:
    """The mean demographic parity difference of the federated system, one curve an attribute."""
    shown = next((system for system in moving if system.key == "federated"), next(iter(moving), None))
    if shown is None:
        return None
    values: dict[str, list[tuple[float, float]]] = {}
    for line in shown.curve:
        parity, at = line.child("parity"), line.number("round")
        for attribute in parity:
            if at is not None and (value := parity.number(attribute)) is not None:
                values.setdefault(attribute, []).append((at, value))
    lines = [
        Line(
            wording.spaced(attribute),
            f"--part-{index % PARTS}",
            MARKERS[index % len(MARKERS)],
            *zip(*points, strict=True),
        )
        for index, (attribute, points) in enumerate(values.items())
    ]
    if not lines:
        return None
    title = "Gap in predictions between groups"
    drawn = line_chart(
        title, lines, key="parity-round", x_name="rounds", x_format=_short, y_format=_tick, zero=True
    )
    legend = [{"name": line.name, "sample": sample(line.marker, line.colour)} for line in lines]
    return {"title": title, "svg": drawn, "legend": legend, "note": f"{shown.name}, mean over classes"}


def _tick(value: float) -> str:
    return f"{100 * value:.4g}{wording.SPACE}%"


def _short(value: float) -> str:
    for unit, scale in (("M", 1e6), ("k", 1e3)):
        if abs(value) >= scale:
            return f"{value / scale:.3g}{wording.SPACE}{unit}"
    return f"{value:.4g}"
