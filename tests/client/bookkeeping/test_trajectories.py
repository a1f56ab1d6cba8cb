# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportPrivateImportUsage=false
"""Six private steps of momentum as sites take them, against Opacus's hooks and optimizer with the same noise, float64.

Both see the same pictures and add the same noise. Where Opacus's hooks cannot tell a net's samples apart, its optimizer
is given gradients from one plain backward a sample instead; :data:`BY_HAND` says for which nets, and why.
"""

import numpy as np
import pytest
import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch.nn import functional

from client.bookkeeping.book import flat_order, from_flat_order
from client.bookkeeping.gradients import PrivateGradients, quiet_hooks
from client.bookkeeping.units import Units
from client.gradients import PrivateTrainer
from client.plan import LocalWork, Privacy
from client.trial import WithoutChance
from fer_models.flat import FlatModel
from fer_models.zoo import ModelSpec, build, parameter_count

BATCHES = ((0, 1), (2,), (0, 2), (1,), (2, 1), (0,))
LARGEST = 6_000_000
RATE = 0.01
"""Learning rate; far larger ones let rounding grow from step to step, as in any training."""

pytestmark = pytest.mark.filterwarnings(
    "ignore:There is a performance drop"
)  # torch on functorch and attention

BY_HAND = {
    "edgenext_xx_small": "hooks get the scale of a layer wrong, which belongs to a block with layers in it",
    "test_convnext3": "as edgenext",
    "test_convnext": "as edgenext",
    "test_convnext2": "as edgenext",
    "test_mambaout": "as edgenext",
    "mobilevit_xxs": "hooks take the pieces of a picture for pictures",
    "resnet10t": "adds in place, which hooks do not allow",
    "dla46x_c": "as resnet10t",
    "test_resnet": "as resnet10t",
    **dict.fromkeys(
        (
            *("mnasnet_small", "hardcorenas_a", "semnasnet_075", "convnext_atto", "rexnet_100"),
            *("ghostnet_050", "mobilenetv1_100", "vit_tiny_patch16_224"),
        ),
        "hooks take seconds a step",
    ),
}
TIMM = (
    *("test_convnext3", "regnety_002", "test_vit3"),
    *("mobilenetv2_050", "tf_mobilenetv3_small_075", "edgenext_xx_small", "pit_ti_224", "tinynet_e"),
    *("resnet10t", "regnetx_002", "mobilevit_xxs", "lcnet_050", "mobilenetv4_conv_small_035", "dla46x_c"),
    *("mobilenetv3_small_050", "test_nfnet", "starnet_s050", "test_convnext", "test_convnext2"),
    *("test_mambaout", "test_byobnet", "test_efficientnet", "test_resnet", "test_vit", "test_vit2"),
    *(name for name, why in BY_HAND.items() if "seconds" in why),
)
"""Nets in which Opacus's formulas take at most a third of a second a step, or that are done by hand.

test_timm.py has one sum of each of yet others."""

ZOO = [
    *[("fer_nano", norm) for norm in ("gn", "ws", "none")],
    *[("fer_small", "gn"), ("fer_small", "ws"), ("fer_base", "gn"), ("fer_base", "ws")],
    *[("cnn_pool", "none"), ("cnn_tiny", "none"), ("hog_linear", "none")],
]


