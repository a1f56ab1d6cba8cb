"""Bias of the labels themselves, from counts: are classes and groups equally many, and do they go together?

Balance is Shannon's evenness and the ratio of the largest share to the smallest. Whether a label goes with a group is
Cramer's phi, also called V, of the table of groups and labels: 0 where the labels of all groups are alike, 1 where the
group tells the label. Both are what Dominguez-Catena et al. recommend for face data sets.

References
----------
Bergsma, "A bias-correction for Cramer's V and Tschuprow's T", Journal of the Korean Statistical Society 42, 2013.
Cramer, "Mathematical methods of statistics", 1946.
Dominguez-Catena, Paternain and Galar, "Metrics for dataset demographic bias: a case study on facial expression
recognition", IEEE Transactions on Pattern Analysis and Machine Intelligence 46, 2024.
Shannon, "A mathematical theory of communication", Bell System Technical Journal 27, 1948.
Smithson, "Confidence intervals", 2003: limits of the noncentrality of chi squared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import chndtr, chndtrinc

from fer_models.counts import Counts
from fer_models.intervals import Interval
from fer_models.labels import TIE, UNDISCLOSED
from fer_models.parity import SMALLEST


def bias(counts: Counts, level: float = 0.95) -> dict[str, Any]:
    """Return ``classes`` (the :func:`balance` of labels) and ``attributes``: name -> facts.

    Of an attribute: the :func:`balance` of the rows of its groups that disclosed and are large enough to be shown,
    with ``cramers_v``, ``cramers_v_interval`` and ``cramers_v_corrected`` of their labels; these are None with fewer
    than two groups or classes.
    """
    classes = [place for place, name in enumerate(counts.labels) if name != TIE]
    names = [counts.labels[place] for place in classes]
    return {
        "classes": balance(names, counts.overall.sum(1)[classes]),
        "attributes": {name: _of_attribute(counts, name, level) for name in counts.groups},
    }


def balance(names: Sequence[str], rows: NDArray[np.int64]) -> dict[str, Any]:
    """Return how evenly rows fall on some names (K,).

    Returns
    -------
    dict : ``shares``; ``evenness``, Shannon's entropy of the shares over its largest value, log K: 1 where all are
        equal, None with one name or without rows; ``imbalance_ratio``, the most rows of a name over the fewest, None
        where a name has none; ``most`` and ``fewest``, the names of these.
    """
    total, k = int(rows.sum()), len(names)
    if not total or k < 2:
        return {
            "shares": dict.fromkeys(names),
            **dict.fromkeys(("evenness", "imbalance_ratio", "most", "fewest")),
        }
    shares = rows / total
    known = shares[shares > 0]
    return {
        "shares": dict(zip(names, shares.tolist(), strict=True)),
        "evenness": abs(float((known * np.log(known)).sum())) / float(np.log(k)),
        "imbalance_ratio": float(rows.max() / rows.min()) if rows.min() else None,
        "most": names[int(rows.argmax())],
        "fewest": names[int(rows.argmin())],
    }


def _of_attribute(counts: Counts, name: str, level: float) -> dict[str, Any]:
    labels = counts.by_group[name].sum(2)
    shown = [
        place
        for place, group in enumerate(counts.groups[name])
        if group != UNDISCLOSED and labels[place].sum() >= SMALLEST
    ]
    table = labels[shown]
    names = [counts.groups[name][place] for place in shown]
    return {**balance(names, table.sum(1)), **association(table[:, table.any(0)], level)}


def association(table: NDArray[np.int64], level: float = 0.95) -> dict[str, Any]:
    """Return Cramer's V of a table (R, C) without empty rows or columns.

    Returns
    -------
    dict : ``cramers_v``, sqrt(chi squared / n / (min(R, C) - 1)); ``cramers_v_interval``, from the limits of the
        noncentrality of chi squared (Smithson 2003), which begins at 0 where the table may well be one without
        association, and is stretched to ``cramers_v`` where that lies above it by chance; and
        ``cramers_v_corrected`` (Bergsma 2013), as V of few rows is above 0 by chance alone. All None with fewer than
        two rows or columns.
    """
    r, c = table.shape
    n, least = float(table.sum()), min(r, c) - 1
    if least < 1:
        return dict.fromkeys(("cramers_v", "cramers_v_interval", "cramers_v_corrected"))
    expected = np.outer(table.sum(1), table.sum(0)) / n
    chi2, freedom = float(((table - expected) ** 2 / expected).sum()), (r - 1) * (c - 1)
    low, high = (
        min((noncentrality / n / least) ** 0.5, 1.0) for noncentrality in _limits(chi2, freedom, level)
    )
    v = (chi2 / n / least) ** 0.5
    phi2 = max(chi2 / n - freedom / (n - 1), 0.0)
    fewer = min(r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)) - 1
    return {
        "cramers_v": v,
        "cramers_v_interval": [low, max(high, v)],
        "cramers_v_corrected": min((phi2 / fewer) ** 0.5, 1.0) if fewer > 0 else 0.0,
    }


def _limits(chi2: float, freedom: int, level: float) -> Interval:
    """Return the noncentralities for which ``chi2`` lies at the upper and at the lower end of what is usual."""
    tail = (1 - level) / 2
    ends = [
        0.0 if chndtr(chi2, freedom, 0) <= p else float(chndtrinc(chi2, freedom, p)) for p in (1 - tail, tail)
    ]
    return ends[0], ends[1]
