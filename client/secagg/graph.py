"""Who shares masks and secrets with whom: everybody with everybody, or in simulation a sparse graph.

The sparse graph is that of Bell et al. 2020 (CCS): a ring of all sites in an order drawn from the offer's seed, each
joined with the k/2 before and after it. Whoever draws the seed could surround a site with friends, so the graph holds
against a coordinator that only looks, and a site that is not simulated refuses it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from client.secagg.codec import ids_to_bytes
from client.secagg.wire import Offer


class Graph:
    """The neighbours of every invited site.

    Parameters
    ----------
    offer : names the sites, the degree k and the seed.
    """

    def __init__(self, offer: Offer) -> None:
        self._complete = not offer.degree
        if self._complete:
            return
        ring = sorted(offer.invited, key=lambda site: _place(offer.seed, site))
        count, half = len(ring), offer.degree // 2
        self._near = {
            site: frozenset(ring[(at + step) % count] for step in range(-half, half + 1))
            for at, site in enumerate(ring)
        }

    def around(self, site: int, members: Iterable[int]) -> tuple[int, ...]:
        """Return the members that are ``site`` or its neighbours, in the members' order."""
        if self._complete:
            return tuple(members)
        near = self._near[site]
        return tuple(member for member in members if member in near)


def _place(seed: bytes, site: int) -> bytes:
    """Return what the ring is sorted by: as good as random without the seed, and the same for all with it."""
    return hashlib.sha256(b"fedfer ring" + seed + ids_to_bytes([site])).digest()
