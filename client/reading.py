"""Reading the YAML files that a person at a site or a coordinator writes, and the JSON files that come from outside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from client.strict import parse
from fer_models.errors import ConfigError, IdentityError

T = TypeVar("T")

LARGEST = 1 << 16
"""Bytes of such a file; one has some thousands."""


def read_yaml(path: Path, cure: str) -> Any:
    """Return what a YAML file holds; a key that is there twice is an error, and 1e-5 is a number.

    Parameters
    ----------
    cure : what to do where there is no such file.

    Raises
    ------
    ConfigError : it cannot be read.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise ConfigError(
                f"a file of more than {LARGEST} bytes", where=str(path), cure="Give a file of settings."
            )
        return OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except FileNotFoundError as error:
        raise ConfigError("no such file", where=str(path), cure=cure) from error
    except (OSError, UnicodeDecodeError, YAMLError, OmegaConfBaseException) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        what = getattr(error, "strerror", None) or getattr(error, "problem", None) or "no YAML text"
        raise ConfigError(
            f"cannot be read: {what}", where=f"{path}{line}", cure="Correct that line."
        ) from error


def read_record(cls: type[T], path: Path, largest: int, what: str, cure: str) -> T:
    """Return the dataclass in a JSON file that came from outside.

    Parameters
    ----------
    largest : bytes that it may have.
    what, cure : is wrong where it holds none, and what to do.

    Raises
    ------
    IdentityError : it holds none.
    """
    try:
        with path.open("rb") as file:
            data = file.read(largest + 1)
        if len(data) > largest:
            raise ValueError("too long")
        return parse(cls, json.loads(data))
    except (OSError, ValueError, RecursionError, ConfigError) as error:
        raise IdentityError(what, where=str(path), cure=cure) from error
