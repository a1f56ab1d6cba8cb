"""Write the report of a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from server.report import curves, groups, headline, sites, steering, views, wording
from server.report.folder import Facts, Run, read_run
from server.report.systems import judged, systems
from server.report.verdicts import verdicts
from server.run_folder import write_text

TEMPLATES = Path(__file__).parent / "templates"


def write_report(folder: Path) -> Path:
    """Write ``report.html`` into a run folder, whole or not at all, and return its path.

    The page needs no network and runs no script. Parts whose files or keys are missing are left out.

    Parameters
    ----------
    folder : with ``summary.json`` or ``metrics.jsonl`` or both, and perhaps ``partition.json`` and
        ``config.yaml``.

    Raises
    ------
    RunFolderError : no run lies there, a file is damaged, or the page cannot be written.
    """
    path = folder / "report.html"
    write_text(path, render(read_run(folder)))
    return path


def environment(*folders: Path) -> Environment:
    """Return what makes pages of the report's templates, and of those in other folders; every text is escaped."""
    return Environment(
        loader=FileSystemLoader([*folders, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(run: Run) -> str:
    """Return the page as HTML. Every text is escaped."""
    found, limits = systems(run), run.summary.child("tolerance")
    return (
        environment()
        .get_template("report.html.jinja")
        .render(
            name=run.summary.text("name") or "A run",
            facts=_facts(run.summary.child("data")),
            headline=headline.headline(found, run.audit),
            ladder=views.ladder(found),
            curves=curves.curves(found),
            recalls=views.recalls(found),
            groups=groups.groups(found),
            verdicts=verdicts(limits.rows("verdicts"), limits.number("level")),
            steering=steering.steering(found),
            partition=sites.partition(run),
            sites=sites.sites(found),
            privacy=views.privacy(found, run.audit),
            finished=bool(judged(found)),
            config=run.config,
            plan_hash=run.summary.text("plan_hash"),
        )
    )


FACTS = {"name": "data", "train": "training pictures", "test": "test pictures"}
"""Names of facts of the data that need more words than their key."""


def _facts(data: Facts) -> list[tuple[str, str]]:
    """Names and values of what is known of the data."""
    known = [key for key in data if data.get(key) not in (None, "", [])]
    return [(FACTS.get(key, wording.spaced(key)), _said(data, key)) for key in known]


def _said(data: Facts, key: str) -> str:
    value: Any = data.get(key)
    if isinstance(value, list):
        return ", ".join(data.names(key))
    if isinstance(value, int | float):
        number = data.number(key) or 0.0
        return wording.count(number) if number == int(number) else f"{number:g}"
    return data.text(key)
