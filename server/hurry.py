"""How often the coordinator looks for what Flower's grid fetches: the only module of the rounds that reaches into it.

A reply is announced before its parts are there. The grid then looks for a part again after a second, and a round takes
several exchanges; and where the site dies in between, it looks for three minutes, whatever other sites have to say.
"""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable

from client.versions import other_flower

SOON, LATEST = 0.02, 1.0
"""Seconds to wait for a part of a reply that a site is still pushing: at first, and at most."""

STALLED = 60.0
"""Seconds without a part of a reply after which it is given up. A site that comes back sooner sends what is missing."""

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
        setattr(http_grid, NAME, functools.partial(_fetched, fetch))
    except (ImportError, AttributeError) as error:
        raise other_flower("the rounds speak to", error) from error


def _fetched(
    fetch: Callable[..., dict[str, bytes]], object_ids: list[str], pull_object_fn: Callable[[str], bytes]
) -> dict[str, bytes]:
    """Return the parts of a reply, by name, as Flower's own function does, but for the pauses and its patience."""
    from flwr.supercore.inflatable.inflatable_utils import ObjectPullError, ObjectUnavailableError

    heard = [time.monotonic()]

    def pulled(name: str) -> bytes:
        try:
            part = pull_object_fn(name)
        except ObjectUnavailableError:
            if time.monotonic() - heard[0] > STALLED:
                raise ObjectPullError(name, f"no part of the reply came for {STALLED:.0f} seconds") from None
            raise
        heard[0] = time.monotonic()
        return part

    return fetch(object_ids, pulled, initial_backoff=SOON, backoff_cap=LATEST, max_tries_per_object=None)
