"""Sending messages over any Flower Grid, and reading the replies in the order of the messages."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import islice

from flwr.app import Error, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid

from client.failures import error_from_wire

POLL_SECONDS, LONGEST_PAUSE = 0.05, 0.2
"""Pauses between two looks for replies on a grid that works in other processes; twice as long each time."""

NOT_SENT = Error(ErrorCode.UNKNOWN, "the message could not be sent: the site is no longer known")
"""In place of an answer of a node that the grid does not take messages for."""

WINDOW = 64
"""How many replies are asked for at a time, and how many may wait for their turn."""


def exchange(grid: Grid, messages: Iterable[Message]) -> Iterator[Message]:
    """Send messages and yield the replies in the order of the messages, each as soon as its turn has come.

    Replies that come early wait, no more than a window of them from a grid that hands out only what it is asked
    for; no other reply is kept, so a caller that adds replies up holds a sum and not the replies.
    """
    sent = list(messages)  # all share one vector; Flower's own grid goes through them twice
    order = list(grid.push_messages(sent)) if sent else []
    pending = dict.fromkeys(each for each in order if each is not None)
    early: dict[str, Message] = {}
    pause = POLL_SECONDS
    for identity, message in zip(order, sent, strict=True):
        if identity is None:
            yield Message(NOT_SENT, reply_to=message)
            continue
        while identity not in early:
            wanted = islice(pending, max(1, WINDOW - len(early)))
            replies = list(grid.pull_messages(list(wanted)))
            for reply in replies:
                early[reply.metadata.reply_to_message_id] = reply
                pending.pop(reply.metadata.reply_to_message_id, None)
            if not replies:
                time.sleep(pause)
            pause = POLL_SECONDS if replies else min(2 * pause, LONGEST_PAUSE)
        yield _from(message, early.pop(identity))


def _from(message: Message, reply: Message) -> Message:
    """Return a reply as of the node that was asked: of an error in its place, Flower says that it is its own."""
    if not reply.has_error() or reply.metadata.src_node_id == message.metadata.dst_node_id:
        return reply
    return Message(reply.error, reply_to=message)


def content_of(reply: Message) -> RecordDict:
    """Return what a reply holds.

    Raises
    ------
    FedferError : the site's own, where it sent one.
    """
    if reply.has_error():
        raise error_from_wire(reply.error, f"node {reply.metadata.src_node_id}")
    return reply.content


def to_all(
    sites: Iterable[int], name: str, data: bytes, parts: dict[int, dict[str, bytes]] | None = None
) -> dict[int, dict[str, bytes]]:
    """Return the parts of a message of keys in which every site gets the same, added to ``parts``."""
    parts = {} if parts is None else parts
    for site in sites:
        parts.setdefault(site, {})[name] = data
    return parts
