"""A round's question: what the coordinator sends to have a site train, and evaluate before it does."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
from flwr.app import RecordDict
from numpy.typing import NDArray

from client.ledger import Head
from client.messages import facts_of, optional_text, pack, scalar, text, vector_of
from client.plan import LONGEST, Plan, read_plan
from fer_models.errors import EngineError


@dataclass(frozen=True)
class Question:
    """What a site is asked in a round.

    Attributes
    ----------
    vector : float32 (P,), weights to train from.
    prior : shares of the classes, where the loss needs them and the plan does not name them.
    judged : float32 (P,), weights to evaluate before training, None for none; often ``vector`` itself.
    prove : whether the site proves that no answer depends on the other pictures of its batch.
    """

    plan: Plan
    round_number: int
    vector: NDArray[np.float32]
    prior: tuple[float, ...] = ()
    judged: NDArray[np.float32] | None = None
    prove: bool = False

    def content(self) -> RecordDict:
        """Return the message that asks it; weights that are judged travel only where they are others."""
        facts: dict[str, int | str] = {"round": self.round_number, "plan": self.plan.text}
        if self.prior:
            facts["prior"] = json.dumps(list(self.prior))
        if self.judged is None:
            return pack(self.vector, facts)
        apart = self.judged is not self.vector
        facts |= {"judged": 1 + apart, "prove": int(self.prove)}
        return pack(np.concatenate([self.vector, self.judged]) if apart else self.vector, facts)


def read_question(content: RecordDict) -> Question:
    """Return the question of a message.

    Raises
    ------
    EngineError, ConfigError : it holds none.
    """
    plan, number = read_plan(text(content, "plan")), _round_of(content)
    vector, prior = vector_of(content, np.float32), prior_of(content)
    if "judged" not in facts_of(content):
        return Question(plan, number, vector, prior)
    sets = scalar(content, "judged")
    if sets not in (1, 2) or len(vector) % sets:
        raise EngineError("weights to judge that are none", cure="Run the same version of FedFER everywhere.")
    first, last = (vector, vector) if sets == 1 else np.split(vector, 2)
    return Question(plan, number, first, prior, last, bool(scalar(content, "prove")))


def seen_of(content: RecordDict) -> Head | None:
    """Return where the coordinator saw the site's ledger stand, None where it never did."""
    told = optional_text(content, "ledger")
    return None if told is None else Head.of(told)


def prior_of(content: RecordDict) -> tuple[float, ...]:
    """Return the shares of the classes that a message tells, none where it tells none."""
    told = optional_text(content, "prior")
    if told is None:
        return ()
    try:
        given = json.loads(told) if len(told) <= LONGEST else None
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, list) or not all(isinstance(each, float) and 0 < each <= 1 for each in given):
        raise EngineError(
            "shares of classes that are none", cure="Run the same version of FedFER everywhere."
        )
    return tuple(given)


def _round_of(content: RecordDict) -> int:
    number = scalar(content, "round")
    if not isinstance(number, int) or number < 1:
        raise EngineError(f"round {number} is none", cure="Count rounds from 1.")
    return number
