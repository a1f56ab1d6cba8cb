"""Rules that bear a few malicious sites, by Flower's own functions: they need every update by itself.

With n updates of which up to f (``server.malicious``) are whatever an attacker likes:

=============  =====================================================================  ===========
rule           what it takes                                                          needs
=============  =====================================================================  ===========
median         of every coordinate the median (Yin et al. 2018)                       n > 2 f
trimmed_mean   of every coordinate the mean without the f largest and f smallest      n > 2 f
krum           the update nearest to its n - f - 2 nearest (Blanchard et al. 2017)    n >= 2 f + 3
multi_krum     the mean of the n - f - 2 best by that measure                         n >= 2 f + 3
bulyan         n - 2 f updates by Krum, then of every coordinate the mean of the      n >= 4 f + 3
               n - 4 f nearest to their median (El Mhamdi et al. 2018)
=============  =====================================================================  ===========

All sites count alike: an attacker would claim the largest weight. An update that is not finite is left out and counts
as one of the f. A bound on f is no proof of good learning: an attacker that stays among the honest updates moves the
result by about as much as they differ from each other, which is much where the sites' pictures are unlike.
"""

from __future__ import annotations

import numpy as np
import torch
from flwr.server.strategy.aggregate import (
    aggregate_bulyan,
    aggregate_krum,
    aggregate_median,
    aggregate_trimmed_avg,
)
from numpy.typing import NDArray

from client.plan import ServerWork
from client.strict import require
from fer_models.errors import EngineError


def fewest_updates(work: ServerWork) -> int:
    """Return how many updates the plan's rule needs to bear as many malicious ones as the plan says."""
    per_site, beside = {
        "mean": (0, 1),
        "median": (2, 1),
        "trimmed_mean": (2, 1),
        "krum": (2, 3),
        "multi_krum": (2, 3),
        "bulyan": (4, 3),
    }[work.rule]
    return per_site * work.malicious + beside


def require_enough(work: ServerWork, sites: int) -> None:
    """Refuse a rule that so few sites a round cannot feed.

    Raises
    ------
    ConfigError : with how many it takes.
    """
    needed = fewest_updates(work)
    require(
        sites >= needed,
        f"{work.rule} bears {work.malicious} malicious of {needed} sites or more, and a round has {sites}",
        "server.malicious",
        "Lower server.malicious, take more sites a round, or use another server.rule.",
    )


class RobustMean:
    """What one of the rules makes of a round's updates; it holds all of them until the round ends.

    Parameters
    ----------
    work : names the rule and the number of malicious sites.
    """

    kind = np.float32

    def __init__(self, work: ServerWork) -> None:
        self._work = work
        self._updates: list[NDArray[np.float32]] = []
        self._useless = 0

    def add(self, update: NDArray[np.float32], weight: float) -> None:  # noqa: ARG002 - all sites count alike
        """Take an update, and hold it until the round ends."""
        if bool(np.isfinite(update).all()):
            self._updates.append(update)
        else:
            self._useless += 1

    def mean(self) -> torch.Tensor:
        """Return what the rule makes of the updates, float64 (T,).

        Raises
        ------
        ConfigError : fewer updates than the rule needs.
        EngineError : more updates that are not finite than malicious sites are borne.
        """
        work = self._work
        require_enough(work, len(self._updates) + self._useless)
        if self._useless > work.malicious:
            raise EngineError(
                f"{self._useless} updates that are not finite, where {work.malicious} malicious sites are borne",
                where="server.malicious",
                cure="Lower local.learning_rate; or raise server.malicious.",
            )
        found = combine(self._updates, work.rule, work.malicious - self._useless)
        return torch.from_numpy(np.asarray(found, np.float64))


def combine(updates: list[NDArray[np.float32]], rule: str, malicious: int) -> NDArray[np.floating]:
    """Return what a rule makes of updates (n, T): an array (T,)."""
    kept = len(updates) - malicious - 2
    results = [([update], 1) for update in updates]  # Flower's form: layers, and a number of examples
    if rule == "median":
        return aggregate_median(results)[0]
    if rule == "trimmed_mean":
        # Flower cuts int(share * n) at each end; a quarter more keeps rounding from cutting one too few.
        share = (malicious + 0.25) / len(updates)
        return aggregate_trimmed_avg(results, share)[0]
    if rule == "bulyan":
        return aggregate_bulyan(results, malicious, aggregate_krum, to_keep=0)[0]
    return aggregate_krum(results, malicious, kept if rule == "multi_krum" else 0)[0]
