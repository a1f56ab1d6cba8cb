"""What the audit's page shows of each expression."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from fer_models.counts import Counts
from fer_models.parity import WEAK
from server.report import wording
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


def explanations(record: Facts) -> list[dict[str, str]]:
    """Return averaged maps of where the net looks, each with the number of pictures behind it."""
    found = []
    for facts in record.rows("explanations"):
        n = int(facts.number("n") or 0)
        found.append(
            {
                "class": facts.text("class"),
                "png": _png(facts),
                "caption": facts.text("caption"),
                "n": wording.plural(n, "picture"),
            }
        )
    return found


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
