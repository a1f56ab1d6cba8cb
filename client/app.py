"""The Flower ClientApp: a relay between messages and the site's agent."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence

import numpy as np
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from client.agent import Agent, Update, evaluate_sites, train_sites
from client.ledger import Head
from client.mechanisms import to_plain
from client.messages import error_to_wire, optional_text, pack, scalar, tell, text, vector_of
from client.plan import LONGEST, read_plan
from fer_models.errors import EngineError, FedferError

FindAgent = Callable[[Context], Agent]
"""Returns the agent that answers for a node."""


def train(agent: Agent, content: RecordDict) -> RecordDict:
    """Answer a train message: weights, plan and round in; update out."""
    began = time.process_time()
    plan = read_plan(text(content, "plan"))
    vector, prior = vector_of(content, np.float32), prior_of(content)
    update = agent.train(plan, _round_of(content), vector, _seen_of(content), prior)
    return _trained(agent, update, time.process_time() - began)


def train_many(agents: Sequence[Agent], content: RecordDict, *, one_pass: bool) -> list[RecordDict]:
    """Answer one train message for several agents of this process, one after the other or in one pass."""
    began = time.process_time()
    plan, number = read_plan(text(content, "plan")), _round_of(content)
    vector, prior = vector_of(content, np.float32), prior_of(content)
    if one_pass:
        updates = train_sites(agents, plan, number, vector, prior)
    else:
        updates = [agent.train(plan, number, vector, _seen_of(content), prior) for agent in agents]
    each = (time.process_time() - began) / len(agents)
    return [_trained(agent, update, each) for agent, update in zip(agents, updates, strict=True)]


def count_labels(agent: Agent, content: RecordDict) -> RecordDict:
    """Answer a query for label counts: plan in, counts out."""
    found = agent.count_labels(read_plan(text(content, "plan")), _seen_of(content))
    facts: dict[str, str] = {"site": agent.name}
    if found.head is not None:
        facts |= {"history": json.dumps(to_plain(found.history)), "ledger": str(found.head)}
    return pack(found.counts, facts)


def _seen_of(content: RecordDict) -> Head | None:
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


def _trained(agent: Agent, update: Update, cpu_seconds: float) -> RecordDict:
    facts = {"site": agent.name, "weight": update.weight, "visits": update.visits, "loss": update.loss}
    if update.history:
        facts["history"] = json.dumps(to_plain(update.history))
    if update.head is not None:
        facts["ledger"] = str(update.head)
    # Time follows the size of the batches, which a real site keeps to itself.
    return pack(update.delta, {**facts, "cpu_seconds": cpu_seconds if agent.simulated else 0.0})


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
