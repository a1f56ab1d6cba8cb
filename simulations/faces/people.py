"""Who is on the picture: the build of a face, its colours and its habits, fixed for a person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulations.faces.canvas import LUMA, Field, Traits, take
from simulations.faces.config import ATTRIBUTES, FacesConfig, shares

BLOCK = 256
"""Persons, and pictures, whose random numbers come from one generator."""


class Trait(NamedTuple):
    """A measure of the face in face units: mean, standard deviation, and shifts by presentation and age.

    ``man`` is added for a man and taken off for a woman; ``old`` is added at the highest age.
    """

    mean: float
    spread: float
    man: float = 0.0
    old: float = 0.0


BUILD: Mapping[str, Trait] = {
    "face_width": Trait(0.93, 0.0234, 0.025, 0.02),
    "chin": Trait(1.20, 0.026, 0.035, 0.02),
    "skull": Trait(1.30, 0.0208),
    "taper": Trait(0.20, 0.0312, -0.06, -0.04),
    "eye_x": Trait(0.40, 0.0114),
    "eye_y": Trait(-0.15, 0.013),
    "eye_width": Trait(0.225, 0.00936, -0.012),
    "eye_height": Trait(0.098, 0.00676, -0.010, -0.015),
    "eye_tilt": Trait(0.02, 0.0468, 0.0, 0.10),
    "iris": Trait(0.098, 0.00312),
    "lash": Trait(0.036, 0.00312, -0.009, -0.006),
    "brow_gap": Trait(0.285, 0.013, -0.025, -0.02),
    "brow_height": Trait(0.046, 0.00468, 0.012, -0.004),
    "brow_arch": Trait(0.055, 0.0104, -0.022),
    "brow_slope": Trait(0.0, 0.013),
    "nose_y": Trait(0.30, 0.0156, 0.01, 0.03),
    "nose_width": Trait(0.20, 0.013, 0.018, 0.02),
    "nose_relief": Trait(0.16, 0.0208, 0.02),
    "mouth_y": Trait(0.69, 0.0156, 0.01, 0.01),
    "mouth_width": Trait(0.37, 0.0156, 0.012, -0.01),
    "mouth_curve": Trait(0.0, 0.0182, 0.0, -0.035),
    "lip_upper": Trait(0.058, 0.00624, -0.012, -0.02),
    "lip_lower": Trait(0.085, 0.00728, -0.012, -0.025),
    "hairline": Trait(-0.86, 0.0312, -0.02, -0.06),
    "hair_volume": Trait(0.15, 0.0312, -0.05, -0.02),
    "hair_wave": Trait(22.0, 3.12),
    "fold": Trait(0.04, 0.0104, 0.02, 0.28),
    "wrinkle": Trait(-0.10, 0.026, 0.0, 0.50),
}
"""Measures of a face, by name; see :mod:`simulations.faces.features` for how each is drawn."""

SKIN = np.array([(0.97, 0.84, 0.77), (0.86, 0.67, 0.54), (0.62, 0.43, 0.32), (0.34, 0.22, 0.17)], np.float32)
"""Skin from the lightest to the darkest tone; a group is one of the three stretches between them."""

HAIR = np.array([(0.08, 0.07, 0.07), (0.23, 0.15, 0.11), (0.42, 0.28, 0.17), (0.78, 0.62, 0.38)], np.float32)
"""Black, dark brown, brown and blond."""

EYES = np.array([(0.20, 0.12, 0.08), (0.32, 0.22, 0.12), (0.30, 0.42, 0.34), (0.35, 0.47, 0.60)], np.float32)
"""Dark brown, brown, green and blue."""

_COLUMNS = (*BUILD, "gender", "age", "skin", "tone", "hair", "eyes", "gray", "length", "bald", "fringe")
_COLUMNS += ("beard", "glasses", "lips", "round", "side")


@dataclass(frozen=True)
class People:
    """Persons by row: group values, parameters (n, 1, 1) by name, and colours (n, 3) by name."""

    groups: Mapping[str, NDArray[np.str_]]
    traits: Traits
    colours: Traits

    def take(self, rows: NDArray[np.intp] | slice) -> People:
        """Return some persons, in the given order."""
        return People(take(self.groups, rows), take(self.traits, rows), take(self.colours, rows))


def uniform(seed: int, stream: int, count: int, columns: int) -> Field:
    """Return float32 (count, columns) in 0..1; the first rows are the same for every ``count``."""
    blocks = range(-(-count // BLOCK))
    parts = [np.random.default_rng((seed, stream, b)).random((BLOCK, columns), np.float32) for b in blocks]
    return np.concatenate(parts)[:count]


def normal(draws: Field) -> Field:
    """Turn uniform numbers into bell-shaped ones: mean 0, deviation 1, never beyond 2.42.

    Tukey's lambda distribution with lambda 0.4: (p^0.4 - (1 - p)^0.4) / 0.4147.
    """
    power = np.float32(0.4)
    return (draws**power - (1 - draws) ** power) / np.float32(0.4147)


def people(config: FacesConfig, seed: int, count: int) -> People:
    """Draw ``count`` persons; the same seed gives the same first persons for every count."""
    draws = dict(zip(_COLUMNS, uniform(seed, 1, count, len(_COLUMNS)).T, strict=True))
    groups = {
        name: _group(config, name, draws["skin" if name == "skin_tone" else name]) for name in ATTRIBUTES
    }
    man = (groups["gender"] == "man").astype(np.float32)
    years = (_position(groups["age"], "age") + draws["round"]) / 3
    tone = (_position(groups["skin_tone"], "skin_tone") + draws["tone"]) / 3
    traits = {
        name: trait.mean + trait.spread * normal(draws[name]) + trait.man * (2 * man - 1) + trait.old * years
        for name, trait in BUILD.items()
    }
    traits |= _style(draws, man, years)
    colours = _colours(draws, man, years, tone)
    traits["metering"] = np.sqrt(0.60 / (colours["skin"] @ LUMA))
    traits["white"] = 0.84 / traits["metering"]
    columns = {name: np.asarray(value, np.float32)[:, None, None] for name, value in traits.items()}
    return People(groups, columns, colours)


def _group(config: FacesConfig, attribute: str, draws: Field) -> NDArray[np.str_]:
    values = ATTRIBUTES[attribute]
    table = shares(values, config.group_shares.get(attribute, {}), f"group_shares.{attribute}")
    index = np.searchsorted(np.cumsum(table), draws, side="right")
    return np.array(values)[np.minimum(index, len(values) - 1)]


def _position(column: NDArray[np.str_], attribute: str) -> Field:
    """Return the place of every value in its attribute's list, float32 (n,)."""
    places = [column == value for value in ATTRIBUTES[attribute]]
    return np.argmax(places, 0).astype(np.float32)


