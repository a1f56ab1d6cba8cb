"""What the audit's page shows of each expression."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from fer_models.counts import Counts
from fer_models.parity import WEAK
from server.report import wording
from server.report.audit.first import people
from server.report.audit.heat import mistakes
from server.report.folder import Facts, damaged
from server.report.systems import named_figure


def expressions(record: Facts, counts: Counts) -> list[dict[str, Any]]:
    """Return per class its recall, precision and F1 with intervals, and what it is mostly taken for instead."""
    figures, taken = record.child("figures"), mistakes(counts)
    return [
        {
            "name": name,
            "pictures": wording.plural(n, "picture"),
            "few": n < WEAK,
            **{key: named_figure(figures, key, name) for key in ("recall", "precision", "f1")},
            "mistaken": taken.get(name, "–"),
        }
        for name in figures.child("recall")
        if (n := int(figures.child("support").number(name) or 0))
    ]


def explanations(record: Facts) -> list[dict[str, Any]]:
    """Return averaged maps of where the net looks, by what it said: the right ones first, each with its pictures."""
    found: dict[str, list[dict[str, str]]] = {}
    for facts in sorted(record.rows("explanations"), key=lambda each: not each.get("right")):
        persons, n = facts.number("people"), wording.plural(int(facts.number("n") or 0), "picture")
        about = {"right": "Right" if facts.get("right") else "Wrong", "png": _png(facts)}
        about |= {
            "n": n if persons is None else f"{n} of {people(persons)}",
            "caption": facts.text("caption"),
        }
        found.setdefault(facts.text("class"), []).append(about)
    return [{"class": name, "maps": maps} for name, maps in found.items()]


def _png(facts: Facts) -> str:
    """Return a picture in base64, after a look at whether it is one: it goes into an address."""
    text = facts.text("png")
    try:
        good = base64.b64decode(text, validate=True).startswith(b"\x89PNG\r\n\x1a\n")
    except (binascii.Error, ValueError):
        good = False
    if not good:
        raise damaged("expected a PNG picture in base64", facts.where)
    return text
