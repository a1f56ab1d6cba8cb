"""A site's side of Flower's Fleet interface: of the right version, and clear about what is wrong."""

import runpy
import sys
from importlib.metadata import version
from pathlib import Path

import certifi
import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Message
from flwr.common.serde import message_to_proto
from flwr.proto.fleet_pb2 import PullMessagesResponse
from flwr.proto.message_pb2 import ObjectTree, PullObjectResponse

import client.fleet
from client.fleet import Asked, Fleet, RunEnded, Unreachable, _asked, _inflated, noted
from client.messages import tell
from client.versions import FLOWER
from fer_models.errors import EngineError, IdentityError
from simulations.grid import take_identity


def test_the_installed_flower_is_the_one_that_sites_speak_to():
    assert version("flwr").startswith(f"{FLOWER}.")


def test_another_flower_is_told_in_a_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "flwr.supernode.fleet_http_client", None)
    with pytest.raises(EngineError, match=r"Flower .* is not the version that sites speak to") as error:
        runpy.run_path(client.fleet.__file__)
    assert error.value.cure == f"Install flwr {FLOWER}."


@pytest.mark.parametrize(
    "status, text, kind, said",
    [
        (401, '{"detail": "the clocks differ"}', IdentityError, "turns the site away: the clocks differ"),
        (412, '{"code": 1, "message": "not\\nknown"}', IdentityError, "turns the site away: not known"),
        (404, "[]", IdentityError, "turns the site away"),
        (403, "", RunEnded, "^$"),
        (500, "locked", Unreachable, "does not do what it is asked: locked"),
        (503, '{"detail": "later"}', Unreachable, "later"),
    ],
)
def test_every_answer_of_a_server_is_understood(status, text, kind, said):
    def call(request):
        response = httpx.Response(status, text=text, request=httpx.Request("POST", "https://server"))
        response.raise_for_status()

    with pytest.raises(kind, match=said):
        _asked(call, None)


@pytest.mark.parametrize("kind", [httpx.ConnectError, httpx.TooManyRedirects, httpx.DecodingError])
def test_no_connection_may_be_tried_again(kind):
    def call(request):
        raise kind("certificate verify failed")

    with pytest.raises(Unreachable, match="no connection to the server: certificate verify failed"):
        _asked(call, None)


def taken(message, tree):
    return PullMessagesResponse(messages_list=[message_to_proto(message)], message_object_trees=[tree])


def test_a_note_of_a_message_that_was_just_taken_is_enough_to_fetch_it():
    take_identity(1)
    asked = Asked(taken(Message(tell({"site": "a"}), 1, "query"), ObjectTree(object_id="a")))
    again = noted(asked.kept())
    assert isinstance(again, Asked)
    assert (again.tree, again.message.metadata.message_type) == (asked.tree, "query")


def test_no_more_of_a_message_is_fetched_than_one_may_hold(monkeypatch):
    """Real requests without a network: a server that pours parts into a site."""
    poured = []

    def answer(request):
        poured.append(request.url.path)
        part = PullObjectResponse(object_found=True, object_available=True, object_content=bytes(1000))
        return httpx.Response(200, content=part.SerializeToString())

    monkeypatch.setattr(client.fleet, "LARGEST", 10_000)
    fleet = Fleet("server:1", Path(certifi.where()).read_text(), ec.generate_private_key(ec.SECP384R1()))
    fleet._client._client = httpx.Client(transport=httpx.MockTransport(answer))
    tree = ObjectTree(object_id="a", children=[ObjectTree(object_id=str(part)) for part in range(400)])
    take_identity(1)
    with pytest.raises(EngineError, match="too long"):
        fleet.content(Asked(taken(Message(tell({}), 1, "query"), tree)))
    fleet.close()
    assert len(poured) < 200


def test_a_damaged_message_is_refused():
    take_identity(1)
    message = Message(tell({"site": "a"}), 1, "query")
    inside = message.content
    for identity, data in (("a", b"no object"), (inside.object_id, inside.deflate())):
        with pytest.raises(EngineError, match="a damaged message"):
            _inflated(ObjectTree(object_id=identity), {identity: data})
    with pytest.raises(EngineError, match="damaged"):
        noted(b"\xff no message")
    with pytest.raises(EngineError, match="damaged"):
        noted(Asked(taken(message, ObjectTree())).kept()[:-3])
