"""Attacks by a coordinator that deviates from the protocol: each works against a weak one and fails here."""

import numpy as np
import pytest

from client.messages import pack, vector_of
from client.secagg.wire import Consent, Consents, Inbox, Reveal, Survivors
from client.secure_site import question_digest

from . import weak
from .conftest import QUESTION, Steps, World, key, refused

# 1. A site on the lists of the active and of the dead at once


def test_lists_of_active_and_dead_that_overlap_open_one_site():
    sites = [weak.Site(number) for number in range(4)]
    masked = weak.upto_masked(sites, threshold=3)
    answers = {site.number: site.unmask([0, 1, 2, 3], [0]) for site in sites}
    seed, mask_key = (
        weak.secret_of({site + 1: answers[site][part][0] for site in (1, 2, 3)}) for part in (0, 1)
    )
    assert (weak.stripped(masked[0], 0, seed, mask_key, sites[1].roll) == sites[0].vector).all()


def test_a_site_has_one_list_and_gives_one_share_of_each(until):
    """There is one list, of survivors; who is not on it has dropped out. Another list is another message, refused."""
    steps = until(3)
    session, sites = steps.world.session, steps.world.sites
    everybody, fewer = session.survivors(), Survivors(1, (0, 1, 2, 4)).encode()
    for site in range(5):
        session.take_consent(site, sites[site].consent(everybody))
        refused("replayed", sites[site].consent, fewer)
    consents = session.consents(2)
    reveal = Reveal.parse(sites[2].reveal(consents))
    assert [owner for owner, _ in reveal.shares] == [0, 1, 2, 3, 4]
    assert sites[2].reveal(consents) == reveal.encode()  # again: the same bytes, from memory
    some = Consents(1, Consents.parse(consents).signatures[1:])
    refused("replayed", sites[2].reveal, some.encode())
    refused("replayed", sites[2].consent, fewer)
    assert not steps.me._state.held  # what it has not given is gone


def test_a_list_with_a_site_twice_does_not_parse(until):
    twice = Survivors(1, (0, 1, 2, 3, 3)).encode()
    refused("malformed", until(3).me.consent, twice)


# 2. The same round again


def test_a_round_that_is_asked_for_twice_gives_one_site_by_subtraction():
    first, second = ([weak.Site(number, session=session) for number in range(4)] for session in (1, 2))
    masked = weak.upto_masked(first, threshold=3)
    everybody = weak.sum_of(first, masked)
    again = weak.upto_masked(second, threshold=3)
    others = weak.sum_of(second, again, gone=(2,))
    assert (everybody - others == first[2].vector).all()


def test_a_replayed_offer_is_refused():
    """The journal knows the session, across restarts of the site."""
    world = World(5)
    assert world.run().survivors == (0, 1, 2, 3, 4)
    again = World(5, world=world)
    for site in again.sites:
        refused("stale_session", site.advertise, again.session.offer())


def test_the_same_round_in_a_new_session_is_refused():
    """Another number of the session, and even another seed: for a round there is one masked vector."""
    world = World(5)
    world.run()
    again = World(5, session=2, seed=7, round_number=1, world=world)
    for site in again.sites:
        refused("already_masked", site.advertise, again.session.offer())
    World(5, session=3, world=world).run()  # the next round is another round


def test_a_site_that_is_asked_again_in_a_session_does_not_mask_again(until):
    """Two vectors under one mask would give their difference."""
    steps = until(2)
    session, me = steps.world.session, steps.me
    inbox = session.inbox(2)
    first = me.mask(inbox, QUESTION, steps.world.body(2))
    assert me.mask(inbox, QUESTION, bytearray(len(steps.world.body(2)))) == first
    refused("replayed", me.mask, inbox, key("other"), steps.world.body(2))
    other = Inbox(1, steps.inbox.members[:4], tuple(p for p in steps.inbox.parcels if p.peer < 4))
    refused("replayed", me.mask, other.encode(), QUESTION, steps.world.body(2))


# 3. Different models to different sites


def gradient(weights, x, y):
    """The gradient of a net of one hidden unit, max(0, w x + b), times v, under squared error: (w, b, v)."""
    w, b, v = weights
    before = w * x + b
    hidden = np.maximum(before, 0.0)
    slope = 2 * (hidden * v - y)
    return np.array(
        [np.sum(slope * v * x * (before > 0)), np.sum(slope * v * (before > 0)), np.sum(slope * hidden)]
    )


def fixed(values):
    return np.round(np.resize(values, weak.NUMBERS) * 1000).astype(np.int64).astype(np.uint32)


def test_a_dead_model_for_all_but_one_leaves_one_update_in_the_sum():
    """A hidden unit that no picture reaches has no gradient (Pasquini et al. 2022): the sum is the target's."""
    rng = np.random.default_rng(0)
    data = [(rng.normal(size=20), rng.normal(size=20)) for _ in range(4)]
    live, dead = np.array([1.0, 0.5, 2.0]), np.array([1.0, -1e6, 2.0])
    models = [dead, live, dead, dead]
    sites = [weak.Site(number, fixed(gradient(model, *data[number]))) for number, model in enumerate(models)]
    total = weak.sum_of(sites, weak.upto_masked(sites, threshold=3))
    target = fixed(gradient(live, *data[1]))
    assert (total == target).all() and target.any()


