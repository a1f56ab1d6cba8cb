"""For whom a model fails most, and how sure that is: differences between groups, all held at once.

Whoever looks at every pair of groups, in accuracy and in the recall of every class, finds some pair far apart by
chance. So the intervals here hold together: Newcombe's method 10 (1998) with Bonferroni's correction. A statement
that rests on them is wrong anywhere at most as often as the level allows, and the one that is picked for the first
line of a page is no exception.

The chance of error is shared out before anything is seen: half of it to accuracy, in equal parts to the attributes;
half to the classes, in equal parts to every class of every attribute; and within a question in equal parts to its
pairs. So a column of many groups takes nothing from one of two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fer_models.counts import Counts
from fer_models.intervals import Interval, corrected, newcombe_difference, proportion_interval
from fer_models.labels import UNDISCLOSED
from fer_models.parity import SMALLEST

People = Mapping[str, Mapping[str, int]]


class Question(NamedTuple):
    """One rate of every group of an attribute.

    Attributes
    ----------
    label : the class whose recall it is; None for accuracy.
    hits, n : int64 (G,), in the order of the attribute's groups.
    worth : (G,), the share of their rows that these count for, as persons may have several.
    """

    attribute: str
    label: str | None
    hits: NDArray[np.int64]
    n: NDArray[np.int64]
    worth: NDArray[np.float64]

    def apart(self, place: int, other: int, level: float) -> Interval:
        """Return the interval of the rate of one group less that of another."""
        hits, n = self.hits * self.worth, self.n * self.worth
        return newcombe_difference(hits[place], n[place], hits[other], n[other], level)


def questions(counts: Counts, attributes: Sequence[str] | None = None) -> Iterator[Question]:
    """Yield accuracy and the recall of every class that occurs, attribute by attribute."""
    for attribute in counts.groups if attributes is None else attributes:
        table = counts.by_group[attribute]
        hits, true = np.diagonal(table, axis1=1, axis2=2), table.sum(2)
        recalls = np.broadcast_to(counts.effect(attribute).share("recall"), true.shape)
        whole = np.broadcast_to(counts.effect(attribute).share("accuracy"), (len(table), 1))[:, 0]
        yield Question(attribute, None, hits.sum(1), true.sum(1), whole)
        for place in np.flatnonzero(true.sum(0)).tolist():
            yield Question(attribute, counts.labels[place], hits[:, place], true[:, place], recalls[:, place])


def findings(counts: Counts, people: People | None = None, level: float = 0.95) -> dict[str, Any]:
    """Return the differences between groups, the surest first.

    Parameters
    ----------
    people : attribute -> group -> persons, where rows name them: no difference is sure that rests on fewer than
        :data:`fer_models.parity.SMALLEST` persons.
    level : of all intervals together.

    Returns
    -------
    dict : ``level``, ``comparisons`` (how many intervals hold together) and ``gaps``, one an attribute and
        question with two groups to compare: ``attribute``, ``class`` (None for accuracy), ``group`` with its
        ``rate``, ``rate_interval`` (Wilson, of its own) and ``n``, the same of the group that it is
        ``against`` (``against_rate``, ``against_interval``, ``against_n``), ``difference`` and
        ``difference_interval`` (against less group) with its own ``level``, ``sure`` (the interval excludes 0), and
        ``at_most``: the largest difference of any two groups that the rows allow. Where several pairs are sure it is
        the one whose lower limit is highest, else the pair furthest apart.
    """
    asked = [
        (question, places)
        for question in questions(counts)
        if len(places := comparable(counts, question)) > 1
    ]
    pairs = [len(places) * (len(places) - 1) // 2 for _, places in asked]
    alike = Counter(question.label is None for question, _ in asked)
    strict = [
        corrected(level, len(alike) * alike[question.label is None] * number)
        for (question, _), number in zip(asked, pairs, strict=True)
    ]
    gaps = [
        _gap(counts, question, places, (people or {}).get(question.attribute, {}), own, level)
        for (question, places), own in zip(asked, strict, strict=True)
    ]
    return {"level": level, "comparisons": sum(pairs), "gaps": sorted(gaps, key=surest)}


def doubted(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what :func:`findings` found with no difference called sure, where intervals are known to be too narrow."""
    gaps = [{**gap, "sure": False} for gap in found["gaps"]]
    return {**found, "gaps": sorted(gaps, key=surest)}


