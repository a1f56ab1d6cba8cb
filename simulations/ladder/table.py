"""From the summaries of runs to the table of the ladder: each rung against the one before, seed by seed."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from simulations.study.table import COSTS, GROUPS, OVERALL, Facts, over_seeds, pareto_of, row

CSV = "ladder.csv"
"""The one table, a line a rung and figure."""

COLUMNS = ("rung", "figure", "attribute", "of", "value", "change", "low", "high")

ROUNDING = 1e-9
"""What a change may be by the rounding of means alone."""


def ladder_table(runs: Mapping[str, Sequence[Facts]]) -> Facts:
    """Return what ``summary.json`` says of the rungs.

    Parameters
    ----------
    runs : rung -> what the summary of each seed's run says of its system, in the order of the seeds and of the rungs.

    Returns
    -------
    dict : ``systems``: rung -> row, and ``pareto``, both as :func:`simulations.study.table.table` gives them, with
        changes from the rung before. A row also has intervals and changes of the costs and of ``epsilon``, and
        ``changes``: every class and group with the change of its recall or accuracy, the largest loss first.
    """
    rows: dict[str, Facts] = {}
    before: Sequence[Facts] | None = None
    for name, found in runs.items():
        rows[name] = row(found, before)
        for key in (*COSTS, "epsilon"):
            base = None if before is None else [each[key] for each in before]
            spent = over_seeds(key, [each[key] for each in found], base, share=False)
            rows[name] |= {k: value for k, value in spent.items() if k != "epsilon"}
        rows[name]["changes"] = [] if before is None else changes(found, before)
        before = found
    return {"systems": rows, "reference": None, "pareto": pareto_of(rows)}


def changes(found: Sequence[Facts], before: Sequence[Facts]) -> list[Facts]:
    """Return how each class and each group fares beside the rung before, the largest loss first.

    Returns
    -------
    list : ``kind`` is class, or group; ``attribute`` (None for a class), ``name``, ``value``, ``change``,
        ``interval`` (None with one seed). What some seed does not tell is left out.
    """
    made = []
    for name in found[0]["recall"]:
        pair = [[each["recall"].get(name) for each in runs] for runs in (found, before)]
        made.append(_changed("class", None, name, *pair))
    for attribute, parity in found[0]["parity"].items():
        for group in parity["groups"]:
            pair = [[_accuracy(each, attribute, group) for each in runs] for runs in (found, before)]
            made.append(_changed("group", attribute, group, *pair))
    return sorted((each for each in made if each["change"] is not None), key=lambda each: each["change"])


def lost_most(found: Sequence[Facts], kind: str) -> Facts | None:
    """Return the class, or the group, whose figure fell most, None where none fell."""
    worst = next((each for each in found if each["kind"] == kind), None)
    return worst if worst is not None and worst["change"] < -ROUNDING else None


def is_sure(change: Facts) -> bool:
    """Whether the interval of a change leaves out 0."""
    limits = change["interval"]
    return limits is not None and not limits[0] <= 0 <= limits[1]


def ladder_csv(facts: Facts) -> str:
    """Return every figure of every rung as csv: its value, its change from the rung before and that one's interval.

    ``of`` is the class or group of a recall or an accuracy. What is not known is an empty cell.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for name, found in facts["systems"].items():
        writer.writerows((name, *("" if cell is None else cell for cell in line)) for line in _lines(found))
    return text.getvalue()


def _lines(found: Facts) -> Iterator[tuple[Any, ...]]:
    for key in (*(figure.key for figure in OVERALL), "epsilon", *COSTS):
        yield key, None, None, *_numbers(found, key)
    least = None if found["audited"] is None else found["audited"]["audited_epsilon"]
    yield "epsilon at least", None, None, least, None, None, None
    for attribute, groups in found["parity"].items():
        for figure in GROUPS:
            yield figure.key, attribute, None, *_numbers(groups, figure.key)
    for each in found["changes"]:
        figure = "recall" if each["kind"] == "class" else "accuracy"
        limits = each["interval"] or (None, None)
        yield figure, each["attribute"], each["name"], each["value"], each["change"], *limits


def _numbers(place: Facts, key: str) -> tuple[Any, ...]:
    limits = place.get(f"{key}_change_interval") or (None, None)
    return place[key], place.get(f"{key}_change"), *limits


def _accuracy(found: Facts, attribute: str, group: str) -> float | None:
    value: Any = found["parity"][attribute]["groups"].get(group, {}).get("accuracy")
    return value


def _changed(
    kind: str, attribute: str | None, name: str, values: list[float | None], before: list[float | None]
) -> Facts:
    made = over_seeds("value", values, before)
    return {
        "kind": kind,
        "attribute": attribute,
        "name": name,
        "value": made["value"],
        "change": made["value_change"],
        "interval": made["value_change_interval"],
    }
