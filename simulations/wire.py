"""Flower messages as frames of bytes, for workers on the same machine; no pickle.

A frame is JSON; the arrays of its messages follow as frames of raw bytes. An array that was the last one sent to a
worker is named instead of sent again, so that the round's weights go to each worker once.
"""

from __future__ import annotations

import base64
import json
from multiprocessing.connection import Connection
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict


class Sender:
    """Writes messages to one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._last: Array | None = None
        self._sent = 0

    def send(self, units: list[list[Message]]) -> None:
        """Send units of messages as one frame."""
        arrays: list[Array] = []
        heads = [[self._head(message, arrays) for message in unit] for unit in units]
        self._connection.send_bytes(json.dumps({"units": heads, "arrays": len(arrays)}).encode())
        for array in arrays:
            self._connection.send_bytes(array.data)

    def _head(self, message: Message, arrays: list[Array]) -> dict[str, Any]:
        meta = message.metadata
        head: dict[str, Any] = {
            "id": meta.message_id,
            "to": meta.dst_node_id,
            "from": meta.src_node_id,
            "answers": meta.reply_to_message_id,
            "type": meta.message_type,
            "group": meta.group_id,
        }
        if message.has_error():
            return head | {"error": [message.error.code, message.error.reason or ""]}
        records: dict[str, Any] = {}
        for name, record in message.content.items():
            if isinstance(record, ArrayRecord):
                records[name] = {"arrays": {key: self._array(a, arrays) for key, a in record.items()}}
            elif isinstance(record, MetricRecord):
                records[name] = {"metrics": dict(record)}
            else:
                records[name] = {"configs": {key: _plain(value) for key, value in record.items()}}
        return head | {"content": records}

    def _array(self, array: Array, arrays: list[Array]) -> dict[str, Any]:
        if array is not self._last:
            self._last = array
            self._sent += 1
            arrays.append(array)
        return {"number": self._sent, "dtype": array.dtype, "shape": list(array.shape), "stype": array.stype}


class Receiver:
    """Reads messages from one connection; the counterpart of :class:`Sender`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._number = 0
        self._data: dict[int, bytes] = {}

    def receive(self) -> list[list[dict[str, Any]]]:
        """Return the heads of the next frame, contents turned into record dictionaries."""
        frame = json.loads(self._connection.recv_bytes())
        newest = [self._connection.recv_bytes() for _ in range(frame["arrays"])]
        self._data |= {self._number + 1 + i: data for i, data in enumerate(newest)}
        self._number += len(newest)
        units = [[self._whole(head) for head in unit] for unit in frame["units"]]
        if newest:
            self._data = {self._number: newest[-1]}
        return units

    def _whole(self, head: dict[str, Any]) -> dict[str, Any]:
        if "content" in head:
            head["content"] = RecordDict({name: self._record(r) for name, r in head["content"].items()})
        return head

    def _record(self, record: dict[str, Any]) -> ArrayRecord | MetricRecord | ConfigRecord:
        if "arrays" in record:
            return ArrayRecord({key: self._array(facts) for key, facts in record["arrays"].items()})
        if "metrics" in record:
            return MetricRecord(record["metrics"])
        return ConfigRecord({key: _config(value) for key, value in record["configs"].items()})

    def _array(self, facts: dict[str, Any]) -> Array:
        data = self._data[facts["number"]]
        return Array(facts["dtype"], tuple(facts["shape"]), facts["stype"], data)


def _plain(value: Any) -> Any:
    """Return a configuration's value as JSON can hold it: bytes become an object of their base 64."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return {"bytes": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _config(value: Any) -> Any:
    """Return what :func:`_plain` was given."""
    if isinstance(value, list):
        return [_config(item) for item in value]
    return base64.b64decode(value["bytes"]) if isinstance(value, dict) else value


def reply_of(head: dict[str, Any], to: Message) -> Message:
    """Return the reply that a head describes, to the message that was sent."""
    if "error" in head:
        code, reason = head["error"]
        return Message(Error(code, reason), reply_to=to)
    return Message(head["content"], reply_to=to)
