"""What hides a face: glasses and masks. Each is drawn only on the pictures that have it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from simulations.faces.canvas import Traits, View, bump, take
from simulations.faces.head import Tint


def only(view: View, t: Traits, flag: str) -> tuple[NDArray[np.intp], View, Traits] | None:
    """Return the pictures whose trait ``flag`` is above 0, as copies, or None when there are none."""
    rows = np.flatnonzero(t[flag][:, 0, 0] > 0)
    if not len(rows):
        return None
    whole = {"span": view.span, "planes": tuple(plane[rows] for plane in view.planes)}
    parts = {f.name: getattr(view, f.name)[rows] for f in fields(view) if f.name not in whole}
    return rows, View(**parts, **whole), take(t, rows)


def put_back(view: View, rows: NDArray[np.intp], part: View) -> None:
    """Write the pictures of :func:`only` back."""
    for plane, changed in zip(view.planes, part.planes, strict=True):
        plane[rows] = changed


def glasses(view: View, t: Traits, colours: Mapping[str, Tint]) -> None:
    """Draw glasses on the pictures that have them; few of them are dark."""
    found = only(view.rows(-0.6, 0.4), t, "glasses_on")
    if found is None:
        return
    rows, part, t = found
    tint = tuple(tone[rows] for tone in colours["frame"])
    x, y = part.a - t["eye_x"] - 0.01, part.v - t["eye_y"] - 0.02
    box = np.maximum(np.abs(x) - 0.31, np.abs(y) - 0.22)
    disc = np.sqrt(np.square(x) + np.square(y)) - 0.29
    lens = box + (t["round_glasses"] > 0.6) * (disc - box)
    part.blend(
        part.cover(lens.copy()) * (0.06 + 0.84 * t["dark_glasses"]), tuple(0.1 + 0.5 * c for c in tint)
    )
    part.blend(part.cover(np.abs(lens) - 0.024), tint)
    bar = np.maximum(np.abs(y + 0.06) - 0.02, -lens)
    part.blend(part.cover(bar) * (part.a < 1.0), tint)
    put_back(view.rows(-0.6, 0.4), rows, part)


def mask(view: View, t: Traits, colours: Mapping[str, Tint]) -> None:
    """Draw a medical mask over nose and mouth."""
    found = only(view, t, "masked")
    if found is None:
        return
    rows, part, t = found
    top = 0.10 + 0.22 * np.minimum(part.a, 0.9) - part.v
    inside = np.maximum(top, part.edge)
    np.maximum(inside, part.v - 1.18, out=inside)
    shade = 1 - 0.25 * np.square(part.a) - 0.10 * bump(part.v, 0.55, 0.04) - 0.10 * bump(part.v, 0.8, 0.04)
    share = part.cover(inside)
    for plane, tint in zip(part.planes, colours["cloth"], strict=True):
        plane += share * (shade * (0.6 + 0.4 * tint[rows]) - plane)
    put_back(view, rows, part)
