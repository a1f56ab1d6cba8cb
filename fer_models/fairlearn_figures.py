"""Parity figures by Fairlearn itself, from counts: those of record, beside which the closed forms are held.

One ``MetricFrame`` answers everything at once: each question is a control feature, each group a sensitive one, each
cell of the counts a weighted row. A true positive rate is the selection rate of the rows of the class, a false positive
rate that of the others. Fairlearn's own ``demographic_parity_difference`` and its kin build a frame for every class and
figure, which takes ten times as long for the same numbers.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

K = TypeVar("K", bound=Hashable)


def by_fairlearn(
    demographic: Mapping[K, NDArray[Any]], odds: Mapping[K, NDArray[Any]]
) -> dict[str, dict[K, float]]:
    """Return key of a figure -> question -> figure, of questions such as "is it this class?".

    Parameters
    ----------
    demographic : question -> counts (G, 2, 2) [group, true, predicted] of at least two groups, none without rows.
    odds : the same for equalized odds and equal opportunity: no group without rows of the class or of the others.
    """
    answers = [table.sum(1) for table in demographic.values()]
    answers += [table[:, true] for true in (1, 0) for table in odds.values()]
    differences, ratios = _gaps(answers) if answers else ([], [])
    first, second = len(demographic), len(demographic) + len(odds)
    hits, alarms = differences[first:second], differences[second:]
    return {
        "demographic_parity_difference": dict(zip(demographic, differences[:first], strict=True)),
        "demographic_parity_ratio": dict(zip(demographic, ratios[:first], strict=True)),
        "equal_opportunity_difference": dict(zip(odds, hits, strict=True)),
        "equalized_odds_difference": dict(zip(odds, map(max, hits, alarms), strict=True)),
    }


def _gaps(answers: Sequence[NDArray[Any]]) -> tuple[list[float], list[float]]:
    """Return how selection rates differ, max - min and min / max, for each table (G, 2) of no and yes.

    A ratio of two rates of 0 has no value in Fairlearn; it is 1 here, as nobody is treated differently.
    """
    from fairlearn.metrics import MetricFrame, selection_rate

    cells = [np.nonzero(table) for table in answers]
    group, answer = (np.concatenate(parts) for parts in zip(*cells, strict=True))
    weight = np.concatenate([table[cell] for table, cell in zip(answers, cells, strict=True)])
    frame = MetricFrame(
        metrics=selection_rate,
        y_true=answer,
        y_pred=answer,
        sensitive_features=group,
        control_features=np.repeat(np.arange(len(cells)), [len(cell[0]) for cell in cells]),
        sample_params={"sample_weight": weight.astype(np.float64)},
    )
    difference, ratio = (each.astype(np.float64).sort_index() for each in (frame.difference(), frame.ratio()))
    return difference.tolist(), ratio.fillna(1.0).tolist()
