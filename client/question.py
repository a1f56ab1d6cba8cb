"""A round's question: what the coordinator sends to have a site train, and evaluate before it does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from flwr.app import RecordDict
from numpy.typing import NDArray

from client.ledger import Head
from client.messages import facts_of, optional_text, pack, scalar, text, vector_of
from client.plan import LONGEST, Plan, read_plan
from client.scaffold import Correction
from client.told import NOTHING, Told, read_told
from fer_models.errors import EngineError, PrivacyError

CONTROL, COUNTED = "control", "counted"
"""Facts of SCAFFOLD: the length of the mean control variate, and the round that a site's answer was last counted in."""


@dataclass(frozen=True)
class Question:
    """What a site is asked in a round.

    Attributes
    ----------
    vector : float32 (P,), weights to train from.
    told : public numbers of the round.
    judged : float32 (P,), weights to evaluate before training, None for none; often ``vector`` itself.
    prove : whether the site proves that no answer depends on the other pictures of its batch.
    common : float32 (T,), the mean control variate of SCAFFOLD; None without it.
    """

    plan: Plan
    round_number: int
    vector: NDArray[np.float32]
    told: Told = NOTHING
    judged: NDArray[np.float32] | None = None
    prove: bool = False
    common: NDArray[np.float32] | None = None

    def content(self) -> RecordDict:
        """Return the message that asks it; weights that are judged travel only where they are others."""
        facts: dict[str, int | str] = {"round": self.round_number, "plan": self.plan.text}
        if self.told.text:
            facts["told"] = self.told.text
        parts = [self.vector]
        if self.judged is not None:
            apart = self.judged is not self.vector
            facts |= {"judged": 1 + apart, "prove": int(self.prove)}
            parts += [self.judged] if apart else []
        if self.common is not None:
            facts[CONTROL] = len(self.common)
            parts.append(self.common)
        return pack(np.concatenate(parts) if len(parts) > 1 else self.vector, facts)


def read_question(content: RecordDict) -> Question:
    """Return the question of a message.

    Raises
    ------
    EngineError, ConfigError : it holds none.
    PrivacyError : it asks for counts in a round in which the plan does not.
    """
    plan = read_plan(text(content, "plan"))
    number = _round_of(content, plan)
    vector, told, common = vector_of(content, np.float32), told_of(content), None
    if plan.local.scaffold:
        length = int(scalar(content, CONTROL))
        if not 0 < length < len(vector):
            raise EngineError(
                "a control variate that is none", cure="Run the same version of FedFER everywhere."
            )
        vector, common = vector[:-length], vector[-length:]
    if "judged" not in facts_of(content):
        return Question(plan, number, vector, told, common=common)
    if not plan.judges_in(number):
        raise PrivacyError(
            f"counts of test pictures in round {number}, for which the plan does not ask",
            where="judged",
            cure="Run the same plan and version of FedFER everywhere.",
        )
    sets = scalar(content, "judged")
    if sets not in (1, 2) or len(vector) % sets:
        raise EngineError("weights to judge that are none", cure="Run the same version of FedFER everywhere.")
    first, last = (vector, vector) if sets == 1 else np.split(vector, 2)
    return Question(plan, number, first, told, last, bool(scalar(content, "prove")), common)


def correction_of(question: Question, content: RecordDict) -> Correction | None:
    """Return what one site is told of control variates, None without SCAFFOLD.

    Raises
    ------
    EngineError : the message does not say when the site's answer was last counted, or says a round that is to come.
    """
    if question.common is None:
        return None
    told = text(content, COUNTED)
    if not told.isdecimal() or int(told) >= question.round_number:
        raise EngineError(
            f"an answer that was counted in round {told[:20]!r}, asked for in round {question.round_number}",
            cure="Run the same version of FedFER everywhere.",
        )
    return Correction(question.common, int(told))


def seen_of(content: RecordDict) -> Head | None:
    """Return where the coordinator saw the site's ledger stand, None where it never did."""
    told = optional_text(content, "ledger")
    return None if told is None else Head.of(told)


def told_of(content: RecordDict) -> Told:
    """Return the public numbers of the round that a message tells, :data:`client.told.NOTHING` where it tells none."""
    text = optional_text(content, "told")
    return NOTHING if text is None else read_told(text, LONGEST)


def _round_of(content: RecordDict, plan: Plan) -> int:
    number = scalar(content, "round")
    if not isinstance(number, int) or not 1 <= number <= plan.server.rounds:
        raise EngineError(
            f"round {number} is none of a plan of {plan.server.rounds}",
            cure="Count rounds from 1 to the last.",
        )
    return number
