"""How a picture is taken: pose, light, background, what hides the face, and the camera's faults."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulations.faces.canvas import Field, Traits, take
from simulations.faces.config import FacesConfig, by_group
from simulations.faces.people import People, normal

BELLS = (
    "yaw",
    "pitch",
    "roll",
    "x",
    "y",
    "zoom",
    "light_x",
    "light_y",
    "gaze_x",
    "gaze_y",
    "squint",
    "expose",
)
"""Columns with a bell-shaped distribution around 0."""

FLATS = ("ambient", "blur", "grain", "masked", "glasses_on", "dark_glasses", "lock", "contrast", "hat")
FLATS += tuple(f"backdrop_{i}" for i in range(9)) + tuple(f"cloth_{i}" for i in range(3))
"""Columns with a uniform distribution in 0..1."""

COLUMNS = len(BELLS) + len(FLATS)
"""Uniform numbers that :func:`shots` uses a picture."""


@dataclass(frozen=True)
class Shots:
    """Parameters (n, 1, 1) and colours (n, 3) of the pictures, by name."""

    traits: Traits
    colours: Traits

    def take(self, rows: slice) -> Shots:
        """Return some shots."""
        return Shots(take(self.traits, rows), take(self.colours, rows))


def shots(config: FacesConfig, persons: People, draws: Field) -> Shots:
    """Return the circumstances of n pictures from ``draws``, float32 (n, COLUMNS) uniform in 0..1."""
    bell: Traits = dict(zip(BELLS, normal(draws[:, : len(BELLS)]).T[:, :, None, None], strict=True))
    flat: Traits = dict(zip(FLATS, draws[:, len(BELLS) :].T[:, :, None, None], strict=True))
    traits = {
        **_camera(config, bell, pitches(config, persons)),
        **_light(config, bell, flat),
        **_cover(config, persons.traits, flat),
        "gaze_x": 0.018 * config.pose * bell["gaze_x"],
        "gaze_y": 0.008 * config.pose * bell["gaze_y"],
        "squint": np.maximum(0, 0.06 * config.crosstalk * bell["squint"]),
        **{f"backdrop_{i}": flat[f"backdrop_{i}"] for i in range(9)},
    }
    back = draws[:, len(BELLS) + FLATS.index("backdrop_0") :]
    colours = {"backdrop": _muted(back[:, 6:9]), "cloth": _muted(back[:, 9:12])}
    return Shots({name: np.asarray(v, np.float32) for name, v in traits.items()}, colours)


def pitches(config: FacesConfig, persons: People) -> Field:
    """Return by how much the camera looks up at each person, float32 (n, 1, 1) in radians."""
    count = len(persons.groups["gender"])
    degrees = by_group(0.0, config.pitch_by, persons.groups, count)
    return np.radians(degrees).astype(np.float32)[:, None, None]


def _camera(config: FacesConfig, bell: Traits, looks_up: Field) -> dict[str, Field]:
    """Head angles in radians, shift and zoom of the crop in face units."""
    pose = config.pose
    roll = 0.052 * pose * bell["roll"]
    pitch = 0.057 * pose * bell["pitch"] - looks_up
    return {
        "yaw_sin": np.sin(0.125 * pose * bell["yaw"]),
        "yaw_cos": np.cos(0.125 * pose * bell["yaw"]),
        "pitch_sin": np.sin(pitch),
        "pitch_cos": np.cos(pitch),
        "roll_sin": np.sin(roll),
        "roll_cos": np.cos(roll),
        "x": 0.026 * pose * bell["x"],
        "y": 0.026 * pose * bell["y"],
        "zoom": 1 + 0.026 * pose * bell["zoom"],
    }


def _light(config: FacesConfig, bell: Traits, flat: Traits) -> dict[str, Field]:
    """Direction of the lamp, share of ambient light, exposure, contrast, blur and grain."""
    strength, noise = config.light, config.noise
    return {
        "light_x": 0.20 * strength * bell["light_x"],
        "light_y": -0.18 + 0.115 * strength * bell["light_y"],
        "ambient": 0.62 + 0.2 * flat["ambient"],
        "expose": 1 + 0.075 * strength * bell["expose"],
        "contrast": 1 - 0.45 * strength * np.maximum(0, flat["contrast"] - 0.5),
        "blur": np.clip((flat["blur"] * 1.5 - 0.5) * noise, 0, 1.5),
        "grain": (0.008 + 0.040 * flat["grain"] ** 2) * noise,
    }


def _cover(config: FacesConfig, person: Traits, flat: Traits) -> dict[str, Field]:
    """What hides the face: 1 where glasses, dark glasses, a mask or a lock of hair is on, else 0."""
    much = config.occlusion
    wears = person["glasses"] < (0.12 + 0.25 * person["years"]) * much
    glasses = wears & (flat["glasses_on"] < 0.85)
    dark = flat["dark_glasses"] < 0.02 * much
    return {
        "glasses_on": (glasses | dark).astype(np.float32),
        "dark_glasses": dark.astype(np.float32),
        "masked": (flat["masked"] < 0.03 * much).astype(np.float32),
        "fringe_on": person["fringe"] * min(1.0, much) * (0.5 + 0.8 * flat["lock"]),
    }


def _muted(draws: Field) -> Field:
    """Return colours (n, 3) that are drawn towards their own gray."""
    gray = draws.mean(1, keepdims=True)
    return 0.10 + 0.80 * (gray + 0.30 * (draws - gray))
