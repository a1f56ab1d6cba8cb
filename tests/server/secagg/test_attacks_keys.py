"""Attacks on masks, keys, threshold and ring: each works against a weak protocol and fails here."""

import base64
from dataclasses import replace

import numpy as np
import pytest
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    parameters_addition,
    parameters_mod,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.quantization import quantize
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen

from client.identity import Identity
from client.secagg import statements
from client.secagg.agreement import derive, exchanger, open_sealed
from client.secagg.encoding import Layout, Segment
from client.secagg.policy import Policy
from client.secagg.shamir import SHARE
from client.secagg.statements import mask_info
from client.secagg.terms import Secure
from client.secagg.wire import Advert, Masked, Offer, Roll
from fer_models.errors import ConfigError

from . import weak
from .conftest import QUESTION, Steps, World, key, refused

# 1. Masks from seeds of 28 bits

SEARCHED = 1 << 12
"""Seeds that the attack of a test tries, of Flower's 2^28: all of them take some 65,000 times as long."""

IN_REACH = key("pair", 78604)
"""A secret of two sites whose seed is among those."""

FLOWER = (1 << 32, [(weak.NUMBERS,)])


def folded(secret):
    """The seed of a pair's mask in Flower's SecAgg+: the 44 letters of its key, folded to 32 bits."""
    return int(np.bitwise_xor.reduce(np.frombuffer(base64.urlsafe_b64encode(secret), "<u4")))


def flower_mask(secret):
    return pseudo_rand_gen(base64.urlsafe_b64encode(secret), *FLOWER)


def searched(masked):
    """The update under one mask, found by trying seeds until what is left is small everywhere."""
    for seed in range(SEARCHED):
        [left] = parameters_mod(
            parameters_subtraction([masked], pseudo_rand_gen(seed.to_bytes(4, "little"), *FLOWER)), 1 << 32
        )
        if (left < 1 << 20).all():
            return left
    return None


def flower_vectors(own):
    """What two sites send whose third one drops out, and what of it the coordinator has to learn for the sum."""
    seeds = [key("seed", site) for site in range(2)]
    with_third = [key("third", site) for site in range(2)]
    sent, known = [], []
    for site in range(2):
        change = parameters_addition if site else parameters_subtraction
        public = parameters_subtraction(flower_mask(seeds[site]), flower_mask(with_third[site]))
        vector = parameters_addition([own[site].astype(np.int64)], public)
        sent.append(parameters_mod(change(vector, flower_mask(IN_REACH)), 1 << 32)[0])
        known.append(public)
    return sent, known


def test_a_mask_of_28_bits_is_found_by_search():
    own = [weak.update(site) for site in range(2)]
    sent, known = flower_vectors(own)
    [left] = parameters_mod(parameters_subtraction([sent[1]], known[1]), 1 << 32)
    assert (searched(left) == own[1]).all()


def test_the_search_finds_nothing_under_our_masks():
    """The same secret of two sites, the same small numbers: our key is all 256 bits of it."""
    pair = derive(IN_REACH, key("session"), mask_info(0, 1, QUESTION))
    assert searched((weak.update(0) + weak.noise(pair)).astype(np.int64)) is None


def test_what_seeds_are_made_of():
    """Folded text never has the upper bit of a byte; our keys have every bit in both states."""
    secrets = [key("pair", number) for number in range(200)]
    assert np.bitwise_or.reduce([folded(secret) for secret in secrets]) == 0x7F7F7F7F
    assert folded(IN_REACH) < SEARCHED
    keys = [derive(secret, key("session"), mask_info(0, 1, QUESTION)) for secret in secrets]
    bits = np.unpackbits(np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), 32), axis=1)
    assert bits.shape == (200, 256) and bits.any(axis=0).all() and not bits.all(axis=0).any()


# 2. A man in the middle puts his keys in place of the sites'


def test_a_man_in_the_middle_reads_a_vector_whose_keys_nobody_signed():
    sites, his = [weak.Site(number) for number in range(3)], weak.Site(9)
    roll = {site.number: site.advertise(2) for site in sites}
    false = his.advertise(2)
    target = sites[1]
    boxes = target.share({1: roll[1], 0: false, 2: false})
    # He opens what the site sealed for its peers: two shares of its seed, which make it.
    sealing = derive(exchanger(his.seal_key)(roll[1][0]), b"", b"seal")
    opened = {peer: open_sealed(sealing, peer > 1, boxes[peer], b"") for peer in (0, 2)}
    seed = weak.secret_of({peer + 1: both[:SHARE] for peer, both in opened.items()})
    masked = target.mask({})  # he says that nobody else has shared: no error, and only the own mask is left
    assert (masked - weak.noise(seed) == target.vector).all()


