"""Counts of test pictures with noise: the audit of a private run whose test pictures are protected as well.

A site releases one table for each attribute: how many of its test pictures there are by group, true and predicted
class; without attributes one table of all. One picture more or less changes one count of each table by one, so with A
tables the counts move by A together (1-norm), and discrete Laplace noise (:mod:`client.label_counts`) of epsilon / A on
each count makes the whole release epsilon-differentially private: each site's own counts by themselves, whether or not
the coordinator sees them. A plan whose unit is the person is refused: a person may have any number of test pictures.

The counts are those of the finished net, released once, after everything else: the plan asks for no other evaluation.
What the coordinator makes of the sum is in :mod:`fer_models.noisy_counts`.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from client.mechanisms import History, Mechanism
from fer_models.counts import Counts

if TYPE_CHECKING:
    from client.plan import Plan


def is_noisy(plan: Plan) -> bool:
    """Whether the sites' counts of test pictures carry noise."""
    return plan.privacy is not None and plan.privacy.audit_epsilon is not None


def audit_round(plan: Plan) -> int:
    """Return the round under which the counts stand in ledgers: after the last, and after the steps behind it."""
    return plan.server.rounds + (0 if plan.finish is None else len(plan.finish.steps)) + 1


def cost_of_audit(plan: Plan) -> History:
    """Return what the counts cost a site; nothing where they carry no noise."""
    privacy = plan.privacy
    if privacy is None or privacy.audit_epsilon is None:
        return ()
    return (Mechanism("pure", 1 / privacy.audit_epsilon, unit=privacy.unit),)


def share_of_table(epsilon: float, tables: int) -> Fraction:
    """Return the epsilon of the noise on each count, where every unit is counted in so many tables."""
    from client.label_counts import (
        exact,  # late, as below: it brings torch, which reading a plan's layout needs not
    )

    return exact(epsilon) / max(1, tables)


def audit_size(plan: Plan) -> int:
    """Return how many numbers are released."""
    return len(plan.labels) ** 2 * max(1, sum(len(values) for values in plan.attributes.values()))


def with_noise(counts: Counts, plan: Plan, key: bytes) -> NDArray[np.int64]:
    """Return a site's tables with noise, one behind the other (:func:`audit_size`,); they can be negative.

    Parameters
    ----------
    key : of the noise.
    """
    from client.label_counts import discrete_laplace
    from client.randomness import KeyedStream

    assert plan.privacy is not None and plan.privacy.audit_epsilon is not None
    tables = [counts.by_group[name].ravel() for name in plan.attributes] or [counts.overall.ravel()]
    true, stream = np.concatenate(tables), KeyedStream(key)
    epsilon = share_of_table(plan.privacy.audit_epsilon, len(tables))
    return true + np.array([discrete_laplace(epsilon, stream) for _ in true], np.int64)
