"""Rosters: ids by name, one key a site, strict files, signatures of the right site."""

import pytest

from client.identity import Identity, Roster
from fer_models.errors import ConfigError, SecureAggregationError


def identities(count=3):
    return {f"site-{i}": Identity(bytes([i]) * 32) for i in range(count)}


def roster_of(found):
    return Roster({name: identity.public for name, identity in found.items()})


def test_ids_follow_the_names():
    found = identities()
    roster = Roster({name: found[name].public for name in ("site-2", "site-0", "site-1")})
    assert roster.names == ("site-0", "site-1", "site-2")
    assert [roster.site_of(each) for each in found.values()] == [0, 1, 2]
    assert roster.id_of("site-1") == 1
    assert roster.digest == roster_of(found).digest
    for stranger in (lambda: roster.site_of(Identity(b"x" * 32)), lambda: roster.id_of("site-9")):
        with pytest.raises(SecureAggregationError) as error:
            stranger()
        assert error.value.code == "unknown_site"


def test_a_signature_is_one_site_s_over_one_text():
    found = identities()
    roster = roster_of(found)
    signature = found["site-1"].sign(b"text")
    roster.verify(1, signature, b"text")
    cases = [
        (0, signature, b"text"),
        (1, signature, b"texts"),
        (1, signature[:-1], b"text"),
        (1, b"", b"text"),
    ]
    for case in cases:
        with pytest.raises(SecureAggregationError) as error:
            roster.verify(*case)
        assert (error.value.code, error.value.culprit) == ("bad_signature", case[0])
    for unknown in (-1, 3):
        with pytest.raises(SecureAggregationError) as error:
            roster.verify(unknown, signature, b"text")
        assert error.value.code == "unknown_site"


def test_names_and_keys_are_both_in_the_digest():
    found = identities()
    keys = {name: identity.public for name, identity in found.items()}
    others = [
        {**keys, "site-2": Identity(b"n" * 32).public},
        {"site-0": keys["site-0"], "site-1": keys["site-1"], "site-3": keys["site-2"]},
        {"site-0": keys["site-1"], "site-1": keys["site-0"], "site-2": keys["site-2"]},
    ]
    assert len({Roster(each).digest for each in (keys, *others)}) == 4


def test_a_roster_s_file_gives_it_back():
    roster = roster_of(identities())
    again = Roster.from_json(roster.to_json())
    assert (again.names, again.digest) == (roster.names, roster.digest)


ONE = identities(1)["site-0"].public.hex()
BAD = ["", "7", "[]", "{", "{}", '{"a": 7}', '{"a": "xyz"}', '{"a": "00"}', f'{{"": "{ONE}"}}']
BAD += [f'{{"a": "{ONE}", "b": "{ONE}"}}', f'{{"a": ["{ONE}"]}}', f'{{"{"n" * 201}": "{ONE}"}}']


@pytest.mark.parametrize("text", BAD)
def test_a_file_that_is_no_roster_is_refused(text):
    with pytest.raises(ConfigError):
        Roster.from_json(text)
