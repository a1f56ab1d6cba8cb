"""Sites that fail: messages of secure aggregation that get lost, drawn from the run's seed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from flwr.app import Error, Message
from flwr.common.constant import ErrorCode

from server.post import KEYS
from server.sessions import WORK

LOST = Error(ErrorCode.NODE_UNAVAILABLE, "the site dropped out (engine.dropout)")
"""What comes in place of an answer that was lost."""


@dataclass(frozen=True)
class Dropouts:
    """Loses messages to sites in secure aggregation, each with the same probability; Flower's grid would time out.

    A message that is lost is never answered: its site has dropped out of the session that the message belongs to, at
    whatever exchange that was. The same messages are lost on any number of workers, and again when a run is resumed.

    Attributes
    ----------
    share : probability, 0 to 1.
    seed : of the draw.
    """

    share: float
    seed: int

    def __call__(self, message: Message) -> bool:
        """Whether a message is lost."""
        meta = message.metadata
        if not self.share or meta.message_type not in (KEYS, *WORK.values()):
            return False
        drawn = f"fedfer dropouts|{self.seed}|{meta.dst_node_id}|{meta.message_type}|{meta.group_id}"
        return int.from_bytes(hashlib.sha256(drawn.encode()).digest()[:8], "little") < self.share * 2**64
