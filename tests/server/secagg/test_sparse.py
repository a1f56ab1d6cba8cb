"""Sessions on a sparse graph, in simulation."""

import pytest

from client.secagg.graph import sparse
from client.secagg.policy import Policy
from fer_models.errors import SecureAggregationError

from .conftest import World, key, total_of

SIMULATED = Policy(profile="semi-honest", simulated=True)


def ring(sites, **changes):
    degree, threshold = sparse(sites, 0.05, 0.1)
    terms = {
        "profile": "semi-honest",
        "degree": degree,
        "threshold": threshold,
        "ring": key("ring"),
        **changes,
    }
    return World(sites, policy=SIMULATED, **terms)


def test_drop_outs_at_every_exchange():
    world = ring(40)
    done = world.run({1: 0, 8: 1, 17: 2, 30: 3, 33: 4})
    assert done.survivors == tuple(site for site in range(40) if site not in (1, 8, 17))
    assert done.total == total_of([world.bodies[site] for site in done.survivors])
    parcels = len(world.session._view.shares[0].parcels)
    assert parcels <= world.terms.degree < 39


def test_a_site_without_enough_neighbours_leaves():
    """Neighbours of site 0 do not answer the offer: fewer than t are left, and it shares nothing."""
    world = ring(40, least=3)
    near = [site for site in world.session._view.graph.around(0, range(40)) if site]
    gone = set(near[: world.terms.degree + 2 - world.terms.threshold])
    for site in range(40):
        if site not in gone:
            world.session.take_advert(site, world.sites[site].advertise(world.session.offer()))
    with pytest.raises(SecureAggregationError) as found:
        world.sites[0].share(world.session.roll())
    assert found.value.code == "too_few"


def test_shares_that_are_too_few_for_one_owner_end_the_session():
    world = ring(40)
    near = [site for site in world.session._view.graph.around(0, range(40)) if site]
    lost = dict.fromkeys(near[: world.terms.degree + 2 - world.terms.threshold], 4)
    with pytest.raises(SecureAggregationError) as found:
        world.run(lost)
    assert found.value.code == "too_few" and world.session.phase == "aborted"
