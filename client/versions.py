"""Which messages this version speaks: a site and a coordinator that do not speak the same say so before any work."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fer_models.errors import EngineError, VersionError

PROTOCOL = 2
"""Of the messages between coordinator and site; grows with every change that the other side could not read."""


FLOWER = "1.41"
"""The version of Flower whose insides are reached into, and with which the tests pass."""


def other_flower(who: str, error: Exception) -> EngineError:
    """Return the refusal of another version of Flower, in which something is elsewhere.

    Parameters
    ----------
    who : and what it does with Flower, "sites speak to".
    error : what was not found.
    """
    return EngineError(
        f"Flower {version('flwr')} is not the version that {who}: {error}",
        where="flwr",
        cure=f"Install flwr {FLOWER}.",
    )


@functools.cache
def installed() -> str:
    """Return the version of FedFER that is installed here."""
    try:
        return version("fedfer")
    except PackageNotFoundError:
        return "0.0.0"


def spoken() -> dict[str, int | str]:
    """Return what the first question and its answer say of the version."""
    return {"protocol": PROTOCOL, "version": installed()}


def require_same(facts: Mapping[str, Any], whose: str, where: str) -> None:
    """Refuse a message of a version that speaks otherwise.

    Parameters
    ----------
    facts : of the message.
    whose : version it is, "the coordinator's" or "the site's".

    Raises
    ------
    VersionError : both versions.
    """
    if facts.get("protocol") == PROTOCOL:
        return
    told = facts.get("version")
    other = told if isinstance(told, str) and len(told) < 40 else "an earlier one"
    raise VersionError(
        f"{whose} version of FedFER, {other}, does not speak with this one, {installed()}",
        where=where,
        cure="Install the same version at the coordinator and at all sites; keys, ledgers and folders stay.",
    )
