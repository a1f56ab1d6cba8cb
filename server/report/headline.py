"""The top of the report: what the run shows in plain language, and its key figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from server.report import wording
from server.report.folder import Facts, Interval
from server.report.systems import Figure, System, figure_of, judged, main_system


def headline(found: Sequence[System], audit: Facts) -> dict[str, Any]:
    """Return what the run shows in plain language, and its key figures."""
    main = main_system(found)
    accuracy = main.facts.number("accuracy") if main else None
    if main is None or accuracy is None:
        return {
            "lead": "This run has not finished: there are curves so far, and no figures.",
            "more": [],
            "tiles": [],
        }
    by_key = {system.key: system.facts for system in judged(found)}
    pooled = by_key.get("pooled") if main.key != "pooled" else None
    alone = by_key.get("local_only") if main.key != "local_only" else None
    share = _kept(main, pooled) if pooled else None
    yardstick = by_key.get("pooled_private") if main.key == "federated" else None
    same = _kept(main, yardstick, "In one place, with the same epsilon, training") if yardstick else None
    more = [each[2] if each else "" for each in (share, same)]
    more += [_joining(main, alone) if alone else "", _weakest(main), _guess(main), main.facts.text("doubt")]
    tiles = [
        {"name": "Accuracy", "figure": figure_of(main.facts, "accuracy"), "note": main.name},
        _kept_tile(share),
        _worst_tile(main),
        _gap_tile(main),
        _privacy_tile(main, audit),
    ]
    return {
        "lead": _lead(main, share),
        "more": [sentence for sentence in more if sentence],
        "tiles": [tile for tile in tiles if tile],
    }


def _how(main: System) -> str:
    budget = main.facts.number("epsilon")
    if not main.key.startswith("federated"):
        return f"The system “{main.name}”"
    private = "" if budget is None else f" under privacy (epsilon {wording.epsilon(budget)})"
    return f"Training together{private}"


def _lead(main: System, share: tuple[float, Interval, str] | None) -> str:
    accuracy, limits = main.facts.number("accuracy") or 0.0, main.facts.interval("accuracy")
    pictures = sum(main.facts.child("support").number(name) or 0 for name in main.facts.child("support"))
    tested = f" on {wording.plural(int(pictures), 'test picture')}" if pictures else ""
    spread = f" (95{wording.SPACE}% interval {wording.span(limits)})" if limits else ""
    reached = f"{wording.percent(accuracy)} accuracy{spread}{tested}"
    if share is None:
        return f"{_how(main)} reaches {reached}."
    return (
        f"{_how(main)} keeps {wording.percent(share[0])} of the pooled model's accuracy "
        f"({wording.between(share[1])}): it reaches {reached}."
    )


def _kept(
    main: System, pooled: Facts, who: str = "The pooled model, which saw all pictures,"
) -> tuple[float, Interval, str] | None:
    ours, limits = main.facts.number("accuracy"), main.facts.interval("accuracy")
    theirs, their_limits = pooled.number("accuracy"), pooled.interval("accuracy")
    if ours is None or not theirs or limits is None or their_limits is None:
        return None
    share, spread, verdict = wording.kept(ours, limits, theirs, their_limits)
    said = f"{who} reaches {wording.percent(theirs)}. {verdict}"
    return (share, spread, said) if math.isfinite(spread[1]) else None


def _joining(main: System, alone: Facts) -> str:
    ours, limits = main.facts.number("accuracy"), main.facts.interval("accuracy")
    theirs, their_limits = alone.number("accuracy"), alone.interval("accuracy")
    if ours is None or theirs is None or limits is None or their_limits is None:
        return ""
    verdict = wording.gain(ours, limits, theirs, their_limits)
    best, site = alone.number("best_accuracy"), alone.text("best_site")
    top = f" The best of them, {site}, reaches {wording.percent(best)}." if site and best is not None else ""
    return f"A site that trains alone reaches {wording.percent(theirs)} on average: {verdict}.{top}"


def _weakest(main: System) -> str:
    worst, value = main.facts.text("worst_class"), main.facts.number("worst_recall")
    if not worst or value is None:
        return ""
    pictures = main.facts.child("support").number(worst)
    rests = f" of {wording.plural(int(pictures), 'picture')}" if pictures is not None else ""
    return f"{main.name} recognises {worst} least often: {wording.percent(value, 0)}{rests}."


def _guess(main: System) -> str:
    """Say how often one would be right without looking at any picture."""
    support = {name: main.facts.child("support").number(name) or 0 for name in main.facts.child("support")}
    total = sum(support.values())
    if not total:
        return ""
    name = max(support, key=lambda key: support[key])
    return f"Always answering {name} would be right for {wording.percent(support[name] / total)}."


def _kept_tile(share: tuple[float, Interval, str] | None) -> dict[str, Any] | None:
    if share is None:
        return None
    value, limits, _ = share
    return {
        "name": "Kept of pooled",
        "figure": Figure(wording.percent(value), wording.span(limits)),
        "note": "accuracy",
    }


def _worst_tile(main: System) -> dict[str, Any] | None:
    worst = main.facts.text("worst_class")
    shown = figure_of(main.facts, "worst_recall")
    return {"name": "Worst recall", "figure": shown, "note": worst} if worst else None


def _gap_tile(main: System) -> dict[str, Any] | None:
    """The attribute with the largest accuracy gap between its groups."""
    gaps = {
        name: (value, facts.interval("accuracy_gap"))
        for name, facts in main.facts.child("parity").children().items()
        if (value := facts.number("accuracy_gap")) is not None
    }
    if not gaps:
        return None
    name = max(gaps, key=lambda key: gaps[key][0])
    value, limits = gaps[name]
    spread = f"{wording.bare(limits[0])} to {wording.bare(limits[1])}" if limits else ""
    limits = None if main.facts.text("doubt") else limits
    verdict = "" if limits is None else ": a gap" if limits[0] > 0 else ": not enough data to tell"
    note = f"{wording.spaced(name)}{verdict}"
    return {"name": "Largest accuracy gap", "figure": Figure(wording.points(value), spread), "note": note}


def _privacy_tile(main: System, audit: Facts) -> dict[str, Any]:
    budget, least = main.facts.number("epsilon"), audit.number("audited_epsilon")
    spread = "" if least is None else f"audited: at least {least:.2f}"
    whom = "person" if main.facts.text("unit") == "subject" else "picture"
    note = "no differential privacy" if budget is None else f"differential privacy, per {whom}"
    return {"name": "Epsilon", "figure": Figure(wording.epsilon(budget), spread), "note": note}
