"""What a site refuses of a coordinator, and that a refusal costs the session nothing."""

from dataclasses import replace

import pytest

from client.secagg import statements
from client.secagg.journal import DiskJournal
from client.secagg.participant import Participant
from client.secagg.policy import Policy
from client.secagg.wire import Advert, Consent, Consents, Inbox, Masked, Parcel, Roll, Survivors
from fer_models.errors import RunFolderError

from .conftest import QUESTION, Steps, World, finish, key, refused, total_of

# The roll


def test_a_key_that_the_site_did_not_sign(until):
    """A man in the middle puts his own keys in place of a site's."""
    steps = until(1)
    adverts = list(steps.roll.adverts)
    adverts[4] = replace(adverts[4], mask_key=key("his"))
    refused("bad_signature", steps.me.share, Roll(1, tuple(adverts)).encode(), culprit=4)
    steps.me.share(steps.roll.encode())


def test_a_key_of_the_site_itself_that_is_not_its_own(until):
    steps = until(1)
    adverts = list(steps.roll.adverts)
    adverts[2] = replace(adverts[2], seal_key=key("his"))
    refused("split_view", steps.me.share, Roll(1, tuple(adverts)).encode())


def test_an_advert_for_another_offer(until):
    """An advert of the same site for other terms is signed, but not for this offer."""
    steps, other = until(1), World(5, seed=1, round_number=9)
    adverts = list(steps.roll.adverts)
    adverts[0] = Advert.parse(other.sites[0].advertise(other.session.offer()))
    refused("bad_signature", steps.me.share, Roll(1, tuple(adverts)).encode(), culprit=0)


def test_a_roll_of_too_few_or_without_the_site(until):
    steps = until(1)
    some = steps.roll.adverts
    refused("too_few", steps.me.share, Roll(1, some[:3]).encode())
    refused("wrong_survivors", steps.me.share, Roll(1, some[:2] + some[3:]).encode())
    refused("unknown_site", steps.me.share, Roll(1, (*some, replace(some[0], site=5))).encode(), culprit=5)


def test_a_key_of_low_order(until):
    """Everybody knows the secret that such a key gives; its owner signed it, so it is its fault."""
    steps = until(1)
    world, adverts = steps.world, list(steps.roll.adverts)
    weak = replace(adverts[1], mask_key=bytes(32))
    statement = statements.advert_statement(statements.offer_hash(world.session.offer()), weak)
    adverts[1] = replace(weak, signature=world.identities[1].sign(statement))
    refused("bad_key", steps.me.share, Roll(1, tuple(adverts)).encode(), culprit=1)


# The parcels


def tampered(parcel, part):
    if part == "sealed":
        return replace(parcel, sealed=parcel.sealed[:-1] + bytes([parcel.sealed[-1] ^ 1]))
    return replace(parcel, **{part: key("other")})


@pytest.mark.parametrize("part", ["sealed", "key_commitment", "seed_commitment"])
def test_a_parcel_that_cannot_be_used_is_complained_of(until, part):
    steps = until(2)
    parcels = list(steps.inbox.parcels)
    parcels[1] = tampered(parcels[1], part)
    bad = replace(steps.inbox, parcels=tuple(parcels)).encode()
    session = steps.world.session
    session.ask(QUESTION)
    complaint = steps.me.open(bad)
    assert steps.me.mask(bad, QUESTION, steps.world.body(2)) == complaint  # never a vector in this session
    refused("replayed", steps.me.mask, steps.inbox.encode(), QUESTION, steps.world.body(2))
    refused("complained", steps.me.consent, Survivors(1, (0, 1, 2, 3, 4)).encode())
    session.take_masked(2, complaint)
    assert session.complaints == {2: (1,)} and session.accused() == () and session.accused(by=1) == (1,)
    rest = [0, 1, 3, 4]
    for site in rest:
        session.take_masked(
            site, steps.world.sites[site].mask(session.inbox(site), QUESTION, steps.world.body(site))
        )
    finish(steps.world, rest)


def test_a_parcel_in_anothers_place(until):
    """The boxes of two senders change places: neither opens, because sender and receiver are authenticated."""
    steps = until(2)
    first, second, *rest = steps.inbox.parcels
    swapped = (replace(first, sealed=second.sealed), replace(second, sealed=first.sealed), *rest)
    complaint = steps.me.open(replace(steps.inbox, parcels=swapped).encode())
    steps.world.session.ask(QUESTION)
    steps.world.session.take_masked(2, complaint)
    assert steps.world.session.complaints == {2: (0, 1)}


