"""What became of the limits of a tolerance file, in plain words."""

from __future__ import annotations

from typing import Any

from fer_models.verdicts import FAIL, PASS, UNDECIDED
from server.report import wording
from server.report.folder import Facts

SIGNS = {PASS: ("pass", "✓"), FAIL: ("fail", "✗"), UNDECIDED: ("open", "?")}
"""Verdict -> class of the style sheet, and a sign that needs no colour."""


def verdicts(record: Facts) -> dict[str, Any] | None:
    """Return the verdicts and how many there are of each; None without a tolerance file."""
    rows = [_row(facts) for facts in record.rows("verdicts")]
    if not rows:
        return None
    numbers = [(kind, *SIGNS[kind], sum(row["verdict"] == kind for row in rows)) for kind in SIGNS]
    return {"rows": rows, "numbers": [each for each in numbers if each[3]]}


def _row(facts: Facts) -> dict[str, Any]:
    rule, value = facts.child("rule"), facts.number("figure")
    limits = Facts({"its_interval": facts.get("interval")}, facts.where).interval("its")
    kind = facts.text("verdict")
    group, reference = facts.text("group"), rule.text("reference")
    if reference:
        group = f"{group.removesuffix(f', {reference}')} against {reference}"
    whom = [rule.text("class"), wording.spaced(rule.text("attribute")), group]
    return {
        "verdict": kind,
        "style": SIGNS[kind][0],
        "sign": SIGNS[kind][1],
        "metric": wording.spaced(rule.text("metric")),
        "whom": "; ".join(filter(None, whom)),
        "limit": f"{rule.text('bound')} {rule.number('limit'):g}",
        "value": "–" if value is None else f"{value:.3f}",
        "spread": f"{limits[0]:.3f} to {limits[1]:.3f}" if limits else "",
        "reason": facts.text("reason"),
    }
