"""What sites are asked after what, so that the next session can be prepared while one ends."""

from __future__ import annotations

from collections.abc import Sequence

from client.plan import Plan
from server.debiasing.finishing import Finishing
from server.drawing import cohort
from server.sessions import Task


def following(
    plan: Plan, finishing: Finishing | None, nodes: Sequence[int], asked: tuple[str, int], *, counts: bool
) -> Task | None:
    """Return what the sites are asked after a task, None after the last.

    Parameters
    ----------
    finishing : what is done after the last round, None for nothing.
    nodes : the sites that take part now.
    asked : purpose and round of the task.
    counts : whether label counts are still to come.
    """
    purpose, number = asked
    if finishing is not None and (purpose == "moments" or number == plan.server.rounds):
        return finishing.following(nodes, purpose, number)
    partly = plan.server.participation < 1 and plan.evaluates_after(number)
    if purpose == "statistics" and counts:
        return Task("label_counts", 0, tuple(nodes))
    if purpose == "train" and (number == plan.server.rounds or partly):
        return Task("evaluate", number, tuple(nodes))
    if number == plan.server.rounds:
        return None
    return Task("train", number + 1, tuple(members(plan, nodes, number + 1)))


def members(plan: Plan, nodes: Sequence[int], round_number: int) -> list[int]:
    """Return the sites of a round."""
    return cohort(plan.seed, round_number, list(nodes), plan.server.participation)
