"""Backdrop, shoulders, head and hair."""

from __future__ import annotations

import numpy as np

from simulations.faces.canvas import Field, Traits, View, bump

Tint = tuple[Field, ...]


def backdrop(view: View, t: Traits, colour: Tint) -> None:
    """Fill the pictures with a slope of light and two soft patches."""
    d = {i: t[f"backdrop_{i}"] for i in range(6)}
    field = view.p * (0.5 * (d[0] - 0.5))
    field += view.q * (0.5 * (d[1] - 0.5))
    field += bump(view.p, 3 * d[2] - 1.5, 0.3 + d[3]) * (d[4] - 0.5)
    field += bump(view.q, 3 * d[3] - 1.5, 0.2 + d[2]) * (0.6 * d[5] - 0.3)
    field += 1
    for plane, tint in zip(view.planes, colour, strict=True):
        np.multiply(field, tint, out=plane)


def shoulders(view: View, t: Traits, cloth: Tint, skin: Tint, hair: Tint) -> None:
    """Draw the hair behind the neck, the neck under the chin and the clothes below it."""
    low = view.rows(0.2, 9.0)
    behind = np.maximum(
        np.abs(low.p) - t["face_width"] - 0.04, low.q - t["hair_length"] + 0.1 + 9 * t["bald"]
    )
    low.blend(low.cover(behind), tuple(0.55 * tone for tone in hair))
    neck = np.abs(low.p)
    neck -= 0.47 + 0.06 * t["man"]
    np.maximum(neck, 0.6 - low.q, out=neck)
    low.blend(low.cover(neck), tuple(0.62 * tone * t["ambient"] for tone in skin))
    wear = 1.42 - low.q - 0.10 * np.abs(low.p) ** 2
    low.blend(low.cover(wear), cloth)


def outline(view: View, t: Traits, jaw: Field) -> None:
    """Measure the distance to the edge of the head, with the jaw dropped by ``jaw`` (n, 1, 1).

    An ellipse whose lower half narrows towards the chin: width * (1 - taper * (q / chin)^2).
    """
    chin, width = t["chin"] + 0.16 * jaw, t["face_width"]
    down = np.maximum(view.q, 0)
    down *= 1 / chin
    up = np.minimum(view.q, 0)
    up *= 1 / t["skull"]
    np.square(down, out=down)
    x = 1 - t["taper"] * down
    np.divide(view.p / width, x, out=x)
    np.square(x, out=x)
    x += down
    x += np.square(up, out=up)
    np.sqrt(x, out=x)
    x -= 1
    np.multiply(x, width, out=view.edge)


def ears(view: View, t: Traits) -> Field:
    """Return the share of each pixel that ears cover, on the rows of ``view``."""
    x = (np.abs(view.p) - t["face_width"] - 0.01) * (1 / 0.12)
    y = (view.q - 0.02) * (1 / 0.24)
    return view.cover(0.12 * (np.sqrt(x * x + y * y) - 1))


def head(view: View, t: Traits, skin: Tint) -> None:
    """Draw the skin of the head, inside its edge: colour times light.

    Lambert's law on an ellipsoid, softened by ambient light, plus the relief of the features.
    """
    light = view.p * t["light_x"]
    light += view.q * t["light_y"]
    light += 0.9 * view.depth
    np.maximum(light, 0, out=light)
    light *= 1 - t["ambient"]
    light += t["ambient"]
    light *= 1 + view.relief
    share = view.cover(view.edge.copy())
    for plane, tint in zip(view.planes, skin, strict=True):
        step = light * tint
        step -= plane
        step *= share
        plane += step


def ear_skin(view: View, t: Traits, skin: Tint) -> None:
    """Draw the ears, which the head and long hair may hide again."""
    part = view.rows(-0.3, 0.35)
    part.blend(ears(part, t), tuple(0.75 * tone for tone in skin))


def hair(view: View, t: Traits, colour: Tint) -> None:
    """Draw the hair around the face: inside the hair's outer edge, outside the opening for the face."""
    width, volume = t["face_width"], t["hair_volume"]
    low = np.maximum(view.q, 0)
    outer = np.clip(1.6 * (t["hair_length"] + 0.15 - view.q), 0, 1) * (0.6 * volume + 0.06)
    outer += width + 0.02
    np.divide(view.p, outer, out=outer)
    np.square(outer, out=outer)
    up = np.minimum(view.q, 0) * (1 / (t["skull"] + volume))
    outer += np.square(up, out=up)
    outer -= 1 + 0.25 * low
    outer *= 0.5 * width
    opening = view.u * (1 / (width * (0.92 - 0.06 * (1 - t["bald"]))))
    np.square(opening, out=opening)
    top = t["hairline"] + 0.32 * t["fringe_on"]
    wave = np.sin(view.u * t["hair_wave"] + 9 * t["parting"])
    wave *= np.sin(view.u * (0.43 * t["hair_wave"]) + 1)
    crown = np.minimum(view.v + 0.25, 0)
    crown *= 1 / (
        top + 0.25 + (0.01 + 0.04 * t["fringe"]) * wave + (0.3 + 0.5 * t["fringe"]) * t["parting"] * view.u
    )
    opening += np.square(crown, out=crown)
    np.subtract(1, opening, out=opening)
    opening *= 0.45 * width
    np.maximum(outer, opening, out=outer)
    np.maximum(outer, view.q - t["hair_length"], out=outer)
    outer += 3 * t["bald"]
    share = view.cover(outer)
    shine = 0.86 + 0.10 * wave + 0.26 * view.depth
    shine += view.p * (0.4 * t["light_x"])
    for plane, tint in zip(view.planes, colour, strict=True):
        step = shine * tint
        step -= plane
        step *= share
        plane += step


def beard(view: View, t: Traits, colour: Tint) -> None:
    """Draw beard and moustache, under the mouth that is drawn later."""
    low = view.rows(0.35, 1.5)
    inside = low.cover(low.edge.copy())
    line = t["mouth_y"] - 0.14 + 0.28 * bump(low.a, 0.32, 0.5) - low.v - 0.5 * np.maximum(low.a - 0.45, 0)
    chin = low.cover(2 * line)
    lip = bump(low.v, t["mouth_y"] - 0.17, 0.14) * bump(low.a, 0.0, 0.62)
    share = np.maximum(chin * inside, np.minimum(2 * lip, 1))
    share *= 0.75 * t["beard"]
    low.blend(share, colour)
