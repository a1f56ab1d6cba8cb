"""The Flower ClientApp: a relay between messages and the site's agent."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from client.agent import Agent
from client.messages import error_to_wire, pack, scalar, text, vector_of
from client.plan import read_plan
from fer_models.errors import FedferError

FindAgent = Callable[[Context], Agent]
"""Returns the agent that answers for a node."""


def train(agent: Agent, content: RecordDict) -> RecordDict:
    """Answer a train message: weights, plan and round in; update out."""
    began = time.process_time()
    plan = read_plan(text(content, "plan"))
    update = agent.train(plan, int(scalar(content, "round")), vector_of(content, np.float32))
    scalars: dict[str, int | float] = {"weight": update.weight, "visits": update.visits, "loss": update.loss}
    if update.epsilon is not None:
        scalars["epsilon"] = update.epsilon
    scalars["cpu_seconds"] = time.process_time() - began
    return pack(update.delta, scalars, {"site": agent.name})


def evaluate(agent: Agent, content: RecordDict) -> RecordDict:
    """Answer an evaluate message: weights and plan in; counts out."""
    began = time.process_time()
    plan = read_plan(text(content, "plan"))
    prove = bool(scalar(content, "prove"))
    counts = agent.evaluate(plan, vector_of(content, np.float32), prove=prove)
    return pack(counts.to_vector(), {"cpu_seconds": time.process_time() - began}, {"site": agent.name})


def make_app(find_agent: FindAgent) -> ClientApp:
    """Return a ClientApp that relays to the agent of each node."""
    app = ClientApp()

    def relay(answer: Callable[[Agent, RecordDict], RecordDict], message: Message, context: Context) -> Message:
        try:
            return Message(answer(find_agent(context), message.content), reply_to=message)
        except FedferError as error:
            return Message(error_to_wire(error), reply_to=message)

    @app.query()
    def _query(message: Message, context: Context) -> Message:
        return Message(RecordDict({"texts": ConfigRecord({"site": find_agent(context).name})}), reply_to=message)

    @app.train()
    def _train(message: Message, context: Context) -> Message:
        return relay(train, message, context)

    @app.evaluate()
    def _evaluate(message: Message, context: Context) -> Message:
        return relay(evaluate, message, context)

    return app
