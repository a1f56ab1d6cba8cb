"""Verdicts on limits: pass, fail, or not enough data, by intervals and never by the figure alone.

A limit that lies inside its figure's interval is undecided, whichever side the figure is on. All verdicts of one
call hold together at the level (Bonferroni over rules, and over the groups that a rule judges one by one), so
that a false alarm anywhere is at most as likely as the level says. Where counts carry noise, the intervals hold it too,
and nothing else changes: how often verdicts then err is measured (:mod:`simulations.bench.audit_noise`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from fer_models.counts import Counts
from fer_models.errors import ConfigError
from fer_models.intervals import corrected
from fer_models.labels import UNDISCLOSED
from fer_models.metrics import summarise
from fer_models.noisy_intervals import Noise, figures_with_noise, parity_with_noise
from fer_models.parity import DEMOGRAPHIC, ODDS, RATIO, SMALLEST, parity

PASS, FAIL, UNDECIDED = "pass", "fail", "not enough data"

OVERALL = ("accuracy", "balanced_accuracy", "worst_recall", "minority_recall", "macro_f1")
PER_CLASS = ("recall", "precision", "f1")
EACH_GROUP = ("accuracy", "recall")
BINARY = tuple(measure.key for measure in (*DEMOGRAPHIC, *ODDS))
GAPS = ("accuracy_gap", *BINARY, *(f"{key}_worst" for key in BINARY))
METRICS = tuple(dict.fromkeys((*OVERALL, *PER_CLASS, *GAPS)))
"""The keys of ``docs/metrics.md`` that a rule may limit."""

CONDITIONAL = tuple(f"{measure.key}{end}" for measure in ODDS for end in ("", "_worst"))


Between = Callable[[str, tuple[str, ...], float], Mapping[str, Any]]
"""Attribute, names of the groups (empty for all) and level -> what :func:`fer_models.parity.parity` finds."""


@dataclass(frozen=True)
class Rule:
    """One limit.

    Attributes
    ----------
    metric : one of :data:`METRICS`. Gaps between groups are limited from above, all others from below.
    limit : 0 to 1.
    attribute : of the groups; for ``accuracy`` and ``recall`` every group is held to the limit.
    label : the class, empty for all.
    reference : the group that every other one is compared with, instead of all with all.
    groups : the groups that are judged; empty takes all who disclosed.
    """

    metric: str
    limit: float
    attribute: str = ""
    label: str = ""
    reference: str = ""
    groups: tuple[str, ...] = ()

    @property
    def bound(self) -> str:
        """``at most`` for gaps, ``at least`` for rates and ratios."""
        return "at most" if self.metric in GAPS and not self.metric.startswith(RATIO) else "at least"


@dataclass(frozen=True)
class Verdict:
    """What became of a rule.

    Attributes
    ----------
    rule : the rule.
    group : the group it was applied to, ``A, B`` for A against the reference B, empty for all.
    figure, interval : None where too few pictures allow none.
    verdict : ``pass``, ``fail`` or ``not enough data``.
    reason : why it is undecided; empty otherwise.
    """

    rule: Rule
    group: str
    figure: float | None
    interval: tuple[float, float] | None
    verdict: str
    reason: str


def judge(
    counts: Counts,
    rules: Sequence[Rule],
    level: float = 0.95,
    people: Mapping[str, Mapping[str, int]] | None = None,
    noise: Noise | None = None,
    doubt: str = "",
) -> list[Verdict]:
    """Return the verdicts on the rules, in their order.

    Intervals are over persons where the counts know of them. Where ``people`` tells that a group is fewer than
    :data:`fer_models.parity.SMALLEST` persons, nothing is decided on it.

    A gap from which a disclosed group had to be left out, for too few pictures, can fail and cannot pass: name
    the groups to be compared where that is what you mean.

    Parameters
    ----------
    people : attribute -> group -> persons, where rows name them.
    noise : what the counts carry, None for none.
    doubt : why the intervals are too narrow to decide anything, empty where they are not.

    Raises
    ------
    ConfigError : a rule names what the counts do not have, or needs or forbids a class or an attribute.
    """
    for number, rule in enumerate(rules):
        _require_fitting(counts, rule, f"rules[{number}]")
    strict = corrected(level, len(rules))
    known = people or {}
    everybody = None if counts.people is None else counts.people.overall
    without_groups = Counts(counts.labels, {}, counts.overall, people=everybody)
    overall = cache(lambda: _figures(without_groups, strict, noise))

    @cache  # rules on other figures of the same groups rest on the same table
    def between(attribute: str, names: tuple[str, ...], at: float) -> Mapping[str, Any]:
        return _between(_restricted(counts, attribute, names) if names else counts, attribute, at, noise)

    found = [
        _with_people(verdict, names, known.get(rule.attribute, {}))
        for rule in rules
        for names, verdict in _judged(counts, rule, strict, overall, between)
    ]
    return [_doubted(each, doubt) for each in found] if doubt else found


def _figures(counts: Counts, level: float, noise: Noise | None) -> Mapping[str, Any]:
    found = summarise(counts, level=level)
    return found if noise is None else figures_with_noise(found, counts, noise, level)


def _between(counts: Counts, attribute: str, level: float, noise: Noise | None) -> Mapping[str, Any]:
    found = parity(counts, attribute, level=level)
    return found if noise is None else parity_with_noise(found, counts, attribute, noise, level)


def _doubted(verdict: Verdict, reason: str) -> Verdict:
    decided = verdict.verdict != UNDECIDED
    return replace(verdict, verdict=UNDECIDED, reason=reason) if decided else verdict


def _with_people(verdict: Verdict, names: Sequence[str], people: Mapping[str, int]) -> Verdict:
    """Leave a verdict undecided that rests on a few persons of a group."""
    few = [f"{name}: {people[name]}" for name in names if people.get(name, SMALLEST) < SMALLEST]
    if not few or verdict.verdict == UNDECIDED:
        return verdict
    return replace(verdict, verdict=UNDECIDED, reason=f"too few people: {', '.join(few)}")


def _judged(
    counts: Counts,
    rule: Rule,
    level: float,
    overall: Callable[[], Mapping[str, Any]],
    between: Between,
) -> Iterator[tuple[Sequence[str], Verdict]]:
    """Yield each verdict by its intervals with the groups that it rests on; ``overall`` has the figures of all."""
    if not rule.attribute:
        yield (), _decided(rule, "", *_of_class(overall(), rule))
        return
    names = rule.groups or tuple(each for each in counts.groups[rule.attribute] if each != UNDISCLOSED)
    if rule.metric in EACH_GROUP:
        groups = between(rule.attribute, (), corrected(level, len(names)))["groups"]
        for name in names:
            yield (name,), _decided(rule, name, *_of_class(groups[name], rule))
    elif rule.reference:
        others = [name for name in names if name != rule.reference]
        for name in others:
            pair = (rule.reference, name)
            found = between(rule.attribute, pair, corrected(level, len(others)))
            yield pair, _gap(found, rule, f"{name}, {rule.reference}")
    else:
        # Without a choice of groups the counts stay whole, and so the figure is the one of every other table.
        yield names, _gap(between(rule.attribute, rule.groups, level), rule, "")


def _of_class(figures: Mapping[str, Any], rule: Rule) -> tuple[Any, Any]:
    """Return a figure and its interval, those of the rule's class where there is one."""
    found = [figures.get(f"{rule.metric}{end}") for end in ("", "_interval")]
    if rule.label:
        found = [None if each is None else each[rule.label] for each in found]
    return found[0], found[1]


