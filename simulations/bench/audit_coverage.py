"""How often the intervals of an audit hold, and how often it raises an alarm for nothing: a simulation study.

Test sets are drawn from known chances, audited as any other, and every interval is held against the figure that it
is about. Each limit of a tolerance file is set at the very figure that is true, where verdicts err most often: there
``fail`` is a false alarm, and ``pass`` would be one had the limit been a hair stricter.

A figure between groups is about the groups that the audit compares. Which these are depends on the draw, and so does
the true figure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_models.counts import Counts
from fer_models.findings import findings
from fer_models.labels import EXPRESSIONS
from fer_models.metrics import minority_classes, summarise
from fer_models.noisy_intervals import Noise, figures_with_noise, findings_with_noise
from fer_models.parity import DEMOGRAPHIC, ODDS, RATIO, SMALLEST, Measure, one_vs_rest
from fer_models.verdicts import FAIL, PASS, Rule, judge

GROUPS = ("a", "b", "c", "d")
SHARES = (0.50, 0.35, 0.12, 0.03)
PRIOR = (0.34, 0.26, 0.13, 0.10, 0.07, 0.05, 0.03, 0.02)
RECALL = (0.90, 0.92, 0.75, 0.70, 0.60, 0.50, 0.35, 0.20)
"""Of the eight classes: how often they occur and are recognised, the spread that FER data sets have."""

LOSS = (0.0, 0.03, 0.10, 0.20)
"""How much less often each group is recognised, as a share, where there is a gap."""

TILT = (0.0, 0.2, -0.2, 0.4)
"""How far each group's labels are tilted from the first class to the second one, where there is a gap."""

SIZES = (600, 3068)
"""Rows of a test set: few, and those of RAF-DB's."""

Rates = dict[tuple[str, str, str], list[int]]

Chances = NDArray[np.float64]
"""Chances (G, C, C) [group, true, predicted] with a sum of 1."""


def chances(gap: bool) -> Chances:
    """Return the chances of every cell, equal for all groups or with a gap."""
    tables = []
    for share, loss, tilt in zip(SHARES, LOSS, TILT, strict=True):
        prior, recall = np.array(PRIOR), np.array(RECALL)
        if gap:
            recall = recall * (1 - loss)
            prior[:2] += np.array([-tilt, tilt]) * prior[0]
        wrong = np.tile(prior, (len(prior), 1))
        np.fill_diagonal(wrong, 0)
        answers = (1 - recall)[:, None] * wrong / wrong.sum(1, keepdims=True) + np.diag(recall)
        tables.append(share * prior[:, None] * answers)
    return np.array(tables)


@dataclass
class Tally:
    """What was seen so far, by figure: (kind, what of, kind of test set).

    Attributes
    ----------
    held : figure -> intervals that held the true value, and all.
    alarms : figure -> statements of a gap where there is none, and all such statements that were possible; of the
        findings of an audit, draws with one that is wrong, and all draws.
    verdicts : ``fail`` and ``pass`` -> draws with at least one such verdict on a limit at the truth, and all draws.
    test_set : which kind of test set is drawn now.
    """

    held: Rates = field(default_factory=dict)
    alarms: Rates = field(default_factory=dict)
    verdicts: Rates = field(default_factory=dict)
    test_set: str = ""

    def add(self, kind: str, what: str, truth: float, limits: Any, nothing: float | None = None) -> None:
        """Hold one interval against the truth; ``nothing`` is the value of a figure without a gap."""
        if limits is None:
            return
        low, high = limits
        _count(self.held, (kind, what, self.test_set), low - 1e-9 <= truth <= high + 1e-9)
        if nothing is not None and abs(truth - nothing) < 1e-9:
            _count(self.alarms, (kind, what, self.test_set), not low <= nothing <= high)

    def judged(self, verdicts: set[str]) -> None:
        """Note which verdicts a draw brought."""
        for name in (FAIL, PASS):
            _count(self.verdicts, (name, "", self.test_set), name in verdicts)

    def stated(self, wrong: bool) -> None:
        """Note whether a draw brought a finding that is not so."""
        _count(self.alarms, ("findings", "", self.test_set), wrong)


