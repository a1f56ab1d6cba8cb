"""Attention blocks that go on any maps: float (B, C, H, W) to the same shape, each picture by itself.

Gates have no norm of their own, so that they fit nets of every norm. They are ``2 sigmoid(z)`` where the papers have
``sigmoid(z)``: with small first weights a gate is then about 1, and a net without norms keeps its scale. Every part
gives maps of four dimensions, so that Grad-CAM and per-sample gradients know what to do with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

FEWEST_PLACES = 6
"""Places a side of the maps that a block is put on, where there are maps that large."""

REDUCTION = 8
"""By what the channels are divided inside a gate; at least :data:`NARROWEST` remain."""

NARROWEST = 8


def _narrow(width: int) -> int:
    return max(NARROWEST, width // REDUCTION)


def _gate(z: Tensor) -> Tensor:
    return 2 * z.sigmoid()


class ChannelGate(nn.Module):
    """How much each channel counts: (B, C, H, W) to gates (B, C, 1, 1).

    A perceptron of one hidden layer sees the means over all places, and the largest values, and its two answers are
    added (Woo et al. 2018, CBAM, arXiv:1807.06521, equation 2). ``largest`` False leaves the largest values out.
    """

    def __init__(self, width: int, *, largest: bool = True) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(width, _narrow(width), 1)
        self.act = nn.SiLU()
        self.wide = nn.Conv2d(_narrow(width), width, 1)
        self.largest = largest

    def forward(self, x: Tensor) -> Tensor:
        """Return the gates."""
        z = self.act(self.narrow(x.mean((2, 3), keepdim=True)))
        if self.largest:
            z = z + self.act(self.narrow(x.amax((2, 3), keepdim=True)))
        return _gate(self.wide(z))


class PlaceGate(nn.Module):
    """How much each place counts: (B, C, H, W) to gates (B, 1, H, W).

    A convolution of 7 x 7 sees the mean and the largest value over the channels (CBAM, equation 3).
    """

    def __init__(self) -> None:
        super().__init__()
        self.look = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        """Return the gates."""
        return _gate(self.look(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)))


class Cbam(nn.Module):
    """First channels, then places (Woo et al. 2018, CBAM, arXiv:1807.06521)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.channels, self.places = ChannelGate(width), PlaceGate()

    def forward(self, x: Tensor) -> Tensor:
        """Return maps (B, C, H, W)."""
        x = x * self.channels(x)
        return x * self.places(x)


