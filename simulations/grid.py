"""An in-process Flower Grid: the same apps and messages as in a deployment, without a network.

The only module that touches what Flower keeps internal: a task's identity, message ids, and the Run record.
"""

from __future__ import annotations

import itertools
import secrets
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from simulations.workers import Answer, WorkerPool

UNKNOWN_ERROR = 2
"""Flower's code for a ClientApp that raised an exception."""


def take_identity(run_id: int) -> None:
    """Let this process make messages outside a SuperLink."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = run_id, 1, 1


class LocalGrid(Grid):
    """Delivers messages to a ClientApp in this process, or in a pool of worker processes.

    Replies are bit for bit the same for any number of workers: a ClientApp keeps nothing between messages.

    Parameters
    ----------
    app : answers the messages.
    node_configs : node id -> Flower node configuration.
    workers : 1 answers in this process, more in that many processes.
    """

    def __init__(self, app: ClientApp, node_configs: Mapping[int, Mapping[str, Any]], workers: int = 1) -> None:
        run_id = secrets.randbits(62)
        take_identity(run_id)
        self._app, self._configs, self._run = app, node_configs, Run.create_empty(run_id)
        self._numbers = itertools.count(1)
        self._queue: deque[Message] = deque()
        self._pool = WorkerPool(workers, self._start_worker) if workers > 1 else None

    def _start_worker(self) -> Answer:
        take_identity(self._run.run_id)
        return self._answer_head

    def _answer_head(self, head: dict[str, Any]) -> Message:
        message = Message(head["content"], head["to"], head["type"], group_id=head["group"])
        message.metadata.__dict__["_message_id"] = head["id"]
        return self._answer(message)

    def _answer(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        context = Context(self._run.run_id, node, dict(self._configs[node]), RecordDict(), {})
        try:
            return self._app(message, context)
        except Exception as error:  # as Flower does: a failing site is a reply, not a crash of the server
            return Message(Error(UNKNOWN_ERROR, f"{type(error).__name__}: {error}"), reply_to=message)

    def set_run(self, run: Run) -> None:
        """Set the run."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Return a new message."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        """Return the ids of all nodes."""
        return list(self._configs)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Queue messages and return their ids; work begins when replies are asked for."""
        identities = []
        for message in messages:
            identity = str(next(self._numbers))
            message.metadata.__dict__["_message_id"] = identity
            identities.append(identity)
            if self._pool is None:
                self._queue.append(message)
            else:
                self._pool.submit(message)
        return identities

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Work until at least one reply is there, and return what is there; ``message_ids`` is not needed."""
        if self._pool is not None:
            return self._pool.collect()
        return [self._answer(self._queue.popleft())] if self._queue else []

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Send messages and return all replies."""
        missing = set(self.push_messages(messages))
        replies: list[Message] = []
        while missing:
            for reply in self.pull_messages(missing):
                missing.discard(reply.metadata.reply_to_message_id)
                replies.append(reply)
        return replies

    def close(self) -> None:
        """End the workers."""
        if self._pool is not None:
            self._pool.close()
