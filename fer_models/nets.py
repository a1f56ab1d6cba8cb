"""The survey's lightweight nets, made anew for faces of about 48 pixels, as stages and blocks.

Each is a list of stages from pictures (B, channels, H, W) to maps, a way to pool the maps, and a linear layer. What
differs from its paper stands in its docstring and in :data:`fer_models.zoo.NETS`. All have SiLU in place of ReLU, whose
scale is known where there is no norm; no activation is in place; a last linear layer gives the logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fer_models.backbones import block
from fer_models.blocks import Cbam, Coordinate, Heads, Patches, Tokens, attach
from fer_models.features import TwoStage


@dataclass(frozen=True)
class Shape:
    """What a net is made for; the fields are those of :class:`fer_models.zoo.ModelSpec`."""

    classes: int
    channels: int
    size: int
    norm: str
    dropout: float
    attention: str = ""


class Mean(nn.Module):
    """The mean over all places: (B, C, H, W) to (B, C)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the features."""
        return x.mean((2, 3))


class MapNet(TwoStage):
    """Stages that make maps, a pool that makes features of them, dropout, and a linear layer.

    Parameters
    ----------
    stages : from pictures to maps.
    features : F, what ``pool`` gives.
    shape : of pictures and logits; its ``attention`` is put between the stages.
    pool : maps to features (B, F); None takes the mean over all places.
    """

    def __init__(
        self, stages: Sequence[nn.Module], features: int, shape: Shape, pool: nn.Module | None = None
    ) -> None:
        super().__init__()
        parts = list(stages)
        if shape.attention:
            attach(parts, shape.attention, shape.channels, shape.size)
        self.body = nn.Sequential(*parts)
        self.pool = Mean() if pool is None else pool
        self.dropout = nn.Dropout(shape.dropout)
        self.head = nn.Linear(features, shape.classes)

    def features(self, x: Tensor) -> Tensor:
        """Return features (B, F) of pictures (B, C, H, W)."""
        return self.pool(self.body(x))

    def keeps_features(self) -> bool:
        """Return whether only the last layer learns."""
        return self.learns_only_in(self.last)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, classes) of pictures (B, C, H, W), or of their features (B, F)."""
        return self.head(self.dropout(x if x.ndim == 2 else self.features(x)))


