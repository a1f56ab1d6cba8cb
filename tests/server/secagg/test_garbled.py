"""Messages garbled on their way, at every exchange and in both directions: refused, and the session completes."""

import numpy as np
import pytest

from client.secagg.participant import EXCHANGES
from fer_models.errors import SecureAggregationError

from .conftest import QUESTION, World, total_of

TRIES = 150


def garbled(data, rng):
    """Copies of a message with bytes changed, set to extremes, moved, cut off or put in."""
    for _ in range(TRIES):
        changed = bytearray(data)
        way, at = rng.integers(5), int(rng.integers(len(data)))
        if way == 0:
            changed[at] ^= 1 << int(rng.integers(8))
        elif way == 1:
            changed[at] = int(rng.choice([0, 1, 0x7F, 0xFF]))
        elif way == 2:
            other = int(rng.integers(len(data)))
            changed[at], changed[other] = changed[other], changed[at]
        elif way == 3:
            del changed[at : at + int(rng.integers(1, 40))]
        else:
            changed[at:at] = rng.bytes(int(rng.integers(1, 4)))
        if changed != data:
            yield bytes(changed)


def refuses(call, data, rng):
    """Nothing but the message itself is taken, and nothing but a refusal comes of another."""
    for bad in garbled(data, rng):
        with pytest.raises(SecureAggregationError):
            call(bad)


@pytest.mark.parametrize("victim", [0, 3])
def test_a_session_outlives_garbled_messages(victim):
    world, rng = World(4, record=lambda offer: lambda name, data: None), np.random.default_rng(victim)
    session, site = world.session, world.sites[victim]
    session.ask(QUESTION)
    takes = (
        session.take_advert,
        session.take_shares,
        session.take_masked,
        session.take_consent,
        session.take_reveal,
    )
    asks = {
        "offer": lambda _: session.offer(), "roll": lambda _: session.roll(), "inbox": session.inbox,
        "survivors": lambda _: session.survivors(), "consents": session.consents,
    }  # fmt: skip
    for exchange, take in zip(EXCHANGES, takes, strict=True):
        asked = {number: asks[exchange](number) for number in range(4)}
        answers = {
            "offer": lambda each, data: each.advertise(data),
            "roll": lambda each, data: each.share(data),
            "survivors": lambda each, data: each.consent(data),
            "consents": lambda each, data: each.reveal(data),
        }
        # Another offer may be a good one, of another session.
        if exchange in ("roll", "survivors", "consents"):
            refuses(lambda bad, answer=answers[exchange]: answer(site, bad), asked[victim], rng)
        for number, each in enumerate(world.sites):
            if exchange == "inbox":
                answer = each.mask(asked[number], QUESTION, world.body(number))
            else:
                answer = answers[exchange](each, asked[number])
            if number == victim:
                refuses(lambda bad, take=take: take(victim, bad), answer, rng)
            take(number, answer)
    assert session.finish().total == total_of([world.bodies[number] for number in range(4)])


def test_a_garbled_inbox_is_refused_or_complained_of():
    """Never is a vector sent after an inbox that is not what the peers sent."""
    rng, complaints = np.random.default_rng(5), 0
    world = World(4)
    world.session.ask(QUESTION)
    for number, each in enumerate(world.sites):
        world.session.take_advert(number, each.advertise(world.session.offer()))
    for number, each in enumerate(world.sites):
        world.session.take_shares(number, each.share(world.session.roll()))
    inbox, state = world.session.inbox(1), world.sites[1]._state.to_bytes()
    for bad in garbled(inbox, rng):
        site = world.participant(1)
        site._policy = type(site._policy)(simulated=True)
        site.restore(state)
        try:
            told = site.open(bad)
        except SecureAggregationError:
            continue
        assert told is not None and site._state.stage == -1
        complaints += 1
        world.journals[1]._sent.clear()  # each of these is another life of the site
    assert complaints > 10
