"""What an audit comes to: the claims that were found wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fer_models.errors import AuditError

ABOVE, CONSISTENT, NOTHING = "above claimed", "consistent", "nothing found out"
"""The verdicts: a claim is wrong; no claim is shown to be; and nothing was looked at that could show it."""

MOVE = 1.05
"""Clips by which one picture may seem to move a sum: one, and room for the rounding of float weights."""

Facts = dict[str, Any]


def faults(facts: Facts) -> list[str]:
    """Return the claims that an audit has shown to be wrong, a clause each."""
    found = []
    if facts["audited_epsilon"] is not None and facts["audited_epsilon"] > facts["claimed_epsilon"]:
        found.append(
            f"epsilon is at least {facts['audited_epsilon']:.2f}, and {facts['claimed_epsilon']:.2f} is claimed"
        )
    one = facts.get("one_round")
    if one is not None and one["epsilon"] > one["claimed_epsilon"]:
        found.append(
            f"one round costs epsilon {one['epsilon']:.2f} at least, and {one['claimed_epsilon']:.2f} is claimed"
        )
    if one is not None and one["moved"] > MOVE:
        found.append(
            f"one picture moves the sum of a step by {one['moved']:.2f} clips, and 1 is the most that is claimed"
        )
    return found


def judged(facts: Facts) -> Facts:
    """Return an audit's facts with the verdict, and the faults that it rests on."""
    found = faults(facts)
    looked = facts["audited_epsilon"] is not None or "one_round" in facts
    said = ABOVE if found else CONSISTENT if looked else NOTHING
    return facts | {"verdict": said, "faults": found}


def require_kept(facts: Facts, where: Path) -> None:
    """Refuse a run that is shown to leak more than is claimed.

    Raises
    ------
    AuditError : a claim is wrong.
    """
    if facts["faults"]:
        raise AuditError(
            f"AUDITED ABOVE CLAIMED: {'; '.join(facts['faults'])}",
            where=str(where),
            cure="This is a bug: do not rely on the claim, and do not release the model.",
        )
