"""A study as one offline page: what the methods change, the Pareto pictures, and the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from server.report import page as report
from server.report import wording
from server.report.charts import MARKERS, sample
from server.report.systems import PARTS
from server.run_folder import write_text
from simulations.study.chart import Point, pareto
from simulations.study.table import GROUPS, OVERALL, Facts, Figure, value_of, verdict

TEMPLATES = Path(__file__).parent / "templates"

PAGE = "report.html"


def write_page(folder: Path, facts: Facts) -> Path:
    """Write the page of a study into its folder, whole or not at all, and return its path."""
    path = folder / PAGE
    write_text(path, render(facts))
    return path


def render(facts: Facts) -> str:
    """Return the page as HTML. Every text is escaped; it loads nothing and runs no script."""
    environment = report.environment(TEMPLATES)
    environment.filters |= {"spaced": wording.spaced}
    attributes = list(next(iter(facts["systems"].values()))["parity"])
    return environment.get_template("study.html.jinja").render(
        facts=facts,
        first=facts["order"][0],
        leads=[*(lead(facts, None, figure) for figure in (OVERALL[0], OVERALL[2]))]
        + [lead(facts, attribute, GROUPS[0]) for attribute in attributes],
        legend=[(name, sample_of(index)) for index, name in enumerate(facts["order"])],
        charts=[chart_of(facts, picture, f"pareto-{i}") for i, picture in enumerate(facts["pareto"])],
        overall=_table(facts, None),
        groups=[(attribute, _table(facts, attribute)) for attribute in attributes],
        costs=_costs(facts),
    )


def named(attribute: str | None, figure: Figure) -> str:
    """Return a figure's name in a sentence."""
    return (
        figure.name if attribute is None else f"{figure.name} between groups of {wording.spaced(attribute)}"
    )


def lead(facts: Facts, attribute: str | None, figure: Figure) -> str:
    """Say which methods change a figure by more than chance explains, and which are not told from the first."""
    first = facts["order"][0]
    base = value_of(facts["systems"][first], attribute, figure.key)
    if base is None:
        return f"The {named(attribute, figure)} is not known: not enough data."
    text = f"{named(attribute, figure)[:1].upper()}{named(attribute, figure)[1:]}: {first} {wording.percent(base)}."
    judged: dict[str, list[str]] = {"better": [], "worse": [], "": []}
    for method in facts["order"][1:]:
        found = facts["systems"][method]
        place = found if attribute is None else found["parity"][attribute]
        change = place[f"{figure.key}_change"]
        if change is not None:
            said = f"{method} by {wording.points(abs(change))}" if verdict(place, figure) else method
            judged[verdict(place, figure)].append(said)
    ways = {"better": "Better", "worse": "Worse", "": f"Not told apart from {first}"}
    return " ".join([text, *(f"{ways[key]}: {', '.join(names)}." for key, names in judged.items() if names)])


def sample_of(index: int) -> Markup:
    """Return the mark of a method for legends."""
    colour, marker = _look(index)
    return sample(marker, colour)


def _look(index: int) -> tuple[str, str]:
    """Return a method's colour and marker; no two of 24 methods share both."""
    return f"--part-{index % PARTS}", list(MARKERS)[(index + index // PARTS) % len(MARKERS)]


def chart_of(facts: Facts, picture: Facts, key: str) -> dict[str, Any]:
    """Return a Pareto picture of a study with its title and a note; ``key`` is unique on the page."""
    attribute = picture["attribute"]
    figure = next(each for each in (*OVERALL, *GROUPS) if each.key == picture["figure"])
    points = []
    for index, (method, found) in enumerate(facts["systems"].items()):
        x, y = found["accuracy"], value_of(found, attribute, figure.key)
        if x is None or y is None:
            continue
        place = found if attribute is None else found["parity"][attribute]
        limits = _around(found, "accuracy"), _around(place, figure.key)
        points.append(Point(method, *_look(index), x, y, *limits, best=method in picture["best"]))
    title = f"Accuracy and {named(attribute, figure)}"
    note = f"best at the {'top' if figure.sign > 0 else 'bottom'} right"
    drawn = pareto(title, points, key=key, x_name="accuracy", y_name=figure.name) if points else Markup("")
    return {"title": title, "note": note if points else "not enough data", "svg": drawn}


def _around(place: Facts, key: str) -> tuple[float, float] | None:
    """Return the interval of the change from the first method, laid around the figure."""
    limits = place.get(f"{key}_change_interval")
    if limits is None:
        return None
    base = place[key] - place[f"{key}_change"]
    return base + limits[0], base + limits[1]


def _table(facts: Facts, attribute: str | None) -> dict[str, Any]:
    figures = OVERALL if attribute is None else GROUPS
    rows = [
        (sample_of(index), method, found) for index, (method, found) in enumerate(facts["systems"].items())
    ]
    if facts["reference"] is not None:
        rows.append((sample("square", "--open"), f"{facts['order'][0]}, without privacy", facts["reference"]))
    return {
        "names": [figure.name for figure in figures],
        "rows": [
            {
                "legend": legend,
                "name": name,
                "cells": [
                    cell(found if attribute is None else found["parity"][attribute], each) for each in figures
                ],
                "notes": _notes(facts, found, attribute),
            }
            for legend, name, found in rows
        ],
    }


def _notes(facts: Facts, found: Facts, attribute: str | None) -> list[str]:
    if attribute is None:
        share = found.get("worst_recall_recovered")
        if share is None:
            return []
        return [f"gives back {wording.percent(share, 0)} of the worst recall that privacy took"]
    groups = found["parity"][attribute]
    runs = len(facts["seeds"])
    notes = [f"a gap is shown in {groups['accuracy_gap_shown']} of {runs} runs"]
    if (cut := groups.get("accuracy_gap_cut")) is not None:
        notes.append(f"gap {'cut' if cut >= 0 else 'grown'} by {wording.percent(abs(cut), 0)}")
    return notes


def cell(place: Facts, figure: Figure) -> dict[str, str]:
    """Return what a cell of a table says of a figure: its value, its change, the interval, and what that tells."""
    value, change = place[figure.key], place.get(f"{figure.key}_change")
    limits = place.get(f"{figure.key}_change_interval")
    return {
        "name": figure.name,
        "value": "–" if value is None else wording.percent(value),
        "change": "" if change is None else f"{signed(change)} points",
        "spread": "" if limits is None else f"{signed(limits[0])} to {signed(limits[1])}",
        "verdict": verdict(place, figure),
    }


def signed(difference: float) -> str:
    """Write a difference of shares in points, with its sign."""
    return f"{'+' if difference >= 0 else ''}{wording.bare(difference)}"


def _costs(facts: Facts) -> list[tuple[str, list[str]]]:
    says = (
        ("epsilon", wording.epsilon),
        ("cpu_seconds", wording.duration),
        ("bytes_up", wording.size),
        ("visits", wording.count),
    )
    return [
        (method, [say(found[key]) if found[key] is not None else "none" for key, say in says])
        for method, found in facts["systems"].items()
    ]
