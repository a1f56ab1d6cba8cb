"""What leaves a site."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from client.ledger import Head
from client.mechanisms import History

if TYPE_CHECKING:  # which needs torch
    from client.workbench import Workbench


@dataclass(frozen=True)
class Update:
    """What leaves the site after local work.

    Attributes
    ----------
    delta : float32 (T + K,), weights after local work minus the round's weights, of what learns alone
        (:attr:`fer_models.flat.FlatModel.trained`), and the tally as shares of the pictures seen
        (:mod:`client.groups`); with SCAFFOLD (T + T,), the change of the control variate behind it; with
        distributed noise int32 (T + K,), the site's share of a sum of gradients and counts
        (:mod:`client.distributed`).
    weight : the site's weight in the mean: its rows, or 1 when weighting is uniform.
    visits : pictures seen in local work; under privacy, where batches tell the site's size, the number that the
        plan's public constants make one expect.
    loss : mean training loss a visit; 0 under privacy, where it would cost epsilon.
    history : what the site's ledger says of all its releases so far, empty without privacy.
    head : where the ledger stands with this one, None without privacy.
    """

    delta: NDArray[np.float32] | NDArray[np.int32]
    weight: float
    visits: int
    loss: float
    history: History
    head: Head | None = None


@dataclass(frozen=True)
class LabelCounts:
    """What leaves the site outside of the rounds: label counts before the first, sums of features after the last.

    Attributes
    ----------
    counts : int64, training pictures of each class (C,), in fair training of each group and class ((G + 1) C,), or
        persons where they are the unit; or tables of :mod:`client.statistics`; or sums in steps (P,), see
        :mod:`client.moments`; with noise under privacy.
    history, head : as in :class:`Update`.
    """

    counts: NDArray[np.int64]
    history: History
    head: Head | None = None


def moved(bench: Workbench, vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how far what learns has moved from the round's weights (P + Q,), float32 (T,)."""
    trained = bench.flat.trained
    return trained.take(bench.flat.full_vector.cpu().numpy()) - trained.take(vector)


def with_tally(delta: NDArray[np.float32], tally: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return an update (T,) with a tally (K,) behind it."""
    return np.concatenate([delta, tally.astype(np.float32)])
