"""What the words of ``fedfer export`` ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml

from client.strict import nearest, parse, require
from fer_models.edge.files import FILES
from fer_models.errors import ConfigError
from simulations.audit_origin import model_folder
from simulations.compose import composed
from simulations.export import USAGE
from simulations.privacy_audit.finished import settings_of_run
from simulations.settings import Settings

MOST_PRUNED = 0.9
"""Largest share of the channels of a layer that may be taken away."""


@dataclass(frozen=True)
class Export:
    """How a model is exported.

    Attributes
    ----------
    format : a key of :data:`fer_models.edge.files.FILES`.
    pictures : what ranges of activations are observed on: ``faces`` draws some, ``train`` takes the training part of
        the run's data, anything else is a folder of pictures of cropped faces; ``auto`` is ``faces`` for a model with
        a privacy guarantee and ``train`` for others.
    count : pictures that ranges are observed on.
    tolerance : how far recall of the minority, accuracy and parity may fall, in shares (0.02 is two points); or a file
        of limits, as for an audit.
    seed : of drawn pictures, and of fine tuning.
    prune : share of the channels of every layer that are taken away.
    norms : ``fixed`` gives GroupNorms the mean statistics of the pictures, so that they fold away; or ``keep``.
    activation : ``relu`` puts ReLU in the place of SiLU, which eight bits like better; or ``keep``.
    finetune : passes over the pictures in which a changed net learns the answers of the original again.
    """

    format: str = "onnx"
    pictures: str = "auto"
    count: int = 512
    tolerance: str = "0.02"
    seed: int = 0
    prune: float = 0.0
    norms: str = "keep"
    activation: str = "keep"
    finetune: float = 0.0

    def __post_init__(self) -> None:
        require(
            self.format in FILES, f"unknown format {self.format!r}", "format", nearest(self.format, FILES)
        )
        require(16 <= self.count <= 100_000, f"{self.count} pictures", "count", "Give 16 to 100000.")
        require(self.seed >= 0, f"seed {self.seed} is negative", "seed", "Give 0 or more.")
        good = 0 <= self.prune <= MOST_PRUNED
        require(good, f"a share of {self.prune:g}", "prune", f"Give 0 to {MOST_PRUNED}.")
        for name, other in (("norms", "fixed"), ("activation", "relu")):
            value = getattr(self, name)
            require(value in ("keep", other), f"unknown {name} {value!r}", name, f"Use keep or {other}.")
        require(0 <= self.finetune <= 1000, f"{self.finetune:g} passes", "finetune", "Give 0 to 1000.")
        changed = self.changes or not self.finetune
        require(changed, "nothing to win back", "finetune", "Give prune=, norms= or activation= as well.")
        most = self.most
        require(most is None or 0 <= most <= 1, f"a tolerance of {most}", "tolerance", "Give 0 to 1.")

    @property
    def changes(self) -> bool:
        """Whether the net itself is changed before it is exported."""
        return self.prune > 0 or self.norms != "keep" or self.activation != "keep"

    @property
    def most(self) -> float | None:
        """The largest fall that is allowed; None where a file holds limits."""
        try:
            return float(self.tolerance)
        except ValueError:
            return None

    @property
    def limits(self) -> Path | None:
        """The file of limits, None where the tolerance is a number."""
        return Path(self.tolerance) if self.most is None else None


@dataclass(frozen=True)
class Asked:
    """What is exported, how, and on which data it is judged.

    Attributes
    ----------
    path : a run folder or its ``model`` folder.
    how : the options.
    settings : of the data that the exported model is judged on.
    """

    path: Path
    how: Export
    settings: Settings

    @property
    def model(self) -> Path:
        """The folder of the net."""
        return model_folder(self.path)

    @property
    def run(self) -> Path:
        """The folder of the run, where there is one."""
        return self.path.parent if self.path.name == "model" and self.model == self.path else self.path


def asked(words: Sequence[str]) -> Asked:
    """Return what the words ask for.

    Raises
    ------
    ConfigError : as of :func:`options_among`; no data to judge on, or a word that is not about data.
    """
    path, how, rest = options_among(words)
    for word in rest:
        key = word.partition("=")[0]
        if not key.startswith(("data", "seed", "engine.")):
            known = [*(each.name for each in fields(Export)), "data", "data.root"]
            raise ConfigError(f"export takes no {word!r}", where="command line", cure=nearest(key, known))
    found = Asked(path, how, Settings())
    return replace(found, settings=_settings(found, rest))


def options_among(words: Sequence[str]) -> tuple[Path, Export, list[str]]:
    """Return the model that is exported, the options, and the other words.

    Raises
    ------
    ConfigError : no model or several, or a value of the wrong kind.
    """
    own = [word for word in words if not word.startswith("hydra.")]
    named = [word.removeprefix("model=") for word in own if "=" not in word or word.startswith("model=")]
    unknown = [word for word in named if word.startswith("-")]
    if unknown:
        raise ConfigError(f"unknown option {unknown[0]!r}", where="command line", cure=USAGE)
    if len(named) != 1:
        raise ConfigError(f"export takes one model, not {len(named)}", where="command line", cure=USAGE)
    known = {each.name for each in fields(Export)}
    options, rest = {}, []
    for word in own:
        key, equals, value = word.partition("=")
        if equals and key in known:
            options[key] = _plain(key, value)
        elif equals and key != "model":
            rest.append(word)
    return Path(named[0]).expanduser(), parse(Export, options, ""), rest


def _plain(key: str, value: str) -> Any:
    """Return a value as what its field is."""
    kind = {each.name: each.type for each in fields(Export)}[key]
    if kind == "str":
        return value
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"no value: {value!r}", where=key, cure="Give a number.") from error


def _settings(found: Asked, words: list[str]) -> Settings:
    """Return the settings of the data: those that the words name, or those of the model's own run."""
    if any(word.startswith("data=") for word in words):
        return composed(words)[0]
    if not (found.run / "config.yaml").is_file():
        raise ConfigError(
            "an exported model is judged again, and nothing says on which pictures",
            where="data",
            cure="Give the folder of a run, or data=NAME data.root=DIR.",
        )
    return settings_of_run(found.run, words)
