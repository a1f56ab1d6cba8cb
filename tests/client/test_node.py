"""A site's node against servers that forbid, do not know what it speaks of, or are gone: real requests, no network."""

import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import certifi
import grpc
import httpx
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Message
from flwr.proto.fleet_pb2 import ActivateNodeResponse, PushMessagesRequest
from flwr.proto.message_pb2 import PushObjectRequest
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

import client.node as node
from client.agent_service import SERVICE
from client.fleet import Fleet, Unreachable, kept, noted
from client.frames import Frame, from_bytes, to_bytes
from client.messages import pack, tell
from client.node import FORBIDDEN, OLDEST, PATIENCE, STATE, TAKEN, Node
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
def test_what_may_be_asked_again_is(tmp_path, kind, said, monkeypatch):
    """The agent of this site is gone, and says nothing; a round of plain aggregation would be made twice."""
    monkeypatch.setattr(node, "RESTARTING", 0.0)
    take_identity(1)
    question, bodies = Message(tell({"site": "a"}), 7, kind), []
    (tmp_path / TAKEN).write_bytes(kept(question))
    ran(tmp_path, {"push-messages": 200}, bodies)
    (announced,) = [PushMessagesRequest.FromString(body) for name, body in bodies if name == "push-messages"]
    assert said in announced.messages_list[0].error.reason


class Restarted:
    """An agent that is killed at its first question, and answers after its restart."""

    def __init__(self, socket):
        self.socket, self.asked = socket, []
        self.server = self.served()

    def served(self):
        methods = {"Answer": self.answer, "Status": lambda *_: b"{}"}
        handlers = {name: grpc.unary_unary_rpc_method_handler(each) for name, each in methods.items()}
        server = grpc.server(
            ThreadPoolExecutor(2), handlers=[grpc.method_handlers_generic_handler(SERVICE, handlers)]
        )
        server.add_insecure_port(f"unix:{self.socket}")
        server.start()
        return server

    def answer(self, request, context):
        self.asked.append(from_bytes(request).kind)
        if len(self.asked) == 1:
            threading.Thread(target=self.restart).start()
            context.abort(grpc.StatusCode.UNAVAILABLE, "killed")
        return to_bytes(Frame(content=tell({"site": "a"})))

    def restart(self):
        self.server.stop(0).wait()
        time.sleep(0.3)
        self.server = self.served()


@pytest.mark.parametrize(("kind", "times"), [("train.secure", 2), ("train", 1)])
def test_an_agent_that_is_killed_is_waited_for_and_asked_again(tmp_path, kind, times):
    take_identity(1)
    agent, ended = Restarted(tmp_path / "a.sock"), threading.Event()
    reply = Node(None, str(agent.socket), tmp_path, ended)._asked(Message(tell({"site": "a"}), 7, kind))
    assert agent.asked == [kind] * times
    assert reply.has_error() == (times == 1)
    ended.wait(0.5)  # until it is there again, and can be stopped
    agent.server.stop(0).wait()


def test_a_node_that_was_killed_asks_again_twice_and_not_what_nobody_waits_for(tmp_path, monkeypatch):
    """Each time may be a training that the ledger pays for."""
    take_identity(1)
    own = Node(None, "no socket", tmp_path, threading.Event())
    monkeypatch.setattr(
        own, "_asked", lambda question, restarts: Message(tell({"site": "a"}), reply_to=question)
    )
    question = Message(tell({"site": "a"}), 7, "train.secure")
    question.metadata.__dict__["_message_id"] = "one"
    assert [own._owed(question, 1.0).has_error() for _ in range(4)] == [False, False, True, True]
    question.metadata.__dict__["_message_id"] = "another"
    assert own._owed(question, OLDEST + 1).has_error()
    assert not own._owed(question, 1.0).has_error()


def test_a_disk_that_is_full_keeps_no_site_from_working(tmp_path, caplog):
    Node(None, "no socket", tmp_path / "gone", threading.Event())._note(b"M")
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
    own = Node(fleet, "no socket", tmp_path, threading.Event())
    assert own._patiently(fleet.push) == "pushed"
    assert json.loads((tmp_path / STATE).read_text())["state"] == "connected"
