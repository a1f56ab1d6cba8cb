"""From the summaries of runs to the table of a study: means over seeds, and paired differences to the first method.

Every method has run with the same seeds, and so with the same pictures, split, sites and first weights. Runs of two
methods are therefore held against each other seed by seed, and what one seed's pictures add to both cancels. The
interval of the mean difference is Student's over the seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fer_models.intervals import Interval, student_interval

Facts = dict[str, Any]
"""A JSON object."""


@dataclass(frozen=True)
class Figure:
    """A figure of the table.

    Attributes
    ----------
    key : its name in ``summary.json``.
    name : its heading.
    sign : 1 where more is better, -1 where less is.
    """

    key: str
    name: str
    sign: int = 1


OVERALL = (
    Figure("accuracy", "accuracy"),
    Figure("balanced_accuracy", "balanced accuracy"),
    Figure("worst_recall", "worst recall"),
)
"""Figures of a system."""

GROUPS = (
    Figure("accuracy_gap", "accuracy gap", -1),
    Figure("worst_group_accuracy", "accuracy of the worst group"),
    Figure("demographic_parity_difference", "parity gap", -1),
    Figure("equalized_odds_difference", "equalized odds gap", -1),
)
"""Figures of an attribute's groups."""

COSTS = ("cpu_seconds", "bytes_up", "visits")


def worst_group_accuracy(parity: Mapping[str, Any]) -> float | None:
    """Return the lowest accuracy of the groups that are compared; None where fewer than two are."""
    groups = [group for group in parity["groups"].values() if group["compared"]]
    return min(group["accuracy"] for group in groups) if len(groups) > 1 else None


def table(runs: Mapping[str, Sequence[Facts]], reference: Sequence[Facts] | None = None) -> Facts:
    """Return what ``summary.json`` says of the methods of a study.

    Parameters
    ----------
    runs : method -> what the summary of each seed's run says of its system, in the order of the seeds. The others are
        held against the first method.
    reference : the same of the first method without privacy, where the study is private.

    Returns
    -------
    dict : ``systems``: method -> row; ``reference``: a row or None; ``pareto``: the methods that no other beats in
        both figures of a picture. A row has, for each KEY, the mean under KEY, ``KEY_interval``, ``KEY_seeds`` and,
        but for the first method, ``KEY_change`` and ``KEY_change_interval``; intervals are None with one seed, and a
        figure is None where some seed has none. ``accuracy_gap_cut`` is the share of the first method's mean gap that
        is gone, ``accuracy_gap_shown`` the number of runs whose own test pictures tell the gap from none, and
        ``worst_recall_recovered`` the share of the worst recall that privacy took which is there again.
    """
    first = next(iter(runs.values()))
    rows = {name: row(found, None if found is first else first) for name, found in runs.items()}
    beside = None if reference is None else row(reference, first)
    if beside is not None:
        base, *others = rows.values()
        for found in others:
            found["worst_recall_recovered"] = _recovered(found, base, beside)
    return {"systems": rows, "reference": beside, "pareto": pareto_of(rows)}


def row(found: Sequence[Facts], first: Sequence[Facts] | None) -> Facts:
    """Return a method's row from what each of its runs came to, and each run of the first method."""
    made: Facts = {}
    for figure in OVERALL:
        base = None if first is None else _column(first, figure.key)
        made |= over_seeds(figure.key, _column(found, figure.key), base)
    made["recall"] = {name: _mean([each["recall"][name] for each in found]) for name in found[0]["recall"]}
    made["parity"] = {name: _attribute(name, found, first) for name in found[0]["parity"]}
    budgets = [each["epsilon"] for each in found]
    made["epsilon"] = None if None in budgets else max(budgets)
    return made | {key: _mean(_column(found, key)) for key in COSTS}


def _column(found: Sequence[Facts], key: str) -> list[float | None]:
    return [each[key] for each in found]