class Coordinate(nn.Module):
    """Gates that know rows and columns (Hou et al. 2021, coordinate attention, arXiv:2103.02907).

    Means along each axis are mixed over the channels and become one gate a row and one a column. With several heads
    the largest gate of all of them counts, as in the dual-direction attention of DDAMFN (Zhang et al. 2023,
    doi:10.3390/electronics12173595), which learns the means' weights instead.
    """

    def __init__(self, width: int, heads: int = 1) -> None:
        super().__init__()
        narrow = _narrow(width)
        self.narrow = nn.ModuleList(nn.Conv2d(width, narrow, 1) for _ in range(heads))
        self.rows = nn.ModuleList(nn.Conv2d(narrow, width, 1) for _ in range(heads))
        self.columns = nn.ModuleList(nn.Conv2d(narrow, width, 1) for _ in range(heads))
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return maps (B, C, H, W)."""
        height = x.shape[2]
        line = torch.cat([x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)], 2)
        gate: Tensor | None = None
        for narrow, rows, columns in zip(self.narrow, self.rows, self.columns, strict=True):
            z = self.act(narrow(line))
            own = _gate(rows(z[:, :, :height])) * _gate(columns(z[:, :, height:])).transpose(2, 3)
            gate = own if gate is None else torch.maximum(gate, own)
        assert gate is not None
        return x * gate


class AttentionHead(nn.Module):
    """One head of DAN: places, then channels (Wen et al. 2021, arXiv:2109.07270, section 3.2).

    Convolutions of 3 x 3, 1 x 3 and 3 x 1 over a few channels say how much each place counts; then
    :class:`ChannelGate` on means.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        narrow = _narrow(width)
        self.narrow, self.act = nn.Conv2d(width, narrow, 1), nn.SiLU()
        self.square = nn.Conv2d(narrow, 1, 3, padding=1)
        self.across = nn.Conv2d(narrow, 1, (1, 3), padding=(0, 1))
        self.down = nn.Conv2d(narrow, 1, (3, 1), padding=(1, 0))
        self.channels = ChannelGate(width, largest=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps (B, C, H, W)."""
        z = self.act(self.narrow(x))
        x = x * _gate(self.square(z) + self.across(z) + self.down(z))
        return x * self.channels(x)


class Heads(nn.Module):
    """Several :class:`AttentionHead` that look at the same maps; their mean goes on (DAN, arXiv:2109.07270).

    The paper takes the logarithm of a softmax over the heads before it adds them up. What keeps heads apart is a loss
    (``dan_partition``), not this block.
    """

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = nn.ModuleList(AttentionHead(width) for _ in range(heads))

    def forward(self, x: Tensor) -> Tensor:
        """Return maps (B, C, H, W)."""
        total = self.heads[0](x)
        for head in list(self.heads)[1:]:
            total = total + head(x)
        return total / len(self.heads)


class Tokens(nn.Module):
    """Every place of a picture attends to every other place of it, and to no other picture.

    Scaled dot products (Vaswani et al. 2017, equation 1) over the H W places, added to the input. A depthwise
    convolution tells places apart (Chu et al. 2021, arXiv:2102.10882, section 3.2), and a norm over the picture is
    taken before. PAtt-Lite's released code lets the pictures of a batch attend to each other instead, which is no
    classifier of single pictures.
    """

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.count = next(count for count in range(heads, 0, -1) if width % count == 0)
        self.place = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm = nn.GroupNorm(1, width)
        self.ask, self.key, self.value = (nn.Conv2d(width, width, 1) for _ in range(3))
        self.join = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps (B, C, H, W)."""
        x = x + self.place(x)
        z = self.norm(x)
        ask, key, value = (self._tokens(each(z)) for each in (self.ask, self.key, self.value))
        found = (ask @ key.transpose(2, 3) * ask.shape[3] ** -0.5).softmax(3) @ value
        return x + self.join(found.transpose(2, 3).reshape(x.shape))

    def _tokens(self, z: Tensor) -> Tensor:
        """Return (B, heads, H W, C / heads) of (B, C, H, W)."""
        return z.flatten(2).unflatten(1, (self.count, -1)).transpose(2, 3)


class Patches(nn.Module):
    """The four quarters of a face, each with filters of its own, added to the whole.

    The local-feature extractor of EfficientFace (Zhao et al. 2021, AAAI, doi:10.1609/aaai.v35i4.16465): two depthwise
    convolutions a quarter. Here they are the groups of two convolutions over the quarters laid side by side in the
    channels. Maps of an odd side are padded with zeros.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(4 * width, 4 * width, 3, padding=1, groups=4 * width)
        self.second = nn.Conv2d(4 * width, 4 * width, 3, padding=1, groups=4 * width)
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return maps (B, C, H, W)."""
        height, width = x.shape[2:]
        even = functional.pad(x, (0, width % 2, 0, height % 2))
        up, down = even.chunk(2, 2)
        quarters = torch.cat([*up.chunk(2, 3), *down.chunk(2, 3)], 1)
        quarters = self.act(self.second(self.act(self.first(quarters))))
        one, two, three, four = quarters.chunk(4, 1)
        whole = torch.cat([torch.cat([one, two], 3), torch.cat([three, four], 3)], 2)
        return x + whole[:, :, :height, :width]


BLOCKS: Mapping[str, Callable[[int], nn.Module]] = {
    "cbam": Cbam,
    "coordinate": Coordinate,
    "heads": Heads,
    "tokens": Tokens,
    "patches": Patches,
}
"""Name -> how to make a block for maps with so many channels."""


@torch.no_grad()
def attach(stages: list[nn.Module], name: str, channels: int, size: int) -> int:
    """Put a block into a net: behind the last stage whose maps have :data:`FEWEST_PLACES` a side, or the first stage.

    Parameters
    ----------
    stages : parts of a net that pictures pass one after the other; the block is inserted.
    name : of :data:`BLOCKS`.
    channels, size : of the pictures.

    Returns the block's place in ``stages``.
    """
    x, place, width = torch.zeros(1, channels, size, size), 0, 0
    for index, stage in enumerate(stages):
        modes = [(each, each.training) for each in stage.modules()]
        x = stage.eval()(x)
        for each, training in modes:
            each.training = training
        if index == 0 or min(x.shape[2:]) >= FEWEST_PLACES:
            place, width = index + 1, x.shape[1]
    stages.insert(place, BLOCKS[name](width))
    return place
