"""Who shares masks and secrets with whom: everybody with everybody, or in simulation a sparse graph.

The sparse graph is that of Bell et al. 2020 (CCS): a ring of all sites in an order drawn from the offer's seed, each
joined with the k/2 before and after it. Whoever draws the seed could surround a site with friends, so the graph holds
against a coordinator that only looks, and a site that is not simulated refuses it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from fractions import Fraction
from functools import lru_cache
from math import comb

from client.secagg.codec import ids_to_bytes
from client.secagg.terms import least_threshold
from client.secagg.wire import Offer
from fer_models.errors import ConfigError


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
        self._ring = sorted(offer.invited, key=lambda site: _place(offer.seed, site))
        self._at = {site: at for at, site in enumerate(self._ring)}
        self._half = offer.degree // 2
        self._near: dict[int, frozenset[int]] = {}

    def around(self, site: int, members: Iterable[int]) -> tuple[int, ...]:
        """Return those of ``members``, which come in increasing order, that are ``site`` or its neighbours."""
        if self._complete:
            return tuple(members)
        # Worked out when it is asked for: of all neighbourhoods a site needs its own.
        if site not in self._near:
            steps = range(self._at[site] - self._half, self._at[site] + self._half + 1)
            self._near[site] = frozenset(self._ring[at % len(self._ring)] for at in steps)
        return tuple(sorted(self._near[site].intersection(members)))


def _place(seed: bytes, site: int) -> bytes:
    """Return what the ring is sorted by: as good as random without the seed, and the same for all with it."""
    return hashlib.sha256(b"fedfer ring" + seed + ids_to_bytes([site])).digest()


SECURITY, CORRECTNESS = 40, 20
"""Bits by which a session is safe from colluders, and from losing its sum to drop-outs."""


@lru_cache(maxsize=64)
def sparse(sites: int, colluding: float = 0.05, dropping: float = 0.1) -> tuple[int, int]:
    """Return the degree k and the threshold t of a sparse graph: the smallest degree that is safe.

    With probability 1 - 2^-40 over the graph's seed, no site has t colluding neighbours and the honest survivors hang
    together; with probability 1 - 2^-20 every site keeps t neighbours (Bell et al. 2020, section 3, with the tails of
    the hypergeometric distribution worked out exactly). Of what remains connected the coordinator learns the sum.

    Parameters
    ----------
    sites : that are invited.
    colluding, dropping : largest share of the sites that tell the coordinator what they know, and that drop out.

    Raises
    ------
    ConfigError : no degree is safe: too few sites, or too many that collude and drop out.
    """
    bad, gone = int(colluding * sites), int(dropping * sites)
    for degree in range(2, sites - 1, 2):
        if not _connected(sites, bad + gone, degree):
            continue
        others = sites - 1
        least = _quantile(others, bad, degree, Fraction(1, sites << (SECURITY + 1))) + 1
        most = degree - _quantile(others, gone, degree, Fraction(1, sites << CORRECTNESS))
        threshold = max(least, least_threshold(degree + 1, "semi-honest"))
        if threshold <= most:
            return degree, threshold
    raise ConfigError(
        f"no sparse graph of {sites} sites is safe from {bad} that collude and {gone} that drop out",
        where="aggregation.degree",
        cure="Use a complete graph (aggregation.degree=0).",
    )


def _connected(sites: int, missing: int, degree: int) -> bool:
    """Whether the ring stays in one piece but for a chance of 2^-41 when ``missing`` sites go, drawn at random.

    It takes two gaps of k/2 sites to cut it. There are at most n (n - k - 1) / 2 pairs of such gaps, and each is all
    gone with probability C(missing, k) / C(n, k).
    """
    pairs = sites * max(sites - degree - 1, 1)
    return pairs * comb(missing, degree) << SECURITY <= comb(sites, degree)


def _quantile(population: int, marked: int, drawn: int, chance: Fraction) -> int:
    """Return the smallest x with P[H > x] <= chance, H marked ones among ``drawn`` of a population."""
    limit, above = chance * comb(population, drawn), 0
    for x in range(min(marked, drawn), 0, -1):
        above += comb(marked, x) * comb(population - marked, drawn - x)
        if above > limit:
            return x
    return 0
