"""The only door from outside to the SuperLink: for approved sites, and for what they need.

Flower's SuperLink serves three interfaces on one port: for sites (fleet), for whoever starts and stops runs (control),
and for the processes that run apps (runtime). Control asks nobody who they are. So the SuperLink listens on the machine
itself alone, and this process stands before it: it speaks TLS with the study's certificate and lets a request pass that

- is one of :data:`PATHS`, letter by letter,
- carries the public key of a site that takes part, read from the list of sites as it is now,
- and is signed with that key, at about this time.

All others get an answer here, and nothing of theirs reaches the SuperLink. It checks the signature again.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import ssl
import sys
from base64 import b64decode
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from flwr.supercore.primitives.asymmetric import bytes_to_public_key, public_key_to_bytes, verify_signature
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from fer_models.errors import IdentityError
from server.coordinator import Coordinator

PATHS = frozenset(
    f"/v1/fleet/{each}".encode()
    for each in (
        "activate-node", "deactivate-node", "send-node-heartbeat", "pull-messages", "push-messages", "pull-object",
        "push-object", "confirm-message-received",
    )
)  # fmt: skip
"""What a site asks of the SuperLink. Registering is the coordinator's, and no site fetches code."""

FIRST = b"/v1/fleet/activate-node"
"""With which a site begins."""

LARGEST = 1 << 26
"""Bytes of a request; Flower cuts larger objects up."""

PATIENCE = 60.0
"""Seconds for a request's body to arrive, and for the SuperLink's answer."""

HEAD_SECONDS, LONGEST_HEAD = 10.0, 1 << 16
"""Seconds for the head of a request to arrive whole, from when the connection is there, and its bytes at most."""

EARLIEST, LATEST = -60.0, 300.0
"""Seconds by which a request may be from the future or old, where clocks differ."""

MOST = 512
"""Requests at one time."""

KEPT = (b"flwr-superexec", b"flwr-task")
"""Flower's headers that prove who is inside; they do not pass."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Refusal(Exception):
    """Why a request does not pass.

    Parameters
    ----------
    status : of HTTP.
    what : for whoever reads the site's log.
    """

    def __init__(self, status: int, what: str) -> None:
        super().__init__(what)
        self.status, self.what = status, what


class Approved:
    """Public keys of the nodes of all sites that take part now; read again when the list changes."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._read: tuple[int, int] | None = None
        self._keys: frozenset[bytes] = frozenset()

    def __call__(self) -> frozenset[bytes]:
        """Return the keys, as Flower writes them.

        Raises
        ------
        IdentityError : the list cannot be read; then nobody passes.
        """
        try:
            facts = (self._coordinator.path / "sites.json").stat()
        except OSError as error:
            raise IdentityError("the list of sites is gone", where=str(self._coordinator.path)) from error
        if self._read != (facts.st_ino, facts.st_mtime_ns):
            self._keys = frozenset(flower_key(each.node_key) for each in self._coordinator.enrolled().active)
            self._read = facts.st_ino, facts.st_mtime_ns
        return self._keys


def flower_key(line: str) -> bytes:
    """Return a public key as Flower writes it, from a line of OpenSSH."""
    return public_key_to_bytes(load_ssh_public_key(line.encode()))  # type: ignore[arg-type]


def require_signed(headers: dict[bytes, bytes], approved: frozenset[bytes], now: datetime.datetime) -> None:
    """Refuse a request that no approved site has signed at about this time.

    Raises
    ------
    Refusal : what is wrong; a stranger does not learn which keys are known.
    """
    try:
        key = b64decode(headers[b"flwr-public-key"], validate=True)
        signature = b64decode(headers[b"flwr-signature"], validate=True)
        stamp = headers[b"flwr-timestamp"]
        age = (now - datetime.datetime.fromisoformat(stamp.decode("ascii"))).total_seconds()
        known = key in approved and verify_signature(bytes_to_public_key(key), stamp, signature)
    except (KeyError, ValueError, TypeError):
        known, age = False, 0.0
    if not known:
        raise Refusal(401, "this key is of no site that takes part: not approved yet, or revoked")
    if not EARLIEST <= age <= LATEST:
        raise Refusal(401, f"the clocks of site and server differ by {abs(age):.0f} seconds: set them (NTP)")


