"""The first screen of an audit in plain words: what was found, for whom it is worst, how sure that is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from fer_models.labels import TIE
from fer_models.parity import SMALLEST, WEAK
from server.report import wording
from server.report.audit.naming import TIMES
from server.report.folder import Facts
from server.report.systems import Figure, figure, figure_of

MOST = 3
"""Differences that the first screen tells; the page has them all."""

UNNAMED = {
    "run": " With server.people=true sites add up what right ones need.",
    "predictions": " Name the column of the person with subject=COL.",
    "noise": " With privacy.unit=subject one picture of each person is counted.",
}
"""Door -> how intervals come to know of people; of counts with noise there is one way."""

MOST_SCARCE = 5
"""Groups that the first screen names as scarce."""


class Lowest(NamedTuple):
    """The lowest recall that any group has in any class."""

    attribute: str
    group: str
    label: str
    rate: float


def first(record: Facts) -> dict[str, Any]:
    """Return the headline, its answers and the notes below them."""
    figures, gaps = record.child("figures"), record.child("findings").rows("gaps")
    return {
        "headline": _headline(figures, gaps, record.text("doubt")),
        "found": _found(record),
        "pairs": [_pair(gap) for gap in _told(gaps)],
        "fails": _fails(gaps, record.text("doubt")),
        "lowest": _lowest(record, gaps),
        "sure": list(_sure(record, gaps)),
        "scarce": _shortened(_scarce(record)),
        "accuracy": figure_of(figures, "accuracy"),
    }


def _headline(figures: Facts, gaps: list[Facts], doubt: str) -> str:
    """Say the surest difference, of accuracy before that of a class; else how much may be hidden."""
    sure = [gap for gap in gaps if gap.get("sure")]
    told = next((gap for gap in sure if not gap.text("class")), next(iter(sure), None))
    if told is not None:
        rates = f"{_rate(told, 'rate')} of pictures against {_rate(told, 'against_rate')}"
        label, column = told.text("class"), wording.spaced(told.text("attribute"))
        what = f"It recognises {label}" if label else "It is right"
        whom = f"for “{told.text('group')}” ({column}) than for “{told.text('against')}”"
        return f"{what} less often {whom}: {rates}"
    accuracy = figures.number("accuracy")
    if accuracy is None:
        return "There were no pictures to judge"
    whole = [gap for gap in gaps if not gap.text("class")]
    if not whole:
        return f"It is right for {wording.percent(accuracy)} of pictures; there are no groups to compare"
    if doubt:
        right = f"It is right for {wording.percent(accuracy)} of pictures"
        return f"{right}; how sure differences between groups are, is not known"
    most = max(gap.number("at_most") or 0.0 for gap in whole)
    return (
        f"No group is shown to be served worse; differences up to {wording.points(most)} cannot be ruled out"
    )


def _rate(gap: Facts, key: str) -> str:
    return wording.percent(gap.number(key) or 0.0)


def _found(record: Facts) -> list[str]:
    """Say how often it is right, and which class it recognises most and least often."""
    figures, persons = record.child("figures"), people_of(record)
    support = {name: figures.child("support").number(name) or 0 for name in figures.child("support")}
    pictures = wording.plural(int(sum(support.values())), "picture")
    whose = f" of {people(persons)}" if persons else ""
    accuracy, limits = figures.number("accuracy"), figures.interval("accuracy")
    if accuracy is None:
        return ["There are no pictures."]
    spread = f" ({wording.span(limits)})" if limits else ""
    said = [f"Of {pictures}{whose}, {wording.percent(accuracy)}{spread} are called as their label says."]
    recall = {name: figures.child("recall").number(name) for name in figures.child("recall")}
    known = {name: value for name, value in recall.items() if value is not None}
    if len(known) > 1:
        best, worst = max(known, key=lambda name: known[name]), figures.text("worst_class")
        said.append(
            f"Most often recognised: {best}, {wording.percent(known[best])}. "
            f"Least often: {worst}, {wording.percent(figures.number('worst_recall') or 0.0)}."
        )
        name = max(support, key=lambda key: support[key])
        guess = wording.percent(support[name] / sum(support.values()))
        said.append(f"Always answering {name} would be right for {guess}.")
    unseen = [name for name, rows in support.items() if not rows and name != TIE]
    if unseen:
        said.append(f"No picture is labelled {' or '.join(unseen)}: nothing is known of that.")
    return said


def people(number: float) -> str:
    """Write a number of persons: 1 -> "1 person"."""
    return "1 person" if number == 1 else f"{wording.count(number)} people"


def people_of(record: Facts) -> int:
    """Return how many persons are known, 0 where rows name none.

    Who is in several groups of an attribute, such as angles, is in its sum as often: the smallest sum is nearest.
    """
    counted = [
        sum(int(groups.number(name) or 0) for name in groups)
        for groups in record.child("people").children().values()
    ]
    return min(filter(None, counted), default=0)


def _told(gaps: list[Facts]) -> list[Facts]:
    """Pick the differences to show as bars: sure ones, of accuracy first; then the widest of accuracy, if few are sure.

    An intersection and its own attributes are told once: by whichever is surest.
    """
    sure = _apart([gap for gap in gaps if gap.get("sure")])
    whole, classes = ([gap for gap in sure if bool(gap.text("class")) is each] for each in (False, True))
    picked = [*whole[:2], *classes[: MOST - len(whole[:2])]]
    rest = [gap for gap in gaps if not gap.get("sure") and not gap.text("class")]
    rest.sort(key=lambda gap: -(gap.number("difference") or 0.0))
    return picked if len(picked) > 1 else _apart([*picked, *rest])[:2]


def _apart(gaps: Sequence[Facts]) -> list[Facts]:
    """Return the first of those that ask the same of the same attribute, alone or in an intersection."""
    kept: list[Facts] = []
    for gap in gaps:
        alike = [other for other in kept if other.text("class") == gap.text("class")]
        told = {part for other in alike for part in other.text("attribute").split(TIMES)}
        if not told & set(gap.text("attribute").split(TIMES)):
            kept.append(gap)
    return kept


def _pair(gap: Facts) -> dict[str, Any]:
    """Return a difference as two bars and a sentence."""
    label, attribute = gap.text("class"), wording.spaced(gap.text("attribute"))
    limits = gap.interval("difference") or (0.0, 0.0)
    spread = f"{wording.bare(limits[0])} to {wording.points(limits[1])}"
    less = f"{wording.points(gap.number('difference') or 0.0)} less ({spread})"
    return {
        "title": f"{label[:1].upper()}{label[1:]}, by {attribute}"
        if label
        else f"All expressions, by {attribute}",
        "bars": [
            (gap.text("group"), figure(gap.number("rate"), gap.interval("rate"))),
            (gap.text("against"), _against(gap)),
        ],
        "said": f"{less}{'' if gap.get('sure') else ': may be chance'}",
    }


def _against(gap: Facts) -> Figure:
    return figure(gap.number("against_rate"), gap.interval("against"))


def _fails(gaps: list[Facts], doubt: str) -> str:
    """Say how many differences are beyond chance."""
    sure = sum(bool(gap.get("sure")) for gap in gaps)
    if not gaps:
        return "No column has two groups of at least ten pictures, so nobody can be compared."
    if doubt:
        return "No difference between groups is called sure, and no limit decided: intervals are too narrow here."
    if not sure:
        return "No difference between groups is beyond chance, all taken together. That is no proof that there is none."
    verb = "is" if sure == 1 else "are"
    asked = wording.plural(len(gaps), "difference")
    return f"{sure} of {asked} looked at (accuracy and each expression, by each column) {verb} beyond chance."


def _lowest(record: Facts, gaps: list[Facts]) -> str:
    """Say which group has the lowest recall of any class, when no difference above says it already."""
    cells = [
        Lowest(attribute, group, label, rate)
        for attribute, facts in record.child("figures").child("parity").children().items()
        for group, each in facts.child("groups").children().items()
        if each.get("compared")
        for label in each.child("recall")
        if (rate := each.child("recall").number(label)) is not None
    ]
    if not cells:
        return ""
    low = min(cells, key=lambda cell: cell.rate)
    told = {(gap.text("attribute"), gap.text("group"), gap.text("class")) for gap in _told(gaps)}
    if (low.attribute, low.group, low.label) in told:
        return ""
    facts = record.child("figures").child("parity").child(low.attribute).child("groups").child(low.group)
    n = int(facts.child("support").number(low.label) or 0)
    persons = record.child("people").child(low.attribute).number(low.group)
    limits = Facts({"of_interval": facts.child("recall_interval").get(low.label)}, facts.where).interval("of")
    spread = f", {wording.span(limits)}" if limits else ""
    few = f", {people(persons)} in the group" if persons is not None and persons < WEAK else ""
    mind = ""
    if persons is not None and persons < SMALLEST:
        mind = ": too few people to be sure"
    elif n < WEAK:
        mind = ": few pictures"
    return (
        f"Lowest of all: {low.label} of “{low.group}” ({wording.spaced(low.attribute)}), "
        f"{wording.percent(low.rate)} ({wording.plural(n, 'picture')}{few}{spread}){mind}."
    )


def _sure(record: Facts, gaps: list[Facts]) -> Iterator[str]:
    """Yield what the certainty rests on, and what it leaves out."""
    comparisons = record.child("findings").number("comparisons")
    doubt = record.text("doubt")
    if gaps and comparisons and not doubt:
        level = wording.percent(record.child("findings").number("level") or 0.95, 0)
        yield (
            f"All {wording.count(comparisons)} comparisons of groups hold together at {level}: where it says that "
            "a group fares worse, this is wrong anywhere in at most one audit of twenty."
        )
    yield from _over(record)
    if record.child("noise"):
        yield "The counts carry the noise of privacy, and intervals allow for it."


def _over(record: Facts) -> Iterator[str]:
    """Yield what intervals take to be independent."""
    support, persons = record.child("figures").child("support"), people_of(record)
    rows = sum(support.number(name) or 0 for name in support)
    each = (
        f"{wording.count(persons)} people have {rows / persons:.3g} pictures each on average"
        if persons
        else ""
    )
    over, door = record.child("intervals").text("over"), record.child("source").text("door")
    if over:
        told = f": {each}" if each else ""
        yield f"Intervals are over {over}, as pictures that show the same are alike{told}."
        if door == "run":
            yield from _whence(record.child("intervals"))
    elif record.text("doubt"):
        yield record.text("doubt")
    elif record.child("noise").text("unit") == "subject":
        yield "One picture of each person was counted, at each site."
    elif persons and rows > persons:
        yield f"{each}. Intervals take pictures as independent and are too narrow for that."
    elif not persons:
        told = "noise" if record.child("noise") else door
        yield (
            "Nobody said which pictures show the same person. Where people have several, intervals are too narrow, "
            f"and a difference that is called beyond chance may be chance.{UNNAMED.get(told, '')}"
        )


def _whence(intervals: Facts) -> Iterator[str]:
    """Yield who worked out what intervals over people need, and what that leaves open."""
    shared = intervals.number("at_several_sites")
    if intervals.text("from") == "simulation":
        yield (
            "The simulation, which holds all pictures, worked that out, and no site told it; in a real run sites add "
            "it up with server.people=true."
        )
    elif shared:
        yield (
            f"Sites took people as their own: {people(shared)} with pictures at several sites "
            f"{'counts' if shared == 1 else 'count'} once at each, and intervals are somewhat narrow for that."
        )
    elif shared is None:
        yield (
            "Sites took people as their own: who has pictures at two sites counts as two people, and where that is "
            "common intervals are too narrow."
        )


def _shortened(names: list[str]) -> list[str]:
    """Return the first of many names, and how many more there are."""
    each = list(dict.fromkeys(names))
    return (
        each
        if len(each) <= MOST_SCARCE + 1
        else [*each[:MOST_SCARCE], f"{len(each) - MOST_SCARCE} more groups"]
    )


def _scarce(record: Facts) -> list[str]:
    """Name the groups on which little or nothing can be said, the scarcest first."""
    named = []
    for attribute, facts in record.child("figures").child("parity").children().items():
        persons = record.child("people").child(attribute)
        for group, each in facts.child("groups").children().items():
            n, of = int(each.number("n") or 0), persons.number(group)
            if n and (n < WEAK or (of is not None and of < WEAK)):
                named.append((n if of is None else of, f"{group} ({_size(n, of)})"))
    return [name for _, name in sorted(named, key=lambda each: each[0])]


def _size(n: int, persons: float | None) -> str:
    if persons is not None:
        return people(persons)
    return f"under {SMALLEST} pictures" if n < SMALLEST else wording.plural(n, "picture")