def surest(gap: Mapping[str, Any]) -> tuple[bool, float, float]:
    """Return what sorts differences, the surest first."""
    return not gap["sure"], -gap["difference_interval"][0], -gap["difference"]


def comparable(counts: Counts, question: Question) -> list[int]:
    """Return the places of the groups that disclosed and have enough rows."""
    names = counts.groups[question.attribute]
    return [i for i, n in enumerate(question.n.tolist()) if n >= SMALLEST and names[i] != UNDISCLOSED]


def _gap(
    counts: Counts,
    question: Question,
    places: Sequence[int],
    persons: Mapping[str, int],
    strict: float,
    level: float,
) -> dict[str, Any]:
    names, hits, n = counts.groups[question.attribute], question.hits.tolist(), question.n.tolist()

    def known(low: int, high: int) -> bool:
        return all(persons.get(names[each], SMALLEST) >= SMALLEST for each in (low, high))

    ordered = sorted(places, key=lambda place: hits[place] / n[place])
    pairs = {(low, high): question.apart(high, low, strict) for low, high in combinations(ordered, 2)}
    proven = [pair for pair, limits in pairs.items() if limits[0] > 0 and known(*pair)]
    low, high = max(proven, key=lambda pair: pairs[pair][0]) if proven else (ordered[0], ordered[-1])
    rates = {place: hits[place] / n[place] for place in (low, high)}
    rows = question.n[[low, high]] * question.worth[[low, high]]
    own, other = proportion_interval(rows * [rates[low], rates[high]], rows, level).tolist()
    return {
        "attribute": question.attribute,
        "class": question.label,
        **{"group": names[low], "rate": rates[low], "rate_interval": own, "n": n[low]},
        **{"against": names[high], "against_rate": rates[high], "against_interval": other},
        "against_n": n[high],
        "difference": rates[high] - rates[low],
        "difference_interval": list(pairs[low, high]),
        "level": strict,
        "sure": bool(proven),
        "at_most": max(max(limits[1], -limits[0]) for limits in pairs.values()),
    }


def reference_of(counts: Counts, attribute: str) -> str | None:
    """Return the group that others are held against when nobody names one: the largest that disclosed."""
    sizes = dict(zip(counts.groups[attribute], counts.by_group[attribute].sum((1, 2)).tolist(), strict=True))
    known = {name: n for name, n in sizes.items() if name != UNDISCLOSED and n >= SMALLEST}
    return max(known, key=known.__getitem__, default=None)


def against_reference(
    counts: Counts, attribute: str, reference: str, level: float = 0.95
) -> dict[str, Any] | None:
    """Return how every group differs from a reference group, in accuracy and in the recall of every class.

    Returns
    -------
    dict : ``reference``, ``level`` (of all intervals of the attribute together), ``comparisons``, and ``groups``: name
        -> ``accuracy`` and ``recall`` (class -> the same), each None with too few rows, or ``difference`` (group less
        reference) and ``difference_interval``. None where the reference or every other group has fewer than
        :data:`fer_models.parity.SMALLEST` rows.
    """
    names, asked = counts.groups[attribute], list(questions(counts, [attribute]))
    usable = [comparable(counts, question) for question in asked]
    home = names.index(reference)
    others = [place for place in usable[0] if place != home]
    if home not in usable[0] or not others:
        return None
    pairs = [[place for place in others if place in each] if home in each else [] for each in usable]
    comparisons = sum(map(len, pairs))
    strict = corrected(level, comparisons)
    rows = [
        {place: _against(question, place, home, strict) for place in places}
        for question, places in zip(asked, pairs, strict=True)
    ]
    groups = {
        names[place]: {
            "accuracy": rows[0].get(place),
            "recall": {str(q.label): row.get(place) for q, row in zip(asked[1:], rows[1:], strict=True)},
        }
        for place in others
    }
    return {"reference": reference, "level": level, "comparisons": comparisons, "groups": groups}


def _against(question: Question, place: int, home: int, level: float) -> dict[str, Any]:
    (x, rows), (y, size) = ((int(question.hits[i]), int(question.n[i])) for i in (place, home))
    return {
        "difference": x / rows - y / size,
        "difference_interval": list(question.apart(place, home, level)),
    }
