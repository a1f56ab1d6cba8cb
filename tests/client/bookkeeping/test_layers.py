# pyright: reportArgumentType=false, reportOptionalMemberAccess=false
"""Nets of every kind of layer: norms and clipped sums against one plain backward a sample, in float64."""

import functools

import pytest
import torch
from timm.layers import ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d, StdConv2dSame
from torch import nn
from torch.nn import functional

from client.bookkeeping import kernels
from client.bookkeeping.book import NOTHING, flat_order
from client.bookkeeping.gradients import PrivateGradients
from client.bookkeeping.units import Units
from client.trial import WithoutChance
from fer_models.backbones import WSConv2d
from fer_models.errors import PrivacyError
from fer_models.flat import FlatModel
from fer_models.zoo import ModelSpec, build


def pictures(count=4, size=12, channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, channels, size, size, generator=generator, dtype=torch.float64)
    return x * torch.logspace(-1, 1, count, dtype=torch.float64)[:, None, None, None]


def losses_of(module, x):
    y = module(x).flatten(1)
    return (y.square().mean(1) + y.sin().sum(1)) * 0.1


def alone(module, x):
    """Return each sample's gradient by name, in the flat order."""
    found = []
    for index in range(len(x)):
        module.zero_grad(set_to_none=True)
        losses_of(module, x[index : index + 1]).sum().backward()
        grads = {n: p.grad for n, p in module.named_parameters() if p.grad is not None}
        found.append({n: flat_order(g[None])[0].clone() for n, g in grads.items()})
    module.zero_grad(set_to_none=True)
    return found


def require_exact(module, x, sizes=None, clip=None):
    """Compare the engine with gradients by hand: 1e-12 of the clip."""
    units, each = Units(sizes or (1,) * len(x)), alone(module, x)
    names = [name for name, p in module.named_parameters() if p.requires_grad]
    own = [{n: sum(g[n] for g in each[u]) for n in names if n in each[u.start]} for u in units.slices]
    norms = torch.stack([torch.cat(list(g.values())).norm() for g in own])
    clip = float(norms.median()) if clip is None else clip
    gradients = PrivateGradients(module)
    with gradients.recording(units):
        losses = losses_of(module, x)
    settled = gradients.settle(losses.sum(), clip)
    gradients.close()
    torch.testing.assert_close(settled.norms, norms, rtol=1e-12, atol=1e-12)
    factors = (clip / (norms + NOTHING)).clamp(max=1.0)
    assert list(settled.sums) == [name for name in names if name in own[0]]
    for name, found in settled.sums.items():
        expected = sum(f * g[name] for f, g in zip(factors, own, strict=True))
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12 * clip)
    assert all(p.grad is None for p in module.parameters())


class Scaled(nn.Module):
    """A layer scale, a position embedding and a class token, as transformers have them."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 6, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 6))
        self.place = nn.Parameter(torch.randn(1, 10, 6))
        self.scale = nn.Parameter(torch.randn(6))
        self.mix, self.norm = nn.Linear(6, 6), nn.LayerNorm(6)

    def forward(self, x):
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], 1) + self.place
        tokens = tokens + self.scale * self.mix(self.norm(tokens))
        return functional.scaled_dot_product_attention(tokens, tokens, tokens)[:, 0]


class Twice(nn.Module):
    """A convolution that is used twice, and a linear weight that two layers share."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.one, self.two = nn.Linear(3, 3), nn.Linear(3, 3, bias=False)
        self.two.weight = self.one.weight

    def forward(self, x):
        y = self.conv(self.conv(x).relu()).mean((2, 3))
        return self.two(self.one(y).tanh())


class Squeezed(nn.Module):
    """Squeeze-excite, with its convolutions of one place."""

    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(3, 8, 3, padding="same")
        self.down, self.up = nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)

    def forward(self, x):
        y = self.body(x)
        return (y * self.up(self.down(y.mean((2, 3), keepdim=True)).relu()).sigmoid()).mean((2, 3))


def sequence(*layers):
    return nn.Sequential(*layers)


def frozen(module, *names):
    for name in names:
        module.get_parameter(name).requires_grad_(False)
    return module


def standardised(kind):
    return sequence(kind(3, 8, 3, padding=1), nn.SiLU(), kind(8, 6, 3, stride=2, bias=False), nn.SiLU())


