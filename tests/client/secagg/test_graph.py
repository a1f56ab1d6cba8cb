"""The sparse graph: a ring, and a degree that is safe by exact tails."""

from dataclasses import replace
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import hypergeom

from client.secagg.graph import CORRECTNESS, SECURITY, Graph, _quantile, sparse
from client.secagg.wire import Offer
from fer_models.errors import ConfigError

ZERO = bytes(32)
OFFER = Offer(
    1, ZERO, "train", 1, "semi-honest", ZERO, ZERO, ZERO, 6, 10, tuple(range(3, 33)), 5, 3, 8, b"s" * 32
)


def test_everybody_is_a_neighbour_in_a_complete_graph():
    assert Graph(replace(OFFER, degree=0)).around(3, (3, 4, 9)) == (3, 4, 9)


def test_a_ring_of_one_piece_with_k_neighbours_each():
    graph, sites = Graph(OFFER), OFFER.invited
    near = {site: set(graph.around(site, sites)) for site in sites}
    assert all(site in near[site] and len(near[site]) == 9 for site in sites)
    assert all((one in near[other]) == (other in near[one]) for one, other in combinations(sites, 2))
    reached, ahead = set(), [3]
    while ahead:
        site = ahead.pop()
        reached.add(site)
        ahead += near[site] - reached
    assert reached == set(sites)
    assert graph.around(3, (3, 4)) == tuple(site for site in (3, 4) if site in near[3])


def test_the_seed_draws_the_ring():
    graphs = [Graph(replace(OFFER, seed=bytes([n]) * 32)) for n in (1, 1, 2)]
    first, same, other = ([g.around(site, OFFER.invited) for site in OFFER.invited] for g in graphs)
    assert first == same != other


def test_known_degrees():
    """For a thousand sites at 40 and 20 bits."""
    assert sparse(1000, 0.05, 0.05) == (30, 17)
    assert sparse(1000, 0.33, 0.33) == (286, 150)


@pytest.mark.parametrize(
    ("sites", "colluding", "dropping"), [(60, 0.05, 0.1), (200, 0.1, 0.1), (1000, 0.1, 0.1)]
)
def test_tails_are_below_what_is_promised(sites, colluding, dropping):
    degree, threshold = sparse(sites, colluding, dropping)
    bad, gone = int(colluding * sites), int(dropping * sites)
    assert sites * hypergeom.sf(threshold - 1, sites - 1, bad, degree) <= 2.0**-SECURITY
    assert sites * hypergeom.sf(degree - threshold, sites - 1, gone, degree) <= 2.0**-CORRECTNESS
    assert degree < sites / 2 or sites < 100


def test_quantiles_by_counting():
    """Against every way to draw three of eight, of which five are marked."""
    drawn = [sum(site < 5 for site in some) for some in combinations(range(8), 3)]
    for chance in np.linspace(0, 1, 40):
        expected = min(x for x in range(4) if sum(d > x for d in drawn) <= Fraction(chance) * len(drawn))
        assert _quantile(8, 5, 3, Fraction(chance)) == expected


def test_few_sites_have_no_sparse_graph():
    with pytest.raises(ConfigError, match="complete graph"):
        sparse(6, 0.5, 0.5)
