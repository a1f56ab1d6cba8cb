"""From traits to pixels: a batch of pictures at a time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from simulations.faces import covers, features, head
from simulations.faces.canvas import UNIT, Field, Traits, View, tint
from simulations.faces.people import People
from simulations.faces.shots import Shots
from simulations.faces.units import UNITS

DEPTH = 0.95
"""How far the nose stands in front of the axis that the head turns about, in face units."""


def render(
    persons: People,
    taken: Shots,
    units: NDArray[np.float32],
    size: int,
    channels: int,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """Draw n pictures, uint8 (n, size, size) or (n, size, size, 3).

    Parameters
    ----------
    persons, taken : who and how, n rows each.
    units : float32 (n, len(UNITS)), the contractions.
    rng : source of the camera's grain.
    """
    t = {**persons.traits, **taken.traits}
    k = {name: np.ascontiguousarray(units[:, i])[:, None, None] for i, name in enumerate(UNITS)}
    colours = {name: tint(rgb, channels) for name, rgb in {**persons.colours, **taken.colours}.items()}
    view = _view(t, size, channels)
    _face(view, t, k, colours)
    return _develop(view, t, rng)


def _view(t: Traits, size: int, channels: int) -> View:
    """Return empty pictures and the face coordinates of their pixels.

    A pixel is shifted, rolled and zoomed in the plane, then turned about the vertical and the horizontal
    axis of an ellipsoid: u = p cos(yaw) - depth sin(yaw), v = q cos(pitch) - depth sin(pitch).
    """
    grid = (np.arange(size, dtype=np.float32) + 0.5) * np.float32(2 * UNIT / size) - np.float32(UNIT)
    x = (grid[None, None, :] - t["x"]) / t["zoom"]
    y = (grid[None, :, None] + 0.10 - t["y"]) / t["zoom"]
    p = x * t["roll_cos"] + y * t["roll_sin"]
    q = y * t["roll_cos"] - x * t["roll_sin"]
    depth = np.square(p * (1 / 1.12))
    depth += np.square(q * (1 / 1.5))
    np.subtract(1, depth, out=depth)
    np.maximum(depth, 0, out=depth)
    np.sqrt(depth, out=depth)
    u = p * t["yaw_cos"] - depth * (DEPTH * t["yaw_sin"])
    v = q * t["pitch_cos"] - depth * (DEPTH * t["pitch_sin"])
    sharp = -(size / (2 * UNIT)) * t["zoom"]
    inner = v[:, :, size // 8 :: size // 6]
    span = np.stack([inner.min((0, 2)), inner.max((0, 2))])
    planes = tuple(np.empty_like(u) for _ in range(channels))
    return View(
        u=u,
        v=v,
        a=np.abs(u),
        side=np.sign(u),
        p=p,
        q=q,
        depth=depth,
        edge=np.empty_like(u),
        sharp=sharp.astype(np.float32),
        relief=np.zeros_like(u),
        span=span,
        planes=planes,
    )


def _face(view: View, t: Traits, k: Traits, colours: Mapping[str, tuple[Field, ...]]) -> None:
    """Draw everything from back to front."""
    skin = colours["skin"]
    head.backdrop(view, t, colours["backdrop"])
    head.shoulders(view, t, colours["cloth"], skin, colours["hair"])
    head.ear_skin(view, t, skin)
    features.folds(view, t, k)
    head.outline(view, t, features.jaw(k))
    head.head(view, t, skin)
    head.beard(view, t, colours["hair"])
    features.nostrils(view, t, k, skin)
    features.mouth(view, t, k, colours["lips"], skin)
    features.eyes(view, t, k, colours["eyes"], skin)
    features.brows(view, t, k, colours["brow"])
    head.hair(view, t, colours["hair"])
    covers.glasses(view, t, colours)
    covers.mask(view, t, colours)


def _develop(view: View, t: Traits, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Expose, blur and grain the pictures, and round them to bytes."""
    size = view.u.shape[1]
    gain = 255 * t["metering"] * t["expose"] * t["contrast"]
    out = np.empty((*view.u.shape, len(view.planes)), np.uint8)
    grain = rng.standard_normal(view.u.shape, np.float32)
    grain *= 255 * t["grain"]
    for i, plane in enumerate(view.planes):
        soft = plane
        for _ in range(max(1, round(size / 48))):
            soft = _blur(soft, t["blur"])
        soft *= gain
        soft += 127 * (1 - t["contrast"])
        soft += grain
        np.clip(soft, 0, 255, out=soft)
        out[..., i] = soft
    return out[..., 0] if len(view.planes) == 1 else out


def _blur(plane: Field, strength: Field) -> Field:
    """Mix a picture with its neighbours: weights 1 2 1 along both axes at strength 1."""
    side = 0.25 * np.minimum(1, strength)
    out = plane * (1 - 2 * side)
    out[:, :, 1:-1] += side * (plane[:, :, :-2] + plane[:, :, 2:])
    out[:, :, :1] += 2 * side * plane[:, :, :1]
    out[:, :, -1:] += 2 * side * plane[:, :, -1:]
    both = out * (1 - 2 * side)
    both[:, 1:-1] += side * (out[:, :-2] + out[:, 2:])
    both[:, :1] += 2 * side * out[:, :1]
    both[:, -1:] += 2 * side * out[:, -1:]
    return both
