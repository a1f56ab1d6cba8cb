"""Figures of a model, from counts alone.

Pure functions from :class:`fer_models.counts.Counts` to numbers, each with its interval. ``docs/metrics.md``
holds the formulas; the parity figures between groups are in :mod:`fer_models.parity`.

A class *occurs* when at least one row has it as its true class. A figure without a denominator is None.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_models.counts import Counts
from fer_models.effects import Effect
from fer_models.intervals import corrected, mean_interval, multinomial_correlation
from fer_models.labels import TIE
from fer_models.parity import mean_difference, parity

Confusion = NDArray[Any]
"""Counts (C, C), indexed [true, predicted]; integers, or integers over the number of repeats."""


def accuracy(counts: Counts) -> float | None:
    """Return the share of rows that are predicted right; None without rows."""
    return float(np.trace(counts.overall)) / counts.rows if counts.rows else None


def recall(counts: Counts) -> dict[str, float | None]:
    """Return, per class, the share of its rows that are predicted as it; None where it does not occur."""
    return _named(counts, np.diag(counts.overall), counts.overall.sum(1))


def precision(counts: Counts) -> dict[str, float | None]:
    """Return, per class, the share of its predictions that are right; None where it is never predicted."""
    return _named(counts, np.diag(counts.overall), counts.overall.sum(0))


def f1(counts: Counts) -> dict[str, float | None]:
    """Return, per class, 2 TP / (2 TP + FP + FN); None where it neither occurs nor is predicted."""
    hits, union = _union(counts.overall)
    return _named(counts, 2 * hits, hits + union)


def support(counts: Counts) -> dict[str, int]:
    """Return the number of rows per true class."""
    return dict(zip(counts.labels, counts.overall.sum(1).tolist(), strict=True))


def balanced_accuracy(counts: Counts) -> float | None:
    """Return the mean recall of the classes that occur (every class counts the same)."""
    return _mean([value for value in recall(counts).values() if value is not None])


def worst_recall(counts: Counts) -> tuple[float | None, str | None]:
    """Return the lowest recall of the classes that occur, and its class; the first of several."""
    known = {name: value for name, value in recall(counts).items() if value is not None}
    worst = min(known, key=known.__getitem__, default=None)
    return (None, None) if worst is None else (known[worst], worst)


def minority_classes(counts: Counts) -> tuple[str, ...]:
    """Return the rarest classes that occur.

    Those with fewer rows than half of the uniform share, N / (number of classes that occur) / 2; where none
    is that rare, those with the fewest rows.
    """
    present = {name: n for name, n in support(counts).items() if n}
    if not present:
        return ()
    half = counts.rows / len(present) / 2
    rare = tuple(name for name, n in present.items() if n < half)
    return rare or tuple(name for name, n in present.items() if n == min(present.values()))


def minority_recall(counts: Counts) -> float | None:
    """Return the mean recall of :func:`minority_classes`."""
    rates = recall(counts)
    return _mean([rate for name in minority_classes(counts) if (rate := rates[name]) is not None])


def macro_f1(counts: Counts) -> float | None:
    """Return the mean F1 of the classes that occur or are predicted; a tied vote is no class."""
    return _mean([value for name, value in f1(counts).items() if value is not None and name != TIE])


def headline(counts: Counts, *, undisclosed: bool = False, repeats: int = 1) -> dict[str, Any]:
    """Return the figures of a live table, in numpy alone.

    Keys ``accuracy``, ``balanced_accuracy``, ``worst_recall``, ``worst_class``, ``minority_recall`` and
    ``parity``: attribute -> the mean demographic parity difference over classes. Parameters as for
    :func:`summarise`.
    """
    lowest, worst = worst_recall(counts)
    return {
        "accuracy": accuracy(counts),
        "balanced_accuracy": balanced_accuracy(counts),
        "worst_recall": lowest,
        "worst_class": worst,
        "minority_recall": minority_recall(counts),
        "parity": {
            name: mean_difference(counts, name, undisclosed=undisclosed, repeats=repeats)
            for name in counts.groups
        },
    }


def summarise(
    counts: Counts,
    *,
    level: float = 0.95,
    seed: int = 0,
    undisclosed: bool = False,
    repeats: int = 1,
    fairlearn: bool = True,
) -> dict[str, Any]:
    """Return every figure with its interval, ready for ``json.dumps``.

    Parameters
    ----------
    counts : of the test rows of all sites.
    level : of the intervals; a figure KEY stands beside ``KEY_interval``, [low, high].
    seed : of the draws behind the interval of ``macro_f1``; all others are closed forms.
    undisclosed : whether those who did not disclose are compared as a group of their own.
    repeats : how many models judged each picture, when ``counts`` is the sum over all of them. Intervals,
        supports and suppression go by pictures, not by judgements: the same picture judged ten times is no
        more evidence than once.

    Returns
    -------
    dict : the keys of :func:`headline`, ``macro_f1``, ``minority_classes``, per class ``recall``,
        ``precision``, ``f1`` and ``support``, and ``parity``: attribute ->
        :func:`fer_models.parity.parity`.
    """
    overall = counts.overall / repeats
    true, guess, (hits, union) = overall.sum(1), overall.sum(0), _union(overall)
    effect = counts.effect()
    shares = effect.limits("union", hits, union, level)
    f1_limits = 2 * shares / (1 + shares)
    options: dict[str, Any] = {"level": level, "undisclosed": undisclosed, "repeats": repeats}
    options["fairlearn"] = fairlearn
    return {
        **headline(counts, undisclosed=undisclosed, repeats=repeats),
        **_overall_intervals(counts, overall, level),
        "macro_f1": macro_f1(counts),
        "macro_f1_interval": _macro_f1_interval(counts, overall, f1_limits, seed),
        "minority_classes": list(minority_classes(counts)),
        "recall": recall(counts),
        "recall_interval": _named_limits(counts, effect.limits("recall", hits, true, level), true),
        "precision": precision(counts),
        "precision_interval": _named_limits(counts, effect.limits("precision", hits, guess, level), guess),
        "f1": f1(counts),
        "f1_interval": _named_limits(counts, f1_limits, union),
        "support": {name: n // repeats for name, n in support(counts).items()},
        "parity": {name: parity(counts, name, **options) for name in counts.groups},
    }


def across_sites(sites: Sequence[Counts]) -> dict[str, Any]:
    """Return how accuracy and balanced accuracy spread over sites.

    Keys ``sites`` (how many have rows) and, for ``accuracy`` and ``balanced_accuracy``, a dict of
    ``minimum``, ``mean`` (each site counts the same), ``deviation`` (of the population of sites), ``gini``
    (0 when all sites are equal; None when all are 0) and ``worst_site`` (index into ``sites``, the first of
    several). Sites without rows are left out.
    """
    tested = {index: site for index, site in enumerate(sites) if site.rows}
    spread = {"accuracy": accuracy, "balanced_accuracy": balanced_accuracy}
    return {
        "sites": len(tested),
        **{
            key: _spread(list(tested), np.array([figure(site) for site in tested.values()], np.float64))
            for key, figure in spread.items()
        },
    }


def _spread(indices: list[int], figures: NDArray[np.float64]) -> dict[str, Any]:
    if not indices:
        return dict.fromkeys(("minimum", "mean", "deviation", "gini", "worst_site"))
    mean = float(figures.mean())
    distance = float(np.abs(figures[:, None] - figures).mean())
    return {
        "minimum": float(figures.min()),
        "mean": mean,
        "deviation": float(figures.std()),
        "gini": distance / (2 * mean) if mean else None,
        "worst_site": indices[int(figures.argmin())],
    }


def _overall_intervals(counts: Counts, overall: Confusion, level: float) -> dict[str, list[float] | None]:
    """Intervals of the figures of :func:`headline`; None without rows."""
    keys = ("accuracy", "balanced_accuracy", "worst_recall", "minority_recall")
    if not counts.rows:
        return dict.fromkeys(f"{key}_interval" for key in keys)
    hits, true, effect = np.diag(overall), overall.sum(1), counts.effect()
    present = np.flatnonzero(true)
    rare = np.array([counts.labels.index(name) for name in minority_classes(counts)])
    together = effect.limits("recall", hits, true, corrected(level, len(present)))[present]
    limits = (
        effect.limits("accuracy", hits.sum(keepdims=True), true.sum(keepdims=True), level)[0],
        _mean_recall_interval(hits, true, present, effect, level),
        together.min(0),
        _mean_recall_interval(hits, true, rare, effect, level),
    )
    return {f"{key}_interval": [float(x) for x in pair] for key, pair in zip(keys, limits, strict=True)}


def _mean_recall_interval(
    hits: Confusion, true: Confusion, classes: NDArray[np.intp], effect: Effect, level: float
) -> tuple[float, float]:
    """Return the interval of the mean recall of some classes, which may go together over persons."""
    limits, together = effect.limits("recall", hits, true, level), effect.correlation.get("recall")
    shared = None if together is None else np.maximum(together[np.ix_(classes, classes)], 0)
    return mean_interval(hits[classes] / true[classes], limits[classes], shared)


def _macro_f1_interval(
    counts: Counts, overall: Confusion, limits: NDArray[np.float64], seed: int
) -> list[float] | None:
    """Return the interval of the mean of the classes' F1 (C,), whose limits are (C, 2) and which share errors."""
    hits, union = _union(overall)
    classes = [code for code in np.flatnonzero(union).tolist() if counts.labels[code] != TIE]
    if not classes:
        return None

    def f1s(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        x, n = (each[:, classes] for each in _union(drawn))
        return np.divide(2 * x, x + n, out=np.full_like(x, np.nan), where=n > 0)

    figures = (2 * hits[classes]) / (hits + union)[classes]
    together = multinomial_correlation(overall, f1s, seed=seed)
    over_people = counts.effect().correlation.get("f1")
    if over_people is not None:
        together = np.maximum(together, over_people[np.ix_(classes, classes)])
    return list(mean_interval(figures, limits[classes], together))


def _union(confusion: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return per class TP and the union TP + FP + FN.

    J = TP / union is a proportion, and F1 = 2 J / (1 + J) rises with it, so Wilson's limits of J give F1's.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    return hits, confusion.sum(-1) + confusion.sum(-2) - hits


def _named(counts: Counts, hits: NDArray[Any], n: NDArray[Any]) -> dict[str, float | None]:
    rates = (hits / np.maximum(n, 1)).tolist()
    return {
        name: rate if size else None
        for name, rate, size in zip(counts.labels, rates, n.tolist(), strict=True)
    }


def _named_limits(
    counts: Counts, limits: NDArray[np.float64], n: NDArray[Any]
) -> dict[str, list[float] | None]:
    pairs = zip(counts.labels, limits.tolist(), n.tolist(), strict=True)
    return {name: pair if size else None for name, pair, size in pairs}


def _mean(figures: Sequence[float]) -> float | None:
    return float(np.mean(figures)) if figures else None
