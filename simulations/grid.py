"""An in-process Flower Grid: the same apps and messages as in a deployment, without a network.

The only module that touches what Flower keeps internal: a task's identity, message ids, and the Run record.
"""

from __future__ import annotations

import itertools
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from client.failures import error_to_wire
from fer_models.errors import FedferError
from simulations.faults import LOST
from simulations.workers import Answer, WorkerPool

UNKNOWN_ERROR = 2
"""Flower's code for a ClientApp that raised an exception."""


class Pool(Protocol):
    """Processes that answer units of messages."""

    def submit(self, unit: list[Message]) -> None:
        """Queue a unit of messages."""

    def collect(self) -> list[Message]:
        """Wait until at least one reply is there, and return the replies; none where nothing is asked."""
        ...

    def close(self) -> None:
        """End the processes."""


Together = Callable[[str, list[Context], list[RecordDict]], Sequence[RecordDict | FedferError]]
"""Message type, contexts of several nodes, what each is sent -> one answer each, or the error of that node alone."""


def _failure(error: Exception) -> Error:
    return Error(UNKNOWN_ERROR, f"{type(error).__name__}: {error}")


def _alike(message: Message) -> tuple[str, int]:
    """Return what messages that may make a unit have in common: their type, and the very same vector or content."""
    return message.metadata.message_type, id(message.content.get("vector", message.content))


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
    together : answers a unit of several messages at once; a failure falls to all of the unit.
    lost : whether a message gets lost; an error comes in place of its answer.
    pool : answers the messages elsewhere, in place of ``workers``.
    units : given all messages in a row that share type and vector, returns how many of them make a unit.
    """

    def __init__(
        self,
        app: ClientApp,
        node_configs: Mapping[int, Mapping[str, Any]],
        workers: int = 1,
        *,
        together: Together | None = None,
        units: Callable[[Sequence[Message]], int] = lambda _: 1,
        lost: Callable[[Message], bool] = lambda _: False,
        pool: Pool | None = None,
    ) -> None:
        run_id = secrets.randbits(62)
        take_identity(run_id)
        self._app, self._configs, self._run = app, node_configs, Run.create_empty(run_id)
        self._together, self._units, self._lost = together, units, lost
        self._failed: list[Message] = []
        self._numbers = itertools.count(1)
        self._queue: deque[list[Message]] = deque()
        self._pool = pool or (WorkerPool(workers, self.answerer) if workers > 1 else None)

    def answerer(self) -> Answer:
        """Return what answers a unit of messages in this process, whichever that is, from their heads."""
        take_identity(self._run.run_id)
        return lambda heads: self._answer_unit([self._message(head) for head in heads])

    def _message(self, head: dict[str, Any]) -> Message:
        message = Message(head["content"], head["to"], head["type"], group_id=head["group"])
        message.metadata.__dict__["_message_id"] = head["id"]
        return message

    def _answer_unit(self, unit: list[Message]) -> list[Message]:
        if len(unit) == 1 or self._together is None:
            return [self._answer(message) for message in unit]
        contexts, contents = [self._context(message) for message in unit], [m.content for m in unit]
        try:
            answers = self._together(unit[0].metadata.message_type, contexts, contents)
        except FedferError as error:
            return [Message(error_to_wire(error), reply_to=message) for message in unit]
        except Exception as error:
            return [Message(_failure(error), reply_to=message) for message in unit]
        whole = [error_to_wire(each) if isinstance(each, FedferError) else each for each in answers]
        return [Message(answer, reply_to=message) for answer, message in zip(whole, unit, strict=True)]

    def _context(self, message: Message) -> Context:
        node = message.metadata.dst_node_id
        return Context(self._run.run_id, node, dict(self._configs[node]), RecordDict(), {})

    def _answer(self, message: Message) -> Message:
        try:
            return self._app(message, self._context(message))
        except Exception as error:  # as Flower does: a failing site is a reply, not a crash of the server
            return Message(_failure(error), reply_to=message)

    def set_run(self, run: Run) -> None:
        """Set the run."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Return a new message."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        """Return the ids of all nodes."""
        return list(self._configs)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Queue messages and return their ids; work begins when replies are asked for."""
        identities = []
        for _, group in itertools.groupby(messages, key=_alike):
            alike = list(group)
            for message in alike:
                message.metadata.__dict__["_message_id"] = str(next(self._numbers))
                identities.append(message.metadata.message_id)
            flags = [self._lost(message) for message in alike]
            arriving = [message for message, lost in zip(alike, flags, strict=True) if not lost]
            self._failed += [Message(LOST, reply_to=m) for m, lost in zip(alike, flags, strict=True) if lost]
            size = self._units(alike)
            for start in range(0, len(arriving), size):
                self._submit(arriving[start : start + size])
        return identities

    def _submit(self, unit: list[Message]) -> None:
        if self._pool is None:
            self._queue.append(unit)
        else:
            self._pool.submit(unit)

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:  # noqa: ARG002 - Flower's signature
        """Work until at least one reply is there, and return what is there; ``message_ids`` is not needed."""
        if self._failed:
            failed, self._failed = self._failed, []
            return failed
        if self._pool is not None:
            return self._pool.collect()
        return self._answer_unit(self._queue.popleft()) if self._queue else []

    def send_and_receive(  # a timeout has no meaning where the work is done while waiting
        self,
        messages: Iterable[Message],
        *,
        timeout: float | None = None,  # noqa: ARG002 - Flower's signature
    ) -> list[Message]:
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
