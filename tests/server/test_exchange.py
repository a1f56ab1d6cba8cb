"""Exchanges over a grid that goes through messages twice, refuses some, and answers errors in its own name."""

import numpy as np
import pytest
from flwr.app import Error, Message
from flwr.clientapp import ClientApp

from client.messages import pack
from fer_models.errors import EngineError
from server.exchange import content_of, exchange
from simulations.grid import LocalGrid


def echo():
    app = ClientApp()

    @app.train()
    def _train(message, context):
        return Message(message.content, reply_to=message)

    return app


class Flowers(LocalGrid):
    """Like Flower's own: looks at all messages before it sends them, knows no node 2, and answers for node 3."""

    def __init__(self):
        super().__init__(echo(), {node: {} for node in range(1, 5)})
        self.pushed = 0

    def push_messages(self, messages):
        assert sum(1 for _ in messages) == sum(1 for _ in messages) > 0
        self.pushed += 1
        kept = [message for message in messages if message.metadata.dst_node_id != 2]
        identities = iter(super().push_messages(kept))
        return [None if message.metadata.dst_node_id == 2 else next(identities) for message in messages]

    def pull_messages(self, message_ids):
        assert None not in list(message_ids)
        replies = super().pull_messages(message_ids)
        return [self._for_flower(reply) if reply.metadata.src_node_id == 3 else reply for reply in replies]

    def _for_flower(self, reply):
        lost = Message(Error(3, "unavailable"), reply_to=reply)
        facts = {"_reply_to_message_id": reply.metadata.reply_to_message_id, "_src_node_id": 1}
        lost.metadata.__dict__.update(facts)
        return lost


def test_each_message_has_its_answer_or_its_error():
    content = pack(np.arange(3, dtype=np.float32), {})
    found = list(exchange(Flowers(), (Message(content, node, "train") for node in (4, 2, 3, 1))))
    assert [reply.metadata.src_node_id for reply in found] == [4, 2, 3, 1]
    assert [reply.has_error() for reply in found] == [False, True, True, False]
    for reply, said in ((found[1], "no longer known"), (found[2], "unavailable")):
        with pytest.raises(EngineError, match=said):
            content_of(reply)


def test_nothing_is_sent_where_there_is_nothing_to_send():
    grid = Flowers()
    assert list(exchange(grid, iter(()))) == []
    assert grid.pushed == 0