def study(draws: int, seed: int = 0) -> dict[str, float]:
    """Return coverage and false alarms over ``draws`` test sets of each size, with a gap and without.

    Keys ``coverage``, the lowest of the kinds of figures; ``false_alarm``, the highest of the kinds and of ``fail``
    among verdicts; ``false_fail`` and ``false_pass`` of the verdicts; ``coverage_single``, the lowest of a single
    figure in one kind of test set, among those that at least half of the draws have; then ``coverage.KIND`` and
    ``false_alarm.KIND``.
    """
    tally, rng = Tally(), np.random.default_rng(seed)
    for gap in (False, True):
        truth = chances(gap)
        rules = limits_at(truth)
        for size in SIZES:
            tally.test_set = f"{size} rows, {'a' if gap else 'no'} gap"
            for table in rng.multinomial(size, truth.ravel(), draws).reshape(-1, *truth.shape):
                counts = Counts(EXPRESSIONS, {"group": GROUPS}, table.sum(0), {"group": table})
                compare(tally, truth, counts, rules)
    return summary(tally, draws)


def summary(tally: Tally, draws: int) -> dict[str, float]:
    """Return the keys of :func:`study`."""
    held, alarms, verdicts = (_by_kind(each) for each in (tally.held, tally.alarms, tally.verdicts))
    return {
        "coverage": min(held.values()),
        "false_alarm": max(*alarms.values(), verdicts[FAIL]),
        "false_fail": verdicts[FAIL],
        "false_pass": verdicts[PASS],
        "coverage_single": min(hits / times for hits, times in tally.held.values() if times >= draws / 2),
        **{f"coverage.{name}": rate for name, rate in held.items()},
        **{f"false_alarm.{name}": rate for name, rate in alarms.items()},
    }


def _by_kind(rates: Rates) -> dict[str, float]:
    sums: dict[str, list[int]] = {}
    for (kind, *_), (events, times) in rates.items():
        known = sums.setdefault(kind, [0, 0])
        known[:] = known[0] + events, known[1] + times
    return {kind: events / times for kind, (events, times) in sorted(sums.items())}


def _count(rates: Rates, figure: tuple[str, str, str], event: bool) -> None:
    rate = rates.setdefault(figure, [0, 0])
    rate[:] = rate[0] + event, rate[1] + 1


def compare(
    tally: Tally, truth: Chances, counts: Counts, rules: list[Rule], noise: Noise | None = None
) -> None:
    """Audit one draw and hold all of it against the truth; ``noise`` is what its counts carry."""
    found, stated = summarise(counts, fairlearn=False), findings(counts)
    if noise is not None:
        found = figures_with_noise(found, counts, noise)
        stated = findings_with_noise(stated, counts, noise)
    for each in (*_overall(truth.sum(0), counts, found), *_of_groups(truth, found)):
        tally.add(*each)
    for each in _between(truth, counts.by_group["group"], found["parity"]["group"]):
        tally.add(*each)
    tally.judged({each.verdict for each in judge(counts, rules, noise=noise)})
    tally.stated(any(_backwards(truth, gap) for gap in stated["gaps"]))


def _backwards(truth: Chances, gap: Mapping[str, Any]) -> bool:
    """Tell whether an audit is sure that a group is recognised less often than another, and it is not so."""
    asked = range(len(EXPRESSIONS)) if gap["class"] is None else [EXPRESSIONS.index(gap["class"])]
    hits, rows = truth[:, asked, asked].sum(1), truth[:, asked].sum((1, 2))
    rates = dict(zip(GROUPS, (hits / rows).tolist(), strict=True))
    return gap["sure"] and rates[gap["against"]] <= rates[gap["group"]] + 1e-9


def _overall(
    truth: Chances, counts: Counts, found: Mapping[str, Any]
) -> Iterator[tuple[str, str, float, Any]]:
    """Yield kind, class, true figure and interval of the figures over all rows."""
    hits, true, guess = np.diag(truth), truth.sum(1), truth.sum(0)
    recall, f1s = hits / true, 2 * hits / (true + guess)
    present = counts.overall.sum(1) > 0
    seen = present | (counts.overall.sum(0) > 0)
    rare = [counts.labels.index(name) for name in minority_classes(counts)]
    for kind, figure in (
        ("accuracy", hits.sum()),
        ("balanced_accuracy", recall[present].mean()),
        ("worst_recall", recall[present].min()),
        ("minority_recall", recall[rare].mean()),
        ("macro_f1", f1s[seen].mean()),
    ):
        yield kind, "", float(figure), found[f"{kind}_interval"]
    for kind, figures in (("recall", recall), ("precision", hits / guess), ("f1", f1s)):
        for name, figure in zip(counts.labels, figures.tolist(), strict=True):
            yield kind, name, figure, found[f"{kind}_interval"][name]


