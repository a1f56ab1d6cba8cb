"""What a tracker keeps of a run: its figures and settings as single values, and the line that makes it again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from simulations.compose import CONF, composed
from simulations.settings import Settings

KEPT = ("config.yaml", "plan.json", "summary.json", "report.html")
"""Files of the run folder that are copied."""

PLAIN = re.compile(r"[a-z][a-z0-9_]*")
"""What stands on the command line without quotes."""


def final(figures: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the single numbers of a system's summary, intervals as ``KEY_low`` and ``KEY_high``."""
    for name, value in figures.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            yield name, value
        elif name.endswith("_interval") and isinstance(value, Sequence) and None not in value:
            yield f"{name.removesuffix('_interval')}_low", value[0]
            yield f"{name.removesuffix('_interval')}_high", value[1]


def plain(settings: Settings) -> dict[str, Any]:
    """Return settings as dictionaries, lists and values."""
    found = OmegaConf.to_container(OmegaConf.structured(settings))
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every setting with its dotted name; what a user puts into one of the options may itself be a mapping."""
    for name, value in tree.items():
        if isinstance(value, Mapping) and not prefix.endswith("options."):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def words(settings: Settings) -> list[str]:
    """Return the words of the command line that compose to these settings, without an experiment."""
    reader = settings.data.reader
    choice = [f"data={reader}"] if reader != "faces" and (CONF / "data" / f"{reader}.yaml").exists() else []
    usual = dict(leaves(plain(composed(choice)[0])))
    changed = [
        (name, value) for name, value in leaves(plain(settings)) if name not in usual or value != usual[name]
    ]
    return [*choice, *(f"{name}={written(value)}" for name, value in changed)]


def command(settings: Settings, systems: Sequence[str]) -> str:
    """Return the line that makes a run of these systems again."""
    verb = "compare"
    if list(systems) == ["federated"]:
        verb = "simulate"
    elif set(systems) <= {"pooled", "local_only"}:
        verb = "baseline"
    return shlex.join(["fedfer", verb, *words(settings)])


def written(value: Any) -> str:
    """Return a value as the command line takes it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        keys = [re.sub(r"([^\w-])", r"\\\1", str(key)) for key in value]
        return (
            "{"
            + ",".join(f"{key}:{written(each)}" for key, each in zip(keys, value.values(), strict=True))
            + "}"
        )
    if isinstance(value, Iterable) and not isinstance(value, str):
        return "[" + ",".join(map(written, value)) + "]"
    if isinstance(value, str) and PLAIN.fullmatch(value) and value not in ("null", "true", "false"):
        return value
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return repr(value)
