"""Requests: signed, with a fingerprint for the name and both keys; forged and damaged ones are refused."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.enrolment import NAME, Request, fingerprint, make_request, read_request, require_name
from client.identity import Identity
from client.keys import make_node_key
from fer_models.errors import ConfigError, IdentityError


@pytest.fixture(scope="module")
def node_key(tmp_path_factory):
    return make_node_key(tmp_path_factory.mktemp("keys") / "node.key")


@pytest.fixture
def request_of(node_key):
    return make_request("clinic-a", Identity(b"a" * 32), node_key)


def test_a_request_reads_as_it_was_written(request_of, tmp_path):
    (tmp_path / "request.json").write_text(request_of.text)
    assert read_request(tmp_path / "request.json") == request_of


def test_the_fingerprint_stands_for_name_and_keys(request_of, node_key, tmp_path):
    other = make_node_key(tmp_path / "node.key")
    all_of_them = {
        request_of.fingerprint,
        make_request("clinic-b", Identity(b"a" * 32), node_key).fingerprint,
        make_request("clinic-a", Identity(b"b" * 32), node_key).fingerprint,
        make_request("clinic-a", Identity(b"a" * 32), other).fingerprint,
    }
    assert len(all_of_them) == 4
    groups = request_of.fingerprint.split(" ")
    assert [len(group) for group in groups] == [4] * 8


@given(st.lists(st.binary(max_size=8), max_size=4), st.lists(st.binary(max_size=8), max_size=4))
def test_fingerprints_tell_parts_apart(one, other):
    assert (fingerprint(*one) == fingerprint(*other)) == (one == other)


def test_what_is_not_what_was_signed_is_refused(request_of, tmp_path):
    stranger = make_request("clinic-a", Identity(b"b" * 32), request_of.node_key)
    for change in (
        {"site": "clinic-b"},
        {"node_key": make_node_key(tmp_path / "other.key")},
        {"signing_key": stranger.signing_key},
        {"signature": stranger.signature},
        {"signature": "no hexadecimal"},
        {"version": 2},
    ):
        with pytest.raises(IdentityError, match="damaged"):
            replace(request_of, **change).verify()
    request_of.verify()


def test_a_signed_request_with_keys_that_are_none_is_refused(request_of):
    ed25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAabcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOP"
    for node_key in ("", "ssh-rsa", ed25519, request_of.node_key + "\nsecond"):
        with pytest.raises(IdentityError):
            make_request("clinic-a", Identity(b"a" * 32), node_key).verify()


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "null", '{"site": 3}', "x" * 20_000, "[" * 10_000],
)
def test_other_files_are_no_request(text, tmp_path):
    (tmp_path / "request.json").write_text(text)
    with pytest.raises(IdentityError, match="no request"):
        read_request(tmp_path / "request.json")


def test_an_unknown_key_is_no_request(request_of, tmp_path):
    (tmp_path / "request.json").write_text(json.dumps({**json.loads(request_of.text), "role": "admin"}))
    with pytest.raises(IdentityError, match="no request"):
        read_request(tmp_path / "request.json")
    with pytest.raises(IdentityError, match="no request"):
        read_request(tmp_path / "gone.json")


@pytest.mark.parametrize("name", ["", "Clinic", "-a", "a b", "a/b", "..", "a" * 64, "ä"])
def test_names_are_plain(name):
    with pytest.raises(ConfigError, match="no name of a site"):
        require_name(name)


@given(st.from_regex(NAME, fullmatch=True))
def test_plain_names_are_taken(name):
    assert require_name(name) == name
    assert Request(name, "", "", "").site == name