@pytest.mark.parametrize("name", ["seal_key", "mask_key", "commitment"])
def test_a_man_in_the_middle_is_refused(until, name):
    """Keys that a site did not sign for this very offer are no keys, whoever signs them."""
    steps, his = until(1), Identity(key("his"))
    adverts = list(steps.roll.adverts)
    adverts[4] = replace(adverts[4], **{name: key("his")})
    refused("bad_signature", steps.me.share, Roll(1, tuple(adverts)).encode(), culprit=4)
    offer = statements.offer_hash(steps.world.session.offer())
    signature = his.sign(statements.advert_statement(offer, adverts[4]))
    adverts[4] = replace(adverts[4], signature=signature)
    refused("bad_signature", steps.me.share, Roll(1, tuple(adverts)).encode(), culprit=4)
    own = list(steps.roll.adverts)
    own[2] = replace(own[2], **{name: key("his")})
    refused("split_view", steps.me.share, Roll(1, tuple(own)).encode())


def test_yesterdays_keys_are_refused(until):
    """A key whose secret the coordinator has come to know in an earlier session was signed for that one."""
    steps, earlier = until(1, session=2), World(5, session=1)
    adverts = list(steps.roll.adverts)
    old = Advert.parse(earlier.sites[0].advertise(earlier.session.offer()))
    adverts[0] = replace(old, session=2)
    refused("bad_signature", steps.me.share, Roll(2, tuple(adverts)).encode(), culprit=0)


# 3. A threshold of one


def test_with_a_threshold_of_one_a_single_friend_opens_everything():
    """A share of a polynomial of degree 0 is the secret."""
    sites = [weak.Site(number) for number in range(4)]
    masked = weak.upto_masked(sites, threshold=1)
    seed, mask_key = (weak.secret_of({1: share}) for share in sites[3].held[0])
    left = weak.stripped(masked[0], 0, seed, mask_key, sites[3].roll)
    assert (left == sites[0].vector).all()


@pytest.mark.parametrize("threshold", [1, 2, 3])
def test_a_site_has_a_floor_for_the_threshold(until, threshold):
    steps = until(0)
    offer = replace(steps.world.terms, threshold=threshold)
    refused("wrong_offer", steps.me.advertise, offer.encode())
    refused("below_floor", Policy().check, offer)
    with pytest.raises(ConfigError, match=f"a threshold of {threshold}"):
        Secure(5, threshold, 3, 1.0)
    assert steps.me.advertise(steps.world.session.offer())


# 4. A tiny modulus


def test_a_modulus_of_two_leaves_flowers_masks_empty_and_signs_bare():
    """Masks are drawn below modulus - 1: with 2 they are all zero, and one step of quantising tells the sign."""
    values = np.random.default_rng(0).normal(0, 1, weak.NUMBERS)
    vector = quantize([values], 1e-9, 1)
    for secret in (key("own"), key("pair")):
        vector = parameters_addition(vector, pseudo_rand_gen(secret, 2, [(weak.NUMBERS,)]))
    [sent] = parameters_mod(vector, 2)
    assert (sent == (values > 0)).all()


def test_the_ring_is_not_the_coordinators_to_choose(until):
    """No message has a modulus, a clip or a grid; a vector of other words is no vector of this plan."""
    assert not {"modulus", "clip", "scale", "range"} & set(Offer.__dataclass_fields__)
    steps = until(0)
    for change in ({"words32": 1}, {"words64": 4}, {"layout": key("coarse")}, {"plan": key("coarse")}):
        refused("wrong_offer", steps.me.advertise, replace(steps.world.terms, **change).encode())
    with pytest.raises(ConfigError, match="may leave 32 bits"):
        Layout((Segment("update", "whole", 4, largest=1 << 30),), 3)


def test_masked_bits_of_every_place_are_even():
    """The lowest and the highest bit of a word say as little as all others."""
    world = World(5, words32=4000)
    world.body = lambda site: bytearray(8 * world.words64 + 4 * world.words32)
    heard = {}
    steps = Steps(world, 2)
    world.session.ask(QUESTION)
    for site in range(5):
        heard[site] = steps.world.sites[site].mask(world.session.inbox(site), QUESTION, world.body(site))
    words = np.frombuffer(Masked.parse(heard[2]).body, "<u4")
    ones = [int((words >> np.uint32(bit) & np.uint32(1)).sum()) for bit in range(32)]
    assert max(abs(count - len(words) / 2) for count in ones) < 5 * np.sqrt(len(words)) / 2
