"""How an error travels from a site to the coordinator: as Flower's error, and as what it was when it arrives."""

from __future__ import annotations

import json

from flwr.app import Error

import fer_models.errors as errors
from fer_models.errors import EngineError, FedferError

ERROR_CODES = 1000
"""A site's error travels as Flower error code 1000 + exit code, with its parts as JSON in the reason."""


def error_to_wire(error: FedferError) -> Error:
    """Return an error as it travels."""
    parts = {"kind": type(error).__name__, "what": error.what, "where": error.where, "cure": error.cure}
    return Error(ERROR_CODES + error.exit_code, json.dumps(parts))


def error_from_wire(error: Error, site: str) -> FedferError:
    """Return the error of a reply as the kind it was raised as; anything else is an EngineError."""
    parts = _parts(error.reason or "") if error.code >= ERROR_CODES else None
    if parts is not None:
        kind = getattr(errors, parts["kind"], None)
        if isinstance(kind, type) and issubclass(kind, FedferError):
            return kind(parts["what"], where=parts["where"] or site, cure=parts["cure"])
    reason = ((error.reason or "").strip() or "no reason given").splitlines()[-1]
    return EngineError(f"a site failed: {reason}", where=site, cure="See the site's log.")


def _parts(reason: str) -> dict[str, str] | None:
    """Return the parts that :func:`error_to_wire` wrote, None for anything else."""
    try:
        parts = json.loads(reason)
    except (ValueError, RecursionError):
        return None
    names = ("kind", "what", "where", "cure")
    known = isinstance(parts, dict) and all(isinstance(parts.get(name), str) for name in names)
    return parts if known else None