def _attribute(name: str, found: Sequence[Facts], first: Sequence[Facts] | None) -> Facts:
    """Return the figures of an attribute's groups, and in how many runs its accuracy gap is told from none."""

    def column(runs: Sequence[Facts], key: str) -> list[float | None]:
        parities = [each["parity"][name] for each in runs]
        if key == "worst_group_accuracy":
            return [worst_group_accuracy(parity) for parity in parities]
        return [parity[key] for parity in parities]

    made: Facts = {}
    for figure in GROUPS:
        base = None if first is None else column(first, figure.key)
        made |= over_seeds(figure.key, column(found, figure.key), base)
    limits = [each["parity"][name]["accuracy_gap_interval"] for each in found]
    made["accuracy_gap_shown"] = sum(pair is not None and pair[0] > 0 for pair in limits)
    if first is not None:
        made["accuracy_gap_cut"] = _cut(made["accuracy_gap"], made["accuracy_gap_change"])
    return made


def _cut(gap: float | None, change: float | None) -> float | None:
    """Return the share of the first method's gap that is gone; None where it had none."""
    if gap is None or change is None or gap == change:
        return None
    return -change / (gap - change)


def over_seeds(
    key: str, values: Sequence[float | None], first: Sequence[float | None] | None, *, share: bool = True
) -> Facts:
    """Return a figure's mean over the seeds, and that of its paired differences to another method's.

    Parameters
    ----------
    values, first : one a seed, None where it is not known.
    share : the figure lies between 0 and 1, which Student's interval does not know.
    """
    spread = _limits(values)
    if spread is not None and share:
        spread = max(0.0, spread[0]), min(1.0, spread[1])
    made: Facts = {key: _mean(values), f"{key}_interval": spread, f"{key}_seeds": list(values)}
    if first is None:
        return made
    pairs = [None if a is None or b is None else a - b for a, b in zip(values, first, strict=True)]
    return made | {f"{key}_change": _mean(pairs), f"{key}_change_interval": _limits(pairs)}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None


def _limits(values: Sequence[float | None]) -> Interval | None:
    known = [value for value in values if value is not None]
    return student_interval(known) if 1 < len(known) == len(values) else None


def _recovered(found: Facts, base: Facts, reference: Facts) -> float | None:
    """Return the share of the worst recall that privacy took which a method gives back; None where it took none."""
    values = [each["worst_recall"] for each in (found, base, reference)]
    if None in values or values[2] <= values[1]:
        return None
    return (values[0] - values[1]) / (values[2] - values[1])


# Pareto


def pareto_of(rows: Mapping[str, Facts]) -> list[Facts]:
    """Return the pictures of accuracy against another figure, with the methods that none beats in both."""
    wanted: list[tuple[str | None, Figure]] = [(None, OVERALL[2])]
    for attribute in next(iter(rows.values()))["parity"]:
        wanted += [(attribute, GROUPS[0]), (attribute, GROUPS[2])]
    pictures = []
    for attribute, figure in wanted:
        at = {
            name: (found["accuracy"], value_of(found, attribute, figure.key)) for name, found in rows.items()
        }
        places = {
            name: (x, figure.sign * y) for name, (x, y) in at.items() if x is not None and y is not None
        }
        best = [name for name in places if not any(beats(other, places[name]) for other in places.values())]
        pictures.append({"attribute": attribute, "figure": figure.key, "best": best})
    return pictures


def value_of(found: Mapping[str, Any], attribute: str | None, key: str) -> Any:
    """Return a value of a row, or of one of its attributes."""
    return found[key] if attribute is None else found["parity"][attribute][key]


def beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether a place is as good as another in both figures, and better in one; more is better in both."""
    return one != other and one[0] >= other[0] and one[1] >= other[1]


def verdict(found: Mapping[str, Any], figure: Figure) -> str:
    """Return "better" or "worse" than the first method, "" where the seeds do not tell, from a row or an attribute."""
    limits = found.get(f"{figure.key}_change_interval")
    if limits is None or limits[0] <= 0 <= limits[1]:
        return ""
    return "better" if figure.sign * limits[0] > 0 else "worse"
