"""Small convolutional nets for faces of about 48 x 48 pixels, trained from scratch.

At this size plain strided 3 x 3 convolutions learn far more in a second of processor time than mobile nets
made for 224 pixels. Every net maps float32 pictures (B, channels, H, W) to logits (B, classes).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fer_models.blocks import attach
from fer_models.features import TwoStage

NORMS = ("gn", "bn", "ws", "none")
"""GroupNorm, BatchNorm, weight-standardised convolutions without activation norm, no normalisation."""

SILU_GAIN = 1.7881
"""1 / standard deviation of SiLU(z) for z ~ N(0, 1): ``gamma`` of Brock et al. 2021, section 4.1."""

SILU_SCALE = 1.676
"""1 / root mean square of SiLU(z) for z ~ N(0, 1)."""


class WSConv2d(nn.Conv2d):
    """Convolution with scaled weight standardisation and a learnable gain a filter.

    Every filter is used as ``gamma * gain * (w - mean(w)) / sqrt(fan_in * var(w) + eps)``: Qiao et al. 2019
    (arXiv:1903.10520), scaled as in Brock et al. 2021 (arXiv:2101.08692, equation 7) so that activations keep
    unit variance without any activation norm.
    """

    def __init__(
        self,
        fan_in: int,
        fan_out: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
    ) -> None:
        super().__init__(
            fan_in, fan_out, kernel_size, stride=stride, padding=padding, groups=groups, bias=True
        )
        self.gain = nn.Parameter(torch.ones(fan_out))
        self.eps = 1e-4

    def standardised(self) -> Tensor:
        """Return the filters as they are used, (out, in, k, k)."""
        centred = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        energy = centred.square().sum((1, 2, 3), keepdim=True)
        return centred * (SILU_GAIN * self.gain.view(-1, 1, 1, 1) * torch.rsqrt(energy + self.eps))

    def forward(self, input: Tensor) -> Tensor:
        """Convolve (B, in, H, W) with the standardised filters."""
        return self._conv_forward(input, self.standardised(), self.bias)


def group_norm(width: int) -> nn.GroupNorm:
    """Return a GroupNorm with 8 groups, or as many as the largest divisor of ``width`` up to 8."""
    return nn.GroupNorm(next(groups for groups in range(8, 0, -1) if width % groups == 0), width)


def _convolution(fan_in: int, fan_out: int, stride: int, norm: str, kernel: int, groups: int) -> nn.Conv2d:
    padding = kernel // 2
    if norm == "ws":
        return WSConv2d(fan_in, fan_out, kernel, stride=stride, padding=padding, groups=groups)
    bias = norm == "none"
    conv = nn.Conv2d(fan_in, fan_out, kernel, stride=stride, padding=padding, groups=groups, bias=bias)
    if conv.bias is not None:
        # No later norm restores the scale, so the first weights must keep it (He et al. 2015, for SiLU).
        nn.init.normal_(conv.weight, std=SILU_SCALE / (kernel**2 * (fan_in // groups)) ** 0.5)
        nn.init.zeros_(conv.bias)
    return conv


def block(
    fan_in: int,
    fan_out: int,
    stride: int,
    norm: str,
    *,
    kernel: int = 3,
    groups: int = 1,
    active: bool = True,
) -> nn.Sequential:
    """Return one block: convolution, norm, and where ``active`` SiLU (not in place, which per-sample hooks need)."""
    layers: list[nn.Module] = [_convolution(fan_in, fan_out, stride, norm, kernel, groups)]
    if norm == "gn":
        layers.append(group_norm(fan_out))
    elif norm == "bn":
        layers.append(nn.BatchNorm2d(fan_out))
    return nn.Sequential(*layers, *([nn.SiLU()] if active else []))


class FerNet(TwoStage):
    """A plain strided 3 x 3 CNN: for each width one block of stride 2 and ``depth - 1`` blocks of stride 1.

    With ``patch`` the first block takes a square of pixels every so many pixels in place of its 3 x 3 convolution of
    stride 2: few places with many channels from the start, which eight-bit processors like best.

    Parameters
    ----------
    widths, depths : channels and number of blocks of each stage; every stage halves height and width.
    classes, channels : size of the logits and of the input.
    norm : one of :data:`NORMS`.
    dropout : share of the pooled features that training sets to zero.
    attention, size : a block of :mod:`fer_models.blocks` where maps of pictures of ``size`` pixels have places
        enough, empty for none.
    patch, reach : pixels from one square to the next, and of a square's side: more, so that squares overlap.
    """

    def __init__(
        self,
        widths: Sequence[int],
        depths: Sequence[int],
        *,
        classes: int,
        channels: int,
        norm: str,
        dropout: float,
        attention: str = "",
        size: int = 48,
        patch: int = 0,
        reach: int = 0,
    ) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        fan_in = channels
        self._widths = [width for width, depth in zip(widths, depths, strict=True) for _ in range(depth)]
        for width, depth in zip(widths, depths, strict=True):
            stages.append(block(fan_in, width, 2, norm))
            stages += [block(width, width, 1, norm) for _ in range(depth - 1)]
            fan_in = width
        if patch:
            stages[0] = block(channels, widths[0], patch, norm, kernel=reach)
            around = (reach - patch) // 2
            stages[0][0].padding = (around, around)  # type: ignore[index, assignment]
        if attention:
            place = attach(stages, attention, channels, size)
            self._widths.insert(place, self._widths[place - 1])
        self.body = nn.Sequential(*stages)
        self.cut = len(stages)
        """Blocks that make the features."""
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(fan_in, classes)

    def features(self, x: Tensor) -> Tensor:
        """Return features (B, F) of pictures: what the first ``cut`` blocks give.

        Of all blocks, that is ``widths[-1]`` channels averaged over height and width, before dropout; of fewer, the
        numbers of each place (height, width, channels) one after the other.
        """
        for index in range(self.cut):
            x = self.body[index](x)
        return x.mean((2, 3)) if self.cut == len(self.body) else x.permute(0, 2, 3, 1).flatten(1)

    def keeps_features(self) -> bool:
        """End the features before the first block that learns; return whether there is one before it."""
        learning = [any(p.requires_grad for p in each.parameters()) for each in self.body]
        first = next((index for index, learns in enumerate(learning) if learns), len(self.body))
        found = first > 0 and self.learns_only_in(
            "head", *(f"body.{i}" for i in range(first, len(self.body)))
        )
        self.cut = first if found else len(self.body)
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, classes) of pictures (B, channels, H, W), or of their features (B, F)."""
        if x.ndim > 2:
            return self.head(self.dropout(self.body(x).mean((2, 3))))
        if self.cut < len(self.body):
            channels = self._widths[self.cut - 1]
            side = math.isqrt(x.shape[1] // channels)
            x = x.view(len(x), side, side, channels).permute(0, 3, 1, 2)
            for index in range(self.cut, len(self.body)):
                x = self.body[index](x)
            x = x.mean((2, 3))
        return self.head(self.dropout(x))


def cnn_pool(*, classes: int, channels: int) -> nn.Sequential:
    """Return a CNN with 5 x 5 and 3 x 3 convolutions, max pooling and two linear layers, for 48 x 48 pixels.

    173,063 parameters for 7 classes and one channel; the reference net of the speed benchmarks.
    """
    return nn.Sequential(
        nn.Conv2d(channels, 16, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 3 * 3, 256),
        nn.ReLU(),
        nn.Linear(256, classes),
    )


def cnn_tiny(*, classes: int, channels: int) -> nn.Sequential:
    """Return two strided convolutions and two linear layers, for 48 x 48 pixels.

    10,727 parameters for 7 classes and one channel: so little work that a benchmark sees the overhead.
    """
    return nn.Sequential(
        nn.Conv2d(channels, 8, 5, stride=4, padding=2),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.Flatten(),  # before the ReLU: its gradient then meets it in one order of memory
        nn.ReLU(),
        nn.Linear(16 * 6 * 6, 16),
        nn.ReLU(),
        nn.Linear(16, classes),
    )
