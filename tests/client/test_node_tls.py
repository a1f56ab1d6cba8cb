"""A node before servers that are not what they should be, over real TLS: it says in a line what is wrong, and waits."""

import datetime
import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from client.fleet import Fleet
from client.node import STATE, Node
from server.authority import make_authority, make_server_certificate

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


def certified(folder, host="localhost", then=NOW):
    """Return the certificates of an authority and of a server that it made one for at a time."""
    authority, server = (folder / "ca.key", folder / "ca.crt"), (folder / "key", folder / "crt")
    folder.mkdir()
    make_authority(*authority, "study", then)
    make_server_certificate(authority, *server, (host,), then)
    return authority[1].read_text(), server


def said(state, authority, port):
    """Run a node until it has said how its connection is, and return that."""
    ended = threading.Event()
    fleet = Fleet(f"localhost:{port}", authority, ec.generate_private_key(ec.SECP384R1()))
    node = Node(fleet, "no socket", state, ended)
    running = threading.Thread(target=node.run)
    running.start()
    until = time.monotonic() + 60
    try:
        while not (state / STATE).exists():
            assert time.monotonic() < until
            time.sleep(0.02)
        found = json.loads((state / STATE).read_text())
    finally:
        ended.set()
        running.join()
        fleet.close()
    assert json.loads((state / STATE).read_text())["state"] == "ended"
    return found["state"], found["why"]


@pytest.fixture
def serve():
    """serve(status, text, certificate): the port of a server that answers so; without a certificate it has no TLS."""
    running = []

    def make(status, text, certificate=None):
        class Answer(BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("localhost", 0), Answer)
        server.handle_error = lambda *_: None  # of clients that hang up, which is what is tested
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate[1], certificate[0])
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
        running.append(server)
        return server.server_address[1]

    yield make
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "text", "words"),
    [
        (
            401,
            '{"detail": "this key is of no site that takes part"}',
            "this key is of no site that takes part",
        ),
        (
            401,
            '{"detail": "the clocks of site and server differ by 412 seconds: set them (NTP)"}',
            "differ by 412",
        ),
        (412, '{"message": "not registered"}', "not registered"),
    ],
)
def test_who_is_turned_away_is_told_why(serve, tmp_path, status, text, words):
    authority, server = certified(tmp_path / "study")
    state, why = said(tmp_path, authority, serve(status, text, server))
    assert state == "turned away"
    assert words in why
    assert "\n" not in why


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("expired", "certificate has expired"),
        ("not begun", "certificate is not yet valid"),
        ("of another authority", "certificate verify failed"),
        ("of another host", "Hostname mismatch"),
        ("no TLS", "no connection to the server"),
        ("nobody there", "no connection to the server"),
    ],
)
def test_a_server_that_cannot_be_trusted_gets_nothing_and_is_told_in_a_line(serve, tmp_path, case, words):
    then = {"expired": NOW - 400 * DAY, "not begun": NOW + 2 * DAY}.get(case, NOW)
    host = "elsewhere" if case == "of another host" else "localhost"
    authority, server = certified(tmp_path / "study", host, then)
    if case == "of another authority":
        authority, _ = certified(tmp_path / "other")
    port = 1 if case == "nobody there" else serve(200, "", None if case == "no TLS" else server)
    state, why = said(tmp_path, authority, port)
    assert state == "not connected"
    assert words in why
    assert "\n" not in why
