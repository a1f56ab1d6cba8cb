"""Counting a net's answers to test pictures, with the proof that no answer depends on the others of its batch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from client.inputs import Inputs
from fer_models.consistency import require_sample_independence
from fer_models.counts import Counts
from fer_models.errors import DataError
from fer_models.labels import UNDISCLOSED
from fer_models.samples import Samples
from fer_models.transforms import mirrored_probabilities

EVALUATION_BATCH = 256
"""Pictures a forward pass in evaluation."""


def evaluate(
    module: torch.nn.Module,
    samples: Samples,
    rows: NDArray[np.intp],
    attributes: Mapping[str, tuple[str, ...]],
    *,
    device: torch.device,
    prove: bool,
) -> Counts:
    """Count true and predicted classes of some rows by group, with the net in evaluation mode.

    A picture's prediction is the mean of the probabilities of it and its mirror image.

    Raises
    ------
    EvaluationError : ``prove`` is set and an answer depends on the other pictures of the batch.
    """
    return count(samples, rows, predict(module, samples, rows, device=device, prove=prove), attributes)


def count(
    samples: Samples,
    rows: NDArray[np.intp],
    predicted: NDArray[np.int64],
    attributes: Mapping[str, tuple[str, ...]],
) -> Counts:
    """Count rows by group, true and predicted class."""
    return count_parts(samples, [rows], predicted, attributes)[0]


def count_parts(
    samples: Samples,
    parts: Sequence[NDArray[np.intp]],
    predicted: NDArray[np.int64],
    attributes: Mapping[str, tuple[str, ...]],
    hidden: Sequence[bool] | None = None,
) -> list[Counts]:
    """Count several lists of rows, each by itself; ``predicted`` holds their predictions one after the other.

    Parameters
    ----------
    hidden : of which parts (by place) nobody's group is told: their rows are undisclosed; None for none.
    """
    sizes = [len(part) for part in parts]
    groups = groups_of(samples, parts, attributes, hidden)
    rows = np.concatenate(parts)
    return Counts.of_parts(sizes, samples.label[rows], predicted, samples.labels, groups, attributes)


def groups_of(
    samples: Samples,
    parts: Sequence[NDArray[np.intp]],
    attributes: Mapping[str, tuple[str, ...]],
    hidden: Sequence[bool] | None = None,
) -> dict[str, NDArray[np.str_]]:
    """Return attribute -> group of each row, one list of rows after the other; as :func:`count_parts` counts them."""
    silent = np.repeat(hidden or [False] * len(parts), [len(part) for part in parts])
    unknown = [name for name in attributes if name not in samples.groups]
    if unknown and not silent.all():
        raise DataError(
            f"the plan counts by {unknown[0]}, which no column tells",
            where=samples.name,
            cure=f"Count by {', '.join(samples.groups) or 'no attribute'}.",
        )
    if silent.all():
        return dict.fromkeys(attributes, np.full(len(silent), UNDISCLOSED))
    rows = np.concatenate(parts)
    return {name: np.where(silent, UNDISCLOSED, samples.groups[name][rows]) for name in attributes}


def blurred(samples: Samples, smallest: int) -> Samples:
    """Return samples in which test pictures of a group that has fewer than ``smallest`` of them are undisclosed.

    Training pictures keep their groups: noise or sums protect them. So do test pictures whose counts carry noise: a
    rule that looks at counts would let one picture change what is told of many.
    """
    test = samples.split == "test"
    groups = {}
    for name, column in samples.groups.items():
        values, counts = np.unique(column[test], return_counts=True)
        small = np.isin(column, values[counts < smallest]) & test
        groups[name] = np.where(small, UNDISCLOSED, column)
    return replace(samples, groups=groups)


def predict(
    module: torch.nn.Module,
    samples: Samples,
    rows: NDArray[np.intp],
    *,
    device: torch.device,
    prove: bool,
    inputs: Inputs | None = None,
) -> NDArray[np.int64]:
    """Return predicted classes int64 (n,) of some rows, with the net in evaluation mode; see :func:`evaluate`.

    ``inputs`` keeps the table's normalised pictures between calls; None makes them anew.
    """
    inputs = inputs or Inputs(samples, device, limit=0)
    with evaluating(module):
        if prove:
            prove_answers(module, samples, rows, inputs)
        parts = [rows[i : i + EVALUATION_BATCH] for i in range(0, len(rows), EVALUATION_BATCH)]
        predicted = [_predict(module, inputs(part)) for part in parts]
    return np.concatenate(predicted) if predicted else np.zeros(0, np.int64)


@contextlib.contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Put a net into evaluation mode for a while."""
    training = module.training
    if training:
        module.eval()
    try:
        yield
    finally:
        if training:
            module.train()


@torch.inference_mode()
def _predict(module: torch.nn.Module, x: torch.Tensor) -> NDArray[np.int64]:
    return mirrored_probabilities(module, x).argmax(1).cpu().numpy()


def prove_answers(
    module: torch.nn.Module, samples: Samples, rows: NDArray[np.intp], inputs: Inputs, most: int = 24
) -> None:
    """Refuse a net whose answers to up to ``most`` of some rows depend on the other pictures of the batch.

    Raises
    ------
    EvaluationError : they do.
    """
    if not len(rows):
        return
    some = rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)]
    require_sample_independence(module, inputs(some), samples.label[some], seed=0)
