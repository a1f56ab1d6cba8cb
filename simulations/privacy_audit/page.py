"""The audit as one offline page: the bound beside the claim, and the scores of canaries that were in and out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from server.report import page as report
from server.report import wording
from server.report.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, sample, ticks
from server.run_folder import write_text
from simulations.privacy_audit.canary_run import MODELS
from simulations.privacy_audit.show import ATTACKS, remarks
from simulations.privacy_audit.verdict import ABOVE

TEMPLATES = Path(__file__).parent / "templates"

PAGE = "privacy_audit.html"

Facts = dict[str, Any]

SIDES = (("in", "--federated", "circle"), ("out", "--local", "triangle"))
"""Canaries that were in and that were out: colour and marker."""


def write_page(folder: Path, facts: Facts) -> Path:
    """Write the page of an audit into a run folder, whole or not at all, and return its path."""
    path = folder / PAGE
    write_text(path, render(facts))
    return path


def render(facts: Facts) -> str:
    """Return the page as HTML. Every text is escaped; it loads nothing and runs no script."""
    environment = report.environment(TEMPLATES)
    environment.filters |= {"epsilon": wording.epsilon, "percent": wording.percent, "count": wording.count}
    attacks = [(key, name, facts[key]) for key, name in ATTACKS.items()] if "canaries" in facts else []
    return environment.get_template("privacy_audit.html.jinja").render(
        facts=facts,
        lead=lead(facts),
        bars=_bars(facts),
        attacks=attacks,
        charts=[(name, histogram(name, found, key=key)) for key, name, found in attacks],
        sides=[(name, sample(marker, colour)) for name, colour, marker in SIDES],
        remarks=remarks(facts),
    )


def lead(facts: Facts) -> str:
    """Return what was found, in a sentence or two."""
    claimed, audited = facts["claimed_epsilon"], facts["audited_epsilon"]
    sure = f"with {100 * facts['confidence']:g}{wording.SPACE}% confidence"
    if facts["verdict"] == ABOVE:
        return (
            f"Audited above claimed: {'; '.join(facts['faults'])}. This is a bug: do not rely on the claim."
        )
    if audited is None:
        return "What was found is no proof of any epsilon."
    return f"Epsilon is at least {audited:.2f}, {sure}; the claim of {claimed:.2f} is consistent with that."


def _bars(facts: Facts) -> list[tuple[str, float, str, float]]:
    """Return (name, value, colour, share of the longest) of the claims and of what was found."""
    rows: list[tuple[str, float, str]] = [("claimed", facts["claimed_epsilon"], "--pooled")]
    if "canaries" in facts:
        one = facts["one_round"]
        rows += [(f"at least, {ATTACKS[key]}", facts[key]["epsilon"], "--federated") for key in MODELS]
        rows.append(("the most that so many canaries can prove", facts["most_provable"], "--other-1"))
        rows.append(("claimed for one round", one["claimed_epsilon"], "--pooled"))
        rows.append((f"at least, {ATTACKS['one_round']}", one["epsilon"], "--federated"))
    if facts["membership"] is not None:
        rows.append(("at least, membership inference", facts["membership"]["epsilon"], "--open"))
    longest = max(value for _, value, _ in rows) or 1.0
    return [(name, value, colour, round(100 * value / longest, 2)) for name, value, colour in rows]


def histogram(title: str, found: Facts, *, key: str) -> Markup:
    """Draw the scores of canaries that were in, and of those that were out, as two outlines.

    Parameters
    ----------
    found : "edges" (b + 1,), and counts (b,) under "in" and "out".
    key : a word that is unique on the page.
    """
    edges: Sequence[float] = found["edges"]
    tall = ticks(0.0, max(max(found["in"]), max(found["out"]), 1))
    wide = [tick for tick in ticks(edges[0], edges[-1]) if edges[0] <= tick <= edges[-1]]

    def across(value: float) -> float:
        return LEFT + (RIGHT - LEFT) * (value - edges[0]) / ((edges[-1] - edges[0]) or 1.0)

    def up(count: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * count / tall[-1]

    parts = [Markup('<title id="{}-title">Scores of canaries, {}</title>').format(key, title)]
    parts += [
        Markup(
            '<path class="grid" d="M{},{:.1f}H{}"/><text class="tick y" x="{}" y="{:.1f}">{:g}</text>'
        ).format(LEFT, up(tick), RIGHT, LEFT - 7, up(tick) + 3.5, tick)
        for tick in tall
    ]
    parts += [
        Markup('<text class="tick x" x="{:.1f}" y="{}">{:g}</text>').format(across(tick), BOTTOM + 16, tick)
        for tick in wide
    ]
    for name, colour, _ in SIDES:
        steps = [
            f"H{across(low):.1f}V{up(n):.1f}H{across(high):.1f}"
            for low, high, n in zip(edges[:-1], edges[1:], found[name], strict=True)
        ]
        path = f"M{LEFT},{BOTTOM}{''.join(steps)}V{BOTTOM}"
        parts.append(
            Markup('<g style="--c:var({})"><title>{}</title><path class="curve" d="{}"/></g>').format(
                colour, name, path
            )
        )
    parts.append(Markup('<text class="axis-name" x="{}" y="{}">score</text>').format(RIGHT, HEIGHT - 4))
    return Markup(
        '<svg viewBox="0 0 {} {}" role="img" aria-labelledby="{}-title" class="chart">{}</svg>'
    ).format(WIDTH, HEIGHT, key, Markup("").join(parts))
