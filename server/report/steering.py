"""What the report shows of fair training: what was asked for, how it steered, where it ended, and how it finished."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from server.report import wording
from server.report.charts import Line, line_chart
from server.report.folder import Facts
from server.report.systems import System, judged, main_system

ADVERSARIES = {
    "critic": "Every picture's features are pulled to where a critic cannot tell groups apart",
    "gradient_reversal": "The loss of a critic that tells groups apart is turned round, where groups are disclosed",
}
WEIGHTINGS = {
    "counts": "pictures are weighted so that group and expression are independent",
    "errors": "pictures of groups and expressions with more errors than the mean weigh more in the next round",
}
GAPS = {
    "recall": "Gap in recall between the best and the worst group",
    "parity": "Gap between groups in how often an expression is predicted",
}


def steering(found: Sequence[System]) -> dict[str, Any] | None:
    """Return what was done for fairness in the main system, in training and to the finished net; None for nothing."""
    main = main_system(found)
    if main is None:
        return None
    facts, finish = main.facts.child("fairness"), main.facts.child("finish")
    if not facts and not finish:
        return None
    trained = _sentences(facts) if facts else []
    return {
        "title": "Trained with regard to groups" if facts else "The finished net, made fairer",
        "sentences": [*trained, *_finished(finish), *_price(main, found)],
        "charts": [chart for chart in (_chart(main, facts, "gap"), _chart(main, facts, "strength")) if chart],
        "private": main.facts.number("epsilon") is not None,
        "weights": _weights(facts, main),
        "notes": facts.names("notes"),
    }


def _sentences(facts: Facts) -> list[str]:
    name = facts.text("weighting")
    rule = WEIGHTINGS.get(name, f"pictures are weighed by {name}, a rule of another package")
    ways = (ADVERSARIES.get(facts.text("adversary")), rule if name not in ("", "none") else None)
    what = "; ".join(way for way in ways if way)
    said = [
        f"Groups: {wording.spaced(facts.text('attribute'))} ({', '.join(facts.names('groups'))}). {what}."
    ]
    if opted := int(facts.number("opted_out") or 0):
        said.append(
            f"{wording.plural(opted, 'site')} told nobody's group, which the coordinator could not see."
        )
    tolerance, gap = facts.number("tolerance"), facts.number("gap")
    if tolerance is not None and gap is not None:
        reached = "was reached" if facts.get("met") else "was not reached"
        said.append(
            f"The tolerance of {wording.percent(tolerance)} {reached}: on the training pictures the gap ended at "
            f"{wording.percent(gap)}, with lambda {facts.number('strength') or 0:.3g}."
        )
    return said


def _finished(finish: Facts) -> list[str]:
    """Say what sums of features after the last round changed in the net."""
    said = []
    if finish.text("erased"):
        said.append(
            f"After the last round the mean features of {wording.spaced(finish.text('erased'))} "
            f"({', '.join(finish.names('groups'))}) were made alike: no linear rule tells them from what the last "
            "layer uses. Other rules may, and errors need not be equal."
        )
        meant = finish.number("meant")
        if meant is not None and not finish.get("whitened"):
            said.append(
                f"Of what sets the groups' sums of features apart, {wording.percent(meant)} is more than noise "
                "explains."
            )
    if finish.text("note"):
        said.append(f"{finish.text('note')[:1].upper()}{finish.text('note')[1:]}.")
    if sizes := finish.items("clusters"):
        said.append(
            f"After the last round each of {len(sizes)} clusters of look-alikes got a bias of its own, of up to "
            f"{finish.number('largest_bias') or 0:.2f}, from sums that name no group."
        )
    return said


def _price(main: System, found: Sequence[System]) -> list[str]:
    """Say what accuracy it cost or gained against the same federation without it, where that ran."""
    other = next((each for each in judged(found) if each.key == "federated_without_fairness"), None)
    ours = main.facts.number("accuracy")
    theirs = other.facts.number("accuracy") if other else None
    if ours is None or theirs is None or other is main:
        return []
    return [
        f"Accuracy {wording.percent(ours)}, and {wording.percent(theirs)} without regard to groups: "
        f"{wording.points(ours - theirs)}. One run each; whether that is more than chance needs several seeds."
    ]


def _chart(main: System, facts: Facts, key: str) -> dict[str, Any] | None:
    points = [(row.number("round"), row.number(key)) for row in facts.rows("record")]
    known = [(x, y) for x, y in points if x is not None and y is not None]
    if len(known) < 2 or (key == "strength" and facts.number("strength") is None):
        return None
    xs, ys = zip(*known, strict=True)
    title = GAPS.get(facts.text("tolerance_on"), "") if key == "gap" else "Lambda before its ramp"
    drawn = line_chart(
        title,
        [Line(main.name, main.colour, main.marker, xs, ys)],
        key=f"steering-{key}",
        x_name="rounds",
        x_format=lambda value: f"{value:.4g}",
        y_format=wording.percent if key == "gap" else lambda value: f"{value:.3g}",
        zero=True,
    )
    return {"title": title, "svg": drawn}


def _weights(facts: Facts, main: System) -> dict[str, Any] | None:
    """Return the last weights by group and expression."""
    rows = facts.items("weights")
    classes = list(main.facts.child("recall"))
    if not rows or not all(isinstance(row, list) and len(row) == len(classes) for row in rows):
        return None
    names = [*facts.names("groups"), "undisclosed"]
    return {
        "classes": classes,
        "rows": [(name, [f"{value:.2f}" for value in row]) for name, row in zip(names, rows, strict=False)],
    }
