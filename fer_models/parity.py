"""Parity of predictions and of labels between groups, from counts: Fairlearn's figures, by it or in closed form.

Each class is a question, "is it this class?". The figures of record are computed by Fairlearn
(:mod:`fer_models.fairlearn_figures`); where figures are needed often, as for verdicts, the same in closed form,
equal to 1e-12. Three rules keep them honest.

- A rate enters a comparison only if its denominator is at least :data:`SMALLEST` pictures: the pictures of
  the group for selection rate and accuracy; also its pictures of the class, and of other classes, for the
  true and the false positive rate. Fairlearn gives a group without the class a true positive rate of 0, and
  so a difference of 1.0. What is left out is named in ``excluded``.
- ``undisclosed`` is a row of every table and by default not compared: those who do not disclose are not one
  group of people.
- The ratio of two rates that are both 0 is 1: nobody is treated differently.

A class enters a mean when it occurs among all labels or predictions. With fewer than two groups to compare a
figure is None: not enough data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_models.counts import Counts
from fer_models.effects import Effect
from fer_models.fairlearn_figures import by_fairlearn
from fer_models.intervals import Interval, corrected, gap_interval, group_ratio_interval
from fer_models.labels import UNDISCLOSED

SMALLEST = 10
"""Pictures below which a rate is suppressed."""

WEAK = 30
"""Pictures of a group below which its figures are marked as weak."""

Table = NDArray[Any]
"""Counts (G, C, C), indexed [group, true, predicted]; integers, or integers over the number of repeats."""

Figures = dict[str, Any]

ByClass = dict[str, dict[str, float | None]]
"""Key of a measure -> class -> figure."""

PREDICTIONS, LABELS = "predictions", "labels"


@dataclass(frozen=True)
class Measure:
    """One parity figure of a binary question.

    Attributes
    ----------
    key : its name here and the name of the function in ``fairlearn.metrics``.
    value : counts (G, 2, 2) of at least two groups -> the figure.
    limits : the same counts and a level -> the interval.
    conditional : whether it compares rates given the true class.
    worst : which of two classes' figures is worse.
    """

    key: str
    value: Callable[[Table], float]
    limits: Callable[[Table, float], Interval]
    conditional: bool = False
    worst: Callable[[Sequence[float]], float] = max

    def groups(self, binary: Table) -> Table:
        """Return the groups whose denominators are all large enough."""
        return binary[self._enough(binary)]

    def _enough(self, binary: Table) -> NDArray[np.bool_]:
        return (binary.sum(2) >= SMALLEST).all(1) if self.conditional else np.ones(len(binary), bool)

    def figure(self, binary: Table) -> float | None:
        """Return the figure, equal to Fairlearn's; None with fewer than two groups."""
        table = self.groups(binary)
        return self.value(table) if len(table) > 1 else None

    def interval(self, binary: Table, level: float, worth: Table) -> Interval | None:
        """Return the interval of :meth:`figure`; None where that is None.

        Parameters
        ----------
        worth : shares (G, 3) of their rows that the groups' rates count for: of all, of other classes, of the class.
        """
        kept = self._enough(binary)
        rows = worth[kept, 1:, None] if self.conditional else worth[kept, :1, None]
        return self.limits(binary[kept] * rows, level) if kept.sum() > 1 else None


Parts = dict[str, tuple[dict[str, Table], tuple[Measure, ...]]]
"""Predictions or labels -> counts (G, 2, 2) of each class, and what is asked of them."""


def _selected(binary: Table) -> tuple[Table, Table]:
    return binary[:, :, 1].sum(1), binary.sum((1, 2))


def _recalled(binary: Table) -> tuple[Table, Table]:
    return binary[:, 1, 1], binary[:, 1].sum(1)


def _alarmed(binary: Table) -> tuple[Table, Table]:
    return binary[:, 0, 1], binary[:, 0].sum(1)


def _difference(hits: Table, rows: Table) -> float:
    return float(np.ptp(hits / rows))


def _ratio(binary: Table) -> float:
    hits, rows = _selected(binary)
    rates = hits / rows
    return float(rates.min() / rates.max()) if rates.any() else 1.0


def _odds_difference(binary: Table) -> float:
    return max(_difference(*_recalled(binary)), _difference(*_alarmed(binary)))


def _odds_gap(binary: Table, level: float) -> Interval:
    both = [gap_interval(*rate(binary), corrected(level, 2)) for rate in (_recalled, _alarmed)]
    return max(low for low, _ in both), max(high for _, high in both)


RATIO = "demographic_parity_ratio"
DEMOGRAPHIC = (
    Measure(
        "demographic_parity_difference",
        lambda binary: _difference(*_selected(binary)),
        lambda binary, level: gap_interval(*_selected(binary), level),
    ),
    Measure(RATIO, _ratio, lambda binary, level: group_ratio_interval(*_selected(binary), level), worst=min),
)
ODDS = (
    Measure("equalized_odds_difference", _odds_difference, _odds_gap, conditional=True),
    Measure(
        "equal_opportunity_difference",
        lambda binary: _difference(*_recalled(binary)),
        lambda binary, level: gap_interval(*_recalled(binary), level),
        conditional=True,
    ),
)


