"""Intervals of figures whose counts carry noise: wider by what the noise adds, and no surer of any group.

A rate x / n of noisy counts errs by the sampling of pictures and by the noise, which are independent. The noise of a
rate p over h cells of hits and m of others, each with deviation s, has deviation s sqrt(h (1 - p)^2 + m p^2) / n, to
first order in the noise; it is taken :data:`LEAN` times, as cutting counts at 0 leans to one side. Where the noise in n
itself has a deviation above :data:`DROWNED` of n, nothing is known of the rate. Both distances from the figure to a
limit are added in quadrature (as MOVER adds those of two figures). Of figures made of several rates the noise is
bounded from above: a mean errs by no more than the mean of the deviations, an extreme by no more than the largest, a
gap by no more than the two largest. The ratio of the least to the greatest rate lies between the ratios of the limits
of all groups' rates, which hold together (Bonferroni): wide, and right whatever the rates are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_models.counts import Counts
from fer_models.findings import comparable, questions, surest
from fer_models.intervals import corrected, critical, proportion_interval
from fer_models.parity import RATIO, SMALLEST, compared

Facts = dict[str, Any]
LEAN = 1.25
"""Times the deviation of the noise, for what cutting at 0 adds."""

DROWNED = 0.2
"""Deviation of the noise in a denominator, as a share of it, from which a rate is not known."""

Reals = NDArray[np.float64]


@dataclass(frozen=True)
class Noise:
    """Deviations of the noise in a count.

    Attributes
    ----------
    cell : of a group, true and predicted class.
    overall : of a true and predicted class over all groups.
    """

    cell: float
    overall: float

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Noise:
        """Return the noise that ``deviation`` and ``deviation_overall`` tell."""
        return cls(float(facts["deviation"]), float(facts["deviation_overall"]))


def deviation(p: Any, n: Any, hits: float, others: float, noise: float) -> Reals:
    """Return the deviation that noise adds to rates p of n rows; infinite where it drowns them."""
    rate, rows = np.asarray(p, np.float64), np.asarray(n, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = LEAN * noise * np.sqrt(hits * (1 - rate) ** 2 + others * rate**2) / rows
    return np.where(rows * DROWNED > noise * np.sqrt(hits + others), found, np.inf)


def widened(value: float, limits: Sequence[float], spread: float, level: float = 0.95) -> list[float]:
    """Return the limits of a figure between 0 and 1, with the deviation ``spread`` of noise added."""
    more = critical(level) * spread
    low, high = value - np.hypot(value - limits[0], more), value + np.hypot(limits[1] - value, more)
    return [float(max(low, 0.0)), float(min(high, 1.0))]


def figures_with_noise(
    figures: Mapping[str, Any], counts: Counts, noise: Noise, level: float = 0.95
) -> Facts:
    """Return figures of :func:`fer_models.metrics.summarise` with intervals that hold the noise as well."""
    c, table, found = len(counts.labels), counts.overall, dict(figures)
    right, true, said = np.diag(table), table.sum(1), table.sum(0)
    spread = {
        "recall": deviation(right / np.maximum(true, 1), true, 1, c - 1, noise.overall),
        "precision": deviation(right / np.maximum(said, 1), said, 1, c - 1, noise.overall),
    }
    union = true + said - right
    spread["f1"] = 2 * deviation(right / np.maximum(union, 1), union, 1, 2 * c - 2, noise.overall)
    for key, each in spread.items():
        found[f"{key}_interval"] = _by_class(
            figures, key, dict(zip(counts.labels, each.tolist(), strict=True)), level
        )
    known = spread["recall"][true > 0]
    many = max(1, len(known))
    alone = float(deviation(figures["accuracy"] or 0, counts.rows, c, c * c - c, noise.overall))
    worst = float(known.max(initial=0)) * critical(corrected(level, many)) / critical(level)
    joint = {
        "accuracy": alone,
        "balanced_accuracy": float(np.sqrt((known**2).sum())) / many,
        "worst_recall": worst,
        "minority_recall": worst,
        "macro_f1": float(np.mean(spread["f1"][union > 0])) if union.any() else 0.0,
    }
    for key, each in joint.items():
        found[f"{key}_interval"] = _one(figures, key, each, level)
    found["parity"] = {
        name: parity_with_noise(facts, counts, name, noise, level)
        for name, facts in figures["parity"].items()
    }
    return found


def _one(facts: Mapping[str, Any], key: str, spread: float, level: float) -> list[float] | None:
    value, limits = facts.get(key), facts.get(f"{key}_interval")
    return None if value is None or limits is None else widened(value, limits, spread, level)


def _by_class(facts: Mapping[str, Any], key: str, spread: Mapping[str, float], level: float) -> Facts:
    pairs = facts[key].items(), facts[f"{key}_interval"]
    return {
        name: None
        if value is None or pairs[1][name] is None
        else widened(value, pairs[1][name], spread[name], level)
        for name, value in pairs[0]
    }


def parity_with_noise(
    facts: Mapping[str, Any], counts: Counts, name: str, carried: Noise, level: float = 0.95
) -> Facts:
    """Return what :func:`fer_models.parity.parity` found of an attribute at a level, the noise in its intervals."""
    noise = carried.cell
    table, c, found = counts.by_group[name], len(counts.labels), dict(facts)
    hits, true, rows = np.diagonal(table, axis1=1, axis2=2), table.sum(2), table.sum((1, 2))
    n = np.maximum(rows, 1)
    right = deviation(hits.sum(1) / n, rows, c, c * c - c, noise)
    recall = deviation(hits / np.maximum(true, 1), true, 1, c - 1, noise)
    others = rows[:, None] - true
    false = (table.sum(1) - hits) / np.maximum(others, 1)
    spreads = {
        "demographic_parity": deviation(table.sum(1) / n[:, None], rows[:, None], c, c * c - c, noise),
        "equal_opportunity": np.where(true >= SMALLEST, recall, 0.0),
        "labels": deviation(true / n[:, None], rows[:, None], c, c * c - c, noise),
    }
    alarms = deviation(false, others, c - 1, (c - 1) ** 2, noise)
    spreads["equalized_odds"] = np.maximum(
        spreads["equal_opportunity"], np.where(others >= SMALLEST, alarms, 0.0)
    )
    kept = rows >= SMALLEST
    pairs = corrected(level, max(1, int(kept.sum()) * (int(kept.sum()) - 1) // 2))
    gap = {key: _two_largest(np.where(kept[:, None], each, 0.0)) for key, each in spreads.items()}
    labels = dict(facts.get("labels", {}))
    top = {key: float(each.max(initial=0)) for key, each in gap.items()}
    found |= _gaps(facts, top, pairs)
    found["per_class"] = {
        label: _gaps(own, {key: float(gap[key][counts.labels.index(label)]) for key in gap}, pairs)
        for label, own in facts["per_class"].items()
    }
    found["labels"] = _gaps(labels, dict.fromkeys(top, top["labels"]), pairs)
    if "per_class" in labels:
        found["labels"]["per_class"] = {
            label: _gaps(own, dict.fromkeys(top, float(gap["labels"][place])), pairs)
            for place, (label, own) in enumerate(labels["per_class"].items())
        }
    together = compared(counts, name)
    for each, said, noises in (
        (found, table.sum(1), spreads["demographic_parity"]),
        (found["labels"], true, spreads["labels"]),
    ):
        _with_ratios(each, counts, said[together], rows[together], noises[together], level)
    most = float(_two_largest(np.where(kept, right, 0.0)[:, None])[0])
    found["accuracy_gap_interval"] = _one(facts, "accuracy_gap", most, pairs)
    found["groups"] = {
        group: {
            **own,
            "accuracy_interval": _one(own, "accuracy", float(right[g]), level),
            **_rates(own, "recall", counts, recall[g], level),
            **_rates(own, "selection_rate", counts, spreads["demographic_parity"][g], level),
            **_rates(own, "label_rate", counts, spreads["labels"][g], level),
        }
        for g, (group, own) in enumerate(facts["groups"].items())
    }
    return found


def _rates(own: Mapping[str, Any], key: str, counts: Counts, spread: Reals, level: float) -> Facts:
    named = dict(zip(counts.labels, spread.tolist(), strict=True))
    return {f"{key}_interval": _by_class(own, key, named, level)} if f"{key}_interval" in own else {}


def _two_largest(spread: Reals) -> Reals:
    """Return the deviation (C,) of the difference of the two groups (G, C) with the most noise."""
    return np.sqrt((np.sort(spread, axis=0)[-2:] ** 2).sum(0))


def _with_ratios(
    facts: Facts,
    counts: Counts,
    hits: NDArray[np.int64],
    rows: NDArray[np.int64],
    spread: Reals,
    level: float,
) -> None:
    """Put the intervals of the ratios into facts, those of each class and of all.

    Parameters
    ----------
    hits, rows, spread : of the groups that are compared: rows of each class (G, C), all rows (G,), and the deviation
        that noise adds to the rates (G, C).
    """
    known = [label for label, own in facts.get("per_class", {}).items() if own[RATIO] is not None]
    places = [counts.labels.index(label) for label in known]

    def limits(strict: float) -> Reals:
        return _ratios(hits[:, places], rows, spread[:, places], strict)

    for label, own in zip(known, limits(level).tolist(), strict=True):
        facts["per_class"][label] = {**facts["per_class"][label], f"{RATIO}_interval": own}
    if known:
        joint = limits(corrected(level, len(known)))
        facts |= {
            f"{RATIO}_interval": joint.mean(0).tolist(),
            f"{RATIO}_worst_interval": joint.min(0).tolist(),
        }


def _ratios(hits: NDArray[np.int64], rows: NDArray[np.int64], spread: Reals, level: float) -> Reals:
    """Return the intervals (K, 2) of the least over the greatest rate of G groups, of K classes.

    Parameters
    ----------
    hits, rows, spread : (G, K), (G,) and (G, K).
    """
    strict, n = corrected(level, len(rows)), np.broadcast_to(rows[:, None], hits.shape)
    rate, more = hits / n, critical(strict) * spread
    low, high = np.moveaxis(proportion_interval(hits, n, strict), -1, 0)
    low = np.maximum(rate - np.hypot(rate - low, more), 0.0)
    high = np.minimum(rate + np.hypot(high - rate, more), 1.0)
    most = np.divide(high.min(0), low.max(0), out=np.ones(hits.shape[1]), where=low.max(0) > 0)
    return np.stack([low.min(0) / high.max(0), np.minimum(most, 1.0)], -1)


def _gaps(facts: Mapping[str, Any], spread: Mapping[str, float], level: float) -> Facts:
    """Return facts with wider intervals of the differences."""
    found = dict(facts)
    for key, limits in facts.items():
        if not key.endswith("_interval") or limits is None:
            continue
        name = key.removesuffix("_interval")
        kind = next((each for each in spread if name.startswith(each)), None)
        if kind is not None and not name.startswith(RATIO):
            found[key] = _one(facts, name, spread[kind], level)
    return found


def findings_with_noise(findings: Mapping[str, Any], counts: Counts, noise: Noise) -> Facts:
    """Return what :func:`fer_models.findings.findings` found, sure only where it is so with the noise as well."""
    usable = {(each.attribute, each.label): comparable(counts, each) for each in questions(counts)}
    gaps = [
        _wider(gap, counts, usable[gap["attribute"], gap["class"]], noise.cell, findings["level"])
        for gap in findings["gaps"]
    ]
    return {**findings, "gaps": sorted(gaps, key=surest)}


def _wider(
    gap: Mapping[str, Any], counts: Counts, places: Sequence[int], noise: float, level: float
) -> Facts:
    """Return a difference with the noise in it; ``at_most`` holds that of the two groups with the most."""
    name, strict = gap["attribute"], gap["level"]
    known = {
        group: _of_group(counts, name, group, gap["class"], noise)
        for group in (counts.groups[name][place] for place in places)
    }
    spread = [known[gap["group"]], known[gap["against"]]]
    low, high = _apart(gap["difference"], gap["difference_interval"], spread, strict)
    most = _apart(gap["at_most"], [gap["at_most"]] * 2, sorted(known.values())[-2:], strict)[1]
    return {
        **gap,
        "rate_interval": widened(gap["rate"], gap["rate_interval"], spread[0], level),
        "against_interval": widened(gap["against_rate"], gap["against_interval"], spread[1], level),
        "difference_interval": [low, high],
        "sure": bool(gap["sure"] and low > 0),
        "at_most": most,
    }


def disparities_with_noise(disparities: Mapping[str, Any], counts: Counts, noise: Noise) -> Facts:
    """Return what :func:`fer_models.findings.against_reference` found of each attribute, with wider intervals."""
    return {name: _beside(facts, counts, name, noise) for name, facts in disparities.items()}


def _beside(facts: Mapping[str, Any], counts: Counts, name: str, noise: Noise) -> Facts:
    level = corrected(facts["level"], facts["comparisons"])

    def wider(cell: Mapping[str, Any] | None, group: str, label: str | None) -> Facts | None:
        if cell is None:
            return None
        pair = (group, facts["reference"])
        spread = [_of_group(counts, name, each, label, noise.cell) for each in pair]
        limits = _apart(cell["difference"], cell["difference_interval"], spread, level)
        return {**cell, "difference_interval": limits}

    groups = {
        group: {
            **own,
            "accuracy": wider(own["accuracy"], group, None),
            "recall": {label: wider(cell, group, label) for label, cell in own["recall"].items()},
        }
        for group, own in facts["groups"].items()
    }
    return {**facts, "groups": groups}


def _of_group(counts: Counts, name: str, group: str, label: str | None, noise: float) -> float:
    """Return the deviation of noise in a group's accuracy, or in its recall of a class."""
    table, c = counts.by_group[name][counts.groups[name].index(group)], len(counts.labels)
    if label is None:
        n = int(table.sum())
        return float(deviation(np.trace(table) / max(n, 1), n, c, c * c - c, noise))
    place = counts.labels.index(label)
    n = int(table[place].sum())
    return float(deviation(table[place, place] / max(n, 1), n, 1, c - 1, noise))


def _apart(value: float, limits: Sequence[float], spread: Sequence[float], level: float) -> list[float]:
    """Return the limits of a difference from -1 to 1, with the noise of both groups added."""
    more = critical(level) * float(np.linalg.norm(spread))
    low, high = value - np.hypot(value - limits[0], more), value + np.hypot(limits[1] - value, more)
    return [float(max(low, -1.0)), float(min(high, 1.0))]


def record_with_noise(record: Mapping[str, Any], counts: Counts, noise: Noise) -> Facts:
    """Return an audit's record with the noise in its intervals, and without ``bias``, whose intervals know of none."""
    kept = {key: part for key, part in record.items() if key != "bias"}
    return {
        **kept,
        "figures": figures_with_noise(record["figures"], counts, noise),
        "findings": findings_with_noise(record["findings"], counts, noise),
        "disparities": disparities_with_noise(record["disparities"], counts, noise),
    }
