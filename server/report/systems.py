"""The systems of a run as the report names, colours and measures them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from server.report import wording
from server.report.charts import sample
from server.report.folder import Facts, Interval, Run

KNOWN = {
    "pooled": ("Pooled", "--pooled", "diamond"),
    "federated": ("Federated", "--federated", "circle"),
    "federated_without_privacy": ("Federated, no privacy", "--open", "square"),
    "local_only": ("Each site alone", "--local", "triangle"),
    "federated_without_fairness": ("Federated, not steered", "--other-1", "square"),
    "pooled_private": ("Pooled, private", "--other-0", "diamond"),
}


PARTS = 8
"""Distinct colours of parts in the style sheet, ``--part-0`` on."""


@dataclass(frozen=True)
class System:
    """One trained system: its name in words, its colour and marker, its figures and its curve."""

    key: str
    name: str
    colour: str
    marker: str
    facts: Facts
    curve: list[Facts] = field(default_factory=list)

    @property
    def legend(self) -> Markup:
        """Its piece of curve for legends."""
        return sample(self.marker, self.colour)


@dataclass(frozen=True)
class Figure:
    """A share with its interval, in words and as places on a bar from 0 to 100 %."""

    text: str
    spread: str = ""
    at: float | None = None
    low: float | None = None
    high: float | None = None


def systems(run: Run) -> list[System]:
    """Return the systems of the summary and the curves in their order, with names that say what they are."""
    facts, order = run.summary.child("systems").children(), run.summary.names("order")
    seen = [line.text("system") for line in run.metrics]
    keys = list(dict.fromkeys([*(key for key in order if key in facts), *facts, *filter(None, seen)]))
    found, extra = [], 0
    for key in keys:
        own = facts.get(key, Facts({}, f"summary.json: systems.{key}"))
        words = key.replace("_", " ")
        name, colour, marker = KNOWN.get(
            key, (words[:1].upper() + words[1:], f"--other-{extra % 2}", "square")
        )
        extra += key not in KNOWN
        if key == "federated" and own.number("epsilon") is not None:
            name = f"Federated, epsilon {wording.epsilon(own.number('epsilon'))}"
        curve = [line for line in run.metrics if line.text("system") == key]
        found.append(System(key, name, colour, marker, own, curve))
    return found


def judged(found: Sequence[System]) -> list[System]:
    """Return the systems with figures."""
    return [system for system in found if system.facts]


def main_system(found: Sequence[System]) -> System | None:
    """Return the system that the page is about: the federated one, else the first with figures."""
    federated = ("federated", "federated_without_privacy", "federated_without_fairness")
    ready = {system.key: system for system in judged(found)}
    return next((ready[key] for key in (*federated, *ready) if key in ready), None)


def figure(value: float | None, limits: Interval | None) -> Figure:
    """Return a share for the page; a dash where it is missing."""
    if value is None:
        return Figure("–")
    text = wording.percent(value)
    if limits is None:
        return Figure(text, at=_place(value))
    return Figure(text, wording.span(limits), _place(value), _place(limits[0]), _place(limits[1]))


def figure_of(facts: Facts, key: str) -> Figure:
    """Return the figure under a key, with the interval beside it."""
    return figure(facts.number(key), facts.interval(key))


def index_of(facts: Facts, key: str) -> Figure:
    """Return a parity figure as Fairlearn gives it, between 0 and 1, with its interval."""
    value, limits = facts.number(key), facts.interval(key)
    if value is None:
        return Figure("–")
    return Figure(f"{value:.3f}", f"{limits[0]:.3f} to {limits[1]:.3f}" if limits else "", at=_place(value))


def named_figure(facts: Facts, key: str, name: str) -> Figure:
    """Return the figure of one class or group under a key, with the interval beside it."""
    limits = facts.child(f"{key}_interval")
    pair = limits.get(name)
    own = Facts({name: facts.child(key).get(name), f"{name}_interval": pair}, f"{facts.where}.{key}")
    return figure_of(own, name)


def _place(share: float) -> float:
    return round(100 * min(max(share, 0.0), 1.0), 2)
