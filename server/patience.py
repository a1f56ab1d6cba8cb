"""A grid of sites that may be late, or gone: nobody's answer is waited for longer than the coordinator has said."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import httpx
from flwr.app import Error, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from client.failures import error_to_wire
from fer_models.errors import ConfigError, EngineError

T = TypeVar("T")

GONE = (ErrorCode.MESSAGE_UNAVAILABLE, ErrorCode.REPLY_MESSAGE_UNAVAILABLE, ErrorCode.NODE_UNAVAILABLE)
"""Flower's codes for a message whose site is not there to answer it."""

LATE: Error = error_to_wire(EngineError("no answer before the deadline", cure="Give more time: --deadline."))
"""In place of an answer that did not come in time."""

MARGIN = 900.0
"""Seconds for which Flower keeps a message longer than it is waited for: the clocks of sites differ."""

TRIES, PAUSE = 20, 0.5
"""How often, and after how many seconds, the SuperLink is asked again whose database was locked."""


@dataclass(frozen=True)
class Patience:
    """How long the coordinator waits, and with how many sites it goes on.

    Attributes
    ----------
    deadline : seconds for an answer to a question that is work: training, evaluation, counts.
    keys : seconds for an answer that is none, such as an exchange of keys; never more than ``deadline``.
    quorum : sites without which no round begins, 0 for what the plan needs.
    """

    deadline: float = 3600.0
    keys: float = 120.0
    quorum: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.deadline <= 86400 or self.quorum < 0:
            raise ConfigError(
                f"a deadline of {self.deadline:g} seconds and a quorum of {self.quorum} sites",
                where="--deadline, --quorum",
                cure="Give a deadline of up to 86400 seconds, and no negative quorum.",
            )

    def of(self, kind: str) -> float:
        """Return the seconds for an answer to a message of some type."""
        return min(self.keys, self.deadline) if kind in ("query", "query.secure") else self.deadline


class PatientGrid(Grid):
    """A grid that answers by an error in the place of a site that is late.

    Parameters
    ----------
    grid : does the work.
    patience : how long is waited.

    Attributes
    ----------
    away : nodes that were late, or gone, when they were last asked.
    """

    def __init__(self, grid: Grid, patience: Patience) -> None:
        self._grid, self.patience = grid, patience
        self._due: dict[str, tuple[Message, float]] = {}
        self.away: set[int] = set()

    def set_run(self, run: Run) -> None:
        """Set the run."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """The run."""
        return self._grid.run

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
        """Return the numbers of the nodes that are there."""
        return [each.node_id for each in self.get_nodes()]

    def get_nodes(self) -> list[NodeInfo]:
        """Return the nodes that are there."""
        return list(_tried(self._grid.get_nodes))

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Send messages, and return their ids."""
        sent = list(messages)
        for message in sent:
            message.metadata.ttl = self.patience.of(message.metadata.message_type) + MARGIN
        identities, now = list(_tried(lambda: self._grid.push_messages(sent))), time.monotonic()
        for identity, message in zip(identities, sent, strict=True):
            if identity is None:
                self.away.add(message.metadata.dst_node_id)
            else:
                self._due[identity] = message, now + self.patience.of(message.metadata.message_type)
        return identities

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return what has been answered, and an error for what is late."""
        wanted = list(message_ids)
        replies = list(_tried(lambda: self._grid.pull_messages(wanted)))
        for reply in replies:
            due = self._due.pop(reply.metadata.reply_to_message_id, None)
            if due is not None and reply.has_error() and reply.error.code in GONE:
                self.away.add(due[0].metadata.dst_node_id)
        now = time.monotonic()
        for identity in wanted:
            message, end = self._due.get(identity, (None, now))
            if message is not None and end <= now:
                del self._due[identity]
                self.away.add(message.metadata.dst_node_id)
                replies.append(Message(LATE, reply_to=message))
        return replies

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send messages and return all replies."""
        return self._grid.send_and_receive(messages, timeout=timeout)


def _tried(work: Callable[[], T]) -> T:
    """Return what the SuperLink answers, which says 500 where its database is locked."""
    for _ in range(TRIES):
        try:
            return work()
        except httpx.HTTPStatusError as error:
            if error.response.status_code < httpx.codes.INTERNAL_SERVER_ERROR:
                raise
            time.sleep(PAUSE)
    return work()