def one_vs_rest(table: Table, label: int) -> Table:
    """Return counts (G, 2, 2) [group, true, predicted] of the question "is it this class?"."""
    hit, true, guess = table[:, label, label], table[:, label].sum(1), table[:, :, label].sum(1)
    rest = table.sum((1, 2)) - true - guess + hit
    return np.stack([rest, guess - hit, true - hit, hit], 1).reshape(-1, 2, 2)


def compared(
    counts: Counts, attribute: str, *, undisclosed: bool = False, repeats: int = 1
) -> NDArray[np.bool_]:
    """Return which groups (G,) are compared: large enough, and disclosed unless asked otherwise."""
    disclosed = [undisclosed or value != UNDISCLOSED for value in counts.groups[attribute]]
    return np.array(disclosed, bool) & (counts.by_group[attribute].sum((1, 2)) >= SMALLEST * repeats)


def occurring(counts: Counts) -> list[int]:
    """Return the classes with at least one label or prediction, ascending."""
    return np.flatnonzero(counts.overall.sum(0) + counts.overall.sum(1)).tolist()


def mean_difference(
    counts: Counts, attribute: str, *, undisclosed: bool = False, repeats: int = 1
) -> float | None:
    """Return the mean demographic parity difference over classes in plain numpy, fast enough for every round.

    Equals ``parity(...)["demographic_parity_difference"]``.
    """
    keep = compared(counts, attribute, undisclosed=undisclosed, repeats=repeats)
    table = counts.by_group[attribute][keep]
    classes = occurring(counts)
    if len(table) < 2 or not classes:
        return None
    rates = table.sum(1)[:, classes] / table.sum((1, 2))[:, None]
    return float(np.ptp(rates, axis=0).mean())


def parity(
    counts: Counts,
    attribute: str,
    *,
    level: float = 0.95,
    undisclosed: bool = False,
    repeats: int = 1,
    fairlearn: bool = False,
) -> Figures:
    """Return the figures of one attribute; ``docs/metrics.md`` defines every key.

    Mean and worst figures over classes with simultaneous intervals (Bonferroni over classes),
    ``accuracy_gap``, ``labels`` (demographic parity of the labels themselves), ``per_class``, ``groups`` and
    ``excluded``. Parameters as for :func:`fer_models.metrics.summarise`.
    """
    keep = compared(counts, attribute, undisclosed=undisclosed, repeats=repeats)
    tables, truths = (each.by_group[attribute] / repeats for each in (counts, counts.label_counts()))
    rows = dict(zip(counts.groups[attribute], zip(tables, keep.tolist(), strict=True), strict=True))
    table = tables[keep]
    correct, n = np.trace(table, axis1=1, axis2=2), table.sum((1, 2))
    gap = float(np.ptp(correct / n)) if len(table) > 1 else None
    predicted = [counts.labels[c] for c in occurring(counts)]
    labelled = [counts.labels[c] for c in occurring(counts.label_counts())]
    parts: Parts = {
        PREDICTIONS: (_binary(counts, table, predicted), (*DEMOGRAPHIC, *ODDS)),
        LABELS: (_binary(counts, truths[keep], labelled), DEMOGRAPHIC),
    }
    found, effect = _figures(parts, fairlearn), counts.effect(attribute)
    worth = {part: _worth(counts, effect, keep, part) for part in parts}
    share = np.broadcast_to(effect.share("accuracy"), (len(keep), 1))[keep, 0]
    return {
        **_over_classes(*parts[PREDICTIONS], found[PREDICTIONS], worth[PREDICTIONS], level),
        "accuracy_gap": gap,
        "accuracy_gap_interval": None
        if gap is None
        else list(gap_interval(correct * share, n * share, level)),
        "labels": _over_classes(*parts[LABELS], found[LABELS], worth[LABELS], level),
        "groups": {
            value: _group(counts.labels, *row, effect.of_groups([place]), level)
            for place, (value, row) in enumerate(rows.items())
        },
        "excluded": [
            each for value, row in rows.items() for each in _excluded(counts.labels, predicted, value, *row)
        ],
    }


def _binary(counts: Counts, table: Table, names: Sequence[str]) -> dict[str, Table]:
    return {name: one_vs_rest(table, counts.labels.index(name)) for name in names}


def _worth(counts: Counts, effect: Effect, keep: NDArray[np.bool_], part: str) -> dict[str, Table]:
    """Return class -> the shares (G, 3) of :meth:`Measure.interval` of the groups that are compared."""
    shape = (len(keep), len(counts.labels))
    keys = ("selection_rate" if part == PREDICTIONS else "label_rate", "false_alarm", "recall")
    shares = np.stack([np.broadcast_to(effect.share(key), shape)[keep] for key in keys], -1)
    return {name: shares[:, place] for place, name in enumerate(counts.labels)}


