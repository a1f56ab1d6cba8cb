"""The Flower ClientApp: a relay between messages and the site's agent."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence

import numpy as np
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from client.agent import Agent, Update, evaluate_sites, train_sites
from client.mechanisms import to_plain
from client.messages import error_to_wire, pack, pack_parts, scalar, tell, text, vector_of
from client.plan import Plan, read_plan
from client.question import read_question, seen_of
from fer_models.counts import Counts
from fer_models.errors import FedferError, PrivacyError

FindAgent = Callable[[Context], Agent]
"""Returns the agent that answers for a node."""


def train(agent: Agent, content: RecordDict) -> RecordDict:
    """Answer a train message: weights, plan and round in; update out, and counts where it asks for an evaluation."""
    return train_many([agent], [content], one_pass=False)[0]


def train_many(
    agents: Sequence[Agent], contents: Sequence[RecordDict], *, one_pass: bool
) -> list[RecordDict]:
    """Answer a train message for several agents of this process, one after the other or in one pass.

    The messages ask the same of all; only what each is told of its own ledger may differ.
    """
    began = time.process_time()
    question = read_question(contents[0])
    _require_plain(question.plan)
    plan, number, vector, prior = question.plan, question.round_number, question.vector, question.prior
    counts: Sequence[Counts | None] = [None] * len(agents)
    if question.judged is not None:
        counts = evaluate_sites(agents, plan, question.judged, prove=question.prove)
    if one_pass:
        updates = train_sites(agents, plan, number, vector, prior)
    else:
        seen = [seen_of(content) for content in contents]
        updates = [a.train(plan, number, vector, head, prior) for a, head in zip(agents, seen, strict=True)]
    each = (time.process_time() - began) / len(agents)
    done = zip(agents, updates, counts, strict=True)
    return [_trained(agent, update, counted, each) for agent, update, counted in done]


def _require_plain(plan: Plan) -> None:
    """Refuse a question in plain about a plan that promises secure aggregation: its answer is masked, or none.

    Raises
    ------
    PrivacyError : the plan promises it.
    """
    if plan.aggregation == "secure":
        raise PrivacyError(
            "the plan promises secure aggregation, and this question would show the coordinator the site's own answer",
            where="aggregation",
            cure="Ask in a session of secure aggregation, or plan aggregation=plain.",
        )


def count_labels(agent: Agent, content: RecordDict) -> RecordDict:
    """Answer a query for label counts: plan in, counts out."""
    plan = read_plan(text(content, "plan"))
    _require_plain(plan)
    found = agent.count_labels(plan, seen_of(content))
    facts: dict[str, str] = {"site": agent.name}
    if found.head is not None:
        facts |= {"history": json.dumps(to_plain(found.history)), "ledger": str(found.head)}
    return pack(found.counts, facts)


def _trained(agent: Agent, update: Update, counts: Counts | None, cpu_seconds: float) -> RecordDict:
    facts = {"site": agent.name, "weight": update.weight, "visits": update.visits, "loss": update.loss}
    if update.history:
        facts["history"] = json.dumps(to_plain(update.history))
    if update.head is not None:
        facts["ledger"] = str(update.head)
    # Time follows the size of the batches, which a real site keeps to itself.
    facts["cpu_seconds"] = cpu_seconds if agent.simulated else 0.0
    return (
        pack(update.delta, facts) if counts is None else pack_parts([update.delta, counts.to_vector()], facts)
    )


def name(agent: Agent, content: RecordDict) -> RecordDict:  # noqa: ARG001 - an answer like the others
    """Answer a query: the site's name out."""
    return tell({"site": agent.name})


def evaluate(agent: Agent, content: RecordDict) -> RecordDict:
    """Answer an evaluate message: weights and plan in; counts out."""
    return evaluate_many([agent], content)[0]


def evaluate_many(agents: Sequence[Agent], content: RecordDict) -> list[RecordDict]:
    """Answer one evaluate message for several agents of this process, on full batches."""
    began = time.process_time()
    plan = read_plan(text(content, "plan"))
    _require_plain(plan)
    prove = bool(scalar(content, "prove"))
    counts = evaluate_sites(agents, plan, vector_of(content, np.float32), prove=prove)
    each = (time.process_time() - began) / len(agents)
    return [
        pack(found.to_vector(), {"site": agent.name, "cpu_seconds": each})
        for agent, found in zip(agents, counts, strict=True)
    ]


def make_app(find_agent: FindAgent) -> ClientApp:
    """Return a ClientApp that relays to the agent of each node."""
    app = ClientApp()

    def relay(
        answer: Callable[[Agent, RecordDict], RecordDict], message: Message, context: Context
    ) -> Message:
        try:
            return Message(answer(find_agent(context), message.content), reply_to=message)
        except FedferError as error:
            return Message(error_to_wire(error), reply_to=message)

    @app.query()
    def _query(message: Message, context: Context) -> Message:
        return relay(name, message, context)

    @app.query("label_counts")
    def _count(message: Message, context: Context) -> Message:
        return relay(count_labels, message, context)

    @app.train()
    def _train(message: Message, context: Context) -> Message:
        return relay(train, message, context)

    @app.evaluate()
    def _evaluate(message: Message, context: Context) -> Message:
        return relay(evaluate, message, context)

    return app
