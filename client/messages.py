"""What travels between coordinator and site: one flat array a message, and a few scalars.

The same functions write and read a message on both sides. Everything that arrives is checked for its kind and size.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, MetricRecord, RecordDict
from numpy.typing import NDArray

import fer_models.errors as errors
from fer_models.errors import EngineError, FedferError

ERROR_CODES = 1000
"""A site's error travels as Flower error code 1000 + exit code, with its parts as JSON in the reason."""


def pack(vector: NDArray[Any] | Array, scalars: Mapping[str, int | float], texts: Mapping[str, str]) -> RecordDict:
    """Return the content of a message: one array, numbers, and texts."""
    array = vector if isinstance(vector, Array) else Array(np.ascontiguousarray(vector))
    return RecordDict(
        {
            "vector": ArrayRecord({"vector": array}),
            "scalars": MetricRecord(dict(scalars)),
            "texts": ConfigRecord(dict(texts)),
        }
    )


def vector_of(content: RecordDict, dtype: type[np.generic], size: int | None = None) -> NDArray[Any]:
    """Return the array of a message, read only where the message's bytes allow it.

    Raises
    ------
    EngineError : the array is missing, or of another type or size than expected.
    """
    record = content.array_records.get("vector")
    array = record.get("vector") if record is not None else None
    if array is None or array.dtype != np.dtype(dtype).name or len(array.shape) != 1:
        raise EngineError("a message without a flat vector", cure="Run the same version of FedFER everywhere.")
    if size is not None and array.shape[0] != size:
        raise EngineError(
            f"a vector of {array.shape[0]} values where {size} were expected",
            cure="Run the same plan and version of FedFER everywhere.",
        )
    return array.numpy()


def scalar(content: RecordDict, name: str) -> float:
    """Return one number of a message."""
    value = content.metric_records.get("scalars", {}).get(name)
    if not isinstance(value, (int, float)):
        raise EngineError(f"a message without {name}", cure="Run the same version of FedFER everywhere.")
    return value


def text(content: RecordDict, name: str) -> str:
    """Return one text of a message."""
    value = content.config_records.get("texts", {}).get(name)
    if not isinstance(value, str):
        raise EngineError(f"a message without {name}", cure="Run the same version of FedFER everywhere.")
    return value


def error_to_wire(error: FedferError) -> Error:
    """Return an error as it travels."""
    parts = {"kind": type(error).__name__, "what": error.what, "where": error.where, "cure": error.cure}
    return Error(ERROR_CODES + error.exit_code, json.dumps(parts))


def error_from_wire(error: Error, site: str) -> FedferError:
    """Return the error of a reply as the kind it was raised as; anything else is an EngineError."""
    if error.code >= ERROR_CODES:
        parts = json.loads(error.reason or "{}")
        kind = getattr(errors, str(parts.get("kind")), None)
        if isinstance(kind, type) and issubclass(kind, FedferError):
            return kind(parts["what"], where=parts["where"] or site, cure=parts["cure"])
    reason = (error.reason or "no reason given").strip().splitlines()[-1]
    return EngineError(f"a site failed: {reason}", where=site, cure="See the site's log.")
