"""Normalised pictures, made once where they are few: they are asked for again in every round."""

from __future__ import annotations

import functools

import numpy as np
import torch
from numpy.typing import NDArray

from fer_models.samples import Samples
from fer_models.transforms import to_input

KEPT_BYTES = 64 << 20
"""Bytes of normalised pictures that a process keeps; a larger table is normalised batch by batch."""

BLOCK = 512
"""Pictures normalised at a time while a table is filled."""


class Inputs:
    """What a net takes in, by row of one table.

    A picture is normalised by itself, so its numbers are the same bits whether they were kept or made anew.

    Parameters
    ----------
    samples : the table.
    device : where the net is.
    limit : bytes up to which all of the table's pictures are kept.
    """

    def __init__(self, samples: Samples, device: torch.device, limit: int = KEPT_BYTES) -> None:
        self.samples, self._device = samples, device
        self._keeps = 4 * samples.pictures.size <= limit

    @functools.cached_property
    def _table(self) -> torch.Tensor:
        """float32 (N, H, W, C)."""
        stored = self.samples.pictures
        table = torch.empty((*stored.shape[:3], self.samples.channels), device=self._device)
        for start in range(0, len(stored), BLOCK):
            block = to_input(stored[start : start + BLOCK], self._device)
            table[start : start + BLOCK] = block.permute(0, 2, 3, 1)
        return table

    def __call__(self, rows: NDArray[np.integer]) -> torch.Tensor:
        """Return the normalised pictures of some rows, as :func:`to_input` does: float32 (len(rows), C, H, W)."""
        if not self._keeps:
            return to_input(self.samples.pictures[rows], self._device)
        return self._table[torch.as_tensor(rows, device=self._device)].permute(0, 3, 1, 2)
