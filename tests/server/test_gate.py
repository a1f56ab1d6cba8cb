"""The gate's decisions, one by one, without a socket; tests/server/test_serving.py has it before a real SuperLink."""

import asyncio
import contextlib
import datetime
import json
import socket
import ssl
import threading
import time
from base64 import b64encode

import pytest
import uvicorn
from flwr.supercore.primitives.asymmetric import generate_key_pairs, public_key_to_bytes, sign_message

import server.gate
from fer_models.errors import IdentityError
from server.coordinator import Coordinator
from server.gate import EARLIEST, LARGEST, LATEST, PATHS, Approved, Gate, Prompt, Refusal, require_signed

NOW = datetime.datetime.now(datetime.UTC)
PRIVATE, PUBLIC = generate_key_pairs()
KEY = public_key_to_bytes(PUBLIC)


def headers(age=0.0, key=KEY, signed_with=PRIVATE, stamp=None):
    stamp = (stamp or (NOW - datetime.timedelta(seconds=age)).isoformat()).encode()
    return {
        b"flwr-public-key": b64encode(key),
        b"flwr-timestamp": stamp,
        b"flwr-signature": b64encode(sign_message(signed_with, stamp)),
    }


@pytest.mark.parametrize("age", [0, EARLIEST, LATEST])
def test_an_approved_site_passes(age):
    require_signed(headers(age), frozenset({KEY}), NOW)


@pytest.mark.parametrize("age", [EARLIEST - 1, LATEST + 1])
def test_a_wrong_clock_is_told_to_who_is_known(age):
    with pytest.raises(Refusal, match=r"clocks .* differ by \d+ seconds"):
        require_signed(headers(age), frozenset({KEY}), NOW)
    with pytest.raises(Refusal, match="no site that takes part"):
        require_signed(headers(age), frozenset(), NOW)


def without(name):
    return {key: value for key, value in headers().items() if key != name}


@pytest.mark.parametrize(
    "given",
    [
        {},
        without(b"flwr-public-key"),
        without(b"flwr-timestamp"),
        without(b"flwr-signature"),
        {**headers(), b"flwr-signature": b"!"},
        {**headers(), b"flwr-signature": b64encode(b"short")},
        {**headers(), b"flwr-public-key": b"\xff"},
        headers(signed_with=generate_key_pairs()[0]),
        headers(stamp="yesterday"),
        headers(stamp="2026-01-01T00:00:00"),  # without a zone
        {**headers(), b"flwr-timestamp": headers(1)[b"flwr-timestamp"]},
    ],
)
def test_all_others_are_refused_alike(given):
    with pytest.raises(Refusal, match="no site that takes part") as refusal:
        require_signed(given, frozenset({KEY}), NOW)
    assert refusal.value.status == 401


def ask(path, given, approved=lambda: frozenset({KEY}), method="POST", query=b"", body=(b"",)):
    """What the gate answers, with nothing behind it."""
    gate = Gate("https://127.0.0.1:9", ssl.create_default_context(), approved)
    said, parts = [], list(body)

    async def receive():
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(event):
        said.append(event)

    scope = {
        "type": "http",
        "method": method,
        "raw_path": path,
        "query_string": query,
        "headers": list(given.items()),
    }
    asyncio.run(gate(scope, receive, send))
    return said[0]["status"], json.loads(said[1]["body"])["detail"]


@pytest.fixture
def now():
    """Headers that are signed at this moment."""
    return headers(stamp=datetime.datetime.now(datetime.UTC).isoformat())


def test_what_passes_is_sent_on_and_its_absence_told(now):
    for path in sorted(PATHS):
        assert ask(path, now) == (503, "the SuperLink does not answer; it is being started again")


@pytest.mark.parametrize(
    "path",
    [b"/v1/control/start-run", b"/v1/fleet/register-node", b"/v1/fleet/unregister-node",
     b"/v1/fleet/../control/list-runs", b"/v1/fleet/pull-messages/", b"//v1/fleet/pull-messages",
     b"/v1/fleet/pull%2dmessages", b"/V1/fleet/pull-messages",
     b"/v1/runtime/acquire-task", b"/health", b"/docs", b"/", b""],
)  # fmt: skip
def test_no_other_path_is_there_even_for_a_site(path, now):
    assert ask(path, now) == (404, "nothing is here")


