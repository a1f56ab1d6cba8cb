"""Signing what a coordinator asks: every message that holds a plan also holds the coordinator's signature under it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from flwr.app import Message
from flwr.serverapp import Grid

from client.messages import facts_of, with_fact
from client.plan_signature import SIGNED


class SignedGrid:
    """A grid that signs; all but sending is the other grid's.

    Parameters
    ----------
    grid : carries the messages.
    signature : under the one plan that they are about, see :func:`client.plan_signature.sign_plan`.
    """

    def __init__(self, grid: Grid, signature: str) -> None:
        self._grid, self._signature = grid, signature

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str | None]:
        """Send messages, each with the signature."""
        sent = list(messages)
        for each in sent:
            if "plan" in facts_of(each.content):
                each.content = with_fact(each.content, SIGNED, self._signature)
        return self._grid.push_messages(sent)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._grid, name)


def signed(grid: Grid, signature: str) -> Grid:
    """Return a grid that signs every message with a plan."""
    return cast("Grid", SignedGrid(grid, signature))
