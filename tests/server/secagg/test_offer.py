"""What a site refuses of an offer."""

from dataclasses import replace

import pytest

from client.secagg.policy import Policy
from client.secagg.wire import Offer

from .conftest import World, key, refused


@pytest.mark.parametrize("name", ["run", "plan", "layout", "roster", "purpose", "words64", "words32"])
def test_an_offer_that_is_not_what_the_site_works_out(until, name):
    steps = until(0)
    other = {"purpose": "evaluate", "words64": 4, "words32": 11}.get(name, key("other"))
    refused("wrong_offer", steps.me.advertise, replace(steps.world.terms, **{name: other}).encode())
    steps.me.advertise(steps.world.terms.encode())


@pytest.mark.parametrize(
    "terms", [{"threshold": 3}, {"threshold": 5}, {"least": 4}, {"profile": "semi-honest"}]
)
def test_an_offer_whose_terms_are_not_the_plans(until, terms):
    steps = until(0)
    refused("wrong_offer", steps.me.advertise, replace(steps.world.terms, **terms).encode())


def test_an_offer_to_more_sites_than_the_plan_bounds(until):
    steps = until(0)
    wider = replace(steps.world.terms, invited=tuple(range(6)))
    assert "6 sites" in str(refused("wrong_offer", steps.me.advertise, wider.encode()))


def test_an_offer_below_the_floors(until):
    # The plan itself asks for less than the site lets be asked.
    refused("below_floor", until(0, policy=Policy(colluders=1)).me.advertise, World(5).terms.encode())
    strict, terms = Policy(), World(5, threshold=3, profile="semi-honest").terms
    refused(
        "below_floor",
        until(0, policy=strict, threshold=3, profile="semi-honest").me.advertise,
        terms.encode(),
    )
    lenient = Policy(profile="semi-honest")
    steps = until(0, policy=lenient, threshold=3, profile="semi-honest")
    steps.me.advertise(terms.encode())


def test_colluders_raise_the_floor_of_the_threshold():
    """With seven sites of which two collude, five are not enough: twice five less two is more than five honest ones."""
    policy = Policy(colluders=2)
    for threshold, good in ((5, True), (4, False)):
        terms = replace(World(7).terms, threshold=threshold, least=5)
        if good:
            policy.check(terms)
        else:
            refused("below_floor", policy.check, terms)
    refused("below_floor", Policy(colluders=4).check, replace(World(7).terms, threshold=5, least=7))
    Policy(colluders=4).check(replace(World(7).terms, threshold=6, least=7))


def test_an_offer_that_does_not_invite_the_site(until):
    steps = until(0)
    refused("not_invited", steps.me.advertise, replace(steps.world.terms, invited=(0, 1, 3, 4)).encode())


def test_a_complete_graph_of_too_many_sites():
    everybody = tuple(range(201))
    refused("below_floor", Policy().check, replace(World(3).terms, invited=everybody, threshold=135))
    Policy().check(replace(World(3).terms, invited=everybody[:200], threshold=134))


def test_a_sparse_graph_is_for_simulations(until):
    sparse = {"degree": 4, "ring": key("ring"), "profile": "semi-honest", "threshold": 3}
    steps = until(0, sites=7, policy=Policy(profile="semi-honest"), **sparse)
    refused("simulation_only", steps.me.advertise, steps.world.terms.encode())


def test_offers_that_cannot_be():
    terms = World(5).terms
    for changes in (
        {"threshold": 6}, {"least": 6}, {"threshold": 0}, {"degree": 3}, {"seed": key("seed")},
        {"degree": 2, "profile": "malicious"},
    ):  # fmt: skip
        refused("malformed", Offer.parse, replace(terms, **changes).encode())
    for changes in ({"words64": 0, "words32": 0}, {"words32": 1 << 29}):
        refused("oversize", Offer.parse, replace(terms, **changes).encode())