def test_no_other_method_and_no_query_is_there(now):
    path = b"/v1/fleet/pull-messages"
    assert ask(path, now, method="GET")[0] == 404
    assert ask(path, now, query=b"a=1")[0] == 404


def test_a_stranger_is_refused_before_the_body_is_read():
    assert ask(b"/v1/fleet/pull-messages", {}, body=())[0] == 401
    assert ask(b"/v1/fleet/activate-node", {}, body=())[0] == 412


def test_what_is_too_long_is_refused(now):
    path = b"/v1/fleet/push-object"
    assert ask(path, {**now, b"content-length": str(LARGEST + 1).encode()}, body=())[0] == 413
    assert ask(path, {**now, b"content-length": b"-1"}, body=())[0] == 413
    part = b"x" * (LARGEST // 2 + 1)
    assert ask(path, now, body=(part, part))[0] == 413


def test_nobody_passes_where_the_list_cannot_be_read(now):
    def damaged():
        raise IdentityError("damaged")

    assert ask(b"/v1/fleet/pull-messages", now, damaged)[0] == 503


def test_the_list_is_read_again_when_it_changes(tmp_path):
    coordinator = Coordinator.make(tmp_path / "study", "study", ["localhost"], 9443, NOW)
    approved = Approved(coordinator)
    assert approved() == frozenset()
    (coordinator.path / "sites.json").unlink()
    with pytest.raises(IdentityError):
        approved()
    (coordinator.path / "sites.json").write_text("{}")
    with pytest.raises(IdentityError, match="damaged"):
        approved()


def test_no_proxy_comes_between_gate_and_superlink(now, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        proxy.settimeout(0.2)
        status, _ = ask(b"/v1/fleet/pull-messages", now)
        with pytest.raises(TimeoutError):
            proxy.accept()
    assert status == 503


@pytest.fixture
def door(monkeypatch):
    """The port of a gate on loopback, without TLS, where heads have little time."""
    monkeypatch.setattr(server.gate, "HEAD_SECONDS", 0.4)
    monkeypatch.setattr(server.gate, "LONGEST_HEAD", 5000)
    gate = Gate("https://127.0.0.1:9", ssl.create_default_context(), lambda: frozenset({KEY}))
    running = uvicorn.Server(
        uvicorn.Config(gate, "127.0.0.1", 0, http=Prompt, ws="none", lifespan="off", log_level="warning")
    )
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    yield running.servers[0].sockets[0].getsockname()[1]
    running.should_exit = True
    thread.join()


def heard(connection):
    """What comes on a connection until the other side closes it, and after how many seconds that is."""
    began, parts = time.monotonic(), []
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(4096):
            parts.append(part)
    return b"".join(parts), time.monotonic() - began


@pytest.mark.parametrize("sent", [b"", b"POST /v1/fleet/activate-node HTTP/1.1\r\nhost: a\r\n"])
def test_a_head_that_does_not_end_is_not_waited_for(door, sent):
    with socket.create_connection(("127.0.0.1", door), timeout=10) as connection:
        connection.sendall(sent)
        assert heard(connection)[1] < 2


def test_a_byte_now_and_then_does_not_keep_a_connection(door):
    with socket.create_connection(("127.0.0.1", door), timeout=10) as connection:
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            for letter in b"POST / HTTP/1.1\r\n" + b"x" * 50:
                connection.sendall(bytes([letter]))
                time.sleep(0.05)
        assert heard(connection)[0] == b""
        assert time.monotonic() - began < 3.3


def test_a_head_without_end_is_cut_off(door, monkeypatch):
    monkeypatch.setattr(server.gate, "HEAD_SECONDS", 60.0)
    with socket.create_connection(("127.0.0.1", door), timeout=10) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(b"POST / HTTP/1.1\r\n" + b"name: value\r\n" * 1000)
        assert heard(connection)[0] == b""


def test_a_connection_serves_one_request_after_the_other(door):
    """And what it waits for between two of them is not for the head of the first."""
    request = b"POST /nothing HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"
    with socket.create_connection(("127.0.0.1", door), timeout=10) as connection:
        for pause in (0.0, 0.6, 0.6):
            time.sleep(pause)
            connection.sendall(request)
            assert connection.recv(4096).startswith(b"HTTP/1.1 404")
