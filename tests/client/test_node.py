"""A site's node against servers that forbid, do not know what it speaks of, or are gone: real requests, no network."""

import json
import os
import threading
import time
from pathlib import Path

import certifi
import httpx
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Message
from flwr.proto.fleet_pb2 import ActivateNodeResponse, PushMessagesRequest
from flwr.proto.message_pb2 import PushObjectRequest
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

from client.fleet import Fleet, Unreachable, kept, noted
from client.messages import pack, tell
from client.node import FORBIDDEN, PATIENCE, STATE, TAKEN, Node
from simulations.grid import take_identity


def ran(state, statuses, bodies=None):
    """Run a node until the last of ``statuses`` (path -> status, 200 for others) was answered."""
    ended, asked = threading.Event(), []

    def answer(request):
        name = request.url.path.rpartition("/")[2]
        asked.append(name)
        if bodies is not None:
            bodies.append((name, request.content))
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
    "status, age, stays",
    [(200, 0, False), (412, 0, False), (500, 0, True), (500, PATIENCE + 60, False)],
)
def test_what_a_kill_took_is_owned_up_to_and_keeps_no_site_away(tmp_path, status, age, stays):
    take_identity(1)
    note = tmp_path / TAKEN
    note.write_bytes(kept(Message(tell({"site": "a"}), 7, "train")))
    os.utime(note, (time.time() - age,) * 2)
    assert "push-messages" in ran(tmp_path, {"push-messages": status})
    assert note.exists() == stays


def test_a_reply_that_a_kill_cut_off_is_sent_whole(tmp_path):
    """The server has announced it, and waits for the rest: by no session, as that was another process's."""
    take_identity(1)
    question, bodies = Message(tell({"site": "a"}), 7, "train.secure"), []
    question.metadata.__dict__["_message_id"] = "question"
    reply = Message(pack(np.arange(5, dtype=np.uint8), {"site": "a"}), reply_to=question)
    (tmp_path / TAKEN).write_bytes(kept(reply))
    assert kept(noted(kept(reply))) == kept(reply)
    ran(tmp_path, {"push-messages": 200}, bodies)
    (announced,) = [PushMessagesRequest.FromString(body) for name, body in bodies if name == "push-messages"]
    pushed = [PushObjectRequest.FromString(body) for name, body in bodies if name == "push-object"]
    assert announced.messages_list[0].metadata.message_id == reply.object_id
    assert {each.object_id for each in pushed} == set(get_all_nested_objects(reply))
    assert all(each.session_id == "" for each in pushed)
    assert not (tmp_path / TAKEN).exists()


@pytest.mark.parametrize(("kind", "said"), [("train.secure", "does not answer"), ("train", "was restarted")])
def test_what_may_be_asked_again_is(tmp_path, kind, said):
    """The agent of this site is gone, and says nothing; a round of plain aggregation would be made twice."""
    take_identity(1)
    question, bodies = Message(tell({"site": "a"}), 7, kind), []
    (tmp_path / TAKEN).write_bytes(kept(question))
    ran(tmp_path, {"push-messages": 200}, bodies)
    (announced,) = [PushMessagesRequest.FromString(body) for name, body in bodies if name == "push-messages"]
    assert said in announced.messages_list[0].error.reason


def test_a_disk_that_is_full_keeps_no_site_from_working(tmp_path, caplog):
    node = Node(None, "no socket", tmp_path / "gone", threading.Event())
    node._note(b"M")
    assert "could not be noted: No such file or directory" in caplog.text


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
