"""Messages between a site's node and its agent: the facts as JSON, and the bytes of one array.

A frame is the length of its head (4 bytes, little endian), the head as JSON, and the array. The same two functions
write and read it on both sides; whatever is not exactly such a frame is refused. This module needs nothing that a
site's work needs, so that the node stays small.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Error, RecordDict

from fer_models.errors import EngineError

LARGEST = 1 << 30
"""Bytes of a frame."""

LONGEST_HEAD = 1 << 26
"""Bytes of a head: it holds a plan, and in secure aggregation a roll with everybody's keys."""

FACTS, VECTOR = "facts", "vector"
"""The only records of a message."""

JSON = "json"
"""Where the facts stand in their record."""

LENGTH = struct.Struct("<I")

CURE = "Run the same version of FedFER everywhere."


@dataclass(frozen=True)
class Frame:
    """What travels: a question of some type, an answer, or an error in place of one.

    Attributes
    ----------
    kind : type of the message, empty in an answer.
    content : facts and vector, None where there is an error.
    error : Flower's error.
    """

    kind: str = ""
    content: RecordDict | None = None
    error: Error | None = None


def to_bytes(frame: Frame) -> bytes:
    """Return a frame as it travels.

    Raises
    ------
    EngineError : the message holds other records than ours.
    """
    head: dict[str, Any] = {"type": frame.kind}
    data = b""
    if frame.error is not None:
        head["error"] = [frame.error.code, frame.error.reason or ""]
    for name, record in (frame.content or RecordDict()).items():
        if name == FACTS and isinstance(record, ConfigRecord) and set(record) == {JSON}:
            head[FACTS] = record[JSON]
        elif name == VECTOR and isinstance(record, ArrayRecord) and set(record) == {VECTOR}:
            array = record[VECTOR]
            head[VECTOR] = {"dtype": array.dtype, "shape": list(array.shape), "stype": array.stype}
            data = array.data
        else:
            raise EngineError(f"a message with a record {str(name)[:40]!r}", cure=CURE)
    text = json.dumps(head).encode()
    return b"".join((LENGTH.pack(len(text)), text, data))


def from_bytes(data: bytes) -> Frame:
    """Return the frame of some bytes.

    Raises
    ------
    EngineError : they are none.
    """
    try:
        (length,) = LENGTH.unpack_from(data)
        start = LENGTH.size + length
        if length > LONGEST_HEAD or start > len(data) or len(data) > LARGEST:
            raise ValueError("too long")
        head = json.loads(data[LENGTH.size : start])
        if not set(head) <= {"type", "error", FACTS, VECTOR} or type(head["type"]) is not str:
            raise ValueError("unknown")
        if "error" in head:
            code, reason = head["error"]
            if type(code) is not int or type(reason) is not str or len(head) > 2 or start < len(data):
                raise ValueError("no error")
            return Frame(head["type"], None, Error(code, reason))
        return Frame(head["type"], _content(head, data[start:]))
    except (struct.error, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise EngineError("a damaged message between node and agent", cure=CURE) from error


def _content(head: dict[str, Any], data: bytes) -> RecordDict:
    """Return the records of a head and the bytes after it."""
    content = RecordDict()
    if VECTOR in head:
        facts = head[VECTOR]
        (length,) = facts["shape"]
        kinds = [type(facts["dtype"]), type(facts["stype"]), type(length)]
        if set(facts) != {"dtype", "shape", "stype"} or kinds != [str, str, int]:
            raise ValueError("no array")
        record = ArrayRecord()
        record[VECTOR] = Array(facts["dtype"], (length,), facts["stype"], data)
        content[VECTOR] = record
    elif data:
        raise ValueError("bytes of no array")
    if FACTS in head:
        if type(head[FACTS]) is not str:
            raise ValueError("no facts")
        content[FACTS] = ConfigRecord({JSON: head[FACTS]})
    return content
