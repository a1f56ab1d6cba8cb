"""How many messages one process answers in one go, between two looks at the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flwr.app import ArrayRecord, Message, MessageType

from client.evaluation import EVALUATION_BATCH
from server.sessions import WORK

MOST_EVALUATED = 64
"""Sites whose test pictures share batches in evaluation, at most."""

PICTURES = 1024
"""Pictures that the sites of a unit train on: above this, a unit more costs nothing that one would notice."""

UPDATE_BYTES = 1 << 20
"""Bytes of the updates of a unit, at most; they wait in memory until all are there."""

UNITS = 8
"""Units that the messages of a round make at least, so that no worker waits long for another."""


@dataclass(frozen=True)
class Units:
    """Decides how many messages that share type and vector make a unit.

    Sites with few pictures are trained one after the other, and their replies are written and read one after the
    other: code that runs again at once still lies in the processor's caches, which a step of training empties.
    That alone saves up to a tenth of a round of a small net. Sites of a unit also share batches where they evaluate,
    which may change the last bits of an answer; so units do not depend on the number of workers.

    Attributes
    ----------
    train, test : mean pictures of a site.
    together : sites trained in one pass.
    """

    train: float
    test: float
    together: int = 1

    def __call__(self, messages: Sequence[Message]) -> int:
        """Return the size of the units that ``messages`` are cut into."""
        kind = messages[0].metadata.message_type
        if kind in (MessageType.EVALUATE, WORK["evaluate"]):
            return _within(EVALUATION_BATCH / max(1.0, self.test), MOST_EVALUATED)
        if kind not in (MessageType.TRAIN, WORK["train"]):
            return 1
        if self.together > 1:
            return self.together
        most = min(UPDATE_BYTES // _bytes(messages[0]), len(messages) // UNITS)
        return _within(PICTURES / max(1.0, self.train), most)


def _within(wanted: float, most: int) -> int:
    return max(1, min(int(wanted), most))


def _bytes(message: Message) -> int:
    """Return the bytes of a message's arrays, which those of an update equal or fall below."""
    records = [record for record in message.content.values() if isinstance(record, ArrayRecord)]
    return max(1, sum(len(array.data) for record in records for array in record.values()))
