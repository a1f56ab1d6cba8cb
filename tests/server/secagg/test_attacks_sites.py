"""Attacks by a site, or by one on the wire: each works against a weak protocol and fails here."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from flwr.common.secure_aggregation.ndarrays_arithmetic import parameters_addition
from flwr.common.secure_aggregation.quantization import quantize

from client.secagg import statements
from client.secagg.agreement import seal
from client.secagg.codec import Kind, head
from client.secagg.encoding import Layout, Segment
from client.secagg.masks import keystream
from client.secagg.shamir import SHARE, split
from client.secagg.wire import Complaint, Inbox, Masked, Reveal, Shares
from fer_models.errors import SecureAggregationError

from . import weak
from .conftest import QUESTION, Steps, World, finish, key, refused, total_of


def true_sum(sites, gone=()):
    return sum((site.vector for site in sites if site.number not in gone), np.zeros(weak.NUMBERS, np.uint32))


# 1. A forged share


class Forger(weak.Site):
    """Reveals a share of its own making of one site's seed."""

    def unmask(self, active, dead):
        seeds, keys = super().unmask(active, dead)
        return seeds | {3: bytes(SHARE)}, keys


def test_a_forged_share_spoils_the_sum_and_nobody_notices():
    sites = [Forger(0), *(weak.Site(number) for number in range(1, 4))]
    masked = weak.upto_masked(sites, threshold=3)
    assert (weak.sum_of(sites, masked) != true_sum(sites)).all()


def signed(world, site, reveal):
    statement = statements.reveal_statement(world.session._view.session, site, reveal.signed())
    return replace(reveal, signature=world.identities[site].sign(statement)).encode()


def test_a_forged_share_is_found_and_its_maker_named(until):
    steps = until(4)
    world, session = steps.world, steps.world.session
    for site in range(5):
        good = Reveal.parse(world.sites[site].reveal(session.consents(site)))
        if site == 0:
            forged = tuple((owner, bytes(SHARE) if owner == 3 else share) for owner, share in good.shares)
            refused(
                "bad_share", session.take_reveal, 0, signed(world, 0, replace(good, shares=forged)), culprit=0
            )
            # Another site's good share of the same secret, or its own share of another owner, is none either.
            other = dict(world.sites[4]._state.held)[3][1]
            swapped = tuple((owner, other if owner == 3 else share) for owner, share in good.shares)
            refused(
                "bad_share",
                session.take_reveal,
                0,
                signed(world, 0, replace(good, shares=swapped)),
                culprit=0,
            )
        else:
            session.take_reveal(site, good.encode())
    assert session.finish().total == total_of(list(world.bodies.values()))


# 2. A ciphertext that is changed on its way


class Malleable(weak.Site):
    """Seals its shares with a stream cipher and no tag."""

    def sealed(self, peer, data):
        stream = keystream(self.box_key(peer)).update(bytes(len(data)))
        return bytes(a ^ b for a, b in zip(data, stream, strict=True))

    opened = sealed


def test_a_changed_ciphertext_without_a_tag_spoils_the_sum():
    sites = [Malleable(number) for number in range(4)]
    roll = {site.number: site.advertise(3) for site in sites}
    boxes = {site.number: site.share(roll) for site in sites}
    boxes[1][0] = bytes([boxes[1][0][0] ^ 1]) + boxes[1][0][1:]
    masked = {site.number: site.mask(weak.boxes_for(site.number, boxes)) for site in sites}
    assert (weak.sum_of(sites, masked) != true_sum(sites)).all()


def changed(parcel, how, steps):
    box = bytearray(parcel.sealed)
    if how == "bit":
        box[0] ^= 1
    elif how == "tag":
        box[-1] ^= 1
    elif how == "zeros":
        box[:] = bytes(len(box))
    elif how == "anothers":
        box[:] = steps.inbox.parcels[0].sealed
    else:  # the site's own box for that peer, sent back to it
        sent = Shares.parse(steps.sent)
        box[:] = next(p.sealed for p in sent.parcels if p.peer == parcel.peer)
    return replace(parcel, sealed=bytes(box))


@pytest.mark.parametrize("how", ["bit", "tag", "zeros", "anothers", "reflected"])
def test_a_changed_ciphertext_gives_a_complaint_and_the_others_go_on(how):
    world = World(5)
    steps = Steps(world, 2)
    steps.sent = world.sites[2].share(world.session.roll())
    parcels = [changed(p, how, steps) if p.peer == 3 else p for p in steps.inbox.parcels]
    complaint = steps.me.open(Inbox(1, steps.inbox.members, tuple(parcels)).encode())
    assert Complaint.parse(complaint).accused == (3,)
    refused("complained", steps.me.consent, b"")
    world.session.ask(QUESTION)
    world.session.take_masked(2, complaint)
    for site in (0, 1, 3, 4):
        masked = world.sites[site].mask(world.session.inbox(site), QUESTION, world.body(site))
        world.session.take_masked(site, masked)
    finish(world, [0, 1, 3, 4])


# 3. Messages of other sizes and forms


def trusting(data):
    """A parser that makes room for what a message says it holds."""
    count = int.from_bytes(data[:4], "little")
    room = bytearray(count)
    room[: len(data) - 4] = data[4:]
    return room


def peak(work):
    tracemalloc.start()
    try:
        work()
    finally:
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return found


