"""How often the coordinator looks for what Flower's grid fetches: the only module of the rounds that reaches into it.

A reply is announced before its parts are there. The grid then looks for a part again after a second, and a round takes
several exchanges.
"""

from __future__ import annotations

import functools
import inspect
from importlib.metadata import version

from fer_models.errors import EngineError

KNOWN = "1.41"
"""The version of Flower whose insides this module was written for."""

SOON, LATEST = 0.02, 1.0
"""Seconds to wait for a part of a reply that a site is still pushing: at first, and at most."""

NAME = "pull_objects"
"""By what the grid fetches the parts of a reply."""


def hurry() -> None:
    """Let this process's grid look for the parts of replies sooner.

    Raises
    ------
    EngineError : Flower is another version, in which this is somewhere else.
    """
    try:
        from flwr.superlink.grid import http_grid

        fetch = getattr(http_grid, NAME)
        if not {"initial_backoff", "backoff_cap"} <= set(inspect.signature(fetch).parameters):
            raise ImportError(f"{NAME} takes no pauses")
        setattr(http_grid, NAME, functools.partial(fetch, initial_backoff=SOON, backoff_cap=LATEST))
    except (ImportError, AttributeError) as error:
        raise EngineError(
            f"Flower {version('flwr')} is not the version that the rounds speak to: {error}",
            where="flwr",
            cure=f"Install flwr {KNOWN}.",
        ) from error
