"""Questions to a site's agent through its socket, and its answers; the agent believes whoever asks nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import grpc
from flwr.app import Message, RecordDict

from client.failures import error_to_wire
from client.frames import LARGEST, Frame, from_bytes, to_bytes
from fer_models.errors import EngineError, FedferError

ANSWER, STATUS = "/fedfer.Agent/Answer", "/fedfer.Agent/Status"

OPTIONS = (("grpc.max_receive_message_length", LARGEST), ("grpc.max_send_message_length", LARGEST))

PATIENCE = 3600.0
"""Seconds that the agent may work on an answer."""

TICK = 0.2
"""Seconds between two looks at whether the answer is still wanted."""

MISSING = EngineError("the site's agent does not answer", cure="At the site, see fedfer site status DIR.")


class Stopped(Exception):
    """The answer is no longer wanted."""


def ask(socket: str, message: Message, stopped: Callable[[], bool] = lambda: False) -> Message:
    """Return the agent's reply to a message, or an error in place of one.

    Raises
    ------
    Stopped : ``stopped`` says so before there is an answer.
    """
    try:
        question = to_bytes(Frame(message.metadata.message_type, message.content))
        with grpc.insecure_channel(f"unix:{socket}", options=OPTIONS) as channel:
            call = channel.unary_unary(ANSWER).future(question, timeout=PATIENCE)
            answer = from_bytes(_waited(call, stopped))
    except FedferError as error:
        return Message(error_to_wire(error), reply_to=message)
    except grpc.RpcError:
        return Message(error_to_wire(MISSING), reply_to=message)
    if answer.error is not None:
        return Message(answer.error, reply_to=message)
    return Message(answer.content or RecordDict(), reply_to=message)


def _waited(call: Any, stopped: Callable[[], bool]) -> bytes:
    while True:
        try:
            return call.result(timeout=TICK)
        except grpc.FutureTimeoutError:
            if stopped():
                call.cancel()
                raise Stopped from None


def status(socket: str) -> dict[str, Any] | None:
    """Return what an agent says of itself, None where it does not answer."""
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        try:
            return json.loads(channel.unary_unary(STATUS)(b"", timeout=5))
        except grpc.RpcError:
            return None
