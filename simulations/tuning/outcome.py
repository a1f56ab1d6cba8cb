"""The frontier as a table, as words to copy, and as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

from simulations.tuning.facts import FIGURES, Facts
from simulations.tuning.search import Point

SHOWN = 3
"""Choices of each epsilon in the table, at least; the best in every figure are always there."""


def interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float] | None:
    """Return the interval of the mean by Student's t; None with fewer than two values."""
    if len(values) < 2:
        return None
    half = float(stats.t.ppf((1 + level) / 2, len(values) - 1)) * float(np.std(values, ddof=1))
    mean = float(np.mean(values))
    return mean - half / len(values) ** 0.5, mean + half / len(values) ** 0.5


def best(points: Sequence[Point], by: str) -> dict[float, Point]:
    """Return the best point of each epsilon in a figure; of equal ones the first."""
    epsilons = dict.fromkeys(point.epsilon for point in points)
    return {e: max((p for p in points if p.epsilon == e), key=lambda point: point.mean(by)) for e in epsilons}


def words_of(point: Point, facts: Facts) -> list[str]:
    """Return the settings to give to ``fedfer simulate`` beside the data."""
    levers, privacy = point.levers, "dp" if facts.noise == "site" else "distributed"
    subject = ["privacy.unit=subject"] if facts.unit == "subject" else []
    start = ["pretrain=faces"] if levers.pretrained else []
    start += [f"pretrain.faces={facts.faces}"] if levers.pretrained and facts.faces != 20_000 else []
    return [*levers.words(), *start, f"privacy={privacy}", *levers.private_words(point.epsilon), *subject]


def choices(points: Sequence[Point], by: str) -> list[tuple[float, str, Point]]:
    """Return (epsilon, figure, the best in it), first of ``by``; a choice that is named already is not repeated."""
    found: list[tuple[float, str, Point]] = []
    for epsilon in dict.fromkeys(point.epsilon for point in points):
        named: list[Point] = []
        for name in dict.fromkeys((by, *FIGURES)):
            point = best(points, name)[epsilon]
            if point not in named:
                named.append(point)
                found.append((epsilon, name, point))
    return found


def show(points: Sequence[Point], facts: Facts, console: Console) -> None:
    """Print the best choices of each epsilon, and the command lines of the best in each figure."""
    chosen = choices(points, facts.by)
    table = Table("epsilon", "levers", title="Drawn faces, on the test part", title_justify="left")
    for heading in (
        "sampling",
        "rounds",
        "step",
        "clip",
        "tau",
        "runs",
        *(n.replace("_", " ") for n in FIGURES),
    ):
        table.add_column(heading, justify="right")
    for epsilon in dict.fromkeys(point.epsilon for point in points):
        own = [point for point in points if point.epsilon == epsilon]
        named = [point for e, _, point in chosen if e == epsilon]
        for point in [p for i, p in enumerate(own) if i < SHOWN or p in named]:
            table.add_row(*_cells(point))
        table.add_section()
    console.print(table)
    for epsilon, name, point in chosen:
        what = name.replace("_", " ")
        console.print(f"\nepsilon {epsilon:g}, best {what} ({point.mean(name):.3f}):", highlight=False)
        line = f"  fedfer simulate data=... data.root=DIR {' '.join(words_of(point, facts))}"
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def _cells(point: Point) -> list[str]:
    levers = point.levers
    settings = (f"{levers.rate:g}", str(levers.rounds), f"{levers.learning_rate:g}", f"{levers.clip:g}")
    figures = (_said(point.figures[name]) for name in FIGURES)
    return [f"{point.epsilon:g}", levers.name, *settings, f"{levers.tau:g}", str(point.runs), *figures]


def _said(values: Sequence[float]) -> str:
    limits = interval(values)
    spread = f" ± {(limits[1] - limits[0]) / 2:.3f}" if limits else ""
    return f"{np.mean(values):.3f}{spread}"


def to_json(point: Point, facts: Facts) -> dict[str, Any]:
    """Return a point as plain values."""
    figures: dict[str, Any] = {"levers": point.levers.name, "tau": point.levers.tau, "runs": point.runs}
    for name, values in point.figures.items():
        limits = interval(values)
        figures[name], figures[f"{name}_interval"] = point.mean(name), list(limits) if limits else None
    return {"target_epsilon": point.epsilon, "words": words_of(point, facts), **figures}
