"""Soft shapes on batches of pictures.

Every shape is a signed distance in face units (negative inside, after Quilez, "2D distance functions"),
turned into the share of a pixel it covers. All arrays are float32; a parameter of a picture has the shape
(n, 1, 1) so that it broadcasts over the (n, H, W) pixels of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.floating]
"""float32 values over the pixels of a batch (n, H, W), or one a picture (n, 1, 1)."""

Traits = Mapping[str, Field]
"""Parameters of the pictures by name, each (n, 1, 1)."""

UNIT = 1.32
"""Face units from the middle of the picture to its edge; a face is about 1 unit wide on each side."""

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in gray (ITU-R BT.601)."""


@dataclass(frozen=True)
class View:
    """Rows of a batch of pictures and the face coordinates of their pixels.

    Attributes
    ----------
    u, v : coordinates on the turned head, (n, H, W); u grows to the right, v downwards, 0 at the nose's root.
    a, side : distance from the middle line and its side, -1, 0 or 1.
    p, q : the same coordinates before the head turns.
    depth : how far the surface of the head stands out, 0 at its edge to 1.
    edge : signed distance to the edge of the head.
    sharp : minus the pixels in a face unit, (n, 1, 1).
    relief : light that folds and bulges of the skin add, relative to flat skin.
    span : lowest and highest ``v`` of each picture row over the batch, (2, H).
    planes : the pictures, one array a channel, 0 to 1.
    """

    u: Field
    v: Field
    a: Field
    side: Field
    p: Field
    q: Field
    depth: Field
    edge: Field
    sharp: Field
    relief: Field
    span: NDArray[np.float32]
    planes: tuple[Field, ...]

    def rows(self, top: float, bottom: float) -> View:
        """Return the view of the picture rows that may hold ``v`` from ``top`` to ``bottom``."""
        hit = np.flatnonzero((self.span[1] > top) & (self.span[0] < bottom))
        return self.cut(slice(hit[0], hit[-1] + 1) if len(hit) else slice(0, 1))

    def cut(self, rows: slice) -> View:
        """Return the view of some rows of the pictures."""
        names = ("u", "v", "a", "side", "p", "q", "depth", "edge", "relief", "span")
        parts = {name: getattr(self, name)[:, rows] for name in names}
        planes = tuple(plane[:, rows] for plane in self.planes)
        return replace(self, **parts, planes=planes)

    def cover(self, distance: Field) -> Field:
        """Turn a distance into the share of each pixel it covers, 0 to 1; overwrites ``distance``."""
        distance *= self.sharp
        distance += 0.5
        np.maximum(distance, 0, out=distance)
        return np.minimum(distance, 1, out=distance)

    def blend(self, share: Field, colour: tuple[Field, ...]) -> None:
        """Lay ``colour``, one (n, 1, 1) a plane, over the pictures where ``share`` is above 0."""
        for plane, tint in zip(self.planes, colour, strict=True):
            step = tint - plane
            step *= share
            plane += step


def bump(x: Field, centre: Field | float, width: Field | float) -> Field:
    """Return a smooth hill, 1 at ``centre`` and 0 beyond ``width``: (1 - ((x - centre) / width)^2)^2."""
    out = x - centre
    out *= np.divide(1, width, dtype=np.float32)
    np.square(out, out=out)
    np.subtract(1, out, out=out)
    np.maximum(out, 0, out=out)
    return np.square(out, out=out)


def tint(rgb: Field, planes: int) -> tuple[Field, ...]:
    """Return a colour (n, 3) in 0..1 as one (n, 1, 1) array a plane; gray when there is one plane."""
    rgb = np.asarray(rgb, np.float32)
    columns = rgb if planes == 3 else (rgb @ LUMA)[:, None]
    return tuple(np.ascontiguousarray(columns[:, i])[:, None, None] for i in range(columns.shape[1]))


Column = TypeVar("Column", bound=np.generic)


def take(
    columns: Mapping[str, NDArray[Column]], rows: NDArray[np.intp] | slice
) -> dict[str, NDArray[Column]]:
    """Return some rows of every column."""
    return {name: values[rows] for name, values in columns.items()}
