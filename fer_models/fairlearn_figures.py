"""Parity figures by Fairlearn itself, from counts: those of record, beside which the closed forms are held.

One ``MetricFrame`` answers for all classes at once: each class is a control feature, each group a sensitive one,
each cell of the counts a weighted row. Its ``demographic_parity_difference`` and its kin build a frame a class and
a measure each, which took five times as long for the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Figures = Mapping[str, float]


def by_fairlearn(binaries: Mapping[str, NDArray[Any]], *, conditional: bool) -> dict[str, Figures]:
    """Return key -> class -> figure of the questions "is it this class?".

    Parameters
    ----------
    binaries : class -> counts (G, 2, 2) [group, true, predicted] of at least two groups, none of them without rows,
        and with ``conditional`` none without rows of the class or of the others.
    conditional : whether to return the differences of equalized odds and of equal opportunity, or else the
        difference and the ratio of demographic parity.
    """
    from fairlearn import metrics

    if conditional:
        rates = {"TPR": metrics.true_positive_rate, "FPR": metrics.false_positive_rate}
        gaps = _frame(binaries, rates).difference()
        return {
            "equalized_odds_difference": _named(binaries, gaps.max(axis=1)),
            "equal_opportunity_difference": _named(binaries, gaps["TPR"]),
        }
    frame = _frame(binaries, {"SR": metrics.selection_rate})
    return {
        "demographic_parity_difference": _named(binaries, frame.difference()["SR"]),
        # A ratio of two rates of 0 has no value in Fairlearn; nobody is treated differently.
        "demographic_parity_ratio": _named(binaries, frame.ratio()["SR"].fillna(1.0)),
    }


def _frame(binaries: Mapping[str, NDArray[Any]], rates: Mapping[str, Any]) -> Any:
    from fairlearn.metrics import MetricFrame

    cells = [np.nonzero(table) for table in binaries.values()]
    group, true, guess = (np.concatenate(parts) for parts in zip(*cells, strict=True))
    weight = np.concatenate([table[cell] for table, cell in zip(binaries.values(), cells, strict=True)])
    return MetricFrame(
        metrics=dict(rates),
        y_true=true,
        y_pred=guess,
        sensitive_features=group,
        control_features=np.repeat(np.arange(len(cells)), [len(cell[0]) for cell in cells]),
        sample_params={name: {"sample_weight": weight.astype(np.float64)} for name in rates},
    )


def _named(names: Mapping[str, Any], column: Any) -> Figures:
    return dict(zip(names, column.sort_index().tolist(), strict=True))
