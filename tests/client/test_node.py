"""A site's node against servers that forbid, do not know what it speaks of, or are gone: real requests, no network."""

import json
import os
import threading
import time
from pathlib import Path

import certifi
import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Message
from flwr.common.serde import message_to_proto
from flwr.proto.fleet_pb2 import ActivateNodeResponse

from client.fleet import Fleet, Unreachable
from client.messages import tell
from client.node import FORBIDDEN, PATIENCE, STATE, TAKEN, Node
from simulations.grid import take_identity


def ran(state, statuses):
    """Run a node until the last of ``statuses`` (path -> status, 200 for others) was answered."""
    ended, asked = threading.Event(), []

    def answer(request):
        name = request.url.path.rpartition("/")[2]
        asked.append(name)
        if statuses.keys() <= set(asked):
            ended.set()
        data = ActivateNodeResponse(node_id=7).SerializeToString() if name == "activate-node" else b""
        return httpx.Response(statuses.get(name, 200), content=data)

    fleet = Fleet("server:1", Path(certifi.where()).read_text(), ec.generate_private_key(ec.SECP384R1()))
    fleet._client._client = httpx.Client(transport=httpx.MockTransport(answer))
    Node(fleet, "no socket", state, ended).run()
    fleet.close()
    return asked


def test_a_firewall_that_forbids_is_told_in_a_line(tmp_path, caplog):
    assert ran(tmp_path, {"activate-node": 403}) == ["activate-node"]
    assert f"turned away: {FORBIDDEN}" in caplog.text


@pytest.mark.parametrize(
    "status, age, kept",
    [(200, 0, False), (412, 0, False), (500, 0, True), (500, PATIENCE + 60, False)],
)
def test_what_a_kill_took_is_owned_up_to_and_keeps_no_site_away(tmp_path, status, age, kept):
    take_identity(1)
    message = message_to_proto(Message(tell({"site": "a"}), 7, "query"))
    note = tmp_path / TAKEN
    note.write_bytes(message.SerializeToString())
    os.utime(note, (time.time() - age,) * 2)
    assert "push-messages" in ran(tmp_path, {"push-messages": status})
    assert note.exists() == kept


def test_a_server_that_is_back_is_said_to_be(tmp_path):
    class Returning:
        """Of a node's fleet, what _patiently asks: gone once, then there."""

        def __init__(self):
            self.left = 1

        def push(self):
            if self.left:
                self.left -= 1
                raise Unreachable("no route")
            return "pushed"

    fleet = Returning()
    node = Node(fleet, "no socket", tmp_path, threading.Event())
    assert node._patiently(fleet.push) == "pushed"
    assert json.loads((tmp_path / STATE).read_text())["state"] == "connected"
