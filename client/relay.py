"""The Flower ClientApp of a deployed site: it hands every message to the site's agent, and the agent's answer back.

It holds no data, no key and no state; the agent believes it nothing. The coordinator ships a bundle that names it.
"""

from __future__ import annotations

import os

import grpc
from flwr.app import Context, Message, RecordDict

from client.client_app import app_of
from client.failures import error_to_wire
from client.frames import LARGEST, Frame, from_bytes, to_bytes
from fer_models.errors import EngineError, FedferError

SOCKET = "FEDFER_AGENT"
"""Variable of the environment that names the agent's socket; the SuperNode hands it on."""

METHOD = "/fedfer.Agent/Answer"

OPTIONS = (("grpc.max_receive_message_length", LARGEST), ("grpc.max_send_message_length", LARGEST))

PATIENCE = 3600.0
"""Seconds that the agent may work on an answer."""

MISSING = EngineError("the site's agent does not answer", cure="At the site, see fedfer site status DIR.")


def ask(socket: str, kind: str, message: Message) -> Message:
    """Return the agent's reply to a message, or an error in place of one."""
    try:
        question = to_bytes(Frame(kind, message.content))
        with grpc.insecure_channel(f"unix:{socket}", options=OPTIONS) as channel:
            answer = from_bytes(channel.unary_unary(METHOD)(question, timeout=PATIENCE))
    except FedferError as error:
        return Message(error_to_wire(error), reply_to=message)
    except grpc.RpcError:
        return Message(error_to_wire(MISSING), reply_to=message)
    if answer.error is not None:
        return Message(answer.error, reply_to=message)
    return Message(answer.content or RecordDict(), reply_to=message)


def _relay(kind: str, message: Message, _: Context) -> Message:
    return ask(os.environ.get(SOCKET, ""), kind, message)


app = app_of(_relay)
"""What the bundle names."""