def test_an_inbox_of_other_members_than_its_parcels(until):
    steps = until(2)
    inbox = steps.inbox
    refused("malformed", steps.me.open, replace(inbox, parcels=inbox.parcels[1:]).encode())
    refused("malformed", steps.me.open, replace(inbox, members=(1, 2, 3, 4)).encode())
    refused("wrong_survivors", steps.me.open, replace(inbox, members=(0, 1, 3, 4)).encode())
    refused("too_few", steps.me.open, replace(inbox, members=(1, 2, 3)).encode())
    ghost = Parcel(7, bytes(84), bytes(32), bytes(32))
    alien = Inbox(1, (*inbox.members, 7), (*inbox.parcels, ghost))
    refused("unknown_site", steps.me.open, alien.encode(), culprit=7)
    assert steps.me.open(inbox.encode()) is None


def test_an_inbox_that_was_looked_at_leaves_nothing(until):
    """A coordinator shows five members, then asks the site to mask for four: it holds no share of the fifth."""
    steps = until(2)
    assert steps.me.open(steps.inbox.encode()) is None
    fewer = Inbox(1, (0, 1, 2, 3), steps.inbox.parcels[:3])
    steps.me.mask(fewer.encode(), QUESTION, steps.world.body(2))
    assert sorted(steps.me._state.held) == [0, 1, 2, 3]


def test_a_vector_of_another_length(until):
    steps = until(2)
    body = steps.world.body(2)
    refused("wrong_length", steps.me.mask, steps.inbox.encode(), QUESTION, body[:-4])
    refused("wrong_length", steps.me.mask, steps.inbox.encode(), b"short", body)
    assert bytes(body) == steps.world.bodies[2]  # nothing was masked


# Survivors and consents


@pytest.mark.parametrize(
    ("members", "code", "culprit"),
    [
        ((0, 1, 2), "too_few", None),
        ((0, 1, 3, 4), "wrong_survivors", None),
        ((0, 1, 2, 3, 9), "unknown_site", 9),
    ],
)
def test_survivors_that_cannot_be(until, members, code, culprit):
    steps = until(3)
    refused(code, steps.me.consent, Survivors(1, members).encode(), culprit=culprit)
    steps.me.consent(steps.survivors.encode())


def test_two_sets_of_survivors(until):
    """The site signs one set; a coordinator that shows others another set finds no t signatures for either."""
    steps = until(3)
    session, sites = steps.world.session, steps.world.sites
    fewer = Survivors(1, (0, 1, 2, 3)).encode()
    signatures = {}
    for site in range(5):
        told = fewer if site < 3 else session.survivors()
        signatures[site] = Consent.parse(sites[site].consent(told)).signature
    refused("replayed", sites[0].consent, session.survivors())
    everybody = Consents(1, tuple(signatures.items())).encode()
    refused("bad_signature", sites[4].reveal, everybody, culprit=0)
    half = Consents(1, tuple((site, signatures[site]) for site in (3, 4))).encode()
    refused("too_few", sites[4].reveal, half)
    refused("bad_signature", sites[0].reveal, everybody, culprit=3)
    stranger = Consents(1, tuple((site, signatures[site]) for site in (0, 1, 2, 4))).encode()
    refused("unknown_site", sites[0].reveal, stranger, culprit=4)


def test_different_questions(until):
    """Sites that were asked different things sign different consents, and reveal nothing."""
    steps = until(2)
    world = steps.world
    session, sites = world.session, world.sites
    session.ask(QUESTION)
    for site in range(4):
        session.take_masked(site, sites[site].mask(session.inbox(site), QUESTION, world.body(site)))
    other = sites[4].mask(session.inbox(4), key("another model"), world.body(4))
    refused("wrong_question", session.take_masked, 4, other, culprit=4)
    everybody = Survivors(1, (0, 1, 2, 3, 4)).encode()
    signatures = [(site, Consent.parse(sites[site].consent(everybody)).signature) for site in range(5)]
    refused("bad_signature", sites[4].reveal, Consents(1, tuple(signatures[:4])).encode(), culprit=0)
    refused("bad_signature", sites[0].reveal, Consents(1, tuple(signatures)).encode(), culprit=4)


def test_consents_that_are_too_few_or_forged(until):
    steps = until(4)
    signatures = steps.consents.signatures
    refused("too_few", steps.me.reveal, Consents(1, signatures[:2]).encode())
    forged = (*signatures[:3], (4, bytes(64)))
    refused("bad_signature", steps.me.reveal, Consents(1, forged).encode(), culprit=4)
    assert steps.me.reveal(steps.consents.encode())


