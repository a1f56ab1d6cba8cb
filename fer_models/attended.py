"""A block of attention between the maps and the head of a net of timm."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fer_models.blocks import BLOCKS
from fer_models.errors import ModelError


class Attended(nn.Module):
    """A net whose last maps pass a block before its head.

    Parameters
    ----------
    net : has ``forward_features`` and ``forward_head``, as nets of timm do.
    name : of :data:`fer_models.blocks.BLOCKS`.
    channels, size : of the pictures.

    Raises
    ------
    ModelError : the net has no maps (B, C, H, W), as a transformer has none.
    """

    def __init__(self, net: nn.Module, name: str, channels: int, size: int) -> None:
        super().__init__()
        training = net.training
        with torch.no_grad():
            found = net.eval().forward_features(torch.zeros(2, channels, size, size))  # type: ignore[operator]
        net.train(training)
        width = getattr(net, "num_features", 0)
        if not isinstance(found, Tensor) or found.ndim != 4 or found.shape[1] != width:
            raise ModelError(
                f"{type(net).__name__} gives {tuple(getattr(found, 'shape', ()))} and no maps for attention",
                where="model.attention",
                cure="Leave model.attention empty, or use a convolutional net.",
            )
        self.net, self.attention = net, BLOCKS[name](width)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, classes) of pictures (B, channels, H, W)."""
        maps = self.attention(self.net.forward_features(x))  # type: ignore[operator]
        return self.net.forward_head(maps)  # type: ignore[operator]
