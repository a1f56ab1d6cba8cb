"""A site's side of Flower's Fleet interface: the only module of a site that uses what Flower keeps to itself.

Flower's own SuperNode looks for messages every three seconds, fetches the app that the coordinator ships, and starts a
process for every message. A site needs neither, so it speaks to the SuperLink by itself: it says that it is there,
takes messages, and pushes replies, each request signed by its node key. No code of the coordinator's is ever fetched.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any, TypeVar

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Message

from client.frames import LARGEST
from client.versions import other_flower
from fer_models.errors import EngineError, IdentityError

try:
    from flwr.app.message import remove_content_from_message
    from flwr.common.serde import message_from_proto, message_to_proto
    from flwr.proto.fleet_pb2 import (
        ActivateNodeRequest,
        DeactivateNodeRequest,
        PullMessagesRequest,
        PullMessagesResponse,
        PushMessagesRequest,
    )
    from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
    from flwr.proto.message_pb2 import Message as ProtoMessage
    from flwr.proto.message_pb2 import ObjectTree
    from flwr.proto.node_pb2 import Node as ProtoNode
    from flwr.supercore.inflatable.inflatable_object import (
        get_all_nested_objects,
        get_object_tree,
        iterate_object_tree,
        no_object_id_recompute,
    )
    from flwr.supercore.inflatable.inflatable_protobuf_utils import (
        make_confirm_message_received_fn_protobuf,
        make_pull_object_fn_protobuf,
        make_push_object_fn_protobuf,
    )
    from flwr.supercore.inflatable.inflatable_utils import (
        ObjectPullError,
        ObjectPushError,
        inflate_object_from_contents,
        pull_objects,
        push_objects,
    )
    from flwr.supercore.primitives.asymmetric import public_key_to_bytes
    from flwr.supernode.fleet_http_client import FleetHttpClient
    from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor
except ImportError as error:
    raise other_flower("sites speak to", error) from error

BEAT = 15.0
"""Seconds between two signs of life that are promised; after twice as many without one a site counts as gone."""

MOST_OBJECTS = 512
"""Parts of a message; Flower cuts arrays into parts of 5 MB."""

SOON, LATEST = 0.05, 1.0
"""Seconds to wait for a part of a message that its sender is still pushing: at first, and at most."""

T = TypeVar("T")


class RunEnded(Exception):
    """The run that a message is of has ended; nobody waits for an answer."""


class Unreachable(Exception):
    """The server does not answer for now, and why; the same may be tried again."""


class Asked:
    """A message that is taken, but for its content.

    Attributes
    ----------
    message : without content; a reply can be made to it.
    """

    def __init__(self, found: PullMessagesResponse) -> None:
        self._found, self.tree = found, found.message_object_trees[0]
        self.message: Message = message_from_proto(found.messages_list[0])

    def kept(self) -> bytes:
        """Return what :func:`noted` reads."""
        return HEAD + self._found.SerializeToString()


HEAD, WHOLE = b"T", b"M"
"""With which a note begins: of a message that was taken, and of one with its content, be it a question or a reply."""


def kept(message: Message) -> bytes:
    """Return a message with its content, as :func:`noted` reads it."""
    return WHOLE + message_to_proto(message).SerializeToString()


def noted(data: bytes) -> Asked | Message:
    """Return what :meth:`Asked.kept` or :func:`kept` wrote.

    Raises
    ------
    EngineError : it is damaged.
    """
    try:
        if data[:1] == HEAD:
            return Asked(PullMessagesResponse.FromString(data[1:]))
        if data[:1] != WHOLE:
            raise ValueError("no note")
        return message_from_proto(ProtoMessage.FromString(data[1:]))
    except Exception as error:  # protobuf raises what it likes
        raise EngineError("a note of a message that is damaged", cure="It is dropped.") from error


class Fleet:
    """The connection of one site to a SuperLink.

    Parameters
    ----------
    address : HOST:PORT.
    authority : certificate of the study's authority, PEM.
    key : by which the site signs every request.
    """

    def __init__(self, address: str, authority: str, key: ec.EllipticCurvePrivateKey) -> None:
        signing = NodeAuthHttpInterceptor(key, key.public_key())
        self._client = FleetHttpClient.from_server_address(address, False, authority.encode(), [signing])
        self._public = public_key_to_bytes(key.public_key())
        self._node = ProtoNode()

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    @property
    def number(self) -> int:
        """What the SuperLink calls the site, 0 before it is known."""
        return self._node.node_id

    def join(self, known: int = 0) -> int:
        """Say that the site is there, and return its number.

        Parameters
        ----------
        known : the number from an earlier time. A site that was killed counts as there for a while, and who is there
            cannot be let in once more; with its number it goes on.

        Raises
        ------
        Unreachable : the server does not answer.
        IdentityError : it turns the site away.
        """
        if known:
            self._node = ProtoNode(node_id=known)
            try:
                if self.beat():
                    return known
            except (
                IdentityError
            ):  # the number is of another server; the next question says whether the key is good
                pass
            self._node = ProtoNode()
        request = ActivateNodeRequest(public_key=self._public, heartbeat_interval=BEAT)
        self._node = ProtoNode(node_id=_asked(self._client.ActivateNode, request).node_id)
        return self.number

    def beat(self) -> bool:
        """Say that the site lives; return whether the SuperLink knows it. Raises as :meth:`join`."""
        request = SendNodeHeartbeatRequest(node=self._node, heartbeat_interval=BEAT)
        return _asked(self._client.SendNodeHeartbeat, request).success

    def leave(self) -> None:
        """Say that the site goes. Raises as :meth:`join`."""
        _asked(self._client.DeactivateNode, DeactivateNodeRequest(node_id=self.number))

    def take(self) -> Asked | None:
        """Return the next message, which is nobody else's from then on, None where there is none.

        Raises as :meth:`join`.
        """
        found = _asked(self._client.PullMessages, PullMessagesRequest(node=self._node))
        if not found.messages_list:
            return None
        return Asked(found)

    def content(self, asked: Asked) -> Message:
        """Return a message with its content.

        Raises
        ------
        Unreachable : the server does not answer.
        EngineError : the message is damaged.
        RunEnded : nobody waits for it.
        """
        run, tree = asked.message.metadata.run_id, asked.tree
        parts = [each.object_id for each in iterate_object_tree(tree)]
        if len(parts) > MOST_OBJECTS:
            raise EngineError(f"a message of {len(parts)} parts", cure="Run the same version everywhere.")
        pull = make_pull_object_fn_protobuf(_asking(self._client.PullObject), self._node, run)
        held: list[int] = []  # bytes of the parts so far, which no message may fill the memory with

        def bounded(identity: str) -> bytes:
            part = pull(identity)
            held.append(len(part))
            _require_short(sum(held))
            return part

        try:
            found = pull_objects(parts, bounded, max_time=60.0, initial_backoff=SOON, backoff_cap=LATEST)
        except ObjectPullError as error:
            raise EngineError("a part of a message is gone", cure="Run the study again.") from error
        confirmed = _asking(self._client.ConfirmMessageReceived)
        make_confirm_message_received_fn_protobuf(confirmed, self._node, run)(tree.object_id)
        return _inflated(tree, found)

    def push(self, reply: Message, *, again: bool = False) -> None:
        """Send a reply; the same reply may be sent again after an error, or by another process after a kill.

        How long the work took is not said: it follows the number of pictures.

        Parameters
        ----------
        again : the reply may have been announced before. The server then knows it, or has even handed it on, and waits
            for the parts that are missing.

        Raises
        ------
        Unreachable : the server does not answer.
        RunEnded : nobody waits for it.
        """
        reply.metadata.__dict__["_message_id"] = reply.object_id
        with no_object_id_recompute():
            request = PushMessagesRequest(
                node=self._node,
                messages_list=[message_to_proto(remove_content_from_message(reply))],
                message_object_trees=[get_object_tree(reply)],
                clientapp_runtime_list=[0.0],
            )
            found = _asked(self._client.PushMessages, request)
            parts, wanted = get_all_nested_objects(reply), set(found.objects_to_push)
            missing = {name: part for name, part in parts.items() if again and name not in wanted}
            try:
                push = self._pushing(reply, found.session_id)
                push_objects(parts, push, object_ids_to_push=wanted, keep_objects=True)
            except ObjectPushError as error:
                raise Unreachable("a part of a reply was not taken") from error
            push = self._pushing(reply, "")  # by no session: the one that they are missing in
            for name, part in missing.items():
                with contextlib.suppress(ObjectPushError):  # it is there, or nobody waits for it
                    push(name, part.deflate())

    def _pushing(self, reply: Message, session: str) -> Callable[[str, bytes], None]:
        return make_push_object_fn_protobuf(
            _asking(self._client.PushObject), self._node, reply.metadata.run_id, session
        )


def _require_short(size: int) -> None:
    if size > LARGEST:
        raise EngineError("a message that is too long", cure="Run the same version of FedFER everywhere.")


def _inflated(tree: ObjectTree, parts: dict[str, bytes]) -> Message:
    """Return the message of its parts.

    Raises
    ------
    EngineError : they make none.
    """
    try:
        message = inflate_object_from_contents(tree.object_id, parts)
        if not isinstance(message, Message) or not message.has_content():
            raise ValueError("no message")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise EngineError("a damaged message", cure="Run the same version of FedFER everywhere.") from error
    message.metadata.__dict__["_message_id"] = tree.object_id
    return message


def _asking(call: Callable[[Any], T]) -> Callable[[Any], T]:
    return lambda request: _asked(call, request)


def _asked(call: Callable[[Any], T], request: Any) -> T:
    """Return what the server answers.

    Raises
    ------
    Unreachable : nothing, for now.
    IdentityError : that the site has no business there.
    RunEnded : that the run has ended.
    """
    try:
        return call(request)
    except httpx.HTTPStatusError as error:
        status, said = error.response.status_code, _said(error.response)
        if status == httpx.codes.FORBIDDEN:
            raise RunEnded from None
        if status >= httpx.codes.INTERNAL_SERVER_ERROR or status in (408, 429):
            raise Unreachable(f"the server does not do what it is asked: {said}") from error
        raise IdentityError(f"the server turns the site away: {said}") from error
    except (httpx.RequestError, ValueError) as error:
        raise Unreachable(f"no connection to the server: {error}") from error


def _said(response: httpx.Response) -> str:
    """Return in a line what stands in a response that is an error."""
    try:
        found = json.loads(response.text)
        told = str(found.get("detail") or found.get("message") or found)
    except (ValueError, AttributeError, RecursionError):
        told = response.text
    return " ".join("".join(letter if letter.isprintable() else " " for letter in told).split())[:200]
