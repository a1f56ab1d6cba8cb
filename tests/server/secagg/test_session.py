"""What the coordinator refuses of a site, who is named, and that the session goes on."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chisquare

from client.secagg import parcels, statements
from client.secagg.shamir import split
from client.secagg.wire import Advert, Complaint, Consent, Masked, Reveal, Shares
from fer_models.errors import SecureAggregationError
from server.secagg.session import Session
from server.secagg.unmask import _combined

from .conftest import QUESTION, Steps, World, finish, key, refused, total_of

EXCHANGES = {
    "take_advert": (0, Advert), "take_shares": (1, Shares), "take_masked": (2, Masked),
    "take_consent": (3, Consent), "take_reveal": (4, Reveal),
}  # fmt: skip


def answer(steps, step, site):
    """What a site would send in an exchange."""
    participant, session = steps.world.sites[site], steps.world.session
    if step == 2:
        session.ask(QUESTION)
        return participant.mask(session.inbox(site), QUESTION, steps.world.body(site))
    asked = (session.offer, session.roll, None, session.survivors, lambda: session.consents(site))[step]()
    return (participant.advertise, participant.share, None, participant.consent, participant.reveal)[step](
        asked
    )


@pytest.mark.parametrize("take", EXCHANGES)
def test_a_message_that_is_not_the_sites_own(take):
    step, kind = EXCHANGES[take]
    steps = Steps(World(5), step)
    call, good = getattr(steps.world.session, take), answer(steps, step, 2)
    refused("unknown_site", call, 1, good, culprit=1)
    forged = replace(kind.parse(good), signature=bytes(64)).encode()
    refused("bad_signature", call, 2, forged, culprit=2)
    stranger = replace(kind.parse(good), site=9).encode()
    refused("unknown_site", call, 9, stranger, culprit=9)
    other = replace(kind.parse(good), session=7).encode()
    refused("wrong_session", call, 2, other, culprit=2)
    refused("oversize", call, 2, good + b"\0" * 800_000, culprit=2)
    refused("malformed", call, 2, good[:20], culprit=2)
    refused("malformed", call, 2, b"", culprit=2)
    call(2, good)
    call(2, good)  # again: nothing happens
    refused("replayed", call, 2, forged, culprit=2)


@pytest.mark.parametrize("take", EXCHANGES)
def test_a_message_that_comes_late_or_early(take):
    step, _ = EXCHANGES[take]
    steps = Steps(World(6), step)
    session, data = steps.world.session, [answer(steps, step, site) for site in range(6)]
    fresh = Session(steps.world.terms, steps.world.roster)
    if step:
        refused("out_of_order", getattr(fresh, take), 2, data[2], culprit=2)
    for site in range(5):
        getattr(session, take)(site, data[site])
    (session.roll, lambda: session.inbox(0), session.survivors, lambda: session.consents(0), session.finish)[
        step
    ]()
    refused("late", getattr(session, take), 5, data[5], culprit=5)
    getattr(session, take)(0, data[0])


def test_a_vector_of_another_length_or_question():
    steps = Steps(World(5), 2)
    session, good = steps.world.session, Masked.parse(answer(steps, 2, 2))
    refused("wrong_length", session.take_masked, 2, replace(good, body=good.body[:-4]).encode(), culprit=2)
    refused(
        "oversize",
        session.take_masked,
        2,
        replace(good, body=bytes(good.body) + bytes(4)).encode(),
        culprit=2,
    )
    refused("wrong_question", session.take_masked, 2, replace(good, question=key("x")).encode(), culprit=2)
    refused("wrong_question", session.ask, key("x"))
    refused("wrong_question", session.ask, b"short")


def test_a_vector_is_hashed_where_a_transcript_is_kept():
    world = World(5, record=lambda offer: lambda name, data: None)
    steps = Steps(world, 2)
    good = answer(steps, 2, 2)
    bad = bytearray(good)
    bad[-1] ^= 1
    refused("bad_signature", world.session.take_masked, 2, bytes(bad), culprit=2)
    world.session.take_masked(2, good)
    refused("bad_signature", world.session.take_masked, 2, bytes(bad), culprit=2)


def test_every_message_that_counts_is_recorded_once():
    heard = []
    world = World(4, record=lambda offer: lambda name, data: heard.append(name))
    world.run({1: 2})
    world.session.take_advert(0, world.sites[0].advertise(world.session.offer()))
    kinds = [name.partition("-")[0] for name in heard]
    assert heard[0] == "offer" and heard[-1] == "sum"
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "offer": 1, "advert": 4, "shares": 4, "masked": 3, "consent": 3, "reveal": 3, "sum": 1,
    }  # fmt: skip


def signed(world, site, reveal):
    statement = statements.reveal_statement(world.session._view.session, site, reveal.signed())
    return replace(reveal, signature=world.identities[site].sign(statement))


@pytest.mark.parametrize("liars", [1, 2])
def test_a_site_that_lies_about_a_share(liars):
    """It is named by the owner's commitment and left out; one liar of five is borne, two are too many."""
    steps = Steps(World(5), 4)
    world, session = steps.world, steps.world.session
    for site in range(5):
        good = Reveal.parse(answer(steps, 4, site))
        if site < liars:
            (owner, share), *rest = good.shares
            wrong = ((owner, bytes([share[0] ^ 1]) + share[1:]), *rest)
            bad = signed(world, site, replace(good, shares=wrong))
            refused("bad_share", session.take_reveal, site, bad.encode(), culprit=site)
            fewer = signed(world, site, replace(good, shares=good.shares[1:]))
            refused("malformed", session.take_reveal, site, fewer.encode(), culprit=site)
        else:
            session.take_reveal(site, good.encode())
    if liars == 2:
        refused("too_few", session.finish)
        assert session.phase == "aborted"
        refused("aborted", session.finish)
        refused("aborted", session.take_reveal, 0, bytes(100), culprit=0)
        return
    assert session.finish().total == total_of(list(world.bodies.values()))


