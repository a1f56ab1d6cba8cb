"""The Flower ClientApp: a relay between messages and the site's agent."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence

import numpy as np
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from client.agent import Agent, Update, evaluate_sites, train_sites
from client.ledger import Head
from client.mechanisms import to_plain
from client.messages import error_to_wire, optional_text, pack, scalar, text, vector_of
from client.plan import read_plan
from fer_models.errors import EngineError, FedferError

FindAgent = Callable[[Context], Agent]
"""Returns the agent that answers for a node."""


def train(agent: Agent, content: RecordDict) -> RecordDict:
    """Answer a train message: weights, plan and round in; update out."""
    began = time.process_time()
    plan = read_plan(text(content, "plan"))
    told = optional_text(content, "ledger")
    seen = None if told is None else Head.of(told)
    update = agent.train(plan, _round_of(content), vector_of(content, np.float32), seen)
    return _trained(agent, update, time.process_time() - began)


def train_many(agents: Sequence[Agent], content: RecordDict, *, one_pass: bool) -> list[RecordDict]:
    """Answer one train message for several agents of this process, one after the other or in one pass."""
    began = time.process_time()
    plan, number, vector = (
        read_plan(text(content, "plan")),
        _round_of(content),
        vector_of(content, np.float32),
    )
    if one_pass:
        updates = train_sites(agents, plan, number, vector)
    else:
        updates = [agent.train(plan, number, vector) for agent in agents]
    each = (time.process_time() - began) / len(agents)
    return [_trained(agent, update, each) for agent, update in zip(agents, updates, strict=True)]


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
    return RecordDict({"facts": ConfigRecord({"site": agent.name})})


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

    @app.train()
    def _train(message: Message, context: Context) -> Message:
        return relay(train, message, context)

    @app.evaluate()
    def _evaluate(message: Message, context: Context) -> Message:
        return relay(evaluate, message, context)

    return app
