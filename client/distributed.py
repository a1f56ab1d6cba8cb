"""DP-FedSGD: a site's part of one private step on everybody's records (``privacy.noise: distributed``).

A round is one step. A site samples its units with the public rate, sums their clipped gradients, writes the sum as
whole steps of a public grid, and adds its share of the noise: discrete Gaussian of deviation
sigma D / sqrt(threshold - colluders), in steps. Whole numbers add up exactly in any order, so the sum over the sites
carries the noise of one trusted curator, where ``noise: site`` carries that of as many as there are sites. A share by
itself is *not* private enough: whoever receives single shares, and not only their sum, has to be trusted.

:mod:`client.grid` has the grid and what it costs, :mod:`client.discrete` the noise, and
:mod:`client.discrete_accounting` the theorem.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from client.discrete import discrete_gaussian
from client.grid import encode, plan_grid
from client.plan import Plan
from client.private_training import poisson_batch, private_trainer
from client.randomness import Entropy, KeyedStream, torch_generator
from client.training import LocalRows, losses_of
from client.workbench import Workbench
from fer_models.errors import PrivacyError, TrainingError


def share_of(
    bench: Workbench, data: LocalRows, plan: Plan, round_number: int, entropy: Entropy, where: str
) -> NDArray[np.int32]:
    """Return a site's share of the round's sum, int32 (T + K,): of what learns, and of the tally.

    The caller has written the ledger.

    Raises
    ------
    PrivacyError : the noise is not accounted for as many numbers as learn.
    TrainingError : the sum is not finite, which a clipped sum is whatever the records are.
    """
    privacy, work, learning, fair = plan.privacy, plan.local, bench.flat.learning, bench.fair
    assert privacy is not None
    numbers = len(learning) + plan.tally_size
    if numbers != privacy.parameters:
        raise PrivacyError(
            f"noise that is accounted for {privacy.parameters} numbers, where there are {numbers}",
            where=where,
            cure="Run the same version of FedFER everywhere.",
        )
    grid = plan_grid(plan)
    sampling = KeyedStream(entropy.key(round_number, "poisson"))
    augmenting = torch_generator(entropy.key(round_number, "augment"))
    rows, sizes = poisson_batch(data, privacy, work.rate, sampling)
    weights = None if fair is None else fair.unit_weights(rows, sizes)
    with private_trainer(bench, plan, round_number, entropy) as trainer:
        sums = trainer.clipped_sum(
            rows, lambda part: losses_of(bench, data, part, work, augmenting), sizes, weights
        )
    if not bool(torch.isfinite(sums.sum())):
        raise TrainingError("the clipped sum is not finite", where=where, cure="Use another net.")
    found = learning.take(sums).cpu().numpy()
    if bench.tally is not None and plan.fairness is not None:
        bench.tally.note(rows, sizes)
        # A picture is one count, and C / rho long in the vector that gets the noise.
        found = np.concatenate([found, bench.tally.total * (privacy.clip / plan.fairness.noise_ratio)])
    share = encode(found, grid, KeyedStream(entropy.key(round_number, "dither")))
    share += discrete_gaussian(grid.share).draw(KeyedStream(entropy.key(round_number, "share")), len(share))
    return share.astype(np.int32)