def _over_classes(
    binaries: dict[str, Table],
    measures: Sequence[Measure],
    found: ByClass,
    worth: dict[str, Table],
    level: float,
) -> Figures:
    """Figures of the compared groups (G, 2, 2) of each class: mean, worst, and ``per_class``."""
    per_class: dict[str, Figures] = {name: {} for name in binaries}
    result: Figures = {}
    for measure in measures:
        figures = found[measure.key]
        for name, binary in binaries.items():
            limits = measure.interval(binary, level, worth[name])
            per_class[name] |= {
                measure.key: figures[name],
                f"{measure.key}_interval": None if limits is None else list(limits),
            }
        known = {name: figure for name, figure in figures.items() if figure is not None}
        strict = corrected(level, len(known))
        limits = np.array([measure.interval(binaries[name], strict, worth[name]) for name in known])
        result |= _mean_and_worst(measure, known, limits)
    return result | {"per_class": per_class}


def _figures(parts: Parts, fairlearn: bool) -> dict[str, ByClass]:
    """Return part -> key -> class -> figure, by Fairlearn or in closed form."""
    if not fairlearn:
        return {
            part: {each.key: {name: each.figure(table) for name, table in own.items()} for each in measures}
            for part, (own, measures) in parts.items()
        }
    asked: list[dict[tuple[str, str], Table]] = [
        {
            (part, name): groups
            for part, (own, measures) in parts.items()
            for name, table in own.items()
            if measure in measures and len(groups := measure.groups(table)) > 1
        }
        for measure in (DEMOGRAPHIC[0], ODDS[0])
    ]
    told = by_fairlearn(*asked)
    return {
        part: {each.key: {name: told[each.key].get((part, name)) for name in own} for each in measures}
        for part, (own, measures) in parts.items()
    }


def _mean_and_worst(measure: Measure, known: dict[str, float], limits: NDArray[np.float64]) -> Figures:
    """Mean and worst over the classes with a figure, whose intervals (K, 2) hold together."""
    key = measure.key
    names = (key, f"{key}_interval", f"{key}_worst", f"{key}_worst_interval", f"{key}_worst_class")
    if not known:
        return dict.fromkeys(names)
    worst = measure.worst(list(known.values()))
    name = next(name for name, figure in known.items() if figure == worst)
    low, high = limits.T.tolist()
    mean_limits, worst_limits = limits.mean(0).tolist(), [measure.worst(low), measure.worst(high)]
    figures = (float(np.mean(list(known.values()))), mean_limits, worst, worst_limits, name)
    return dict(zip(names, figures, strict=True))


def _group(labels: Sequence[str], table: Table, kept: bool, effect: Effect, level: float) -> Figures:
    """One group's size, accuracy, recall, selection rate and label rate, each with its interval."""
    n, true, guess = table.sum(), table.sum(1), table.sum(0)
    accuracy = _rates("accuracy", np.trace(table)[None], n[None], effect, level)
    return {
        "n": round(n),
        **{key: values[0] for key, values in accuracy.items()},
        **_by_class(labels, "recall", np.diagonal(table), true, effect, level),
        **_by_class(labels, "selection_rate", guess, np.full_like(guess, n), effect, level),
        **_by_class(labels, "label_rate", true, np.full_like(true, n), effect, level),
        "support": {name: round(rows) for name, rows in zip(labels, true.tolist(), strict=True)},
        "weak": bool(n < WEAK),
        "suppressed": bool(n < SMALLEST),
        "compared": kept,
    }


def _by_class(
    labels: Sequence[str], key: str, x: NDArray, n: NDArray, effect: Effect, level: float
) -> Figures:
    rates = _rates(key, x, n, effect, level)
    return {name: dict(zip(labels, values, strict=True)) for name, values in rates.items()}


def _rates(key: str, hits: NDArray, rows: NDArray, effect: Effect, level: float) -> dict[str, list]:
    """Rates and their intervals; None where the denominator is below :data:`SMALLEST`."""
    limits = effect.limits(key, hits, rows, level).tolist()
    figures = zip((hits / np.where(rows > 0, rows, 1)).tolist(), limits, rows.tolist(), strict=True)
    shown = [(rate, limit) if size >= SMALLEST else (None, None) for rate, limit, size in figures]
    return {key: [rate for rate, _ in shown], f"{key}_interval": [limit for _, limit in shown]}


def _excluded(
    labels: Sequence[str], classes: Sequence[str], value: str, table: Table, kept: bool
) -> list[Figures]:
    """Name a group that is left out altogether, or each class for which its odds are."""
    n, true = round(table.sum()), dict(zip(labels, table.sum(1).tolist(), strict=True))
    if not kept:
        few = f"fewer than {SMALLEST} pictures" if n else "no pictures"
        reason = few if n < SMALLEST else "not disclosed, shown but not compared"
        return [{"group": value, "class": None, "n": n, "reason": reason}]
    left_out: list[Figures] = []
    for name in classes:
        support, others = round(true[name]), n - round(true[name])
        if min(support, others) < SMALLEST:
            which, few = ("the class", support) if support < SMALLEST else ("other classes", others)
            reason = f"{f'fewer than {SMALLEST}' if few else 'no'} pictures of {which}"
            left_out.append({"group": value, "class": name, "n": few, "reason": reason})
    return left_out