def test_each_owner_gives_one_share_once(until):
    """After the reveal the site has no share left: not even of those of whom it gave the other one."""
    steps = until(4)
    reveal = steps.me.reveal(steps.consents.encode())
    state = steps.me._state
    assert (state.held, state.seal_keys, state.mask_secrets) == ({}, {}, {})
    assert (state.seal_key, state.mask_key, state.seed) == (b"", b"", b"")
    refused("replayed", steps.me.reveal, Consents(1, steps.consents.signatures[:3]).encode())
    assert steps.me.reveal(steps.consents.encode()) == reveal


# Order, repeated messages, restarts


def test_messages_out_of_order(until):
    steps = until(1)
    for call, message in (
        (steps.me.consent, Survivors(1, (0, 1, 2, 3, 4))),
        (steps.me.reveal, Consents(1, ())),
    ):
        refused("out_of_order", call, message.encode())
    refused("out_of_order", steps.me.open, Inbox(1, (), ()).encode())


def test_messages_of_another_session(until):
    steps = until(1)
    adverts = tuple(replace(advert, session=2) for advert in steps.roll.adverts)
    refused("wrong_session", steps.me.share, Roll(2, adverts).encode())


def test_a_repeated_message_gets_the_same_bytes(until):
    steps = until(4)
    world, session = steps.world, steps.world.session
    masked = world.sites[2].mask(session.inbox(2), QUESTION, bytearray(3))  # no work is done again
    session.take_masked(2, masked)
    assert steps.me.answered("inbox") and not steps.me.answered("consents")
    refused("replayed", steps.me.mask, session.inbox(2), key("another"), world.body(2))
    session.take_advert(2, steps.me.advertise(session.offer()))
    finish_rest = [steps.world.sites[site].reveal(session.consents(site)) for site in range(5)]
    for site, reveal in enumerate(finish_rest):
        session.take_reveal(site, reveal)
        session.take_reveal(site, reveal)
    assert session.finish().total == total_of(list(world.bodies.values()))


def test_a_simulated_site_keeps_no_vector(until):
    steps = until(3, policy=Policy(simulated=True))
    refused("late", steps.me.mask, steps.world.session.inbox(2), QUESTION, steps.world.body(2))


def test_a_snapshot_goes_on_elsewhere(until):
    steps = until(3, policy=Policy(simulated=True))
    other = steps.world.participant(2)
    other.restore(steps.me.snapshot())
    assert other.offer == steps.world.terms
    assert other.consent(steps.survivors.encode()) == steps.me.consent(steps.survivors.encode())


@pytest.mark.parametrize("step", range(1, 5))
def test_a_real_site_goes_on_from_what_is_on_its_disk(until, step):
    """To the same answers, byte for byte; and it answers no other message in an exchange that it has answered."""
    steps, session = until(step), None
    world, session = steps.world, steps.world.session
    other = world.participant(2)
    other.restore(steps.me.snapshot(), steps.me.vector)
    assert other.advertise(session.offer()) == steps.me.advertise(session.offer())
    refused("replayed", other.advertise, replace(world.terms, round_number=7).encode())
    if step > 1:
        assert other.share(session.roll()) == steps.me.share(session.roll())
    if step > 2:
        inbox = session.inbox(2)
        assert other.mask(inbox, QUESTION, bytearray()) == steps.me.mask(inbox, QUESTION, bytearray())
        refused("replayed", other.mask, inbox, key("another question"), world.body(2))
        assert (other._state.seed, other._state.mask_secrets) == (b"", {}), "nothing takes its own mask off"
    if step > 3:
        assert other.consent(session.survivors()) == steps.me.consent(session.survivors())
        refused("replayed", other.consent, Survivors(1, (0, 1, 2, 3)).encode())
        assert other.reveal(steps.consents.encode()) == steps.me.reveal(steps.consents.encode())


def test_an_old_copy_of_the_disk_masks_reveals_and_agrees_to_nothing_else(until):
    """The journal knows what has left, whatever the session's file says; and old sessions are not taken up at all."""
    steps = until(2)
    world, session, before = steps.world, steps.world.session, steps.me.snapshot()
    session.ask(QUESTION)
    for site in range(5):
        session.take_masked(site, world.sites[site].mask(session.inbox(site), QUESTION, world.body(site)))
    copied = world.participant(2)
    copied.restore(before)  # with its seed, as if it had not masked
    refused("already_masked", copied.mask, session.inbox(2), key("another question"), world.body(2))
    masked, vector = steps.me.snapshot(), steps.me.vector
    for site in range(5):
        session.take_consent(site, world.sites[site].consent(session.survivors()))
    copied = world.participant(2)
    copied.restore(masked, vector)  # as if it had agreed to no survivors
    refused("replayed", copied.consent, Survivors(1, (0, 1, 2, 3)).encode())
    assert copied.consent(session.survivors()) == steps.me.consent(session.survivors())
    other = bytes(vector[:-1]) + bytes([vector[-1] ^ 1])
    world.participant(2).restore(masked, other)  # a vector is known by its digest, which is signed
    forged = Masked.HEAD - 1
    wrong = vector[:forged] + bytes([vector[forged] ^ 1]) + vector[forged + 1 :]
    refused("replayed", world.participant(2).restore, masked, wrong)
    for number in (2, 3):
        later = World(5, session=number, world=world)
        later.sites[2].advertise(later.session.offer())
    refused("stale_session", world.participant(2).restore, masked, vector)


