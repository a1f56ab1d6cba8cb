"""Hydra at the rim: words of the command line to settings, with one-line errors."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from client.strict import nearest, require
from fer_models.errors import ConfigError
from simulations.settings import Settings, register

CONF = Path(__file__).parent / "conf"
"""Where the YAML files lie."""

PATH = re.compile(r"^(data\.root|tolerance)=([^'\"\[${].*)$")
"""A folder or file of the user's, whose name may hold characters that mean something to Hydra."""


def readable(words: Sequence[str]) -> list[str]:
    """Return overrides as Hydra reads them, from words as people write them.

    ``model=timm:NAME`` names a net and not a file of ours; options of a reader are known to the reader alone; a
    folder needs no quotes.

    Raises
    ------
    ConfigError : a word that is no override.
    """
    found = [_readable(word) for word in words]
    for given, word in zip(words, found, strict=True):
        try:
            OverridesParser.create().parse_overrides([word])
        except HydraException as error:
            cure = "Write KEY=VALUE; a value with special characters needs quotes: \"KEY='VALUE'\"."
            raise ConfigError(f"cannot read {given!r}", where="command line", cure=cure) from error
    return found


def _readable(word: str) -> str:
    if word.startswith("model=timm:"):
        return word.replace("model=", "model.name=", 1)
    if word.startswith(("data.options.", "+data.options.", "pretrain.options.", "+pretrain.options.")):
        return "++" + word.removeprefix("+")
    path = PATH.match(word)
    return f"{path[1]}='{_quoted(path[2])}'" if path and "," not in path[2] else word


def _quoted(value: str) -> str:
    """Return what stands between single quotes: Hydra reads backslashes as escapes only before a quote."""
    return re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + ("\\'" if found[2] else ""), value)


def folder_override(key: str, folder: str) -> str:
    """Return the override that sets a folder, whatever characters it holds."""
    return f"{key}='{_quoted(str(Path(folder)))}'"


def json_file(words: list[str], flag: str = "--json") -> tuple[Path | None, list[str]]:
    """Return the file that ``--json FILE``, or another flag, names, None without one, and the other words.

    Raises
    ------
    ConfigError : no file, or no folder for it.
    """
    found, others = _path_after(flag, "FILE", words)
    if found is not None and (found.is_dir() or not found.absolute().parent.is_dir()):
        raise ConfigError(
            "no place for a file", where=str(found), cure="Give a file in a folder that exists."
        )
    return found, others


def out_folder(words: list[str], mark: str) -> tuple[Path | None, list[str]]:
    """Return the folder that ``--out DIR`` names, None without one, and the other words.

    Parameters
    ----------
    mark : a file that tells a folder of an earlier time, which may be written over, from others.

    Raises
    ------
    ConfigError : no folder, or one that holds something else.
    """
    found, others = _path_after("--out", "DIR", words)
    if found is not None and found.exists():
        own = found.is_dir() and ((found / mark).is_file() or not any(found.iterdir()))
        if not own:
            what = f"neither an empty folder nor one with {mark}"
            raise ConfigError(what, where=str(found), cure="Give --out a folder of its own.")
    return found, others


def signing_file(words: list[str], folder: Path | None) -> tuple[Path | None, list[str]]:
    """Return the private key that ``--sign FILE`` names, None without one, and the other words.

    Parameters
    ----------
    folder : what :func:`out_folder` returned; without a folder there is nothing to sign.

    Raises
    ------
    ConfigError : no file, or no folder.
    """
    found, others = _path_after("--sign", "FILE", words)
    if found is not None and folder is None:
        cure = "Write --out DIR --sign FILE."
        raise ConfigError("--sign without a folder to sign", where="command line", cure=cure)
    return found, others


def _path_after(flag: str, what: str, words: Sequence[str]) -> tuple[Path | None, list[str]]:
    """Return the path that follows a flag, the last one of several, and the other words."""
    found, others, rest = None, [], iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if name != flag:
            others.append(word)
            continue
        value = value if equals else next(rest, "")
        if not value or value.startswith(("-", "hydra.")):
            missing = f"{flag} without a {'file' if what == 'FILE' else 'folder'}"
            raise ConfigError(missing, where="command line", cure=f"Write {flag} {what}.")
        found = Path(value)
    return found, others


def composed(words: Sequence[str]) -> tuple[Settings, Path]:
    """Return the settings and the run folder that the words ask for.

    Raises
    ------
    ConfigError : an unknown key or choice, a value of the wrong type, a missing value.
    """
    config = configuration(words)
    with one_line():
        folder = Path(str(config.hydra.run.dir))
    return settings_of(config), folder


def configuration(words: Sequence[str]) -> DictConfig:
    """Return Hydra's configuration for the words, with its own part under ``hydra``.

    Raises
    ------
    ConfigError : an unknown key or choice, or a value of the wrong type.
    """
    register()
    GlobalHydra.instance().clear()
    with one_line(), initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            return compose("config", overrides=readable(words), return_hydra_config=True)
        except ValueError as error:  # how Hydra refuses a number where it wants the name of a choice
            raise _explained(error) from error


@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """Turn an error of Hydra or OmegaConf into a ConfigError."""
    try:
        yield
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
    require(settings.seed >= 0, f"seed {settings.seed} is negative", "seed", "Give 0 or more.")
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
    if match := re.search(r"Could not override '([^']+)'|not in '[^']*'\s+full_key: (\S+)", text):
        key = match[1] or match[2]
        return ConfigError(f"unknown key {key!r}", where="command line", cure=_nearest_key(key))
    if match := re.search(r"(?:Could not find|Could not load) '([^']+)'", text):
        group, _, choice = match.group(1).rpartition("/")
        known = [path.stem for path in (CONF / group).glob("*.yaml")]
        cure = nearest(choice, known) if known and group else "See fedfer --help."
        return ConfigError(f"unknown choice {choice!r}", where=group or "command line", cure=cure)
    if match := re.search(r"Ambiguous value for argument '([^'=]+)=", text):
        cure = "Write KEY=[A,B] for a list; add --multirun to run every value."
        return ConfigError("several values", where=match[1], cure=cure)
    where = re.search(r"full_key: (\S+)", text)
    return ConfigError(
        _reason(text),
        where=where.group(1) if where else "command line",
        cure="Give a value of that kind." if where else "See fedfer --help for the form.",
    )


def _nearest_key(key: str) -> str:
    """Return a cure that names the nearest keys, or those beside the unknown one."""
    known = list(known_keys())
    if difflib.get_close_matches(key, known):
        return nearest(key, known)
    parent = key.rpartition(".")[0]
    beside = [name for name in known if name.rpartition(".")[0] == parent]
    return nearest(key, beside or [name for name in known if "." not in name])


def _reason(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [
        line for line in lines if not line.startswith(("full_key", "object_type", "Error merging", "In '"))
    ]
    return (telling or lines or ["the configuration cannot be read"])[0].rstrip(".")
