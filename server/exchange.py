"""Sending messages over any Flower Grid, and reading the replies in the order of the messages."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import islice

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from client.failures import error_from_wire

POLL_SECONDS = 0.02
"""Pause between two looks for replies on a grid that works in other processes."""

WINDOW = 64
"""How many replies are asked for at a time, and how many may wait for their turn."""


def exchange(grid: Grid, messages: Iterable[Message]) -> Iterator[Message]:
    """Send messages and yield the replies in the order of the messages, each as soon as its turn has come.

    Replies that come early wait, no more than a window of them from a grid that hands out only what it is asked
    for; nothing else is kept, so a caller that adds replies up holds a sum and not the replies.
    """
    order = list(grid.push_messages(messages))
    pending = dict.fromkeys(order)
    early: dict[str, Message] = {}
    for identity in order:
        while identity not in early:
            wanted = islice(pending, max(1, WINDOW - len(early)))
            replies = list(grid.pull_messages(list(wanted)))
            for reply in replies:
                early[reply.metadata.reply_to_message_id] = reply
                pending.pop(reply.metadata.reply_to_message_id, None)
            if not replies:
                time.sleep(POLL_SECONDS)
        yield early.pop(identity)


def content_of(reply: Message) -> RecordDict:
    """Return what a reply holds.

    Raises
    ------
    FedferError : the site's own, where it sent one.
    """
    if reply.has_error():
        raise error_from_wire(reply.error, f"node {reply.metadata.src_node_id}")
    return reply.content
