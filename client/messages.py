"""What travels between coordinator and site: one flat array a message, and a few scalars.

The same functions write and read a message on both sides. Everything that arrives is checked for its kind and size.
"""

from __future__ import annotations

import functools
import io
import json
import sys
import tokenize
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray

from fer_models.errors import EngineError

NPY = "numpy.ndarray"
"""Flower's name for an array whose bytes are those of an .npy file."""

FACTS = "json"
"""Where a message's numbers and texts stand in their record."""


def pack(vector: NDArray[Any], facts: Mapping[str, int | float | str]) -> RecordDict:
    """Return the content of a message: one flat array, and a few numbers and texts."""
    kind = vector.dtype.str
    data = b"".join((_head_of(kind, len(vector)), np.ascontiguousarray(vector).data))
    record = ArrayRecord()
    record["vector"] = Array(_name_of(kind), vector.shape, NPY, data)  # set, not given: that costs a third
    return RecordDict({"vector": record, "facts": _recorded(facts)})


def pack_parts(parts: Sequence[NDArray[Any]], facts: Mapping[str, int | float | str]) -> RecordDict:
    """Return the content of a message that holds several flat arrays as one, byte after byte."""
    data = [np.ascontiguousarray(part).data.cast("B") for part in parts]
    size = sum(len(each) for each in data)
    record = ArrayRecord()
    record["vector"] = Array("uint8", (size,), NPY, b"".join((_head_of("|u1", size), *data)))
    return RecordDict({"vector": record, "facts": _recorded(facts)})


def tell(facts: Mapping[str, int | float | str]) -> RecordDict:
    """Return the content of a message without an array."""
    return RecordDict({"facts": _recorded(facts)})


def _recorded(facts: Mapping[str, int | float | str]) -> ConfigRecord:
    """Return facts as one text: Flower looks at every entry of a record, which takes longer than writing all."""
    return ConfigRecord({FACTS: json.dumps(dict(facts))})


@functools.lru_cache(maxsize=16)
def _name_of(kind: Any) -> str:
    """Return numpy's name of a type, which numpy makes anew each time."""
    return np.dtype(kind).name


@functools.lru_cache(maxsize=16)
def _head_of(dtype: str, length: int) -> bytes:
    """Return the bytes that an .npy file of a flat array begins with."""
    file = io.BytesIO()
    head = {"descr": dtype, "fortran_order": False, "shape": (length,)}
    np.lib.format.write_array_header_1_0(file, head)
    return file.getvalue()


def vector_of(content: RecordDict, dtype: type[np.generic], size: int | None = None) -> NDArray[Any]:
    """Return the array of a message, read only where the message's bytes allow it.

    Raises
    ------
    EngineError : the array is missing, or of another type or size than expected.
    """
    record = content.get("vector")
    array = record.get("vector") if isinstance(record, ArrayRecord) else None
    if array is None or array.dtype != _name_of(dtype) or len(array.shape) != 1:
        raise EngineError(
            "a message without a flat vector", cure="Run the same version of FedFER everywhere."
        )
    if size is not None and array.shape[0] != size:
        raise EngineError(
            f"a vector of {array.shape[0]} values where {size} were expected",
            cure="Run the same plan and version of FedFER everywhere.",
        )
    return _opened(array, np.dtype(dtype))


def parts_of(content: RecordDict, *parts: tuple[type[np.generic], int]) -> list[NDArray[Any]]:
    """Return the arrays that :func:`pack_parts` was given, by their types and sizes.

    Raises
    ------
    EngineError : the message holds none, or not as many bytes.
    """
    sizes = [np.dtype(kind).itemsize * size for kind, size in parts]
    whole, start, found = vector_of(content, np.uint8, sum(sizes)), 0, []
    for (kind, _), size in zip(parts, sizes, strict=True):
        found.append(whole[start : start + size].view(kind))
        start += size
    return found


def _opened(array: Array, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the array's values as a view of the message's bytes: what ``array.numpy()`` gives, without a copy."""
    start = len(array.data) - array.shape[0] * dtype.itemsize
    if array.stype != NPY or start < 10 or not array.data.startswith(b"\x93NUMPY"):
        raise EngineError(
            "a message without a flat vector", cure="Run the same version of FedFER everywhere."
        )
    header = _header(array.data[:start])
    if header != (array.shape, False, dtype):
        raise EngineError(
            "a vector that is not what it says", cure="Run the same version of FedFER everywhere."
        )
    return np.frombuffer(array.data, dtype, offset=start)


def tensor_of(vector: NDArray[Any]) -> torch.Tensor:
    """Return a tensor over a vector of a message, without a copy; it must not be written to."""
    _hear_of_read_only()
    return torch.from_numpy(vector)


@functools.cache
def _hear_of_read_only() -> None:
    """Let torch say, which it does once a process, that arrays which must not be written to cannot be marked so."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        torch.from_numpy(np.frombuffer(bytes(4), np.float32))


@functools.lru_cache(maxsize=16)
def _header(head: bytes) -> tuple[Any, ...]:
    """Return (shape, Fortran order, dtype) of the header of an .npy file; one parse for all messages alike."""
    file = io.BytesIO(head)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # numpy warns of a header that only its tolerant parser can read
            np.lib.format.read_magic(file)
            found = np.lib.format.read_array_header_1_0(file)
    except (ValueError, SyntaxError, tokenize.TokenError, Warning) as error:
        raise EngineError("a damaged vector", cure="Run the same version of FedFER everywhere.") from error
    if file.tell() != len(head):
        raise EngineError("a damaged vector", cure="Run the same version of FedFER everywhere.")
    return found


def facts_of(content: RecordDict) -> Mapping[str, Any]:
    """Return the numbers and texts of a message, none where there are none or they are damaged."""
    record = content.get("facts")
    told = record.get(FACTS) if isinstance(record, ConfigRecord) else None
    return _read(told) if isinstance(told, str) else {}


@functools.lru_cache(maxsize=4)
def _read(told: str) -> Mapping[str, Any]:
    """Return the facts of a text, none where it is damaged; kept, because one is asked for after the other."""
    try:
        found = json.loads(told)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def scalar(content: RecordDict, name: str) -> float:
    """Return one finite number of a message."""
    value = facts_of(content).get(name)
    if not isinstance(value, (int, float)) or not abs(value) <= sys.float_info.max:  # NaN is not, either
        raise EngineError(f"a message without {name}", cure="Run the same version of FedFER everywhere.")
    return value


def text(content: RecordDict, name: str) -> str:
    """Return one text of a message."""
    value = facts_of(content).get(name)
    if not isinstance(value, str):
        raise EngineError(f"a message without {name}", cure="Run the same version of FedFER everywhere.")
    return value


def optional_text(content: RecordDict, name: str) -> str | None:
    """Return one text of a message, None when it is not there."""
    return text(content, name) if name in facts_of(content) else None


def with_facts(content: RecordDict, more: Mapping[str, str]) -> RecordDict:
    """Return the same message with more texts; both share the vector."""
    return RecordDict({**content, "facts": _recorded({**facts_of(content), **more})})


def with_fact(content: RecordDict, name: str, value: str) -> RecordDict:
    """Return the same message with one more text; both share the vector."""
    return with_facts(content, {name: value})