def _gap(found: Mapping[str, Any], rule: Rule, group: str) -> Verdict:
    figures = found["per_class"].get(rule.label, {}) if rule.label else found
    figure, interval = (figures.get(f"{rule.metric}{end}") for end in ("", "_interval"))
    return _decided(rule, group, figure, interval, _left_out(found["excluded"], rule))


def _left_out(excluded: Sequence[Mapping[str, Any]], rule: Rule) -> str:
    """Say which disclosed groups the figure does not cover, or nothing."""
    told = []
    for each in excluded:
        of_class = each["class"] is not None
        concerned = rule.metric in CONDITIONAL and rule.label in ("", each["class"])
        if each["group"] != UNDISCLOSED and (concerned or not of_class):
            which = f" ({each['class']})" if of_class and not rule.label else ""
            told.append(f"{each['group']}{which}: {each['reason']}")
    return "left out: " + "; ".join(told) if told else ""


def _decided(rule: Rule, group: str, figure: Any, limits: Any, left_out: str = "") -> Verdict:
    """Hold an interval against the limit."""
    if figure is None or limits is None:
        return Verdict(rule, group, None, None, UNDECIDED, left_out or "too few pictures for a figure")
    low, high = float(limits[0]), float(limits[1])
    most = rule.bound == "at most"
    verdict, reason = UNDECIDED, "the limit lies in the interval"
    if (high <= rule.limit) if most else (low >= rule.limit):
        verdict, reason = (UNDECIDED, left_out) if left_out else (PASS, "")
    elif (low > rule.limit) if most else (high < rule.limit):
        verdict, reason = FAIL, ""
    return Verdict(rule, group, float(figure), (low, high), verdict, reason)


