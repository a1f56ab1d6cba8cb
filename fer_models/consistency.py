"""Refuse to evaluate a model whose answer for one picture depends on the other pictures of its batch.

Test sets are often read class by class. A net with attention across the batch, or with BatchNorm in training
mode, then sees many pictures of one class at once and scores far above what it gives on single pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fer_models.errors import EvaluationError

BATCH = 8
"""Pictures a batch in the sorted and the shuffled passes; small, so that sorted batches hold one class."""

CURE = (
    "Call model.eval(), replace BatchNorm by GroupNorm (model.norm=gn), and let no layer work across the "
    "batch dimension."
)


def require_sample_independence(
    predict: Callable[[Tensor], Tensor],
    x: Tensor,
    label: Tensor | NDArray[np.integer],
    *,
    seed: int,
    tolerance: float = 1e-3,
    most: int = 64,
) -> None:
    """Compare logits at batch size 1, in class-sorted batches and in shuffled batches.

    Parameters
    ----------
    predict : (B, ...) -> logits (B, K), as the evaluation calls it.
    x, label : pictures (N, ...) and their classes (N,), of which ``most`` are drawn with ``seed``. With
        fewer than two pictures there is nothing to compare.
    tolerance : largest deviation, as a share of the spread of the logits. Rounding gives about 1e-6.

    Raises
    ------
    EvaluationError : the logits deviate by more, or are not finite, or batch size 1 does not work.
    """
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(x))[:most]
    if len(rows) < 2:
        return
    chosen = x[torch.from_numpy(rows)]
    classes = np.asarray(label)[rows]
    with torch.inference_mode():
        orders = {
            "sorted by class": np.argsort(classes, kind="stable"),
            "shuffled": rng.permutation(len(rows)),
        }
        answers = {name: _logits(predict, chosen, _batches(order, BATCH)) for name, order in orders.items()}
        answers["in one batch"] = _logits(predict, chosen, [np.arange(len(rows))])
        single = _logits_alone(predict, chosen)
    for name, logits in answers.items():
        _require_equal(single, logits, name, tolerance)


def _batches(order: NDArray[np.intp], size: int) -> list[NDArray[np.intp]]:
    return [order[start : start + size] for start in range(0, len(order), size)]


def _logits(
    predict: Callable[[Tensor], Tensor], x: Tensor, batches: Iterable[NDArray[np.intp]]
) -> NDArray[np.float64]:
    """Return logits (N, K) in the order of ``x``, computed batch by batch."""
    parts = [(rows, predict(x[torch.from_numpy(rows)]).double().cpu().numpy()) for rows in batches]
    out = np.empty((len(x), parts[0][1].shape[1]))
    for rows, logits in parts:
        out[rows] = logits
    return out


def _logits_alone(predict: Callable[[Tensor], Tensor], x: Tensor) -> NDArray[np.float64]:
    try:
        return _logits(predict, x, _batches(np.arange(len(x)), 1))
    except (ValueError, RuntimeError) as error:  # BatchNorm in training mode refuses a single value a channel
        reason = (str(error).splitlines() or [""])[0][:120]
        raise EvaluationError(
            f"the model fails at batch size 1: {reason}", where="evaluation", cure=CURE
        ) from error


def _require_equal(
    single: NDArray[np.float64], logits: NDArray[np.float64], name: str, tolerance: float
) -> None:
    if not (np.isfinite(single).all() and np.isfinite(logits).all()):
        raise EvaluationError(
            "the logits are not finite", where="evaluation", cure="Use a model of a run that did not diverge."
        )
    spread = np.abs(single - single.mean(1, keepdims=True)).max()
    scale = max(spread, 1e-3 * np.abs(single).max(), np.finfo(np.float64).tiny)
    deviation = float(np.abs(single - logits).max() / scale)
    if deviation > tolerance:
        raise EvaluationError(
            f"logits {name} differ from those at batch size 1 by {deviation:.2g} of their spread, "
            f"{tolerance:g} is allowed",
            where="evaluation",
            cure=CURE,
        )
