"""A grid of sites that may be late, or gone: nobody's answer is waited for longer than the coordinator has said.

A message or its answer may also be lost on the way, where the SuperLink is killed just then. So a question that may be
asked again is: the site answers the same question with the same bytes, and the first answer counts.
"""

from __future__ import annotations

import math
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

from client.client_app import REPEATABLE
from client.failures import error_to_wire
from fer_models.errors import ConfigError, EngineError

T = TypeVar("T")

ON_THE_WAY = (ErrorCode.MESSAGE_UNAVAILABLE, ErrorCode.REPLY_MESSAGE_UNAVAILABLE)
"""Flower's codes for a message that the SuperLink no longer knows, or whose answer is incomplete."""

GONE = (ErrorCode.MESSAGE_UNAVAILABLE, ErrorCode.REPLY_MESSAGE_UNAVAILABLE, ErrorCode.NODE_UNAVAILABLE)
"""Flower's codes for a message whose site is not there to answer it."""

LATE: Error = error_to_wire(EngineError("no answer before the deadline", cure="Give more time: --deadline."))
"""In place of an answer that did not come in time."""

MARGIN = 900.0
"""Seconds for which Flower keeps a message longer than it is waited for: the clocks of sites differ."""

SHARE, MOST = 4, 3
"""A question is asked again after one part in so many of its time, twice as long the next time, and so often at most:
a machine that is merely busy gets no more of what it cannot answer quickly.
"""

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


@dataclass
class _Due:
    """A question that is not answered yet.

    Attributes
    ----------
    message : as it was first asked.
    end : when its time is over.
    again, pause : when it is asked again, and how long after that.
    ids : under which it was asked, but for those that are lost.
    tries : how often it was asked.
    """

    message: Message
    end: float
    again: float
    pause: float
    ids: list[str]
    tries: int = 1


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
        self._due: dict[str, _Due] = {}
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
        identities = self._pushed(sent)
        for identity, message in zip(identities, sent, strict=True):
            if identity is None:
                self.away.add(message.metadata.dst_node_id)
            else:
                self._due[identity] = self._waited(identity, message)
        return identities

    def _pushed(self, messages: list[Message]) -> list[str]:
        for message in messages:
            message.metadata.ttl = self.patience.of(message.metadata.message_type) + MARGIN
        return list(_tried(lambda: self._grid.push_messages(messages)))

    def _waited(self, identity: str, message: Message) -> _Due:
        kind, now = message.metadata.message_type, time.monotonic()
        whole = self.patience.of(kind)
        pause = whole / SHARE
        return _Due(message, now + whole, now + pause if kind in REPEATABLE else math.inf, pause, [identity])

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return what has been answered, and an error for what is late."""
        wanted = list(message_ids)
        asked = {
            each: name for name in wanted for each in (self._due[name].ids if name in self._due else [name])
        }
        known, replies = self._due.keys() & wanted, list[Message]()
        for reply in list(_tried(lambda: self._grid.pull_messages(list(asked)))):
            identity = reply.metadata.reply_to_message_id
            name = asked.get(identity, identity)
            if (due := self._due.get(name)) is None:
                if name not in known:  # else it is a second answer
                    replies.append(reply)
            elif not self._asks_again(due, identity, reply):
                del self._due[name]
                if reply.has_error() and reply.error.code in GONE:
                    self.away.add(due.message.metadata.dst_node_id)
                replies.append(_as_to(due.message, reply))
        now = time.monotonic()
        for identity in wanted:
            due = self._due.get(identity)
            if due is not None and due.end <= now:
                del self._due[identity]
                self.away.add(due.message.metadata.dst_node_id)
                replies.append(Message(LATE, reply_to=due.message))
            elif due is not None and due.again <= now:
                self._ask_again(due)
        return replies

    def _asks_again(self, due: _Due, identity: str, reply: Message) -> bool:
        """Whether a reply says that question or answer was lost on the way, and another answer may come."""
        lost = reply.has_error() and reply.error.code in ON_THE_WAY
        if not lost or due.message.metadata.message_type not in REPEATABLE:
            return False
        due.ids.remove(identity)
        if due.ids:
            return True  # what was asked later may still be answered
        if due.tries >= MOST:
            return False
        due.again = 0.0
        return True

    def _ask_again(self, due: _Due) -> None:
        told = due.message.metadata
        copy = Message(due.message.content, told.dst_node_id, told.message_type, group_id=told.group_id)
        due.ids += [each for each in self._pushed([copy]) if each]
        due.tries, due.pause = due.tries + 1, 2 * due.pause
        due.again = time.monotonic() + due.pause if due.tries < MOST else math.inf

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send messages and return all replies."""
        return self._grid.send_and_receive(messages, timeout=timeout)


def _as_to(message: Message, reply: Message) -> Message:
    """Return a reply as one to the message that was asked first."""
    if reply.metadata.reply_to_message_id == message.metadata.message_id:
        return reply
    return Message(reply.error if reply.has_error() else reply.content, reply_to=message)


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