def _of_groups(truth: Chances, found: Mapping[str, Any]) -> Iterator[tuple[str, str, float, Any]]:
    for table, (letter, group) in zip(truth, found["parity"]["group"]["groups"].items(), strict=True):
        yield "group accuracy", letter, float(np.trace(table) / table.sum()), group["accuracy_interval"]
        for kind, x, n in (
            ("recall", np.diag(table), table.sum(1)),
            ("selection_rate", table.sum(0), table.sum()),
            ("label_rate", table.sum(1), table.sum()),
        ):
            for name, figure in zip(EXPRESSIONS, (x / n).tolist(), strict=True):
                yield f"group {kind}", f"{name} {letter}", figure, group[f"{kind}_interval"][name]


def _between(
    truth: Chances, table: NDArray[np.int64], found: Mapping[str, Any]
) -> Iterator[tuple[str, str, float, Any, float]]:
    """Yield kind, class, true figure, interval and the value without a gap of the figures between groups."""
    kept = table.sum((1, 2)) >= SMALLEST
    if kept.sum() > 1:
        rates = np.trace(truth, axis1=1, axis2=2)[kept] / truth.sum((1, 2))[kept]
        yield "accuracy_gap", "", float(np.ptp(rates)), found["accuracy_gap_interval"], 0.0
    for measure in (*DEMOGRAPHIC, *ODDS):
        key, nothing = measure.key, 1.0 if measure.key == RATIO else 0.0
        figures = _true_figures(measure, truth[kept], table[kept])
        for name, figure in figures.items():
            yield key, name, figure, found["per_class"][name][f"{key}_interval"], nothing
        if figures:
            yield f"{key} mean", "", float(np.mean(list(figures.values()))), found[f"{key}_interval"], nothing
            worst = measure.worst(list(figures.values()))
            yield f"{key} worst", "", worst, found[f"{key}_worst_interval"], nothing


def _true_figures(measure: Measure, truth: Chances, table: NDArray[np.int64]) -> dict[str, float]:
    """Return class -> true figure over the groups that the audit compares, where these are two or more."""
    figures = {}
    for code in np.flatnonzero(table.sum((0, 1)) + table.sum((0, 2))).tolist():
        own, drawn = one_vs_rest(truth, code), one_vs_rest(table, code)
        if measure.conditional:
            own = own[(drawn.sum(2) >= SMALLEST).all(1)]
        if len(own) > 1:
            figures[EXPRESSIONS[code]] = measure.value(own)
    return figures


def limits_at(truth: Chances) -> list[Rule]:
    """Return rules of all kinds that forbid nothing but what goes beyond the true figures."""
    overall, recall = truth.sum(0), np.diag(truth.sum(0)) / truth.sum((0, 2))
    accuracy = np.trace(truth, axis1=1, axis2=2) / truth.sum((1, 2))
    sadness = EXPRESSIONS.index("sadness")
    selected = truth[:, :, sadness].sum(1) / truth.sum((1, 2))
    recalled = truth[:, sadness, sadness] / truth[:, sadness].sum(1)
    return [
        Rule("accuracy", float(np.trace(overall))),
        Rule("balanced_accuracy", float(recall.mean())),
        Rule("recall", float(recall[sadness]), label="sadness"),
        Rule("accuracy_gap", float(np.ptp(accuracy)), "group"),
        Rule("accuracy_gap", abs(accuracy[1] - accuracy[0]), "group", reference="a", groups=("a", "b")),
        Rule("demographic_parity_difference", float(np.ptp(selected)), "group", "sadness"),
        Rule(RATIO, float(selected.min() / selected.max()), "group", "sadness"),
        Rule(
            "equal_opportunity_difference", float(np.ptp(recalled[:2])), "group", "sadness", "a", ("a", "b")
        ),
    ]
