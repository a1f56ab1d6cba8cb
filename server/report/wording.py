"""Numbers and sentences of the report.

A sentence says "more", "less" or "a gap" only where the interval of the difference excludes none of it; else
it says that the test pictures do not tell.
"""

from __future__ import annotations

from fer_models.intervals import difference_interval, ratio_interval
from server.report.folder import Interval

SPACE = "\N{NARROW NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"


def percent(share: float, digits: int = 1) -> str:
    """Write a share of 1 as a percentage: .7412 -> "74.1 %"."""
    return f"{bare(share, digits)}{SPACE}%"


def bare(share: float, digits: int = 1) -> str:
    """Write a share of 1 as a percentage without its sign: .7412 -> "74.1"."""
    return f"{100 * share:.{digits}f}".replace("-", MINUS)


def span(limits: Interval) -> str:
    """Write limits as percentages: (.72, .761) -> "72.0 to 76.1 %"."""
    return f"{bare(limits[0])} to {percent(limits[1])}"


def between(limits: Interval) -> str:
    """Write limits in a sentence: (.72, .761) -> "between 72.0 and 76.1 %"."""
    return f"between {bare(limits[0])} and {percent(limits[1])}"


def points(difference: float) -> str:
    """Write a difference of shares in percentage points: .0412 -> "4.1 points"."""
    return f"{bare(difference)}{SPACE}points"


def epsilon(value: float | None) -> str:
    """Write a privacy budget with one decimal, or two below 1; "none" without one."""
    if value is None:
        return "none"
    return f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def count(value: float) -> str:
    """Write a whole number with separators: 12345 -> "12,345"."""
    return f"{value:,.0f}"


def size(number: float) -> str:
    """Write a number of bytes in decimal units: 1234567 -> "1.2 MB"."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= scale:
            return f"{number / scale:.1f}{SPACE}{unit}"
    return f"{number:.0f}{SPACE}B"


def duration(seconds: float) -> str:
    """Write seconds as a person would: 5025 -> "1 h 24 min"."""
    if seconds < 60:
        return f"{seconds:.1f}{SPACE}s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes}{SPACE}min"
    return f"{minutes // 60}{SPACE}h {minutes % 60}{SPACE}min"


def spaced(key: str) -> str:
    """Write a key as words: "skin_tone" -> "skin tone"."""
    return key.replace("_", " ")


def plural(number: int, thing: str) -> str:
    """Write a number of things: (1, "site") -> "1 site"."""
    return f"{count(number)} {thing}{'' if number == 1 else 's'}"


def kept(ours: float, limits: Interval, theirs: float, their_limits: Interval) -> tuple[float, Interval, str]:
    """Return which share of their accuracy ours keeps, its interval, and a sentence on the difference.

    The two are taken as independent. Both were judged on the same pictures, so the interval is cautious.
    """
    low, high = ratio_interval(ours, limits, theirs, their_limits)
    if high < 1:
        verdict = "The difference is larger than the chance of picking these test pictures explains."
    elif low > 1:
        verdict = "It is better than the chance of picking these test pictures explains."
    else:
        verdict = "The test pictures do not tell the two apart."
    return (ours / theirs if theirs else 1.0), (low, high), verdict


def gain(ours: float, limits: Interval, theirs: float, their_limits: Interval) -> str:
    """Say what our figure adds to theirs, or that it is not clear."""
    low, high = difference_interval(ours, limits, theirs, their_limits)
    spread = f"(interval {bare(low)} to {points(high)})"
    if low > 0:
        return f"joining adds {points(ours - theirs)} {spread}"
    if high < 0:
        return f"joining costs {points(theirs - ours)} (interval {bare(-high)} to {points(-low)})"
    return f"whether joining helps is not clear {spread}"


def gap(value: float | None, limits: Interval | None) -> str:
    """Say what is known about the largest difference of accuracy between groups."""
    if value is None:
        return "Not enough data to compare groups: fewer than two have enough pictures."
    if limits is None:
        return f"The accuracy of the best and the worst group differ by {points(value)}."
    spread = f"{points(value)} (interval {bare(limits[0])} to {points(limits[1])})"
    verdict = (
        "a gap" if limits[0] > 0 else "not enough data to say that there is a gap, or that there is none"
    )
    return f"The accuracy of the best and the worst group differ by {spread}: {verdict}."