def test_the_other_share_is_no_share():
    """A key's share where the seed's is due is found, too."""
    steps = Steps(World(5), 4)
    world = steps.world
    held = dict(world.sites[0]._state.held)
    good = Reveal.parse(answer(steps, 4, 0))
    bad = signed(world, 0, replace(good, shares=tuple((owner, held[owner][0]) for owner, _ in good.shares)))
    refused("bad_share", world.session.take_reveal, 0, bad.encode(), culprit=0)


class Liar:
    """A site that shares other secrets than it publishes: the commitments to the shares hold, the secrets do not."""

    def __init__(self, participant):
        self.participant = participant

    def share(self, roll):
        seed, draw, used = self.participant._state.seed, self.participant._draw, []

        def lie(purpose):
            used.append(purpose)
            state = self.participant._state
            state.mask_key, state.seed = key("another key"), key("another seed")
            return draw(purpose)

        self.participant._draw = lie  # the shares are drawn after the secrets with the peers are worked out
        data = self.participant.share(roll)
        state = self.participant._state
        state.seed = seed
        assert used == ["shares"] and state.mask_key == b""
        return data


@pytest.mark.parametrize("drops", [False, True])
def test_a_site_that_shares_another_secret_than_it_uses(drops):
    """Its seed fails its commitment, or its key its public key: the session ends and names it."""
    world = World(5)
    session, sites = world.session, world.sites
    for site in range(5):
        session.take_advert(site, sites[site].advertise(session.offer()))
    for site in range(5):
        session.take_shares(site, (Liar(sites[1]) if site == 1 else sites[site]).share(session.roll()))
    session.ask(QUESTION)
    rest = [0, 2, 3, 4] if drops else [0, 1, 2, 3, 4]
    for site in rest:
        session.take_masked(site, sites[site].mask(session.inbox(site), QUESTION, world.body(site)))
    with pytest.raises(SecureAggregationError) as found:
        finish(world, rest)
    assert (found.value.code, found.value.culprit, session.phase) == ("bad_secret", 1, "aborted")


def test_shares_of_no_polynomial(monkeypatch):
    """A site that gives one holder a share of another polynomial committed to it itself, and is named."""
    world = World(5)
    session, sites = world.session, world.sites
    for site in range(5):
        session.take_advert(site, sites[site].advertise(session.offer()))

    def mixed(secrets, points, threshold, drawn):
        good, other = (split(secrets, points, threshold, seed) for seed in (drawn, key("another")))
        return [other[0], *good[1:]]

    for site in range(5):
        with monkeypatch.context() as patch:
            if site == 3:
                patch.setattr(parcels, "split", mixed)
            shares = sites[site].share(session.roll())
        session.take_shares(site, shares)
    session.ask(QUESTION)
    for site in range(5):
        session.take_masked(site, sites[site].mask(session.inbox(site), QUESTION, world.body(site)))
    assert refused("bad_secret", finish, world, [0, 1, 2, 3, 4], culprit=3)


def test_an_owner_whose_shares_make_no_secret_is_named():
    """65536 is a number of the field but no word of a secret."""
    points, zero, beyond = [1, 2], bytes(34), bytes(33) + b"\1"
    assert _combined(points, [[zero], [zero]], [7]) == [bytes(32)]
    refused("bad_secret", _combined, points, [[zero, beyond], [zero, beyond]], [7, 8], culprit=8)


