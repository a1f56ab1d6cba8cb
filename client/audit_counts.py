"""Counts of test pictures with noise: the audit of a private run whose test pictures are protected as well.

A site releases one table for each attribute: how many of its test pictures there are by group, true and predicted
class; without attributes one table of all. One picture more or less changes one count of each table by one, so with A
tables the counts move by A together (1-norm), and discrete Laplace noise (:mod:`client.label_counts`) of epsilon / A on
each count makes the whole release epsilon-differentially private.

*Where a person is the unit*, one test picture of each person counts, drawn at random, and the others do not: a person
more or less then changes one count of each table by one, and all of the above holds for persons. (Without such a bound
no noise would do: a person may have any number of test pictures.) Who is drawn for one person depends on no other one.

*Whose noise.* With noise "site" each site adds all of it, and its counts are private by themselves, whether or not the
coordinator sees them. With "distributed" a site adds a share (:func:`client.label_counts.laplace_share`): of the sites
of a sum, ``threshold`` or more, up to ``colluders`` may give theirs away, and the shares of the other
``threshold - colluders`` or more are discrete Laplace noise of epsilon / A or more. The sum alone is private, which is
what whoever is outside of secure aggregation sees. Sites that drop out take their counts and their noise along; a sum
of fewer than ``threshold`` is never opened.

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
from fer_models.errors import PrivacyError

if TYPE_CHECKING:
    from client.plan import Plan
    from fer_models.samples import Samples


def is_noisy(plan: Plan) -> bool:
    """Whether the sites' counts of test pictures carry noise."""
    return plan.privacy is not None and plan.privacy.audit_epsilon is not None


def require_countable(plan: Plan) -> None:
    """Refuse a plan whose counts of test pictures would cost more than is planned, or that no noise protects.

    Raises
    ------
    PrivacyError : counts with noise are asked for more often than once, or beside sums over people.
    """
    if not is_noisy(plan):
        return
    if plan.server.evaluate_every < plan.server.rounds:
        raise PrivacyError(
            "every evaluation would release counts of test pictures, and epsilon is planned for the last alone",
            where="server.evaluate_every",
            cure=f"Give server.evaluate_every={plan.server.rounds}, or privacy.audit_epsilon=null.",
        )
    if plan.server.people:
        raise PrivacyError(
            "no noise hides a picture in sums over people: one more of a person with n pictures moves a sum of "
            "squares by 2 n + 1, and n has no bound",
            where="server.people",
            cure="Use privacy.unit=subject, where each person counts once and all intervals are over people; or "
            "server.people=false.",
        )


def audit_round(plan: Plan) -> int:
    """Return the round under which the counts stand in ledgers: after the last, and after the steps behind it."""
    return plan.server.rounds + (0 if plan.finish is None else len(plan.finish.steps)) + 1


def cost_of_audit(plan: Plan) -> History:
    """Return what the counts cost a site; nothing where they carry no noise."""
    privacy = plan.privacy
    if privacy is None or privacy.audit_epsilon is None:
        return ()
    return (Mechanism("pure", 1 / privacy.audit_epsilon, unit=privacy.unit),)


def shares_of(plan: Plan) -> int:
    """Return among how many sites the noise of counts is divided; 1 where each adds all of it."""
    assert plan.privacy is not None
    return plan.privacy.threshold - plan.privacy.colluders


def epsilon_of_count(plan: Plan) -> Fraction:
    """Return the epsilon of the noise on each count, as every unit is counted in so many tables."""
    from client.label_counts import exact  # late: it brings torch, which reading a plan's layout needs not

    assert plan.privacy is not None and plan.privacy.audit_epsilon is not None
    return exact(plan.privacy.audit_epsilon) / max(1, len(plan.attributes))


def variance_of_count(plan: Plan, sites: int) -> float:
    """Return the variance of the noise in each count of a sum over so many sites."""
    from client.label_counts import variance_of  # late, as above

    return sites * variance_of(float(epsilon_of_count(plan))) / shares_of(plan)


def audit_size(plan: Plan) -> int:
    """Return how many numbers are released."""
    return len(plan.labels) ** 2 * max(1, sum(len(values) for values in plan.attributes.values()))


def counted_places(plan: Plan, samples: Samples, rows: NDArray[np.intp], key: bytes) -> NDArray[np.intp]:
    """Return the places in ``rows`` of the test pictures that count: one of each person where people are the unit.

    Parameters
    ----------
    key : draws the pictures.

    Raises
    ------
    PrivacyError : people are the unit, and the pictures do not say who is on them.
    """
    from client.label_counts import one_each  # late, as above
    from client.randomness import KeyedStream
    from client.training import people_of

    if not is_noisy(plan) or plan.privacy is None or plan.privacy.unit == "record":
        return np.arange(len(rows))
    return one_each(people_of(samples, rows), KeyedStream(key))


def with_noise(counts: Counts, plan: Plan, key: bytes) -> NDArray[np.int64]:
    """Return a site's tables with noise, one behind the other (:func:`audit_size`,); they can be negative.

    Parameters
    ----------
    key : of the noise.
    """
    from client.label_counts import discrete_laplace, laplace_share
    from client.randomness import KeyedStream

    assert plan.privacy is not None
    tables = [counts.by_group[name].ravel() for name in plan.attributes] or [counts.overall.ravel()]
    true, stream = np.concatenate(tables), KeyedStream(key)
    epsilon, shares = epsilon_of_count(plan), shares_of(plan)
    if plan.privacy.noise == "distributed":
        return true + np.array([laplace_share(epsilon, shares, stream) for _ in true], np.int64)
    return true + np.array([discrete_laplace(epsilon, stream) for _ in true], np.int64)