def _style(draws: Mapping[str, Field], man: Field, years: Field) -> dict[str, Field]:
    """Return hair, beard and glasses of a person, each float32 (n,)."""
    long = draws["length"] < np.where(man > 0, 0.06, 0.75)
    bald = (draws["bald"] < man * 0.45 * years).astype(np.float32)
    return {
        "years": years,
        "man": man,
        "hair_length": np.where(long, 1.0 + draws["side"], -0.35 + 0.4 * draws["side"]),
        "bald": bald,
        "fringe": np.where(draws["fringe"] < np.where(man > 0, 0.15, 0.35), 1.0, 0.0) * (1 - bald),
        "parting": 0.5 * (draws["side"] - 0.5),
        "beard": np.clip((draws["beard"] - 0.55) * 3, 0, 1) * man,
        "glasses": draws["glasses"],
        "round_glasses": draws["round"],
    }


def _ramp(table: Field, place: Field) -> Field:
    """Return colours (n, 3) at places 0..1 along a table of colours."""
    points = np.linspace(0, 1, len(table))
    return np.stack([np.interp(place, points, table[:, i]) for i in range(3)], 1).astype(np.float32)


def _colours(
    draws: Mapping[str, Field],
    man: Field,
    years: Field,
    tone: Field,
) -> dict[str, Field]:
    skin = _ramp(SKIN, tone)
    hair = _ramp(HAIR, draws["hair"] ** 1.5 * np.clip(1.35 - 1.3 * tone, 0, 1))
    gray = np.clip((years - 0.5) * 2.4 * (0.2 + draws["gray"]), 0, 0.85)[:, None]
    silver = np.array((0.80, 0.80, 0.80), np.float32)
    rouge = (0.25 + 0.55 * draws["lips"] * (1 - man) + 0.1 * draws["lips"])[:, None]
    return {
        "skin": skin,
        "hair": hair + gray * (silver - hair),
        "brow": 0.75 * (hair + 0.6 * gray * (silver - hair)),
        "eyes": _ramp(EYES, draws["eyes"] * np.clip(1.3 - 1.4 * tone, 0, 1)),
        "lips": skin * (0.80, 0.58, 0.55) * (1 - rouge) + rouge * skin * (0.85, 0.42, 0.42),
        "frame": np.stack([draws["glasses"] * 7 % 1 * 0.25] * 3, 1),
    }
