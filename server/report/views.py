"""What the report shows of systems: the comparison, recall by class, and privacy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from fer_models.parity import WEAK
from server.report import wording
from server.report.folder import Facts
from server.report.systems import System, figure_of, judged, main_system, named_figure

HINTS = {
    "pooled": "Pooled: on all pictures in one place.",
    "federated": "Federated: together, while every picture stays at its site.",
    "federated_without_privacy": "Federated without privacy: the same without clipping and noise.",
    "federated_without_fairness": "Federated, not steered: the same without regard to groups.",
    "pooled_private": "Pooled, private: on all pictures in one place, at the same epsilon.",
    "local_only": "Alone: at each site on its own pictures.",
}
"""How each known system was trained."""


def ladder(found: Sequence[System]) -> dict[str, Any] | None:
    """Return the comparison of systems: shares with bars, and what each one cost."""
    ready = judged(found)
    if not ready:
        return None
    costs = (
        ("Epsilon", "epsilon", wording.epsilon),
        ("Rounds", "rounds", wording.count),
        ("Sample visits", "visits", wording.count),
        ("Uploaded", "bytes_up", wording.size),
        ("CPU time", "cpu_seconds", wording.duration),
    )
    used = [cost for cost in costs if any(system.facts.number(cost[1]) is not None for system in ready)]
    rows = [
        {
            "system": system,
            "accuracy": figure_of(system.facts, "accuracy"),
            "balanced": figure_of(system.facts, "balanced_accuracy"),
            "worst": figure_of(system.facts, "worst_recall"),
            "worst_class": system.facts.text("worst_class"),
            "minority": figure_of(system.facts, "minority_recall"),
            "costs": [_cost(system.facts.number(key), key, say) for _, key, say in used],
            "note": system.facts.text("note"),
        }
        for system in ready
    ]
    rare = main_system(found)
    return {
        "title": "Pooled, together, alone" if len(ready) > 1 else "Overall",
        "rows": rows,
        "hints": [hint for key, hint in HINTS.items() if any(system.key == key for system in ready)],
        "costs": [name for name, *_ in used],
        "rare": rare.facts.names("minority_classes") if rare else [],
    }


def _cost(value: float | None, key: str, say: Callable[[float], str]) -> str:
    return "none" if key == "epsilon" and value is None else "–" if value is None else say(value)


def recalls(found: Sequence[System]) -> dict[str, Any] | None:
    """Return per class the recall of every system, with how many pictures it rests on."""
    ready, main = judged(found), main_system(found)
    if main is None or not main.facts.child("recall"):
        return None
    support = main.facts.child("support")
    rows = []
    for name in main.facts.child("recall"):
        pictures = support.number(name)
        rows.append(
            {
                "name": name,
                "pictures": "" if pictures is None else wording.plural(int(pictures), "picture"),
                "few": pictures is not None and pictures < WEAK,
                "cells": [(system, named_figure(system.facts, "recall", name)) for system in ready],
            }
        )
    return {"rows": rows, "systems": ready, "few": WEAK, "any_few": any(row["few"] for row in rows)}


def audited(audit: Facts) -> str:
    """Say what an audit of the run's privacy found; the empty string where there was none."""
    least = audit.number("audited_epsilon")
    if least is None:
        return ""
    confidence = audit.number("confidence") or 0.0
    number = audit.number("canaries")
    way = f"A second training with {wording.count(number)} canaries" if number else "Membership inference"
    said = (
        f"{way} shows that epsilon is at least {least:.2f}, with {wording.percent(confidence, 0)} confidence"
    )
    if audit.text("verdict") == "above claimed":
        return f"{said}. The audit found a claim to be wrong: a bug. Do not rely on it."
    return f"{said}; that is consistent with the claim, and proves nothing more."


def privacy(found: Sequence[System], audit: Facts) -> dict[str, Any] | None:
    """Return the guarantee of the system that the page is about; None without any system."""
    main = main_system(found)
    if main is None:
        return None
    budget, delta = main.facts.number("epsilon"), main.facts.number("delta")
    factor = None if budget is None else math.exp(min(budget, 700))
    return {
        "system": main,
        "person": main.facts.text("unit") == "subject",
        "note": main.facts.text("epsilon_note"),
        "trust": main.facts.text("trust"),
        "learned": main.facts.text("learned"),
        "secure": main.facts.text("aggregation") == "secure",
        "distributed": main.facts.text("noise") == "distributed",
        "epsilon": None if budget is None else wording.epsilon(budget),
        "start": main.facts.text("start"),
        "counts": main.facts.number("counts_epsilon"),
        "tested": main.facts.child("noise_of_counts").number("epsilon"),
        "adjustment": main.facts.number("adjustment"),
        "audited": audited(audit),
        "delta": None if delta is None else f"{delta:.1e}".replace("e-0", "e-"),
        "factor": None if factor is None else (wording.count(factor) if factor >= 100 else f"{factor:.1f}"),
    }
