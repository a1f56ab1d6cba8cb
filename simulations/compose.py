"""Hydra at the rim: words of the command line to settings, with one-line errors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from client.strict import nearest
from fer_models.errors import ConfigError
from simulations.settings import Settings, register

CONF = Path(__file__).parent / "conf"
"""Where the YAML files lie."""

TIMM_CHOICE = re.compile(r"^model=(timm:.+)$")
"""timm's nets are a name, not a file of ours."""


def composed(overrides: Sequence[str]) -> tuple[Settings, Path]:
    """Return the settings and the run folder that the words ask for.

    Raises
    ------
    ConfigError : an unknown key or choice, a value of the wrong type, a missing value.
    """
    register()
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            words = [TIMM_CHOICE.sub(r"model.name=\1", word) for word in overrides]
            config = compose("config", overrides=words, return_hydra_config=True)
            folder = Path(str(config.hydra.run.dir))
        return settings_of(config), folder
    except (HydraException, OmegaConfBaseException) as error:
        raise _explained(error) from error


def settings_of(config: DictConfig) -> Settings:
    """Return the settings of a composed configuration.

    Raises
    ------
    ConfigError : a value is missing or of the wrong type.
    """
    try:
        plain = {key: value for key, value in config.items_ex(resolve=False) if key != "hydra"}
        settings = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Settings), plain))
    except MissingMandatoryValue as error:
        key = str(error).split(":")[-1].strip()
        raise ConfigError("a value is missing", where=key, cure="Give it on the command line.") from error
    except OmegaConfBaseException as error:
        raise _explained(error) from error
    assert isinstance(settings, Settings)
    return settings


def known_keys(config: Any = None, prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of all settings."""
    config = OmegaConf.structured(Settings) if config is None else config
    for key in config:
        yield f"{prefix}{key}"
        if not OmegaConf.is_missing(config, key) and isinstance(config[key], DictConfig):
            yield from known_keys(config[key], f"{prefix}{key}.")


def _explained(error: Exception) -> ConfigError:
    text = f"{error}\n{error.__cause__ or ''}"
    if match := re.search(r"(?:Could not override|Error merging override) '?([\w./@+]+)", text):
        key = match.group(1)
        if "not in struct" in text or "Could not override" in text or "not in '" in text:
            return ConfigError(f"unknown key {key!r}", where="command line", cure=nearest(key, known_keys()))
        return ConfigError(_reason(text), where=key, cure="Give a value of that kind.")
    if match := re.search(r"(?:Could not find|Could not load) '([^']+)'", text):
        group, _, choice = match.group(1).rpartition("/")
        known = [path.stem for path in (CONF / group).glob("*.yaml")]
        cure = nearest(choice, known) if known and group else "See fedfer --help."
        return ConfigError(f"unknown choice {choice!r}", where=group or "command line", cure=cure)
    where = re.search(r"full_key: (\S+)", text)
    return ConfigError(
        _reason(text),
        where=where.group(1) if where else "command line",
        cure="See fedfer --help for the form.",
    )


def _reason(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [
        line for line in lines if not line.startswith(("full_key", "object_type", "Error merging", "In '"))
    ]
    return (telling or lines or ["the configuration cannot be read"])[0].rstrip(".")