def _halved(size: int, times: int) -> int:
    """Return the side of maps after so many convolutions or pools of stride 2, padded as here."""
    for _ in range(times):
        size = -(-size // 2)
    return size


def microexpnet(shape: Shape) -> MapNet:
    """Return MicroExpNet (Cugu et al. 2017, arXiv:1711.07011): two strided convolutions, two linear layers.

    The paper's net sees 84 pixels. Every place has its own weights in the hidden layer of 16, so the parameters follow
    from the size: 71,368 at 84 pixels and 8 classes, 27,848 at 48. ``norm`` none is the paper's.
    """
    side = _halved(shape.size, 3)
    stages = [_padded(shape.channels, 16, 8, 4, shape.norm), _padded(16, 32, 4, 2, shape.norm)]
    pool = nn.Sequential(nn.Flatten(), nn.Linear(32 * side * side, 16), nn.SiLU())
    return MapNet(stages, 16, shape, pool)


def _padded(fan_in: int, fan_out: int, kernel: int, stride: int, norm: str) -> nn.Sequential:
    """Return a block of an even kernel: pictures are padded so that n places become n / stride, rounded up."""
    less = kernel - stride
    made = block(fan_in, fan_out, stride, norm, kernel=kernel)
    made[0].padding = (0, 0)  # type: ignore[assignment]
    return nn.Sequential(Ceiling(stride, less), made)


class Ceiling(nn.Module):
    """Pads maps so that a convolution of a stride covers every place; ``less`` is its kernel less its stride."""

    def __init__(self, stride: int, less: int) -> None:
        super().__init__()
        self.stride, self.less = stride, less

    def forward(self, x: Tensor) -> Tensor:
        """Return the padded maps."""
        down, across = (self.less + (-side) % self.stride for side in x.shape[2:])
        edges = (across // 2, across - across // 2, down // 2, down - down // 2)
        return nn.functional.pad(x, edges)


class Separable(nn.Module):
    """One module of mini-Xception: two separable convolutions and a pool, beside a strided convolution of 1 x 1."""

    def __init__(self, fan_in: int, fan_out: int, norm: str) -> None:
        super().__init__()
        self.short = block(fan_in, fan_out, 2, norm, kernel=1, active=False)
        self.first = _separable(fan_in, fan_out, norm, active=True)
        self.second = _separable(fan_out, fan_out, norm, active=False)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of half the side."""
        return self.pool(self.second(self.first(x))) + self.short(x)


def _separable(fan_in: int, fan_out: int, norm: str, *, active: bool) -> nn.Sequential:
    own = nn.Conv2d(fan_in, fan_in, 3, padding=1, groups=fan_in, bias=False)
    return nn.Sequential(own, block(fan_in, fan_out, 1, norm, kernel=1, active=active))


def mini_xception(shape: Shape) -> MapNet:
    """Return mini-Xception (Arriaga et al. 2017, arXiv:1710.07557): four residual modules of separable convolutions.

    The paper ends in a convolution of 3 x 3 to the classes and the mean of its maps; here the mean comes first and a
    linear layer after it. All convolutions are padded.
    """
    stages: list[nn.Module] = [
        block(shape.channels, 8, 1, shape.norm),
        block(8, 8, 1, shape.norm),
    ]
    widths = (8, 16, 32, 64, 128)
    stages += [Separable(widths[i], widths[i + 1], shape.norm) for i in range(4)]
    return MapNet(stages, 128, shape)


def vgg48(shape: Shape) -> MapNet:
    """Return a VGG of four stages for 48 pixels (Khaireddin and Chen 2021, arXiv:2105.03588): two convolutions, a pool.

    Half of the paper's widths, and the mean over all places in place of its two hidden layers of 4,096.
    """
    stages: list[nn.Module] = []
    fan_in = shape.channels
    for width in (32, 64, 128, 256):
        stages += [block(fan_in, width, 1, shape.norm), block(width, width, 1, shape.norm), nn.MaxPool2d(2)]
        fan_in = width
    return MapNet(stages, fan_in, shape)


class Shuffled(nn.Module):
    """A unit of ShuffleNet V2 (Ma et al. 2018, arXiv:1807.11164, figure 3): half of the channels pass, then all mix."""

    def __init__(self, fan_in: int, fan_out: int, stride: int, norm: str) -> None:
        super().__init__()
        half = fan_out // 2
        self.stride = stride
        entering = fan_in if stride == 2 else half
        self.short = (
            nn.Sequential(_depthwise(fan_in, 2, norm, 3), block(fan_in, half, 1, norm, kernel=1))
            if stride == 2
            else nn.Identity()
        )
        self.long = nn.Sequential(
            block(entering, half, 1, norm, kernel=1),
            _depthwise(half, stride, norm, 3),
            block(half, half, 1, norm, kernel=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return maps (B, fan_out, ...)."""
        one, two = (x, x) if self.stride == 2 else x.chunk(2, 1)
        y = torch.cat([self.short(one), self.long(two)], 1)
        return y.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)


def _depthwise(width: int, stride: int, norm: str, kernel: int) -> nn.Sequential:
    return block(width, width, stride, norm, kernel=kernel, groups=width, active=False)


def efficientface(shape: Shape) -> MapNet:
    """Return EfficientFace (Zhao et al. 2021): ShuffleNet V2 with a look at quarters and a channel-spatial gate.

    The paper's widths are 29, 116, 232, 464 and 1,024 with 16 units, for 224 pixels; here 24, 64, 128, 256 and 256 with
    8 units and no pool behind the first convolution. Its gate is one sigmoid of a product; here it is CBAM.
    """
    norm, widths = shape.norm, (24, 64, 128, 256)
    stages: list[nn.Module] = [block(shape.channels, widths[0], 2, norm)]
    for index, depth in enumerate((2, 4, 2)):
        fan_in, width = widths[index], widths[index + 1]
        stages += [
            Shuffled(fan_in, width, 2, norm),
            *(Shuffled(width, width, 1, norm) for _ in range(depth - 1)),
        ]
        if index == 0:
            stages += [Patches(width), Cbam(width)]
    return MapNet([*stages, block(256, 256, 1, norm, kernel=1)], 256, shape)


def _mobile(fan_in: int, fan_out: int, stride: int, norm: str) -> nn.Sequential:
    """Return a block of MobileNet V1 (Howard et al. 2017, arXiv:1704.04861, figure 3)."""
    return nn.Sequential(
        block(fan_in, fan_in, stride, norm, groups=fan_in), block(fan_in, fan_out, 1, norm, kernel=1)
    )


def _mobiles(shape: Shape, widths: Sequence[int], strides: Sequence[int]) -> list[nn.Module]:
    stages: list[nn.Module] = [block(shape.channels, widths[0], 2, shape.norm)]
    for index, stride in enumerate(strides):
        stages.append(_mobile(widths[index], widths[index + 1], stride, shape.norm))
    return stages


def a_mobilenet(shape: Shape) -> MapNet:
    """Return A-MobileNet (Nan et al. 2022, doi:10.1016/j.aej.2021.09.066): MobileNet V1 with CBAM.

    Seven blocks of at most 384 channels in place of thirteen of at most 1,024; CBAM behind the second and the fourth
    width, where the maps have 12 and 6 places a side. The paper trains it with a centre loss (``local.loss=centre``).
    """
    stages = _mobiles(shape, (32, 64, 128, 128, 256, 256, 384, 384), (1, 2, 1, 2, 1, 2, 1))
    stages.insert(6, Cbam(256))
    stages.insert(4, Cbam(128))
    return MapNet(stages, 384, shape)


class Mixed(nn.Module):
    """A bottleneck of MixedFeatureNet: wide, depthwise convolutions of several kernels side by side, narrow.

    MobileFaceNet's bottleneck (Chen et al. 2018, arXiv:1804.07573) with mixed depthwise convolutions (Tan and Le 2019,
    arXiv:1907.09595); the input is added where shapes allow.
    """

    def __init__(self, fan_in: int, fan_out: int, stride: int, kernels: Sequence[int], norm: str) -> None:
        super().__init__()
        wide = 2 * fan_in
        shares = [wide // len(kernels)] * len(kernels)
        shares[0] += wide - sum(shares)
        self.shares = shares
        self.wide = block(fan_in, wide, 1, norm, kernel=1)
        self.mixed = nn.ModuleList(
            block(share, share, stride, norm, kernel=kernel, groups=share)
            for share, kernel in zip(shares, kernels, strict=True)
        )
        self.narrow = block(wide, fan_out, 1, norm, kernel=1, active=False)
        self.added = stride == 1 and fan_in == fan_out

    def forward(self, x: Tensor) -> Tensor:
        """Return maps (B, fan_out, ...)."""
        parts = self.wide(x).split(self.shares, 1)
        y = self.narrow(torch.cat([own(part) for own, part in zip(self.mixed, parts, strict=True)], 1))
        return x + y if self.added else y


def ddamfn_lite(shape: Shape) -> MapNet:
    """Return a small DDAMFN (Zhang et al. 2023, doi:10.3390/electronics12173595).

    MixedFeatureNet's bottlenecks with at most 192 channels in place of 512; two heads of dual-direction attention, of
    which the larger gate counts; a depthwise convolution over the whole map in place of a mean. The paper weighs the
    places of a row or column by learnt numbers; here they are averaged.
    """
    norm = shape.norm
    stages: list[nn.Module] = [
        block(shape.channels, 32, 2, norm),
        Mixed(32, 64, 2, (3, 5, 7), norm),
        Mixed(64, 64, 1, (3, 5), norm),
        Mixed(64, 128, 2, (3, 5, 7), norm),
        Mixed(128, 128, 1, (3, 5), norm),
        Mixed(128, 192, 2, (3, 5), norm),
        Mixed(192, 192, 1, (3,), norm),
        block(192, 192, 1, norm, kernel=1),
        Coordinate(192, heads=2),
    ]
    side = _halved(shape.size, 4)
    pool = nn.Sequential(nn.Conv2d(192, 192, side, groups=192), nn.Flatten())
    return MapNet(stages, 192, shape, pool)


def dan_lite(shape: Shape) -> MapNet:
    """Return a small DAN (Wen et al. 2021, arXiv:2109.07270): four attention heads over the maps of a backbone.

    The backbone is that of ``fer_nano`` with two blocks a width and 128 channels in the end, in place of ResNet-18; the
    heads look at 6 x 6 places and are averaged. ``local.loss=dan_partition`` keeps the heads apart, as the paper does.
    """
    norm, widths = shape.norm, (24, 48, 96)
    stages: list[nn.Module] = []
    fan_in = shape.channels
    for width in widths:
        stages += [block(fan_in, width, 2, norm), block(width, width, 1, norm)]
        fan_in = width
    return MapNet([*stages, block(96, 128, 1, norm), Heads(128)], 128, shape)


def patt_lite(shape: Shape) -> MapNet:
    """Return a small PAtt-Lite (Ngwe et al. 2023, arXiv:2306.09626) whose attention is over places.

    A MobileNet V1 cut short, blocks that make patches of its maps, and attention. In the released code a picture is one
    token and the batch is the sequence, so that the answer for a picture follows from the others; here the places of
    one picture are the tokens.
    """
    stages = _mobiles(shape, (32, 64, 128, 128, 192), (1, 2, 1, 2))
    stages += [_mobile(192, 192, 1, shape.norm), block(192, 192, 1, shape.norm, kernel=1), Tokens(192)]
    return MapNet(stages, 192, shape)
