"""Where a model looks for each class: Grad-CAM averaged over pictures that may be shown, never over few of them."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from client.evaluation import evaluating
from client.inputs import Inputs
from fer_models.errors import DataError, PrivacyError
from fer_models.explain import grad_cam
from fer_models.parity import SMALLEST
from fer_models.samples import Samples
from simulations.settings import DataSettings

MOST = 500
"""Pictures of a mean; of more, these at equal distances."""

BATCH = 50
"""Pictures explained at a time."""

SIDE = 144
"""Pixels a side of a shown mean, at least."""

INK, STRONGEST = (213, 94, 0), 0.75
"""Colour of the heat (vermilion of Okabe and Ito's palette for all kinds of sight) and how much it hides of a face."""


@dataclass(frozen=True)
class Cell:
    """Test pictures that a model calls one class, rightly or wrongly.

    Attributes
    ----------
    label : index of the class that the model says.
    right : whether it is the label, too.
    rows : int (n,), of the samples.
    people : on these pictures; None where the data do not name them.
    """

    label: int
    right: bool
    rows: NDArray[np.intp]
    people: int | None

    @property
    def shown(self) -> bool:
        """Whether there are enough pictures, and people, that a mean shows none of them."""
        return len(self.rows) >= SMALLEST and (self.people is None or self.people >= SMALLEST)


def require_allowed(data: DataSettings) -> None:
    """Refuse to show anything of pictures whose owner has not allowed it.

    Raises
    ------
    PrivacyError : the pictures are not drawn ones, and the settings do not say that means may be shown.
    """
    if data.reader != "faces" and not data.publish:
        raise PrivacyError(
            "nobody has allowed to show means of these pictures",
            where="data.publish",
            cure="Leave explain=true out, explain on drawn faces with data=faces, or ask the pictures' owner and set "
            "data.publish=true.",
        )


def explanations(
    module: nn.Module,
    samples: Samples,
    rows: NDArray[np.intp],
    predicted: NDArray[np.int64],
    device: torch.device,
) -> list[dict[str, Any]]:
    """Return, for every class that a model says, where it looks when it is right and when it is wrong.

    Means of fewer than 10 pictures, or of fewer than 10 people, are left out: they would show a face.

    Parameters
    ----------
    rows, predicted : test rows (n,) and the classes (n,) that the model calls them.

    Returns
    -------
    ``class``, ``right``, ``n``, ``people``, ``png`` (a mean face with the mean heat over it, base64) and ``caption``.

    Raises
    ------
    ModelError : see :func:`fer_models.explain.grad_cam`.
    DataError : no mean has enough pictures.
    """
    cells = [cell for cell in _cells(samples, rows, predicted) if cell.shown]
    if not cells:
        raise DataError(
            f"no class is told of {SMALLEST} pictures and people, and a mean of fewer would show a face",
            where=samples.name,
            cure="Leave explain=true out, or give more pictures.",
        )
    inputs = Inputs(samples, device, limit=0)
    with evaluating(module):
        return [_explained(module, samples, inputs, cell) for cell in cells]


def _cells(samples: Samples, rows: NDArray[np.intp], predicted: NDArray[np.int64]) -> Iterator[Cell]:
    for label in range(len(samples.labels)):
        for right in (True, False):
            own = rows[(predicted == label) & ((samples.label[rows] == label) == right)]
            own = own[np.linspace(0, len(own) - 1, min(len(own), MOST)).round().astype(int)]
            people = None if samples.people is None else len(np.unique(samples.people[own]))
            yield Cell(label, right, own, people)


def _explained(module: nn.Module, samples: Samples, inputs: Inputs, cell: Cell) -> dict[str, Any]:
    face = np.zeros((samples.size, samples.size))
    heat = np.zeros_like(face)
    for start in range(0, len(cell.rows), BATCH):
        part = cell.rows[start : start + BATCH]
        x = inputs(part)
        said = torch.full((len(part),), cell.label, device=x.device)
        heat += grad_cam(module, x, said).sum(0, dtype=torch.float64).cpu().numpy()
        pictures = samples.pictures[part].astype(np.float64)
        face += (pictures if pictures.ndim == 3 else pictures.mean(3)).sum(0)
    n, name = len(cell.rows), samples.labels[cell.label]
    return {
        "class": name,
        "right": cell.right,
        "n": n,
        "people": cell.people,
        "png": base64.b64encode(overlay(face / n, heat / n)).decode(),
        "caption": _caption(name, cell),
    }


def _caption(name: str, cell: Cell) -> str:
    how = "rightly" if cell.right else "wrongly"
    people = "" if cell.people is None else f" of {cell.people:,} people"
    return (
        f"Mean of {len(cell.rows):,} pictures{people} that the model {how} calls {name}; the stronger the orange, "
        f"the more this place speaks for {name}."
    )


def overlay(face: NDArray[np.float64], heat: NDArray[np.float64]) -> bytes:
    """Return a PNG of a gray face (H, W), 0 to 255, under heat (H, W), whose largest value is given the full colour."""
    share = STRONGEST * heat[:, :, None] / max(float(heat.max()), 1e-12)
    mixed = (1 - share) * face[:, :, None] + share * np.array(INK)
    picture = Image.fromarray(mixed.round().clip(0, 255).astype(np.uint8))
    side = max(SIDE, len(face))
    shown = picture.resize((side, side), Image.Resampling.BICUBIC).quantize(128)
    file = io.BytesIO()
    shown.save(file, "PNG", optimize=True)
    return file.getvalue()
