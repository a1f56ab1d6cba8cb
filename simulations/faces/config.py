"""The knobs of the drawn faces, and what they mean for one picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fer_models.errors import ConfigError
from fer_models.labels import EXPRESSIONS, SEVEN

ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "gender": ("woman", "man"),
    "age": ("young", "middle", "old"),
    "skin_tone": ("light", "medium", "dark"),
}
"""Group attributes of a drawn person with their values; gender is the presentation that is drawn."""

SIZES = (32, 224)
"""Smallest and largest side of a picture in pixels."""


@dataclass(frozen=True)
class FacesConfig:
    """What to draw.

    Shares: a value that is named gets that share, the values not named share the rest equally.
    ``*_by`` mappings go from ``"attribute=value"`` (such as ``"gender=woman"``) to the figure that holds
    for that group instead of the general one; where several entries match a person, the last one holds.

    Attributes
    ----------
    count : pictures.
    pictures_per_person : pictures of one person, one after the other; the last person may have fewer.
    size : side of a picture in pixels, 32 to 224.
    channels : 1 gray, 3 colour.
    labels : classes in their order, canonical names; the default leaves contempt out.
    class_shares : label -> share of the pictures by true label.
    group_shares : attribute -> value -> share of the persons.
    label_noise : probability that a label is wrong (any other label, each as likely), 0 to 1.
    label_noise_by : the same by group.
    intensity : mean intensity of an expression, 0 to 1; 0 draws every expression like neutral.
    intensity_by : the same by group.
    pitch_by : degrees by which the camera looks up (down below 0) at a group, -60 to 60; nobody by default.
    spread : standard deviation of the intensity between pictures relative to its mean, 0 to 0.5.
    crosstalk : strength of action units that do not belong to the label (speech, squinting, habit).
    pose, light, occlusion, noise : strength of each difficulty; 0 switches it off, 1 is the default.
    """

    count: int = 5000
    pictures_per_person: int = 5
    size: int = 48
    channels: int = 1
    labels: tuple[str, ...] = SEVEN
    class_shares: Mapping[str, float] = field(default_factory=dict)
    group_shares: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    label_noise: float = 0.025
    label_noise_by: Mapping[str, float] = field(default_factory=dict)
    intensity: float = 0.55
    intensity_by: Mapping[str, float] = field(default_factory=dict)
    pitch_by: Mapping[str, float] = field(default_factory=dict)
    spread: float = 0.25
    crosstalk: float = 1.0
    pose: float = 1.0
    light: float = 1.0
    occlusion: float = 1.0
    noise: float = 1.0

    def __post_init__(self) -> None:
        self._check_numbers()
        self._check_labels()
        for name, low, high in (("label_noise_by", 0, 1), ("intensity_by", 0, 1), ("pitch_by", -60, 60)):
            for key, value in getattr(self, name).items():
                _check_group(key, name)
                _check_range(f"{name}[{key}]", value, low, high)
        for attribute, shares_of in self.group_shares.items():
            _check_attribute(attribute, "group_shares")
            shares(ATTRIBUTES[attribute], shares_of, f"group_shares.{attribute}")
        shares(self.labels, self.class_shares, "class_shares")

    def _check_numbers(self) -> None:
        _check_range("count", self.count, 1, 100_000_000)
        _check_range("pictures_per_person", self.pictures_per_person, 1, 1_000_000)
        _check_range("size", self.size, *SIZES)
        _check_range("label_noise", self.label_noise, 0, 1)
        _check_range("intensity", self.intensity, 0, 1)
        _check_range("spread", self.spread, 0, 0.5)
        for name in ("crosstalk", "pose", "light", "occlusion", "noise"):
            _check_range(name, getattr(self, name), 0, 3)
        if self.channels not in (1, 3):
            raise ConfigError(
                f"channels is {self.channels}", where="faces", cure="Use 1 for gray or 3 for colour."
            )

    def _check_labels(self) -> None:
        unknown = [name for name in self.labels if name not in EXPRESSIONS]
        if unknown or len(self.labels) < 2 or len(set(self.labels)) < len(self.labels):
            raise ConfigError(
                f"labels are {list(self.labels)}",
                where="faces",
                cure=f"Name at least two different ones of {', '.join(EXPRESSIONS)}.",
            )


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise ConfigError(f"{name} is {value}", where="faces", cure=f"Use a number from {low} to {high}.")


def _check_attribute(attribute: str, where: str) -> None:
    if attribute not in ATTRIBUTES:
        raise ConfigError(
            f"unknown attribute {attribute!r}",
            where=f"faces.{where}",
            cure=f"Use one of {', '.join(ATTRIBUTES)}.",
        )


def _check_group(key: str, where: str) -> None:
    attribute, _, value = key.partition("=")
    _check_attribute(attribute, where)
    if value not in ATTRIBUTES[attribute]:
        raise ConfigError(
            f"unknown group {key!r}",
            where=f"faces.{where}",
            cure=f"Write {attribute}= and one of {', '.join(ATTRIBUTES[attribute])}.",
        )


def shares(names: Sequence[str], named: Mapping[str, float], where: str) -> NDArray[np.float64]:
    """Return one share a name, float64 (len(names),) with sum 1.

    Named values keep their share and the others divide the rest equally; when every value is named, the
    shares are scaled to 1.

    Raises
    ------
    ConfigError : an unknown name, a negative share, or shares that leave nothing to divide.
    """
    unknown = [name for name in named if name not in names]
    if unknown:
        raise ConfigError(
            f"unknown value {unknown[0]!r}", where=f"faces.{where}", cure=f"Use {', '.join(names)}."
        )
    total = sum(named.values())
    bad = any(not (math.isfinite(share) and share >= 0) for share in named.values())
    whole = len(named) == len(names)
    if bad or (whole and total <= 0) or (not whole and total > 1 + 1e-9):
        raise ConfigError(
            f"shares {dict(named)} do not divide one whole",
            where=f"faces.{where}",
            cure="Give shares of 0 or more with a sum of at most 1; values left out share the rest.",
        )
    rest = 0.0 if whole else max(0.0, 1 - total) / (len(names) - len(named))
    table = np.array([named.get(name, rest) for name in names], np.float64)
    return table / table.sum()


def by_group(
    general: float, by: Mapping[str, float], groups: Mapping[str, NDArray[np.str_]], count: int
) -> NDArray[np.float64]:
    """Return the figure of every row, float64 (count,): ``general``, or the last match of ``by``."""
    values = np.full(count, general, np.float64)
    for key, value in by.items():
        attribute, _, group = key.partition("=")
        values[groups[attribute] == group] = value
    return values