def test_a_site_that_leaves_its_mask_on_wrongly():
    """A vector under another seed than the published one: the count is wrong, and there is no sum."""
    world = World(5)
    Steps(world, 2)
    world.sites[2]._state.seed = key("another seed")
    session = world.session
    session.ask(QUESTION)
    for site in range(5):
        session.take_masked(site, world.sites[site].mask(session.inbox(site), QUESTION, world.body(site)))
    refused("bad_sum", finish, world, [0, 1, 2, 3, 4])
    assert session.phase == "aborted"


def test_complaints():
    world = World(7, threshold=5)
    steps = Steps(world, 2)
    session = world.session
    session.ask(QUESTION)

    def complaint(site, *accused):
        statement = statements.complaint_statement(session._view.session, site, accused)
        return Complaint(1, site, accused, world.identities[site].sign(statement)).encode()

    session.inbox(0)
    refused("unknown_site", session.take_masked, 0, complaint(0, 0), culprit=0)
    refused("unknown_site", session.take_masked, 0, complaint(0, 9), culprit=0)
    refused("malformed", session.take_masked, 0, complaint(0), culprit=0)
    forged = Complaint(1, 0, (3,), bytes(64)).encode()
    refused("bad_signature", session.take_masked, 0, forged, culprit=0)
    session.take_masked(0, complaint(0, 3, 5))
    session.take_masked(1, complaint(1, 3))
    assert session.accused() == (3,)
    refused("replayed", session.take_masked, 1, answer(steps, 2, 1), culprit=1)
    for site in range(2, 7):
        session.take_masked(site, answer(steps, 2, site))
    finish(world, [2, 3, 4, 5, 6])


def test_what_is_asked_for_out_of_order():
    world = World(5)
    for call in (world.session.survivors, world.session.finish, lambda: world.session.inbox(0)):
        refused("out_of_order", call)
    assert world.session.phase == "adverts" and world.session.question == b""
    for site in range(5):
        world.session.take_advert(site, world.sites[site].advertise(world.session.offer()))
    assert world.session.roll() == world.session.roll() and world.session.phase == "shares"
    for site in range(4):
        world.session.take_shares(site, world.sites[site].share(world.session.roll()))
    refused("unknown_site", world.session.inbox, 4, culprit=4)


def test_one_hot_inputs_show_a_double_count():
    """Every site sets one bit of its own: in the sum each survivor's bit is there once and nobody else's."""
    world = World(6)
    done = world.run({1: 2})
    assert int.from_bytes(done.total[8:16], "little") == sum(1 << site for site in (0, 2, 3, 4, 5))
    assert int.from_bytes(done.total[:8], "little") == 5


def test_swapped_inputs_look_alike():
    """Two sites exchange their vectors: with the same randomness only what they mask differs, and it by the masks'
    cover alone; the sum and everything that is revealed are the same."""

    class Swapped(World):
        def body(self, site):
            super().body({1: 3, 3: 1}.get(site, site))
            return bytearray(self.bodies[{1: 3, 3: 1}.get(site, site)])

    heard = [{}, {}]
    sums = []
    for kind, told in zip((World, Swapped), heard, strict=True):
        world = kind(5, record=lambda offer, told=told: told.__setitem__)
        sums.append(world.run({0: 2}))
    assert sums[0] == sums[1]
    differing = {name for name in heard[0] if heard[0][name] != heard[1][name]}
    assert differing == {"masked-1", "masked-3"}
    assert heard[0].keys() == heard[1].keys()
    # What differs is the difference of the two vectors, nothing of which is visible in one session.
    for site in (1, 3):
        first, second = (Masked.parse(told[f"masked-{site}"]) for told in heard)
        assert hashlib.sha256(first.body).digest() != hashlib.sha256(second.body).digest()


@pytest.mark.parametrize("fill", [0x00, 0xFF, 0x5A])
def test_masked_words_look_the_same_whatever_they_hide(fill):
    """Vectors of one value each, masked in many sessions: every byte value is as frequent as any other."""

    class Filled(World):
        def body(self, site):
            return bytearray([fill]) * self.terms.nbytes

    bodies = []
    for seed in range(12):
        world = Filled(3, seed=seed, words64=8, words32=2000)
        steps = Steps(world, 2)
        bodies += [np.frombuffer(Masked.parse(answer(steps, 2, site)).body, np.uint8) for site in range(3)]
    counts = np.bincount(np.concatenate(bodies), minlength=256)
    assert 0.001 < chisquare(counts).pvalue < 0.999
    together = (
        np.stack(bodies[:3]).view("<u4").sum(axis=0, dtype=np.uint32)
    )  # self masks are left in this sum
    assert 0.001 < chisquare(np.bincount(together.view(np.uint8), minlength=256)).pvalue < 0.999
