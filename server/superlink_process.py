"""Flower's SuperLink without what no study needs, in a process of its own: the only module that reaches into it.

::

    python -m server.superlink_process --host 127.0.0.1 --port 9444 ...     as flower-superlink takes them

A secure round of three sites asks the SuperLink some two hundred times, mostly for parts of messages, and one process
answers them one after the other: what it does for each is what a round takes. By itself it hands every request through
layers that are for another of its interfaces, adds up traffic that nobody reads, and looks several times a request for
processes of rounds that gave no sign of life.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from importlib import import_module
from typing import Any

from client.versions import other_flower
from fer_models.errors import EngineError

CONTROL, FLEET = "/v1/control/", "/v1/fleet/"
"""Beginnings of the paths of two interfaces."""

LAYERS: Mapping[str, tuple[str, ...]] = {
    "flwr.superlink.routers.control.middlewares": (
        "ControlSensitiveResponseMiddleware", "ControlAuthenticationMiddleware", "ControlLicenseMiddleware",
        "ControlEventLogMiddleware",
    ),
    # Without an event log and without tracing, as here, these two hand everything on.
    "flwr.superlink.routers.fleet.middlewares": ("FleetEventLogMiddleware",),
    "flwr.supercore.routers.runtime.tracing": ("RuntimeTracingMiddleware",),
}  # fmt: skip
"""Module -> layers that requests of the control interface alone are to go through."""

AUTHENTICATION = "flwr.superlink.routers.fleet.node_auth", "NodeAuthMiddleware"
"""The layer that looks at signatures of sites; it is for the fleet interface, and lets all others pass."""

STATE = "flwr.server.superlink.linkstate.sql_linkstate", "SqlLinkState"
"""What keeps the SuperLink's state."""

SUMS = ("store_traffic", "add_clientapp_runtime")
"""What adds up bytes and seconds, a transaction each time, for a bill that nobody gets."""

DEATHS, BETWEEN = "_cleanup_expired_task_tokens", 1.0
"""What looks for processes of rounds without a sign of life, and the seconds between two looks."""

Layer = Callable[[Any, Any, Any, Any], Awaitable[None]]


def lighten() -> None:
    """Let this process's SuperLink leave out what no study needs.

    Raises
    ------
    EngineError : Flower is another version, in which this is somewhere else.
    """
    try:
        for module, names in LAYERS.items():
            for name in names:
                _keep_to(CONTROL, getattr(import_module(module), name))
        _keep_to(FLEET, getattr(import_module(AUTHENTICATION[0]), AUTHENTICATION[1]))
        state = getattr(import_module(STATE[0]), STATE[1])
        for name in SUMS:
            if not callable(getattr(state, name)):
                raise ImportError(f"{name} is none")
            setattr(state, name, _nothing)
        setattr(state, DEATHS, _seldom(getattr(state, DEATHS)))
    except (ImportError, AttributeError) as error:
        raise other_flower("the server runs", error) from error


def _keep_to(beginning: str, layer: type) -> None:
    """Let requests whose path begins otherwise pass a layer by."""
    within: Layer = layer.__call__

    async def passing(self: Any, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and not scope["path"].startswith(beginning):
            await self.app(scope, receive, send)
        else:
            await within(self, scope, receive, send)

    layer.__call__ = passing


def _nothing(*_: Any, **__: Any) -> None:
    """Do nothing, in the place of what adds up."""


def _seldom(work: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return a method that works at most once in a while."""
    last = [-BETWEEN]

    def seldom(self: Any) -> None:
        now = time.monotonic()
        if now - last[0] >= BETWEEN:
            last[0] = now
            work(self)

    return seldom


def main() -> int:
    """Run the SuperLink with this process's arguments until it is ended, and return an exit code."""
    try:
        lighten()
    except EngineError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    from flwr.superlink.cli.flower_superlink import flower_superlink

    flower_superlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
