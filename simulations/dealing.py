"""How units of rows are dealt to sites.

A unit is a set of rows that must stay together: all pictures of a person, all copies of a picture, or one
row. Every kind of partition is the same deal with other weights: rows belong to strata (classes, groups or
one stratum for everything), and ``weights[k, s]`` says which share of stratum k goes to site s.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fer_models.errors import PartitionError

Counts = NDArray[np.int64]
Weights = NDArray[np.float64]
Rows = NDArray[np.intp]


def deal(strata: Counts, weights: Weights, rng: np.random.Generator) -> Rows:
    """Return the site of every unit, shape (U,).

    Units of one stratum are shuffled and cut in the shares of their stratum (for classes and Dirichlet
    shares this is the recipe of Yurochkin et al. 2019, "Bayesian nonparametric federated learning"). Units
    with rows of several strata come first: each goes to the site that lacks its rows most.

    Parameters
    ----------
    strata : (U, K), rows of each unit in each stratum.
    weights : (K, S), shares of each stratum, not negative; only their ratios count.
    """
    need = strata.sum(0)[:, None] * (weights / weights.sum(1, keepdims=True))
    site = np.full(len(strata), -1, np.intp)
    mixed = np.flatnonzero((strata > 0).sum(1) > 1)
    if len(mixed):
        site[mixed], need = fit(strata[mixed], need, rng)
    for stratum in range(strata.shape[1]):
        units = np.flatnonzero((site < 0) & (strata[:, stratum] > 0))
        site[units] = cut(strata[units, stratum], np.maximum(need[stratum], 0), rng)
    return site


def cut(sizes: Counts, weights: Weights, rng: np.random.Generator) -> Rows:
    """Shuffle units and cut the row of them in the ratios of ``weights``; shape (U,).

    A unit goes where its middle falls, so that a site's rows differ from its share by less than a unit. The
    sites stand in random order, so that rounding favours none of them.
    """
    order, sites = rng.permutation(len(sizes)), rng.permutation(len(weights))
    if weights.any():
        sites = sites[weights[sites] > 0]
        ends = np.cumsum(weights[sites])
    else:
        ends = np.arange(1.0, len(sites) + 1)
    ordered = sizes[order]
    middle = np.cumsum(ordered) - ordered / 2
    place = np.searchsorted(ends * (ordered.sum() / ends[-1]), middle, side="right")
    site = np.empty(len(sizes), np.intp)
    site[order] = sites[np.minimum(place, len(sites) - 1)]
    return site


def fit(strata: Counts, need: Weights, rng: np.random.Generator) -> tuple[Rows, Weights]:
    """Give every unit, large ones first, to the site that lacks its rows most.

    With h the rows of a unit, this takes the site with the largest h . need, which lowers the sum of squares
    of what is lacking most. Returns the sites, shape (U,), and what is still lacking, shape (K, S).
    """
    lacking = np.ascontiguousarray(need.T)
    site = np.empty(len(strata), np.intp)
    shuffled = rng.permutation(len(strata))
    rows = strata.astype(np.float64)
    for unit in shuffled[np.argsort(-strata[shuffled].sum(1), kind="stable")]:
        site[unit] = best = int(np.argmax(lacking @ rows[unit]))
        lacking[best] -= rows[unit]
    return site, lacking.T


def keep_minimum(
    site: Rows, strata: Counts, pools: Rows, minimum: int, rng: np.random.Generator, cure: str
) -> Rows:
    """Move units from the largest sites until every site has ``minimum`` rows; shape (U,).

    A unit moves only between sites of one pool, and no site gives what would leave it below the minimum. Of
    the units that a site can give, the one moves that is most like the rows of the site that gets it.

    Parameters
    ----------
    site : (U,), the sites so far.
    strata : (U, K), rows of each unit in each stratum.
    pools : (S,), the pool of each site.
    cure : what to say when the minimum cannot be kept.

    Raises
    ------
    PartitionError : there are not enough rows, or the units are too large to move.
    """
    sizes = strata.sum(1)
    rows = np.bincount(site, sizes, len(pools)).astype(np.int64)
    if rows.min() >= minimum:
        return site
    site = site.copy()
    held = _held(site, strata, len(pools))
    units = rng.permutation(len(site))
    members = [
        list(part) for part in np.split(units[np.argsort(site[units], kind="stable")], _ends(site, pools))
    ]
    while rows.min() < minimum:
        poor = int(rows.argmin())
        unit = _gift(poor, rows, members, (strata, sizes, held), pools, minimum)
        if unit is None:
            raise PartitionError(
                f"site {poor} has {rows[poor]} training rows and no site can give it more",
                where=f"partition.minimum={minimum}",
                cure=cure,
            )
        rich = int(site[unit])
        members[rich].remove(unit)
        members[poor].append(unit)
        rows[[rich, poor]] += (-sizes[unit], sizes[unit])
        held[rich] -= strata[unit]
        held[poor] += strata[unit]
        site[unit] = poor
    return site


def _held(site: Rows, strata: Counts, sites: int) -> Counts:
    """Return the rows of every stratum at every site, (S, K)."""
    held = np.zeros((sites, strata.shape[1]), np.int64)
    np.add.at(held, site, strata)
    return held


def _ends(site: Rows, pools: Rows) -> Rows:
    """Return where the units of each site but the last end, when units are sorted by site."""
    return np.cumsum(np.bincount(site, minlength=len(pools)))[:-1]


def _gift(
    poor: int,
    rows: Counts,
    members: list[list[int]],
    facts: tuple[Counts, Counts, Counts],
    pools: Rows,
    minimum: int,
) -> int | None:
    """Return a unit of the largest site of the pool that can spare one, or None."""
    strata, sizes, held = facts
    spare = np.where(pools == pools[poor], rows - minimum, 0)
    while (rich := int(spare.argmax())) != poor and spare[rich] > 0:
        candidates = np.array(members[rich], np.intp)
        candidates = candidates[(sizes[candidates] > 0) & (sizes[candidates] <= spare[rich])]
        if len(candidates):
            return int(candidates[np.argmax(strata[candidates] @ held[poor])])
        spare[rich] = 0
    return None
