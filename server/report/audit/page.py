"""Render the page of an audit from its record alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fer_models.counts import Counts
from server.report import sites, views
from server.report.audit.data import bias, card
from server.report.audit.expressions import explanations, expressions
from server.report.audit.first import first
from server.report.audit.groups import groups
from server.report.audit.heat import confusion
from server.report.audit.naming import spelled
from server.report.audit.pareto import pareto
from server.report.folder import Facts, Run
from server.report.page import environment
from server.report.systems import System, systems
from server.report.verdicts import verdicts

TEMPLATES = Path(__file__).parent / "templates"

NAMES = {"model": "The model", "predictions": "The predictions"}
"""What a door judges that knows of no systems."""

UNTRIED = "No attack on this training is on record that shows how much leaks at least."


def render(record: Mapping[str, Any]) -> str:
    """Return an audit's page as HTML: it loads nothing, runs no script, and escapes every text.

    Parts whose keys the record does not have are left out; no figure is computed here but shares of the counts.

    Parameters
    ----------
    record : what ``audit.json`` holds.

    Raises
    ------
    RunFolderError : a key with a value of another kind.
    DataError : no counts.
    """
    record = spelled(record)
    facts, counts = Facts(record, "audit.json"), Counts.from_json(record["counts"])
    judged, *others = _systems(facts)
    return (
        environment(TEMPLATES)
        .get_template("audit.html.jinja")
        .render(
            door=facts.child("source").text("door"),
            title=title(facts),
            system=judged.name if facts.child("source").text("system") else "",
            first=first(facts),
            verdicts=verdicts(facts.rows("verdicts"), facts.child("tolerance").number("level")),
            expressions=expressions(facts, counts),
            confusion=confusion(counts, counts.overall),
            groups=groups(facts, counts, judged),
            partition=[],
            sites=_sites(facts, judged),
            pareto=pareto([judged, *others], list(counts.groups)) if others else None,
            privacy=_privacy(facts, judged),
            explanations=explanations(facts),
            card=card(facts),
            bias=bias(facts),
            over=facts.child("intervals").text("over"),
            config="",
            plan_hash=facts.child("source").text("plan"),
        )
    )


def title(record: Facts) -> str:
    """Return what was judged: the name of a run, else the last part of a path."""
    source = record.child("source")
    if source.text("door") == "run" and source.text("name"):
        return source.text("name")
    return Path(source.text("run") or source.text("model") or source.text("predictions")).name or "An audit"


def _sites(record: Facts, judged: System) -> dict[str, Any] | None:
    """Return how each site fares, where anything is told of single sites."""
    told = any(site.number("accuracy") is not None for site in record.rows("per_site"))
    return sites.sites([judged]) if told else None


def _privacy(record: Facts, judged: System) -> dict[str, Any] | None:
    """Return the guarantee of a run beside what an attack on it found; None at the other doors."""
    privacy = record.child("privacy")
    view = views.privacy([judged], privacy) if privacy else None
    return view | {"audited": view["audited"] or UNTRIED} if view else None


def _systems(record: Facts) -> list[System]:
    """Return what was judged, with all that the record knows of it, then the other systems of its run."""
    source = record.child("source")
    own = source.text("system")
    parts = {key: record.get(key) for key in ("sites", "per_site") if record.get(key) is not None}
    parts |= {"noise_of_counts": record.get("noise"), "doubt": record.get("doubt")}
    facts = {own: {**(record.get("privacy") or {}), **record.get("figures"), **parts}}
    named = {"order": [own], "systems": {**facts, **(record.get("systems") or {})}}
    found = systems(Run(Facts(named, "audit.json"), [], Facts({}, ""), "", Facts({}, "")))
    if own:
        return found
    return [
        replace(
            found[0], name=NAMES.get(source.text("door"), "The model"), colour="--federated", marker="circle"
        )
    ]
