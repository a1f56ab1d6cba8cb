"""Fixed features: what a net can start from without learning it, and therefore without any privacy cost."""

from __future__ import annotations

import abc
import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class Hog(nn.Module):
    """Histograms of oriented gradients (Dalal and Triggs 2005), as a layer without parameters.

    Unsigned orientations, each gradient shared linearly between the two nearest bins; cells are averaged; blocks of
    2 x 2 cells, one cell apart, are divided by their 2-norm. Colour pictures are averaged to gray.

    Parameters
    ----------
    cell : side of a cell in pixels.
    bins : orientations over half a turn.
    """

    def __init__(self, cell: int = 8, bins: int = 9) -> None:
        super().__init__()
        self.cell, self.bins = cell, bins

    def width(self, size: int) -> int:
        """Return the number of features of a picture of ``size`` x ``size`` pixels."""
        return (size // self.cell - 1) ** 2 * 4 * self.bins

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Return features (B, width) of pictures (B, C, H, W)."""
        gray = functional.pad(x.mean(1), (1, 1, 1, 1), mode="replicate")
        across = gray[:, 1:-1, 2:] - gray[:, 1:-1, :-2]
        down = gray[:, 2:, 1:-1] - gray[:, :-2, 1:-1]
        strength = torch.sqrt(across.square() + down.square())
        place = torch.atan2(down, across).remainder(math.pi) * (self.bins / math.pi)
        shares = [(1 - self._distance(place, index)).clamp_(min=0) * strength for index in range(self.bins)]
        cells = functional.avg_pool2d(torch.stack(shares, 1), self.cell)
        blocks = torch.cat(
            [cells[:, :, :-1, :-1], cells[:, :, 1:, :-1], cells[:, :, :-1, 1:], cells[:, :, 1:, 1:]], 1
        )
        return (blocks / torch.sqrt(blocks.square().sum(1, keepdim=True) + 1e-4)).flatten(1)

    def _distance(self, place: Tensor, index: int) -> Tensor:
        """Return how far orientations lie from a bin, in bins, around the half turn."""
        apart = (place - (index + 0.5)).abs()
        return torch.minimum(apart, self.bins - apart)


class TwoStage(nn.Module, abc.ABC):
    """A net that makes features of a picture, each picture by itself, and logits of them.

    Where all that makes the features is fixed, those of a picture stay the same and can be kept: called on features
    (B, F) in place of pictures, the net goes on from there.

    Attributes
    ----------
    last : name of the layer that gives the logits.
    """

    last: str = "head"

    @abc.abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """Return features (B, F) of pictures (B, C, H, W)."""

    @abc.abstractmethod
    def keeps_features(self) -> bool:
        """End the features where the net begins to learn, if it can; return whether they stay the same then."""

    def learns_only_in(self, *parts: str) -> bool:
        """Return whether all that learns belongs to these modules, and nothing else changes either."""
        learning = [name for name, p in self.named_parameters() if p.requires_grad]
        return all(name.startswith(tuple(f"{part}." for part in parts)) for name in learning) and not list(
            self.buffers()
        )


class HogLinear(TwoStage):
    """Histograms of oriented gradients and one linear layer: few parameters, so little noise under privacy."""

    last = "classifier"

    def __init__(self, *, classes: int, size: int, dropout: float) -> None:
        super().__init__()
        self.hog = Hog(cell=max(4, size // 8))
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(self.hog.width(size), classes)
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    def features(self, x: Tensor) -> Tensor:
        """Return features (B, F) of pictures (B, C, H, W)."""
        return self.hog(x)

    def keeps_features(self) -> bool:
        """Return that they do, whatever learns: nothing in them can."""
        return self.learns_only_in(self.last)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, classes) of pictures (B, C, H, W), or of their features (B, F)."""
        return self.classifier(self.dropout(x if x.ndim == 2 else self.features(x)))
