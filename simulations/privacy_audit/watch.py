"""Stands on the wire where the coordinator stands, and lets an auditor see what it sees: weights out, updates in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from flwr.app import Message, MessageType, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from client.question import Question, read_question


class Witness(Protocol):
    """Is told of every train message and of its answer."""

    def began(self, question: Question) -> None:
        """A round begins, in which all its sites are asked the same."""
        ...

    def saw(self, content: RecordDict) -> None:
        """A site's answer is there."""
        ...

    def ended(self) -> None:
        """All sites of the round have answered."""
        ...


class WatchedGrid(Grid):
    """A grid that passes everything on as it is, and tells a witness of the training.

    Parameters
    ----------
    grid : delivers the messages.
    witness : must not change what it is shown.
    """

    def __init__(self, grid: Grid, witness: Witness) -> None:
        self._grid, self._witness = grid, witness
        self._open = 0

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages."""
        return self._grid.push_messages(self._noted(messages))

    def _noted(self, messages: Iterable[Message]) -> Iterator[Message]:
        for message in messages:
            if message.metadata.message_type == MessageType.TRAIN:
                if not self._open:
                    self._witness.began(read_question(message.content))
                self._open += 1
            yield message

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return the replies that are there."""
        replies = list(self._grid.pull_messages(message_ids))
        for reply in replies:
            if reply.metadata.message_type == MessageType.TRAIN and not reply.has_error():
                self._witness.saw(reply.content)
                self._open -= 1
                if not self._open:
                    self._witness.ended()
        return replies

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Send messages and return all replies, unseen: the coordinator does not train this way."""
        return list(self._grid.send_and_receive(messages, timeout=timeout))

    def set_run(self, run: Run) -> None:
        """Set the run."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """The run."""
        return self._grid.run

    def create_message(self, *arguments: Any, **options: Any) -> Message:
        """Return a new message."""
        return self._grid.create_message(*arguments, **options)

    def get_node_ids(self) -> list[int]:
        """Return the ids of all nodes."""
        return list(self._grid.get_node_ids())
