"""What answers of several sites have in common, whether each is sent as it is or masked."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TypeVar

from flwr.app import RecordDict

from client.agent import Agent, LabelCounts, Update
from client.judging import evaluate_sites
from client.mechanisms import to_plain
from client.one_pass import train_sites
from client.question import Question, correction_of, seen_of
from fer_models.counts import Counts

T = TypeVar("T")


def judged(agents: Sequence[Agent], question: Question) -> Sequence[Counts | None]:
    """Return each site's counts for the weights that a question has evaluated, None where it has none."""
    if question.judged is None:
        return [None] * len(agents)
    return evaluate_sites(agents, question.plan, question.judged, prove=question.prove)


def updates(
    agents: Sequence[Agent],
    contents: Sequence[RecordDict],
    question: Question,
    tried: Callable[[Callable[[], Update]], T],
    *,
    one_pass: bool,
) -> Sequence[Update | T]:
    """Return each site's update.

    Parameters
    ----------
    contents : what each site was sent; only what it says of the site's own ledger may differ.
    tried : calls the work of one site, and says what becomes of an error.
    one_pass : train the sites together (:mod:`client.together`).
    """
    plan, number, vector, told = question.plan, question.round_number, question.vector, question.told
    if one_pass:
        return train_sites(agents, plan, number, vector, told)
    return [
        tried(
            lambda a=agent, c=content: a.train(
                plan, number, vector, seen_of(c), told, correction_of(question, c)
            )
        )
        for agent, content in zip(agents, contents, strict=True)
    ]


def ledger_facts(done: Update | LabelCounts | None) -> dict[str, str]:
    """Return what the site's ledger says with a release, nothing where there was none."""
    if done is None or done.head is None:
        return {}
    return {"history": json.dumps(to_plain(done.history)), "ledger": str(done.head)}