def test_twelve_bytes_take_the_memory_of_a_trusting_parser():
    assert peak(lambda: trusting((1 << 26).to_bytes(4, "little") + bytes(8))) >= 1 << 26


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (Kind.SHARES, bytes(64) + b"\xff\xff"),
        (Kind.REVEAL, b"\xff\xff"),
        (Kind.MASKED, bytes(128) + b"\xff\xff\xff\xff"),
        (Kind.MASKED, bytes(128) + b"\xff\xff\xff\x3f" + bytes(64)),
        (Kind.COMPLAINT, b"\xff\xff"),
    ],
)
def test_what_a_message_says_it_holds_takes_no_memory(until, kind, body):
    session, data = until(2).world.session, head(kind, 1, 2) + body
    session.ask(QUESTION)
    takes = {Kind.SHARES: session.take_shares, Kind.REVEAL: session.take_reveal}
    take = takes.get(kind, session.take_masked)

    def refuse():
        with pytest.raises(SecureAggregationError) as found:
            take(2, data)
        assert found.value.code in ("malformed", "oversize") and found.value.culprit == 2

    assert peak(refuse) < 1 << 18


def test_a_vector_of_one_number_is_spread_over_flowers_sum_silently():
    total = parameters_addition([np.zeros(weak.NUMBERS, np.int64)], [np.array([7])])
    assert (total[0] == 7).all()


@pytest.mark.parametrize("size", [0, 4, 60, 64 - 4, 64 + 4])
def test_a_vector_of_another_length_is_refused_and_the_others_go_on(size):
    world = World(5)
    steps = Steps(world, 2)
    session = world.session
    session.ask(QUESTION)
    good = steps.me.mask(session.inbox(2), QUESTION, world.body(2))
    code = "oversize" if size > len(world.body(2)) else "wrong_length"
    masked = Masked.parse(good)
    refused(code, session.take_masked, 2, replace(masked, body=bytes(size)).encode(), culprit=2)
    for site in (0, 1, 3, 4):
        session.take_masked(site, world.sites[site].mask(session.inbox(site), QUESTION, world.body(site)))
    finish(world, [0, 1, 3, 4])


def test_what_is_no_number_becomes_some_integer_in_flower_and_is_refused_here():
    with np.errstate(invalid="ignore"):
        [sent] = quantize([np.array([np.nan, 0.5])], 8.0, 1 << 22)
    assert sent.dtype == np.int32  # no error, and nothing in it tells
    layout = Layout((Segment("update", "fixed", 2, clip=8.0),), 3)
    for value in (np.nan, np.inf, -np.inf):
        refused("bad_value", layout.encode, {"update": np.array([value, 0.5])}, 1, bytes(32))


# 4. A site that lies about its shares


class Liar(weak.Site):
    """Shares other secrets than it uses, and so spoils the round."""

    def share(self, roll):
        true = self.seed, self.mask_key
        self.seed, self.mask_key = key("another seed"), key("another key")
        boxes = super().share(roll)
        self.seed, self.mask_key = true
        return boxes


@pytest.mark.parametrize("gone", [(), (2,)])
def test_a_site_that_shares_other_secrets_spoils_the_sum_and_nobody_knows_who(gone):
    sites = [weak.Site(number) if number != 2 else Liar(number) for number in range(4)]
    masked = weak.upto_masked(sites, threshold=3)
    assert (weak.sum_of(sites, masked, gone) != true_sum(sites, gone)).all()


def lie(world, site):
    """Return the shares of a site that shares another seed and another key, committed to and signed as it should."""
    participant = world.sites[site]
    good = Shares.parse(participant.share(world.session.roll()))
    session, threshold = participant._state.session, world.terms.threshold
    shares = split([key("another key"), key("another seed")], 5, threshold, key("polynomials"))
    parcels, own = [], ()
    for holder, pair in enumerate(shares):
        names = zip(("key", "seed"), pair, strict=True)
        commitments = tuple(
            statements.share_commitment(session, site, holder, name, share) for name, share in names
        )
        if holder == site:
            own = commitments
            participant._state.held[site] = pair
            continue
        label = statements.parcel_label(session, site, holder)
        box = seal(participant._state.seal_keys[holder], site < holder, b"".join(pair), label)
        parcels.append(type(good.parcels[0])(holder, box, *commitments))
    false = Shares(1, site, own, tuple(parcels), b"")
    signature = world.identities[site].sign(statements.shares_statement(session, false))
    return replace(false, signature=signature).encode()


@pytest.mark.parametrize("staying", [(0, 1, 2, 3, 4), (0, 1, 3, 4)])
def test_a_site_that_shares_other_secrets_is_named_and_there_is_no_sum(staying):
    """No holder can tell; the coordinator does, from the commitment to the seed or from the public key."""
    world = Steps(World(5), 1).world
    session, sites = world.session, world.sites
    for site in range(5):
        session.take_shares(site, lie(world, 2) if site == 2 else sites[site].share(session.roll()))
    session.ask(QUESTION)
    for site in staying:
        assert sites[site].open(session.inbox(site)) is None
        session.take_masked(site, sites[site].mask(session.inbox(site), QUESTION, world.body(site)))
    refused("bad_secret", finish, world, list(staying), culprit=2)
    assert session.phase == "aborted"
    refused("aborted", session.finish)