def test_a_vector_that_is_on_disk_and_not_yet_noted_is_sent(until):
    """A kill just then loses nothing: it is noted when the session is taken up, unless another session has masked."""
    steps = until(2)
    world, session, kept = steps.world, steps.world.session, []

    class Dies(BaseException):
        pass

    def keep(participant):
        kept.append((participant.snapshot(), participant.vector))
        raise Dies

    session.ask(QUESTION)
    steps.me._keep = keep
    with pytest.raises(Dies):
        steps.me.mask(session.inbox(2), QUESTION, world.body(2))
    assert not world.journals[2].has_masked(world.terms.run, "train", 1)
    again = world.participant(2)
    again.restore(*kept[0])
    assert world.journals[2].has_masked(world.terms.run, "train", 1)
    session.take_masked(2, again.mask(session.inbox(2), QUESTION, bytearray()))
    for site in (0, 1, 3, 4):
        session.take_masked(site, world.sites[site].mask(session.inbox(site), QUESTION, world.body(site)))
    world.sites[2] = again
    finish(world, [0, 1, 2, 3, 4])
    world.journals[2]._masked[world.terms.run, "train", 1] = 9
    refused("already_masked", world.participant(2).restore, *kept[0])


def test_a_disk_that_is_full_changes_nothing(until):
    steps = until(2)
    session, full = steps.world.session, [True]

    def keep(_):
        if full:
            raise RunFolderError("the disk is full")

    session.ask(QUESTION)
    steps.me._keep = keep
    with pytest.raises(RunFolderError):
        steps.me.mask(session.inbox(2), QUESTION, steps.world.body(2))
    full.clear()
    session.take_masked(2, steps.me.mask(session.inbox(2), QUESTION, steps.world.body(2)))


def restarted(world, journal):
    """A site that knows its journal and no more, with fresh keys."""
    return Participant(
        world.identities[2],
        world.roster,
        world.expected,
        world.policy,
        journal,
        lambda purpose: key("fresh", purpose),
    )


@pytest.mark.parametrize("step", range(1, 5))
def test_a_restarted_site_that_has_its_journal_alone_leaves_its_session(tmp_path, step):
    world = World(5)
    journal = DiskJournal(tmp_path / "journal.sqlite")
    world.sites[2] = restarted(world, journal)
    steps = Steps(world, step)
    again = restarted(world, DiskJournal(tmp_path / "journal.sqlite"))
    assert journal.last(world.terms.run) == 1
    refused("stale_session", again.advertise, world.session.offer())
    refused("out_of_order", again.share, world.session.roll())
    assert steps.world is world


def test_a_round_is_masked_once_whatever_the_session(tmp_path):
    world = World(5)
    journal = DiskJournal(tmp_path / "journal.sqlite")
    world.sites[2] = restarted(world, journal)
    Steps(world, 3)
    # A coordinator offers the same round again under another number.
    again = World(5, session=2, round_number=1)
    site = restarted(again, DiskJournal(tmp_path / "journal.sqlite"))
    refused("already_masked", site.advertise, again.session.offer())
    # Of two sessions for one round that run beside each other, one gets the vector.
    first, second = World(5, session=4, round_number=3), World(5, session=5, round_number=3)
    for each in (first, second):
        each.sites[2] = restarted(each, journal)
        Steps(each, 2)
    first.sites[2].mask(first.session.inbox(2), QUESTION, first.body(2))
    body = second.body(2)
    refused("already_masked", second.sites[2].mask, second.session.inbox(2), QUESTION, body)
    assert bytes(body) == second.bodies[2]
    # The next round is another matter.
    third = World(5, session=6, round_number=2)
    third.sites[2] = restarted(third, journal)
    assert third.run().survivors == (0, 1, 2, 3, 4)


def test_forgetting_leaves_nothing(until):
    steps = until(2)
    steps.me.forget()
    assert steps.me._state.seed == b"" and not steps.me._state.mask_secrets
    refused("complained", steps.me.mask, steps.inbox.encode(), QUESTION, steps.world.body(2))
