"""The ladder as files for documents: a table in Markdown, and its pictures as one SVG file that stands alone."""

from __future__ import annotations

from server.report import wording
from simulations.ladder.page import lost
from simulations.study.page import chart_of, sample_of, signed
from simulations.study.table import GROUPS, OVERALL, Facts, Figure
from simulations.sweeps.picture import standalone

MARKDOWN, PICTURE = "ladder.md", "ladder.svg"


def to_markdown(facts: Facts) -> str:
    """Return two tables: what each rung is at and what it changed, and what it took and who lost most by it."""
    attributes = list(next(iter(facts["systems"].values()))["parity"])
    figures: list[tuple[str | None, Figure]] = [(None, figure) for figure in OVERALL]
    figures += [(name, figure) for name in attributes for figure in (GROUPS[0], GROUPS[2], GROUPS[3])]
    heads = ["rung", *(figure.name if name is None else f"{figure.name}, {name}" for name, figure in figures)]
    rows = [
        [
            found["name"],
            *(_figure(found if name is None else found["parity"][name], each) for name, each in figures),
        ]
        for found in facts["systems"].values()
    ]
    costs = ["rung", "epsilon", "audited, at least", "CPU time", "sent up", "lost most"]
    return f"{_table(heads, rows)}\n{_table(costs, [_costs(found) for found in facts['systems'].values()])}"


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _figure(place: Facts, figure: Figure) -> str:
    value, change = place[figure.key], place.get(f"{figure.key}_change")
    if value is None:
        return "–"
    limits = place.get(f"{figure.key}_change_interval")
    spread = "" if limits is None else f", {signed(limits[0])} to {signed(limits[1])}"
    return wording.bare(value) + ("" if change is None else f" ({signed(change)}{spread})")


def _costs(found: Facts) -> list[str]:
    audited = found["audited"]
    least = None if audited is None else audited["audited_epsilon"]
    return [
        found["name"],
        wording.epsilon(found["epsilon"]),
        "–" if least is None else f"{least:.2f}",
        wording.duration(found["cpu_seconds"]),
        wording.size(found["bytes_up"]),
        "; ".join(lost(found)) or "–",
    ]


def to_svg(facts: Facts) -> str:
    """Return accuracy against each other figure, a point a rung."""
    charts = [chart_of(facts, picture, f"pareto-{i}") for i, picture in enumerate(facts["pareto"])]
    panels = [
        (chart["title"].replace(" between groups of ", ", "), chart["svg"])
        for chart in charts
        if chart["svg"]
    ]
    legend = [(found["name"], sample_of(index)) for index, found in enumerate(facts["systems"].values())]
    return standalone("What each rung costs", [panels[i : i + 3] for i in range(0, len(panels), 3)], legend)
