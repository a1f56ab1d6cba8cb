"""Reading the YAML files that a person at a site or a coordinator writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from fer_models.errors import ConfigError

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