def test_different_models_reveal_nothing(until):
    steps = until(2)
    world, asked = steps.world, {site: key("dead model") for site in range(5)} | {1: QUESTION}
    world.session.ask(QUESTION)
    for site in range(5):
        sent = world.sites[site].mask(world.session.inbox(site), asked[site], world.body(site))
        if site != 1:
            refused("wrong_question", world.session.take_masked, site, sent, culprit=site)
    # A coordinator that takes them all the same goes on by itself.
    everybody = Survivors(1, (0, 1, 2, 3, 4)).encode()
    signatures = {site: Consent.parse(world.sites[site].consent(everybody)).signature for site in range(5)}
    for site in range(5):
        culprit = 0 if site == 1 else 1
        told = Consents(1, tuple(signatures.items())).encode()
        refused("bad_signature", world.sites[site].reveal, told, culprit=culprit)
    alike = Consents(1, tuple((site, signatures[site]) for site in (0, 2, 3, 4))).encode()
    refused("bad_signature", world.sites[1].reveal, alike, culprit=0)
    alone = Consents(1, ((1, signatures[1]),)).encode()
    refused("too_few", world.sites[1].reveal, alone)


def swapping(first, second):
    """Two messages with the same two vectors in the same order, of which the site that is asked reads another."""
    contents = []
    for names in (("vector", "z"), ("a", "vector")):
        content = pack(first, {"round": 1})
        record = content["vector"]
        one, other = record["vector"], pack(second, {})["vector"]["vector"]
        del record["vector"]
        record[names[0]], record[names[1]] = one, other
        contents.append(content)
    return contents


def test_two_vectors_under_swapped_names_are_two_questions():
    """The names of arrays are part of the question; a digest of their bytes alone would be the same for both."""
    live, dead = np.ones(4, np.float32), np.zeros(4, np.float32)
    contents = swapping(live, dead)
    read = [vector_of(content, np.float32).tolist() for content in contents]
    assert read == [live.tolist(), dead.tolist()]
    assert len({b"".join(array.data for array in content["vector"].values()) for content in contents}) == 1
    assert len({question_digest("train", content) for content in contents}) == 2


@pytest.mark.parametrize("change", ["vector", "fact", "kind", "type"])
def test_the_question_is_all_that_a_site_reads(change):
    vector = np.ones(4, np.float32)
    own = {"round": 1, "inbox": "mine", "ledger": "3"}
    asked = question_digest("train", pack(vector, own))
    assert question_digest("train", pack(vector, own | {"inbox": "yours", "ledger": "4"})) == asked
    kind = "evaluate" if change == "kind" else "train"
    facts = own | ({"round": 2} if change == "fact" else {})
    sent = {"vector": vector + 1, "type": vector.view(np.int32)}.get(change, vector)
    assert question_digest(kind, pack(sent, facts)) != asked


# 4. Different survivors to different sites


def test_survivors_that_differ_open_one_site():
    """Half of the sites hear that it lives and give its seed, half that it is gone and give its key."""
    sites = [weak.Site(number) for number in range(4)]
    masked = weak.upto_masked(sites, threshold=2)
    living = {site: sites[site].unmask([0, 1, 2, 3], [])[0][0] for site in (0, 1)}
    gone = {site: sites[site].unmask([1, 2, 3], [0])[1][0] for site in (2, 3)}
    seed, mask_key = (
        weak.secret_of({site + 1: share for site, share in told.items()}) for told in (living, gone)
    )
    assert (weak.stripped(masked[0], 0, seed, mask_key, sites[1].roll) == sites[0].vector).all()


@pytest.mark.parametrize("told", range(1, 2**4))
def test_survivors_that_differ_reveal_nothing(told):
    """Whichever sites hear of whom: not both sets get the consents that it takes, and of one owner only one secret."""
    steps = Steps(World(5), 3)
    sites, fewer = steps.world.sites, Survivors(1, (1, 2, 3, 4)).encode()
    everybody = steps.world.session.survivors()
    hears = {site: fewer if site and told >> (site - 1) & 1 else everybody for site in range(5)}
    signed = {site: Consent.parse(sites[site].consent(hears[site])).signature for site in range(5)}
    revealed = {everybody: 0, fewer: 0}
    for site in range(5):
        same = tuple((peer, signed[peer]) for peer in range(5) if hears[peer] == hears[site])
        if len(same) >= steps.world.terms.threshold:
            revealed[hears[site]] += 1
            sites[site].reveal(Consents(1, same).encode())
        else:
            refused("too_few", sites[site].reveal, Consents(1, same).encode())
            strangers = tuple((peer, signed[peer]) for peer in range(1, 5))
            other = next(peer for peer in range(1, 5) if hears[peer] != hears[site] and peer != site)
            refused("bad_signature", sites[site].reveal, Consents(1, strangers).encode(), culprit=other)
    assert min(revealed.values()) == 0