LAYERS = {
    "3 x 3": lambda: nn.Conv2d(3, 8, 3, padding=1),
    "even and dilated, same padding": lambda: nn.Conv2d(3, 4, (2, 3), padding="same", dilation=2),
    "valid padding": lambda: nn.Conv2d(3, 4, 3, padding="valid"),
    "pointwise, stride 2": lambda: nn.Conv2d(3, 8, 1, stride=2),
    "depthwise": lambda: nn.Conv2d(3, 3, 3, padding=1, groups=3),
    "depthwise, 5 x 5": lambda: nn.Conv2d(3, 3, 5, padding=2, stride=2, groups=3),
    "depthwise, doubling": lambda: nn.Conv2d(3, 6, 3, groups=3),
    "in groups": lambda: sequence(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 3, groups=2, dilation=2)),
    "reflected padding": lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"),
    "late, wide": lambda: sequence(nn.Conv2d(3, 16, 3, stride=4), nn.SiLU(), nn.Conv2d(16, 24, 3, padding=1)),
    "late, one place": lambda: sequence(nn.Conv2d(3, 9, 12), nn.SiLU(), nn.Conv2d(9, 12, 1)),
    "linear": lambda: sequence(nn.Flatten(), nn.Linear(432, 7)),
    "linear over places": lambda: nn.Linear(12, 40),
    "linear over many places": lambda: nn.Linear(12, 2, bias=False),
    "group norm": lambda: sequence(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8)),
    "group norm of pictures": lambda: nn.GroupNorm(3, 3),
    "group norm of large groups": lambda: sequence(nn.Conv2d(3, 16, 3), nn.GroupNorm(2, 16), nn.ReLU()),
    "group norm of rows": lambda: sequence(nn.Flatten(2), nn.GroupNorm(1, 3)),
    "layer norm": lambda: sequence(nn.Conv2d(3, 8, 3), nn.LayerNorm([8, 10, 10])),
    "layer norm without shift": lambda: nn.LayerNorm(12, bias=False),
    "weight-standardised": lambda: sequence(
        WSConv2d(3, 8, 3, padding=1), nn.SiLU(), WSConv2d(8, 4, 3, stride=2)
    ),
    **{
        f"timm's {kind.__name__}": functools.partial(standardised, kind)
        for kind in (StdConv2d, StdConv2dSame, ScaledStdConv2d, ScaledStdConv2dSame)
    },
    "tokens": Scaled,
    "used twice": Twice,
    "squeeze-excite": Squeezed,
    "frozen weight": lambda: frozen(nn.Conv2d(3, 8, 3), "weight"),
    "frozen bias": lambda: frozen(nn.Conv2d(3, 8, 3), "bias"),
    "frozen first layers": lambda: frozen(
        sequence(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.Conv2d(8, 4, 3)), "0.weight", "0.bias", "1.weight"
    ),
    "frozen layer in the middle": lambda: frozen(
        sequence(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 4, 3)), "1.weight", "1.bias"
    ),
}


def net(kind):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LAYERS[kind]().double()


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("sizes", [None, (2, 2), (1, 3)])
def test_layers(kind, last, sizes):
    module, x = net(kind), pictures()
    if last and x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
        module = module.to(memory_format=torch.channels_last)
    require_exact(module, x, sizes)


ROUTES = [{"KEPT_ROW": 0}, {"GRAM_SHARE": 0.0}, {"GRAM_SHARE": 1e9}, {"CHUNK": 1, "KEPT_ROW": 0}]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    "kind", ["late, wide", "linear", "linear over places", "used twice", "pointwise, stride 2"]
)
def test_every_route_gives_the_same(kind, route, monkeypatch):
    for name, value in route.items():
        monkeypatch.setattr(kernels, name, value)
    require_exact(net(kind), pictures())


NETS = [
    *[(name, "gn") for name in ("hog_linear", "fer_nano", "fer_small", "fer_base")],
    *[("fer_nano", "ws"), ("fer_nano", "none"), ("cnn_pool", "none"), ("cnn_tiny", "none")],
]


@pytest.mark.parametrize(("name", "norm"), NETS)
def test_the_nets_of_the_zoo_as_sites_hold_them(name, norm):
    module = build(ModelSpec(name, norm=norm, classes=5, dropout=0.0), 0).double()
    FlatModel(module)
    x = pictures(4, 48, 1)
    with WithoutChance():
        require_exact(module, x.contiguous(memory_format=torch.channels_last), (2, 1, 1))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "kind", ["late, wide", "linear", "group norm", "weight-standardised", "depthwise", "tokens"]
)
@pytest.mark.parametrize("route", [{}, {"KEPT_ROW": 0}, {"GRAM_SHARE": 0.0}])
def test_a_unit_that_is_not_finite_counts_as_none(kind, value, route, monkeypatch):
    for name, number in route.items():
        monkeypatch.setattr(kernels, name, number)
    module, x = net(kind), pictures()
    weights = torch.ones(4, dtype=torch.float64)
    weights[2] = value
    gradients, sums = PrivateGradients(module), []
    for rows in ([0, 1, 2, 3], [0, 1, 3]):
        with gradients.recording(Units.single(len(rows))):
            losses = losses_of(module, x[rows]) * weights[rows]
        sums.append(gradients.settle(losses.sum(), 0.5))
    assert torch.isfinite(sums[0].norms).tolist() == [True, True, False, True]
    assert sums[0].factors[2] == 0
    for name, found in sums[1].sums.items():
        torch.testing.assert_close(sums[0].sums[name], found, rtol=1e-11, atol=1e-12)


def test_norms_in_single_precision_are_right_to_rounding():
    module = build(ModelSpec("fer_small", classes=5, dropout=0.0), 0)
    double = build(ModelSpec("fer_small", classes=5, dropout=0.0), 0).double()
    x, found = pictures(16, 48, 1), []
    for net_, given in ((module, x.float()), (double, x)):
        FlatModel(net_)
        gradients = PrivateGradients(net_)
        with gradients.recording(Units.single(16)):
            losses = losses_of(net_, given)
        found.append(gradients.settle(losses.sum(), 1.0))
    torch.testing.assert_close(found[0].norms.double(), found[1].norms, rtol=2e-4, atol=0)
    lengths = found[0].norms * found[0].factors
    assert float(lengths.max()) <= 1.0


def test_a_parameter_that_is_used_in_an_unknown_way_is_refused():
    class Strange(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(12, 4))

        def forward(self, x):
            return x.mean(1) @ self.weight

    module = Strange().double()
    gradients = PrivateGradients(module)
    with gradients.recording(Units.single(4)):
        losses = losses_of(module, pictures())
    with pytest.raises(PrivacyError, match=r"no per-sample gradients \(weight\)"):
        gradients.settle(losses.sum(), 1.0)