def _restricted(counts: Counts, attribute: str, names: tuple[str, ...]) -> Counts:
    """Return the counts of some groups of one attribute."""
    places = [counts.groups[attribute].index(name) for name in names]
    table = counts.by_group[attribute][places]
    people = counts.people.of_groups(attribute, places) if counts.people and counts.effects else None
    return Counts(counts.labels, {attribute: names}, table.sum(0), {attribute: table}, people)


def _require_fitting(counts: Counts, rule: Rule, where: str) -> None:
    _require_known(rule.metric, METRICS, f"{where}.metric")
    if not 0 <= rule.limit <= 1:
        raise ConfigError(f"the limit {rule.limit:g} is no share", where=where, cure="Give 0 to 1.")
    if rule.label:
        _require_known(rule.label, counts.labels, f"{where}.class")
    if rule.attribute:
        _require_known(rule.attribute, tuple(counts.groups), f"{where}.attribute")
    for name in (*rule.groups, *filter(None, [rule.reference])):
        _require_known(name, counts.groups.get(rule.attribute, ()), f"{where}.groups")
    _require_parts(rule, where)


def _require_parts(rule: Rule, where: str) -> None:
    """Refuse a class, an attribute or groups where the metric knows none, and a missing one."""
    gap = rule.metric in GAPS
    for wrong, what, cure in (
        (gap and not rule.attribute, "needs an attribute", "Name it: attribute: COLUMN."),
        (
            rule.attribute and not gap and rule.metric not in EACH_GROUP,
            "is not known by group",
            "Leave out attribute, or limit accuracy or recall.",
        ),
        (rule.metric in PER_CLASS and not rule.label, "needs a class", "Name it: class: NAME."),
        (
            rule.label and rule.metric not in (*PER_CLASS, *BINARY),
            "takes no class",
            "Leave out class, or limit another metric.",
        ),
        (rule.reference and not gap, "takes no reference group", "Limit a difference or a ratio with it."),
        (len(set(rule.groups)) < len(rule.groups), "names a group twice", "Name each group once."),
        (
            rule.reference and rule.groups and rule.reference not in rule.groups,
            "leaves its reference out of its groups",
            "Add the reference to groups.",
        ),
    ):
        if wrong:
            raise ConfigError(f"{rule.metric} {what}", where=where, cure=cure)


def _require_known(name: str, known: Sequence[str], where: str) -> None:
    if name not in known:
        cure = f"Use one of {', '.join(known)}." if known else "Name the attribute of the groups."
        raise ConfigError(f"unknown {name!r}", where=where, cure=cure)
