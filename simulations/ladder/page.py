"""The ladder as one offline page: what each rung was paid with and by whom, the table, recalls, and costs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from markupsafe import Markup

from server.report import page as report
from server.report import wording
from server.run_folder import write_text
from simulations.ladder.table import is_sure, lost_most
from simulations.study.page import PAGE, TEMPLATES, cell, chart_of, sample_of, signed
from simulations.study.table import GROUPS, OVERALL, Facts, Figure

PAID = (OVERALL[0], OVERALL[2])
"""What the sentence of a rung says."""

COSTS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("cpu_seconds", "CPU time", wording.duration),
    ("bytes_up", "Uploaded", wording.size),
    ("visits", "Sample visits", wording.count),
)


def write_page(folder: Path, facts: Facts) -> Path:
    """Write the page of a ladder into its folder, whole or not at all, and return its path."""
    path = folder / PAGE
    write_text(path, render(facts))
    return path


def render(facts: Facts) -> str:
    """Return the page as HTML. Every text is escaped; it loads nothing and runs no script."""
    environment = report.environment(TEMPLATES)
    environment.filters |= {"spaced": wording.spaced}
    systems = facts["systems"]
    attributes = list(next(iter(systems.values()))["parity"])
    return environment.get_template("ladder.html.jinja").render(
        facts=facts,
        steps=steps(facts),
        legend=[(found["name"], sample_of(index)) for index, found in enumerate(systems.values())],
        charts=[chart_of(facts, picture, f"pareto-{i}") for i, picture in enumerate(facts["pareto"])],
        overall=_table(facts, OVERALL, None),
        groups=[(attribute, _table(facts, GROUPS, attribute)) for attribute in attributes],
        whom=_whom(facts),
        costs=_costs(facts),
        sizes=None if facts["sizes"] is None else {key: wording.size(n) for key, n in facts["sizes"].items()},
    )


def steps(facts: Facts) -> list[tuple[str, str, str]]:
    """Return for each rung its name, what is new in it, and what it changed and for whom, in words."""
    made = []
    for found in facts["systems"].values():
        said = [f"{figure.name} {_moved(found, figure)}" for figure in PAID if _known(found, figure)]
        said += [
            f"{GROUPS[0].name} by {wording.spaced(attribute)} {_moved(groups, GROUPS[0])}"
            for attribute, groups in found["parity"].items()
            if _known(groups, GROUPS[0])
        ]
        whom = lost(found)
        said += [f"most lost: {' and '.join(whom)}"] if whom else []
        made.append((found["name"], found["what"], "; ".join(said)))
    return made


def lost(found: Facts) -> list[str]:
    """Return which class and which group lost most by a rung, and how much; none where none lost."""
    worst = [lost_most(found["changes"], kind) for kind in ("class", "group")]
    return [
        f"{_called(each)} {wording.points(each['change'])}{'' if is_sure(each) else ' (may be chance)'}"
        for each in worst
        if each is not None
    ]


def _known(place: Facts, figure: Figure) -> bool:
    return place.get(f"{figure.key}_change") is not None


def _moved(place: Facts, figure: Figure) -> str:
    limits = place[f"{figure.key}_change_interval"]
    spread = "" if limits is None else f" ({signed(limits[0])} to {signed(limits[1])})"
    return f"{signed(place[f'{figure.key}_change'])} points{spread}"


def _called(change: Facts) -> str:
    if change["kind"] == "class":
        return f"class {wording.spaced(change['name'])}"
    return f"{wording.spaced(change['attribute'])} {wording.spaced(change['name'])}"


def _table(facts: Facts, figures: tuple[Figure, ...], attribute: str | None) -> dict[str, Any]:
    rows = [
        {
            "legend": sample_of(index),
            "name": found["name"],
            "cells": [
                cell(found if attribute is None else found["parity"][attribute], each) for each in figures
            ],
            "notes": [],
        }
        for index, found in enumerate(facts["systems"].values())
    ]
    return {"names": [figure.name for figure in figures], "rows": rows}


def _whom(facts: Facts) -> dict[str, Any]:
    """Return the recall of every class and the accuracy of every group at each rung, with their changes."""
    systems = facts["systems"]
    last = list(systems.values())[-1]["changes"]
    order = sorted(last, key=lambda each: (each["kind"], each["attribute"] or "", each["name"]))
    keys = [(each["kind"], each["attribute"], each["name"]) for each in order]
    rows = []
    for index, found in enumerate(systems.values()):
        by = {(each["kind"], each["attribute"], each["name"]): each for each in found["changes"]}
        cells = [
            _person(found, key, by.get(key), _called(each)) for key, each in zip(keys, order, strict=True)
        ]
        rows.append({"legend": sample_of(index), "name": found["name"], "cells": cells, "notes": []})
    return {"names": [_called(each) for each in order], "rows": rows}


def _person(
    found: Facts, key: tuple[str, str | None, str], change: Facts | None, name: str
) -> dict[str, str]:
    if change is None:
        value = found["recall"].get(key[2]) if key[0] == "class" else None
        told = "–" if value is None else wording.percent(value)
        return {"name": name, "value": told, "change": "", "spread": "", "verdict": ""}
    limits = change["interval"]
    verdict = ("better" if change["change"] > 0 else "worse") if is_sure(change) else ""
    return {
        "name": name,
        "value": wording.percent(change["value"]),
        "change": f"{signed(change['change'])} points",
        "spread": "" if limits is None else f"{signed(limits[0])} to {signed(limits[1])}",
        "verdict": verdict,
    }


def _costs(facts: Facts) -> list[tuple[str, list[Markup | str]]]:
    return [
        (
            found["name"],
            [_epsilon(found), _audited(found["audited"]), *(_spent(found, *cost) for cost in COSTS)],
        )
        for found in facts["systems"].values()
    ]


def _epsilon(found: Facts) -> str:
    return "none" if found["epsilon"] is None else wording.epsilon(found["epsilon"])


def _audited(audited: Facts | None) -> str:
    if audited is None:
        return "not audited"
    if audited["audited_epsilon"] is None:
        return "no bound found"
    return f"at least {audited['audited_epsilon']:.2f}: {audited['verdict']}"


def _spent(found: Facts, key: str, _: str, say: Callable[[float], str]) -> Markup:
    change, limits = found.get(f"{key}_change"), found.get(f"{key}_change_interval")
    made = Markup("<b>{}</b>").format(say(found[key]))
    if change is None:
        return made
    spread = "" if limits is None else f" ({_more(limits[0], say)} to {_more(limits[1], say)})"
    return made + Markup('<span class="under">{}{}</span>').format(_more(change, say), spread)


def _more(change: float, say: Callable[[float], str]) -> str:
    return f"{'+' if change >= 0 else wording.MINUS}{say(abs(change))}"
