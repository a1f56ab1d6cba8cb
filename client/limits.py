"""A site's own limit of epsilon, and how far a plan can go below it; pure functions over histories."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from client.accounting import epsilon_of
from client.finish import cost_after
from client.mechanisms import History, Mechanism, merged, repeated
from client.statistics import KIND, cost_of_statistics
from client.strict import require
from fer_models.errors import PrivacyError

if TYPE_CHECKING:
    from client.plan import Plan


@dataclass(frozen=True)
class Limit:
    """The most a site lets itself be charged, over everything in its ledger: epsilon at delta."""

    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        good = 0 < self.epsilon < math.inf
        what = f"a limit of epsilon {self.epsilon:g}"
        require(good, what, "privacy.site_epsilon_limit", "Give a positive number, or null for no limit.")
        require(0 < self.delta < 1, f"delta {self.delta:g} is not in (0, 1)", "delta", "Give 1e-5 or so.")

    def holds(self, history: History) -> bool:
        """Whether a history stays within the limit."""
        return epsilon_of(history, self.delta).value <= self.epsilon


def cost_of_round(plan: Plan) -> History:
    """Return what one round of a private plan costs a site that takes part; nothing without privacy."""
    from client.grid import mechanism_of  # late: it brings the nets, which reading a ledger needs not

    return () if plan.privacy is None else (mechanism_of(plan),)


def cost_of_counts(plan: Plan) -> History:
    """Return what the label counts of a private plan cost a site; nothing where it is asked for none."""
    privacy = plan.privacy
    if privacy is None or privacy.counts_epsilon is None:
        return ()
    return (Mechanism("pure", 1 / privacy.counts_epsilon, unit=privacy.unit),)


def cost_before(plan: Plan, done: frozenset[str] = frozenset()) -> History:
    """Return what a private plan costs a site before the first round: its statistics and label counts, where asked.

    Parameters
    ----------
    done : kinds of releases that are paid for.
    """
    found = {KIND: cost_of_statistics(plan), "label_counts": cost_of_counts(plan)}
    return merged(tuple(each for kind, cost in found.items() if kind not in done for each in cost))


def cost_beside(plan: Plan) -> History:
    """Return what a private plan costs a site besides its rounds: label counts before them, sums of features after."""
    return merged((*cost_before(plan), *cost_after(plan)))


def rounds_that_fit(history: History, a_round: History, limit: Limit, most: int) -> int:
    """Return how many rounds of that cost, up to ``most``, fit below the limit besides the history; by bisection."""

    def fits(rounds: int) -> bool:
        return limit.holds(merged((*history, *repeated(a_round, rounds))))

    if fits(most):
        return most
    low, high = 0, 1
    while high < most and fits(high):  # from below, as accountants are slow where epsilon is large
        low, high = high, min(2 * high, most)
    while high - low > 1:  # epsilon grows with the rounds
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def first_round_over(
    history: History, plan: Plan, limit: Limit, rounds: Sequence[int] | None = None
) -> int | None:
    """Return the first round in which a plan would pass the limit, None when it never would.

    Parameters
    ----------
    history : what has been released before.
    rounds : those in which the site takes part, in order; None for all.
    """
    rounds = range(1, plan.server.rounds + 1) if rounds is None else rounds
    fit = rounds_that_fit(history, cost_of_round(plan), limit, len(rounds))
    return rounds[fit] if fit < len(rounds) else None


def with_rounds(history: History, plan: Plan, rounds: int) -> History:
    """Return a history after that many rounds more of a plan."""
    return merged((*history, *repeated(cost_of_round(plan), rounds)))


def whole_run(plan: Plan) -> History:
    """Return what a private plan costs a site that takes part in every round."""
    return with_rounds(cost_beside(plan), plan, plan.server.rounds)


def over_limit(round_number: int, plan: Plan, limit: Limit, where: str) -> PrivacyError:
    """Return the refusal of a plan that would pass the limit in some round."""
    return PrivacyError(
        f"round {round_number} of {plan.server.rounds} would pass the site's limit of epsilon {limit.epsilon:g}",
        where=where,
        cure="Plan fewer rounds or steps, or more noise; only the site can raise its limit.",
    )
