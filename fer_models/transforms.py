"""From stored pictures to what a net sees: normalisation, random affine augmentation, mirrored prediction.

Nothing here mixes the pictures of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fer_models.errors import ConfigError

NORMALISATION = "(x - mean) / (std + 1) over all pixels of a picture, x from 0 to 255"
"""What :func:`to_input` does, for a model's files."""


@dataclass(frozen=True)
class Augmentation:
    """How strongly training pictures are varied; uniform draws, all 0 for none.

    Attributes
    ----------
    flip : probability of mirroring left and right.
    rotation : largest angle in radians, to either side.
    scale : largest relative change of size.
    shift : largest shift along each axis in half-widths of the picture (0.125 is 3 of 48 pixels).
    erase : probability that a rectangle becomes the picture's mean (Zhong et al. 2020, arXiv:1708.04896): 2 to 20 % of
        the area, sides in a ratio of 0.5 to 2.
    light : largest strength of a light from one side: a plane over the picture from -light to light, in its standard
        deviations, is added. Brightness and contrast of the whole are taken out by :func:`to_input` already.

    Raises
    ------
    ConfigError : a value out of range.
    """

    flip: float = 0.5
    rotation: float = 0.25
    scale: float = 0.15
    shift: float = 0.125
    erase: float = 0.0
    light: float = 0.0

    def __post_init__(self) -> None:
        limits = {"flip": 1.0, "rotation": math.pi, "scale": 0.9, "shift": 1.0, "erase": 1.0, "light": 3.0}
        for name, most in limits.items():
            value = getattr(self, name)
            if not 0 <= value <= most:
                raise ConfigError(
                    f"augmentation {name} is {value}",
                    where=f"augmentation.{name}",
                    cure=f"Use 0 to {most:.3g}.",
                )


def to_input(pictures: Tensor | NDArray[np.uint8], device: torch.device | str = "cpu") -> Tensor:
    """Return float32 (B, C, H, W) of uint8 pictures (B, H, W) or (B, H, W, 3), each normalised by itself.

    ``x -> (x - mean) / (std + 1)`` with mean and standard deviation over all pixels and channels of the one
    picture; the 1 (of 255) keeps a blank picture at 0. Pixels keep their memory order, so the result is
    contiguous in ``channels_last``, and convolutions compute in that layout.
    """
    if isinstance(pictures, np.ndarray):
        pictures = torch.from_numpy(pictures if pictures.flags.writeable else pictures.copy())
    stored = pictures.to(device)
    # In place on one fresh buffer: at this size new buffers cost more than the arithmetic.
    x = stored.flatten(1).float()
    x.sub_(x.mean(1, keepdim=True))
    deviation = torch.linalg.vector_norm(x, dim=1, keepdim=True).div_(math.sqrt(x.shape[1]))
    x.mul_(deviation.add_(1).reciprocal_())
    channels = 1 if stored.ndim == 3 else stored.shape[3]
    return x.view(*stored.shape[:3], channels).permute(0, 3, 1, 2)


def _affine(count: int, generator: torch.Generator, spec: Augmentation) -> Tensor:
    """Draw maps from output to input coordinates, (count, 2, 3)."""
    u = torch.rand(count, 5, generator=generator, device=generator.device)
    angle = (2 * u[:, 0] - 1) * spec.rotation
    scale = 1 + (2 * u[:, 1] - 1) * spec.scale
    flip = 1 - 2 * (u[:, 2] < spec.flip).float()
    cos, sin = scale * torch.cos(angle), scale * torch.sin(angle)
    shift = (2 * u[:, 3:] - 1) * spec.shift
    return torch.stack([flip * cos, -flip * sin, shift[:, 0], sin, cos, shift[:, 1]], 1).view(count, 2, 3)


def _pixel_centres(count: int, like: Tensor) -> Tensor:
    """Return the coordinates of pixel centres, (count,), where -1 and 1 are the outer edges."""
    return torch.arange(1, 2 * count, 2, device=like.device, dtype=like.dtype).div_(count).sub_(1)