class Same:
    """Hands out noise that is given, in order."""

    def __init__(self, noise):
        self.noise, self.at = noise, 0

    def normal(self, count):
        self.at += count
        return self.noise[self.at - count : self.at].copy()

    def normals(self, count, deviation):
        yield from (deviation * self.normal(part) for part in (count // 3, count - count // 3))


class SameNoise(DPOptimizer):
    """Opacus's optimizer with noise that is given."""

    stream: Same

    def add_noise(self):
        scale = self.noise_multiplier * self.max_grad_norm
        for p in self.params:
            drawn = torch.from_numpy(self.stream.normal(p.numel()))
            p.grad = p.summed_grad + scale * from_flat_order(drawn, p.shape)


def clip_for(module, x, y):
    """Return a clip that shortens the gradients of half the samples."""
    gradients = PrivateGradients(module)
    with WithoutChance(), gradients.recording(Units.single(len(x))):
        losses = functional.cross_entropy(module(x), y, reduction="none")
    norms = gradients.settle(losses.sum(), 1.0).norms
    gradients.close()
    return float(norms.median())


def ours(spec, x, y, privacy, noise):
    """Return the weights (P,) after the steps, in the flat order."""
    flat = FlatModel(build(spec, 0).double())
    trainer = PrivateTrainer(
        flat, privacy, divisor=2.0, work=LocalWork(learning_rate=RATE, momentum=0.9), stream=Same(None)
    )

    def losses(rows):
        return functional.cross_entropy(flat.module(x[rows]), y[rows], reduction="none")

    with WithoutChance():
        for rows, drawn in zip(BATCHES, noise, strict=True):
            trainer._optimizer.stream = Same(drawn)
            trainer.step(np.array(rows), losses)
    return flat.vector.detach()


def samples_by_hand(module, x, y):
    """Leave each sample's gradient in ``grad_sample``, from a plain backward a sample."""
    named, found = list(module.parameters()), []
    for index in range(len(x)):
        loss = functional.cross_entropy(module(x[[index]]), y[[index]])
        found.append(torch.autograd.grad(loss, named, allow_unused=True, materialize_grads=True))
    for p, each in zip(named, zip(*found, strict=True), strict=True):
        p.grad_sample = torch.stack(each)


def samples_by_hooks(hooked, x, y):
    with quiet_hooks():
        functional.cross_entropy(hooked(x), y).backward()
    for p in hooked.parameters():
        if p.grad_sample is None:
            p.grad_sample = p.new_zeros(len(x), *p.shape)


def opacus(spec, x, y, privacy, noise, by_hand):
    """Return the weights before and after the steps, in the flat order."""
    module = build(spec, 0).double()
    start = torch.cat([flat_order(p.detach()[None])[0] for p in module.parameters()])
    optimizer = SameNoise(
        torch.optim.SGD(module.parameters(), RATE, momentum=0.9),
        noise_multiplier=privacy.noise_multiplier,
        max_grad_norm=privacy.clip,
        expected_batch_size=2,
        loss_reduction="mean",
    )
    hooked = module if by_hand else GradSampleModule(module, loss_reduction="mean")
    tell = samples_by_hand if by_hand else samples_by_hooks
    with WithoutChance():
        for rows, drawn in zip(BATCHES, noise, strict=True):
            optimizer.stream = Same(drawn)
            optimizer.zero_grad()
            tell(hooked, x[list(rows)], y[list(rows)])
            optimizer.step()
    return start, torch.cat([flat_order(p.detach()[None])[0] for p in module.parameters()])


def require_same_way(spec, by_hand=False):
    module = build(spec, 0).double()
    form = (3, spec.channels, spec.size, spec.size)
    x = torch.randn(form, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = torch.tensor([0, 3, 1])
    privacy = Privacy(1e-3, clip=clip_for(module, x, y), delta=1e-5, nominal_units=4)
    noise = np.random.default_rng(2).standard_normal((len(BATCHES), parameter_count(module)))
    found = ours(spec, x.contiguous(memory_format=torch.channels_last), y, privacy, noise)
    start, expected = opacus(spec, x, y, privacy, noise, by_hand)
    moved = float((expected - start).norm())
    assert moved > 0.01 * privacy.clip
    assert float((found - expected).norm()) <= 1e-12 * moved


@pytest.mark.parametrize(("name", "norm"), ZOO)
def test_the_nets_of_the_zoo(name, norm):
    require_same_way(ModelSpec(name, norm=norm, classes=5, dropout=0.0))


@pytest.mark.slow
@pytest.mark.parametrize("name", TIMM)
def test_nets_of_timm(name):
    spec = ModelSpec(f"timm:{name}", classes=5, channels=3, size=32, dropout=0.0)
    assert parameter_count(build(spec, 0)) < LARGEST
    require_same_way(spec, name in BY_HAND)
