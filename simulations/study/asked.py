"""Which methods and seeds the command line asks for: ``fairness=none,focal seed=0,1,2``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser

from client.strict import nearest
from fer_models.errors import ConfigError
from simulations.compose import CONF, composed, readable
from simulations.settings import Settings

KEYS = ("fairness", "seed")
"""What may take several values; every other setting is shared by all runs of a study."""


@dataclass(frozen=True)
class Asked:
    """A study, as it was asked for.

    Attributes
    ----------
    methods : the method's name -> its settings with the first seed, in the order of the table.
    seeds : paired: every method runs with each of them.
    folder : of the study.
    """

    methods: dict[str, Settings]
    seeds: tuple[int, ...]
    folder: Path

    @property
    def first(self) -> str:
        """The method that the others are held against."""
        return next(iter(self.methods))

    def settings(self, method: str, seed: int) -> Settings:
        """Return the settings of one run."""
        return replace(self.methods[method], seed=seed)

    def place(self, method: str, seed: int) -> Path:
        """Return the folder of one run."""
        return self.folder / f"{method}-seed-{seed}"


def is_study(words: Sequence[str]) -> bool:
    """Whether words ask for a study: they choose methods of fairness, and several runs."""
    values = {key: values_of(words, key) for key in KEYS}
    return bool(values["fairness"]) and any(len(found) > 1 for found in values.values())


def values_of(words: Sequence[str], key: str) -> list[str]:
    """Return the values of a key, as texts; none where it is not among the words.

    Raises
    ------
    ConfigError : a word that is no override, or the key twice.
    """
    given = [word for word in words if word.partition("=")[0] == key]
    if len(given) > 1:
        raise ConfigError(f"{key} is given twice", where="command line", cure=f"Write {key}=A,B.")
    for word in readable(given):
        override = OverridesParser.create().parse_override(word)
        if override.is_sweep_override():
            return [str(value) for value in override.sweep_string_iterator()]
        return [word.partition("=")[2]]
    return []


def asked(words: Sequence[str]) -> Asked:
    """Return the study that words ask for.

    Raises
    ------
    ConfigError : an unknown method or one given twice, a seed that is no whole number or given twice, several values
        of another setting, or what :func:`simulations.compose.composed` refuses.
    """
    names = values_of(words, "fairness")
    known = [path.stem for path in (CONF / "fairness").glob("*.yaml")]
    for name in names:
        if name not in known:
            raise ConfigError(f"unknown choice {name!r}", where="fairness", cure=nearest(name, known))
    numbers = seeds_of(words, ("0",))
    if any(word.startswith("tolerance=") for word in words):
        raise ConfigError(
            "a table of methods holds no limits",
            where="tolerance",
            cure="Audit its runs one by one: fedfer audit run=FOLDER tolerance=FILE.yaml.",
        )
    _require_once("fairness", names)
    rest = [word for word in words if word.partition("=")[0] not in KEYS]
    found = {name: composed([*rest, f"fairness={name}", f"seed={numbers[0]}"]) for name in names}
    folder = next(iter(found.values()))[1]
    return Asked({name: settings for name, (settings, _) in found.items()}, numbers, folder)


def seeds_of(words: Sequence[str], default: Sequence[str]) -> tuple[int, ...]:
    """Return the seeds that words name, or those to take without.

    Raises
    ------
    ConfigError : one is no whole number, or is given twice.
    """
    numbers = [_whole(seed) for seed in values_of(words, "seed") or default]
    _require_once("seed", [str(number) for number in numbers])
    return tuple(numbers)


def _whole(seed: str) -> int:
    if not seed.isdecimal():
        raise ConfigError(f"seed {seed} is no whole number", where="seed", cure="Give numbers such as 0,1,2.")
    return int(seed)


def _require_once(key: str, values: Sequence[str]) -> None:
    twice = next((value for i, value in enumerate(values) if value in values[:i]), None)
    if twice is not None:
        raise ConfigError(f"{key}={twice} is asked for twice", where=key, cure="Give every value once.")