def _sampling_grid(theta: Tensor, height: int, width: int) -> Tensor:
    """Return ``F.affine_grid(theta, ..., align_corners=False)``, (B, H, W, 2), some 30 times as fast.

    The map is a sum of a row's and a column's term, so no matrix product over pixels is needed.
    """
    x = _pixel_centres(width, theta)
    y = _pixel_centres(height, theta)
    columns = theta[:, :, 0, None] * x
    rows = torch.addcmul(theta[:, :, 2, None], theta[:, :, 1, None], y)
    return (columns[:, :, None, :] + rows[:, :, :, None]).permute(0, 2, 3, 1)


def augment(x: Tensor, generator: torch.Generator, spec: Augmentation) -> Tensor:
    """Return ``x`` (B, C, H, W) with every picture flipped, turned, scaled, shifted, lit and erased by its own draw.

    One bilinear resampling does all four; what comes from outside the picture is 0, the picture's own mean
    after :func:`to_input`. Picture i takes the i-th five draws of ``generator``; light and a rectangle that is erased,
    where ``spec`` asks for them, come after it and take draws of their own.
    """
    theta = _affine(len(x), generator, spec).to(x)
    grid = _sampling_grid(theta, *x.shape[2:])
    varied = torch.grid_sampler(x, grid, 0, 0, False)  # bilinear, zeros outside, corners not aligned
    if spec.light > 0:
        varied = varied + _light(len(x), generator, spec.light, varied)
    if spec.erase > 0:
        varied = varied * _kept(len(x), generator, spec.erase, varied)
    if x.shape[1] > 1:
        return varied.contiguous(memory_format=torch.channels_last)
    return varied.view(*varied[:, 0].shape, 1).permute(0, 3, 1, 2)  # one channel: the strides alone say so


def _light(count: int, generator: torch.Generator, most: float, like: Tensor) -> Tensor:
    """Draw planes (count, 1, H, W) that rise to one side."""
    u = torch.rand(count, 2, generator=generator, device=generator.device).to(like)
    strength, angle = most * u[:, 0], 2 * math.pi * u[:, 1]
    down, across = (_pixel_centres(side, like) for side in like.shape[2:])
    slope = torch.stack([torch.sin(angle), torch.cos(angle)], 1) * (strength / math.sqrt(2))[:, None]
    return (slope[:, 0, None, None] * down[:, None] + slope[:, 1, None, None] * across)[:, None]


def _kept(count: int, generator: torch.Generator, chance: float, like: Tensor) -> Tensor:
    """Draw masks (count, 1, H, W): 0 in a rectangle of each picture that is chosen, 1 elsewhere."""
    u = torch.rand(count, 5, generator=generator, device=generator.device).to(like)
    area, ratio = 4 * (0.02 + 0.18 * u[:, 1]), torch.exp(math.log(2) * (2 * u[:, 2] - 1))
    half = torch.stack([torch.sqrt(area * ratio), torch.sqrt(area / ratio)], 1) / 2
    middle = (2 * u[:, 3:] - 1) * (1 - half)  # the rectangle lies within the picture
    down, across = (_pixel_centres(side, like) for side in like.shape[2:])
    rows = (down - middle[:, :1]).abs() <= half[:, :1]
    columns = (across - middle[:, 1:]).abs() <= half[:, 1:]
    chosen = (u[:, 0] < chance)[:, None, None]
    return (~(rows[:, :, None] & columns[:, None, :] & chosen))[:, None].to(like)


def for_forward(x: Tensor) -> Tensor:
    """Return pictures (B, C, H, W) as they are best given to a net that only answers: a view.

    One channel lies in memory alike in ``channels_last`` and in torch's default layout, and the strides alone tell a
    convolution in which to compute. The first one is up to three times as fast in the default layout; backward, where
    the next one's gradient comes back in ``channels_last``, the mixture costs more than it saves.
    """
    return x[:, 0].unsqueeze(1) if x.shape[1] == 1 else x


def mirrored_probabilities(model: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return class probabilities (B, K), averaged over the pictures ``x`` and their mirror images.

    ``model`` gives logits and must be in evaluation mode.
    """
    x = for_forward(x)
    return (model(x).softmax(1) + model(x.flip(3)).softmax(1)) / 2
