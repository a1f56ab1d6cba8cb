"""The list of sites: who gets in, who never does again, whatever the order of events."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from client.enrolment import make_request
from client.identity import Identity
from fer_models.errors import IdentityError
from server.enrolled import Enrolled

NODE_KEYS = [
    ec.derive_private_key(i + 1, ec.SECP384R1())
    .public_key()
    .public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    .decode()
    for i in range(4)
]


def request_of(name, signing=0, node=0):
    return make_request(name, Identity(bytes([signing + 1]) * 32), NODE_KEYS[node])


def test_a_request_makes_a_site_of_the_roster():
    enrolled = Enrolled().approve(request_of("b", 1, 1), "t1").approve(request_of("a", 0, 0), "t2")
    assert [each.site for each in enrolled.sites] == ["b", "a"]
    assert enrolled.roster.names == ("a", "b")
    assert enrolled.roster.site_of(Identity(bytes([2]) * 32)) == 1
    assert Enrolled().roster is None


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (request_of("a", 0, 0), "approved already, since t1"),
        (request_of("a", 1, 1), "with other keys takes part"),
        (request_of("b", 0, 1), "these are keys of a"),
        (request_of("b", 1, 0), "these are keys of a"),
    ],
)
def test_names_and_keys_are_there_once(other, said):
    enrolled = Enrolled().approve(request_of("a"), "t1")
    with pytest.raises(IdentityError, match=said):
        enrolled.approve(other, "t2")


def test_a_comment_does_not_make_another_key():
    commented = make_request("b", Identity(b"b" * 32), NODE_KEYS[0] + " someone@somewhere")
    with pytest.raises(IdentityError, match="these are keys of a"):
        Enrolled().approve(request_of("a"), "t1").approve(commented, "t2")


def test_a_revoked_site_comes_back_with_new_keys_alone():
    enrolled = Enrolled().approve(request_of("a"), "t1").revoke("a", "t2")
    assert enrolled.roster is None
    for old in (request_of("a"), request_of("a", 1, 0), request_of("c", 0, 1)):
        with pytest.raises(IdentityError, match="revoked at t2"):
            enrolled.approve(old, "t3")
    again = enrolled.approve(request_of("a", 1, 1), "t3")
    assert again.roster.site_of(Identity(bytes([2]) * 32)) == 0
    # The second life ends by itself, and leaves the first as it was.
    assert [each.revoked for each in again.revoke("a", "t4").sites] == ["t2", "t4"]


def test_only_who_takes_part_can_be_revoked():
    with pytest.raises(IdentityError, match="no site 'a'"):
        Enrolled().revoke("a", "t")
    enrolled = Enrolled().approve(request_of("clinic"), "t1")
    with pytest.raises(IdentityError, match="Did you mean clinic"):
        enrolled.revoke("clinik", "t")
    with pytest.raises(IdentityError):
        enrolled.revoke("clinic", "t2").revoke("clinic", "t3")


EVENTS = st.lists(
    st.tuples(st.booleans(), st.sampled_from("abc"), st.integers(0, 3), st.integers(0, 3)), max_size=12
)


@given(EVENTS)
def test_in_any_order_no_key_is_there_twice_and_none_comes_back(events):
    enrolled, gone = Enrolled(), set()
    for i, (approves, name, signing, node) in enumerate(events):
        try:
            if approves:
                enrolled = enrolled.approve(request_of(name, signing, node), f"t{i}")
            else:
                before = {each.site: each for each in enrolled.active}
                enrolled = enrolled.revoke(name, f"t{i}")
                gone |= {before[name].signing_key, before[name].node_key}
        except IdentityError:
            pass
        active = enrolled.active
        assert len({each.site for each in active}) == len(active)
        keys = [key for each in active for key in (each.signing_key, each.node_key)]
        assert len(set(keys)) == len(keys)
        assert not gone & set(keys)
    assert Enrolled.of(enrolled.text) == enrolled


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"version": 2, "sites": []}', '{"version": 1, "sites": [{}]}']
)
def test_other_texts_are_no_list(text):
    with pytest.raises(ValueError):
        Enrolled.of(text)
