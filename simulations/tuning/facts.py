"""What the user says of the real data, and the proxy that is drawn after it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import yaml

from client.strict import nearest, parse, require
from fer_models.errors import ConfigError, PrivacyError
from fer_models.labels import EXPRESSIONS
from fer_models.samples import Samples
from fer_models.splits import units
from simulations.compose import composed
from simulations.partition import Partition, PartitionSpec, partition
from simulations.prepare import load, split
from simulations.tuning.levers import FIRST, NETS

FEWEST_TESTED = 2000
"""Drawn faces that trials are judged on, at least; as many as a quarter of the training pictures, if that is more."""

PRIVATE = ("data", "experiment", "pretrain")
"""Words, and beginnings of words, that would lead to pictures or weights other than drawn ones."""

FIGURES = ("accuracy", "balanced_accuracy", "worst_recall")
"""What can be chosen by."""


@dataclass(frozen=True)
class Facts:
    """What is told of the real data and of the wanted run; none of it is looked up in the data.

    No field names a file or a folder, so there is no way to let a search read any.

    Attributes
    ----------
    target_epsilon : the budgets to choose levers for.
    sites, pictures : how many sites, and training pictures a site.
    people : how many people are on a site's pictures; 0 leaves it at five pictures of each.
    classes : how many; drawn faces show up to eight expressions.
    shares : of the pictures, a number for each class; empty when they are about equal.
    size, channels : of a picture.
    alpha : how unlike the sites' expressions are, as ``partition.alpha``.
    unit, noise : as ``privacy.unit`` and ``privacy.noise``.
    nets : that may be chosen; empty for all that are known.
    faces : drawn faces that a net may start from, 0 to leave such starts out.
    tested : drawn faces that a trial is judged on, 0 for a quarter of the training pictures, 2,000 at least.
    by : figure to choose by.
    budget_minutes : time for the whole search, on this machine's cores.
    workers : processes, 0 for one a core.
    seed : of the proxy and of the first trial of every choice.
    """

    target_epsilon: tuple[float, ...] = (1.0, 3.0, 8.0)
    sites: int = 8
    pictures: int = 1000
    people: int = 0
    classes: int = 7
    shares: tuple[float, ...] = ()
    size: int = 48
    channels: int = 1
    alpha: float = 1.0
    unit: str = "record"
    noise: str = "site"
    nets: tuple[str, ...] = ()
    faces: int = 20_000
    tested: int = 0
    by: str = "accuracy"
    budget_minutes: float = 10.0
    workers: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        good = bool(self.target_epsilon) and all(0 < each < math.inf for each in self.target_epsilon)
        require(good, "no positive budget", "target_epsilon", "Give numbers such as target_epsilon=1,3,8.")
        for name in ("sites", "pictures"):
            require(getattr(self, name) >= 1, f"no {name}", name, "Give 1 or more.")
        for name in ("people", "faces", "tested", "workers", "seed"):
            require(getattr(self, name) >= 0, f"{getattr(self, name)} {name}", name, "Give 0 or more.")
        require(self.people <= self.pictures, "more people than pictures", "people", "Give a site's people.")
        require(2 <= self.classes <= 8, f"{self.classes} classes", "classes", "Give 2 to 8.")
        require(self.budget_minutes > 0, "no time", "budget_minutes", "Give some minutes, such as 10.")
        self._require_shares()
        self._require_choices()

    def _require_shares(self) -> None:
        many = f"{len(self.shares)} shares for {self.classes} classes"
        require(len(self.shares) in (0, self.classes), many, "shares", "Give one a class, and classes=N.")
        good = all(0 < share < math.inf for share in self.shares)
        require(good, "a class without a share", "shares", "Give numbers above 0.")

    def _require_choices(self) -> None:
        for name, known in {
            "by": FIGURES,
            "noise": ("site", "distributed"),
            "unit": ("record", "subject"),
        }.items():
            value = getattr(self, name)
            require(value in known, f"unknown value {value!r}", name, nearest(value, known))
        for net in self.nets:
            require(net in NETS, f"no levers are known for {net!r}", "nets", nearest(net, NETS))
        require(
            self.unit == "record" or self.people > 0,
            "persons are protected, and how many there are is not told",
            "people",
            "Give people=N, of a site.",
        )

    @property
    def trained(self) -> int:
        """Training pictures of all sites."""
        return self.sites * self.pictures

    @property
    def judged(self) -> int:
        """Test pictures."""
        return self.tested or max(FEWEST_TESTED, self.trained // 4)

    @property
    def uneven(self) -> bool:
        """Whether some classes are told to be rarer than others."""
        return len(set(self.shares)) > 1

    def words(self) -> tuple[str, ...]:
        """Return the proxy as settings on top of ``experiment=private``."""
        count, labels = self.trained + self.judged, EXPRESSIONS[: self.classes]
        each = round(self.pictures / self.people) if self.people else 5
        shares = [
            f"{name}:{share / sum(self.shares):.6f}" for name, share in zip(labels, self.shares, strict=False)
        ]
        return (
            *("experiment=private", "data=faces", f"data.options.count={count}"),
            *(f"data.options.labels=[{','.join(labels)}]", f"data.options.pictures_per_person={each}"),
            *((f"data.options.class_shares={{{','.join(shares)}}}",) if shares else ()),
            *(f"data.size={self.size}", f"data.channels={self.channels}", "data.groups=[none]"),
            *("data.split=holdout", f"data.test={self.judged / count:.6f}", "partition=label"),
            *(f"partition.sites={self.sites}", f"partition.alpha={self.alpha:g}", "partition.minimum=1"),
            f"privacy.nominal_units={self.people if self.unit == 'subject' else self.pictures}",
            *(f"privacy.noise={self.noise}", f"privacy.unit={self.unit}"),
        )


def facts_of(words: Sequence[str]) -> Facts:
    """Return the facts that the words give.

    Raises
    ------
    ConfigError : no fact, or a value of the wrong kind.
    PrivacyError : a word that would read pictures.
    """
    given: dict[str, Any] = {}
    known = [field.name for field in fields(Facts)]
    for word in words:
        key, equals, value = word.partition("=")
        if key.split(".")[0] in PRIVATE:
            raise PrivacyError(
                f"{word} would choose settings by looking at pictures, which no ledger would count",
                where="tune-private",
                cure="Describe the data instead: sites=10 pictures=2000 classes=8 size=48.",
            )
        if not equals or key not in known:
            raise ConfigError(f"unknown fact {word!r}", where="tune-private", cure=nearest(key, known))
        given[key] = _value(key, value)
    if "shares" in given:
        given.setdefault("classes", len(given["shares"]))
    return parse(Facts, given, "")


def _value(key: str, text: str) -> Any:
    """Return a value as YAML reads it; some facts are lists, with or without brackets."""
    several = key in ("target_epsilon", "shares", "nets")
    try:
        value = yaml.safe_load(f"[{text}]" if several and not text.startswith("[") else text)
    except yaml.YAMLError as error:
        raise ConfigError(f"cannot read {text!r}", where=key, cure="Write KEY=VALUE.") from error
    if several and not isinstance(value, list):
        raise ConfigError(f"{text!r} is no list", where=key, cure=f"Write {key}=A,B.")
    return value


@dataclass(frozen=True)
class Proxy:
    """Drawn faces at sites like the user's."""

    samples: Samples
    partition: Partition


def draw_proxy(facts: Facts) -> Proxy:
    """Draw the proxy, upside down.

    Nets that start from drawn faces have seen them upright. On upright faces they would be done before they begin;
    upside down they have to learn, as they have on photographs.
    """
    settings, _ = composed([*facts.words(), FIRST[0].words()[0], f"seed={facts.seed}"])
    drawn = load(settings.data, facts.seed)
    upside_down = replace(drawn, pictures=np.ascontiguousarray(drawn.pictures[:, ::-1]))
    samples = split(upside_down, settings.data, facts.seed)
    spec = parse(PartitionSpec, vars(settings.partition), "partition")
    return Proxy(samples, partition(samples, spec, seed=facts.seed, units=units(samples)))
