"""Tolerance files: limits that an audit has to keep, and how a pipeline learns of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from client.strict import parse, require
from fer_models.counts import Counts
from fer_models.errors import ConfigError, EvidenceError, ToleranceError
from fer_models.noisy_intervals import Noise
from fer_models.verdicts import FAIL, UNDECIDED, Rule, Verdict, judge
from simulations.display import shown

STYLES = {"pass": "green", "fail": "bold red", "not enough data": "yellow"}


@dataclass(frozen=True)
class Tolerance:
    """Rules, and the level at which all verdicts on them hold together.

    Attributes
    ----------
    rules : at least one.
    level : above 0.5 and below 1.
    """

    rules: tuple[Rule, ...]
    level: float = 0.95

    def __post_init__(self) -> None:
        require(bool(self.rules), "no rules", "rules", "Give at least one metric with its limit.")
        good = 0.5 < self.level < 1
        require(good, f"a level of {self.level:g}", "level", "Give one above 0.5 and below 1, such as 0.95.")

    def references(self, counts: Counts) -> dict[str, str]:
        """Return attribute -> the first reference that a rule names for it, of those that the counts have."""
        named = {rule.attribute: rule.reference for rule in reversed(self.rules) if rule.reference}
        return {name: group for name, group in named.items() if group in counts.groups.get(name, ())}


def read_tolerance(path: Path) -> Tolerance:
    """Return the tolerance that a YAML file holds: ``rules`` and ``level``; ``class`` is a rule's label.

    Raises
    ------
    ConfigError : the file cannot be read, an unknown key, or a value of the wrong kind.
    """
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        what = getattr(error, "strerror", None) or getattr(error, "problem", None) or "no YAML text"
        cure = "Give tolerance=FILE.yaml; docs/audit.md shows one."
        raise ConfigError(f"cannot be read: {what}", where=str(path), cure=cure) from error
    rules = given if isinstance(given, list) else given.get("rules") if isinstance(given, dict) else None
    if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
        raise ConfigError(
            "no list of rules", where=str(path), cure="Begin with rules:, then one - metric: NAME each."
        )
    level = {key: value for key, value in given.items() if key != "rules"} if isinstance(given, dict) else {}
    named = [{"label" if key == "class" else key: value for key, value in rule.items()} for rule in rules]
    return parse(Tolerance, {"rules": named, **level}, str(path))


def verdicts_on(
    tolerance: Tolerance,
    counts: Counts,
    people: Mapping[str, Mapping[str, int]],
    noise: Noise | None = None,
    doubt: str = "",
) -> list[Verdict]:
    """Return the verdicts on the rules of a tolerance file; ``noise`` and ``doubt`` as :func:`judge` takes them.

    Raises
    ------
    ConfigError : a rule does not fit the counts; see :func:`fer_models.verdicts.judge`.
    """
    return judge(counts, tolerance.rules, tolerance.level, people, noise, doubt)


def facts(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """Return verdicts for a file, each rule's keys as they are written in a tolerance file."""
    found = []
    for verdict in verdicts:
        each = asdict(verdict)
        rule = {"class" if key == "label" else key: value for key, value in each.pop("rule").items()}
        found.append({"rule": rule | {"bound": verdict.rule.bound}, **each})
    return found


def show_verdicts(verdicts: Sequence[Verdict], console: Console) -> None:
    """Print verdicts as a table."""
    table = Table("verdict", "metric", "of", "limit", "value", "interval", "why", title="Verdicts")
    table.title_justify = "left"
    for each in verdicts:
        of = ", ".join(filter(None, [each.rule.label, each.rule.attribute, each.group]))
        limits = "–" if each.interval is None else f"{each.interval[0]:.3f} to {each.interval[1]:.3f}"
        verdict = f"[{STYLES[each.verdict]}]{each.verdict}[/]"
        limit = f"{each.rule.bound} {each.rule.limit:g}"
        table.add_row(verdict, each.rule.metric, of, limit, shown(each.figure), limits, each.reason)
    console.print(table)


def require_kept(verdicts: Sequence[Verdict], path: Path) -> None:
    """End with an error unless all verdicts are ``pass``.

    Raises
    ------
    ToleranceError : a limit is not kept.
    EvidenceError : none is broken, and for some there is not enough data.
    """
    failed, undecided = (sum(each.verdict == kind for each in verdicts) for kind in (FAIL, UNDECIDED))
    if failed:
        raise ToleranceError(
            f"{failed} of {len(verdicts)} limits {'is' if failed == 1 else 'are'} broken",
            where=str(path),
            cure="See the rows marked fail in the table of verdicts; docs/fairness.md says what can be done.",
        )
    if undecided:
        raise EvidenceError(
            f"not enough data for {undecided} of {len(verdicts)} limits",
            where=str(path),
            cure="Test more pictures and people of the groups named in the table of verdicts, or widen the limit.",
        )