class Prompt(HttpToolsProtocol):
    """A connection that is closed when the head of a request does not come in time, or has no end.

    Else a stranger could hold all :data:`MOST` connections with a byte now and then, before anybody asks who they are.
    """

    _due: asyncio.TimerHandle | None = None
    _held = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first head."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Look whether what has come is a whole head."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._wait_no_more()  # the body, and the answer, have their own time
            return
        self._held += len(data)
        if self._held > LONGEST_HEAD:
            self.transport.close()
        elif self._due is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._wait_no_more()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._due = asyncio.get_running_loop().call_later(HEAD_SECONDS, self.transport.close)

    def _wait_no_more(self) -> None:
        if self._due is not None:
            self._due.cancel()
        self._due, self._held = None, 0


class Gate:
    """The door, an ASGI application.

    Parameters
    ----------
    inner : address of the SuperLink, https://HOST:PORT.
    context : by which its certificate is checked.
    approved : public keys of the sites that take part now.
    """

    def __init__(self, inner: str, context: ssl.SSLContext, approved: Callable[[], frozenset[bytes]]) -> None:
        self._client = httpx.AsyncClient(
            base_url=inner,
            verify=context,
            timeout=PATIENCE,
            limits=httpx.Limits(max_connections=MOST),
            trust_env=False,  # the SuperLink is on this machine, whatever proxy stands in the environment
        )
        self._approved = approved

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request pass, or answer it here."""
        if scope["type"] != "http":
            return
        try:
            status, kind, content = await self._answer(scope, receive)
        except Refusal as refusal:
            status, kind = refusal.status, b"application/json"
            content = json.dumps({"code": refusal.status, "detail": refusal.what}).encode()
        headers = [(b"content-type", kind), (b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, bytes, bytes]:
        path, headers = scope["raw_path"], dict(scope["headers"])
        if scope["method"] != "POST" or path not in PATHS or scope["query_string"]:
            raise Refusal(404, "nothing is here")
        try:
            approved = self._approved()
        except IdentityError as error:
            raise Refusal(503, "the list of sites cannot be read") from error
        try:
            require_signed(headers, approved, datetime.datetime.now(datetime.UTC))
        except Refusal as refusal:
            # Flower's own SuperNode ends without a word at 401; on its first question another code lets it say why.
            raise Refusal(412 if path == FIRST else 401, refusal.what) from None
        body = await _body(headers, receive)
        passed = [(name, value) for name, value in scope["headers"] if _passes(name)]
        try:
            found = await self._client.post(
                path.decode("ascii"), content=body, headers=[*passed, (b"accept-encoding", b"identity")]
            )
        except httpx.TransportError as error:
            raise Refusal(503, "the SuperLink does not answer; it is being started again") from error
        return found.status_code, found.headers.get("content-type", "").encode(), found.content


def _passes(header: bytes) -> bool:
    return header in (b"content-type", b"accept") or (
        header.startswith(b"flwr-") and not header.startswith(KEPT)
    )


async def _body(headers: dict[bytes, bytes], receive: Receive) -> bytes:
    """Return a request's body.

    Raises
    ------
    Refusal : it is too long or too slow.
    """
    told = headers.get(b"content-length", b"0")
    if not told.isdigit() or int(told) > LARGEST:
        raise Refusal(413, "too long")
    parts: list[bytes] = []
    size, more = 0, True
    try:
        async with asyncio.timeout(PATIENCE):
            while more:
                event = await receive()
                parts.append(event.get("body", b""))
                size += len(parts[-1])
                if size > LARGEST:
                    raise Refusal(413, "too long")
                more = event["type"] == "http.request" and event.get("more_body", False)
    except TimeoutError as error:
        raise Refusal(408, "too slow") from error
    return b"".join(parts)


def main(folder: str) -> None:
    """Serve as the door of a coordinator, until the process is ended."""
    coordinator = Coordinator.open(Path(folder))
    context = ssl.create_default_context(cafile=str(coordinator.authority[1]))
    key, certificate = coordinator.certificate
    uvicorn.run(
        Gate(f"https://127.0.0.1:{coordinator.inner_port}", context, Approved(coordinator)),
        host="",  # all addresses of this machine
        port=coordinator.port,
        ssl_keyfile=str(key),
        ssl_certfile=str(certificate),
        http=Prompt,
        ws="none",
        lifespan="off",
        limit_concurrency=MOST,
        server_header=False,
        date_header=False,
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main(sys.argv[1])
