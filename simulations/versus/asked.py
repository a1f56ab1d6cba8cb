"""What ``compare=[A,B,...]`` names: files of predictions, saved models, or folders of runs with several seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fer_models.errors import ConfigError

CURE = "Give files of predictions, run folders with a model, or folders of runs: compare=[A,B]."


@dataclass(frozen=True)
class Asked:
    """What is compared.

    Attributes
    ----------
    kind : "predictions", "models" or "seeds".
    paths : the first is what the others are held against.
    names : what each is called: the last part of its path, or all of it where that names several.
    words : all other words.
    """

    kind: str
    paths: tuple[Path, ...]
    names: tuple[str, ...]
    words: tuple[str, ...]


def is_comparison(words: Sequence[str]) -> bool:
    """Whether words ask for a comparison."""
    return any(word.startswith("compare=") for word in words)


def named(words: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the paths that ``compare=[A,B]`` names, as they are written, and the other words.

    Raises
    ------
    ConfigError : fewer than two, or one twice.
    """
    given = [word.partition("=")[2] for word in words if word.startswith("compare=")]
    rest = [word for word in words if not word.startswith(("compare=", "hydra."))]
    if len(given) > 1:
        raise ConfigError("compare is given twice", where="command line", cure="Write compare=[A,B,C].")
    parts = tuple(part.strip() for part in given[0].removeprefix("[").removesuffix("]").split(","))
    if len(parts) < 2 or not all(parts):
        raise ConfigError("a comparison needs two or more", where="compare", cure=CURE)
    if len(set(parts)) < len(parts):
        raise ConfigError("one of them is named twice", where="compare", cure="Name each once.")
    return parts, tuple(rest)


def asked(words: Sequence[str]) -> Asked:
    """Return what words ask to compare.

    Raises
    ------
    ConfigError : as of :func:`named`; a path that is not there, or things of different kinds.
    """
    parts, rest = named(words)
    paths = tuple(Path(part).expanduser() for part in parts)
    kinds = [_kind(path) for path in paths]
    if len(set(kinds)) > 1:
        what = f"{parts[0]} is of the kind {kinds[0]}, and not all others are"
        raise ConfigError(what, where="compare", cure=CURE)
    short = tuple(path.name for path in paths)
    return Asked(kinds[0], paths, short if len(set(short)) == len(short) else parts, rest)


def runs_in(folder: Path) -> list[Path]:
    """Return the folders of runs in a folder, such as ``--multirun`` leaves."""
    return sorted(path.parent for path in folder.glob("*/plan.json"))


def _kind(path: Path) -> str:
    if path.is_file():
        return "predictions"
    if (path / "model").is_dir() or (path / "model.safetensors").is_file():
        return "models"
    if path.is_dir() and runs_in(path):
        return "seeds"
    raise ConfigError("nothing that can be compared", where=str(path), cure=CURE)
