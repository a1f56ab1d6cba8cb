"""What the report shows of limits that were set beforehand: which are kept, which are broken, which are undecided."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from server.report import wording
from server.report.folder import Facts, Interval

MARKS = {"pass": ("✓", "pass"), "fail": ("✗", "fail"), "not enough data": ("?", "open")}
"""A sign beside each verdict's word, so that colour alone says nothing; and its class in the style sheet."""


def verdicts(found: Sequence[Facts], level: float | None = None) -> dict[str, Any] | None:
    """Return a sentence, how many there are of each kind, and a row for each verdict; None without any.

    Parameters
    ----------
    found : verdicts as :func:`simulations.tolerance.facts` writes them.
    level : at which all of them hold together.
    """
    if not found:
        return None
    kinds = [each.text("verdict") for each in found]
    return {
        "sentence": _sentence(kinds),
        "level": None if level is None else wording.percent(level, 0),
        "numbers": [(kind, *MARKS[kind], number) for kind in MARKS if (number := kinds.count(kind))],
        "rows": [_row(each) for each in found],
    }


def _sentence(kinds: Sequence[str]) -> str:
    failed, undecided, all_of_them = kinds.count("fail"), kinds.count("not enough data"), len(kinds)
    if failed:
        what = f"{failed} of {wording.plural(all_of_them, 'limit')} {'is' if failed == 1 else 'are'} broken"
        return f"{what}, and for {undecided} there is not enough data." if undecided else f"{what}."
    if undecided:
        return f"No limit is broken, but for {undecided} of {all_of_them} there is not enough data to decide."
    return "The limit is kept." if all_of_them == 1 else f"All {all_of_them} limits are kept."


def _row(verdict: Facts) -> dict[str, Any]:
    rule, kind = verdict.child("rule"), verdict.text("verdict")
    group, reference = verdict.text("group"), rule.text("reference")
    if reference:
        group = f"{group.removesuffix(f', {reference}')} against {reference}"
    of = [rule.text("class"), wording.spaced(rule.text("attribute")), group]
    mark, style = MARKS.get(kind, ("", "open"))
    return {
        "verdict": kind,
        "mark": mark,
        "style": style,
        "metric": wording.spaced(rule.text("metric")),
        "of": "; ".join(filter(None, of)) or "all pictures",
        "limit": f"{rule.text('bound')} {rule.number('limit') or 0:g}",
        "value": "–" if (value := verdict.number("figure")) is None else f"{value:.3f}",
        "interval": _limits(verdict.items("interval")),
        "reason": verdict.text("reason"),
    }


def _limits(pair: Sequence[Any]) -> str:
    limits: Interval | None = Facts({"x_interval": list(pair) or None}, "interval").interval("x")
    return "" if limits is None else f"{limits[0]:.3f} to {limits[1]:.3f}"
