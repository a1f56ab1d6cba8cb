"""Nets of timm under 6 million parameters: exact, in float64, against one plain backward a sample."""

import pytest
import torch
from torch.nn import functional

from client.bookkeeping.book import NOTHING, flat_order
from client.bookkeeping.gradients import PrivateGradients
from client.bookkeeping.units import Units
from client.trial import WithoutChance
from fer_models.flat import FlatModel
from fer_models.zoo import ModelSpec, build, parameter_count

LARGEST = 6_000_000

NETS = {
    "lcnet_050": 64,
    "mobilenetv4_conv_small_035": 64,
    "starnet_s050": 64,
    "mobilenetv3_small_050": 64,
    "edgenext_xx_small": 64,
    "mobilevit_xxs": 64,
    "mobilenetv1_100": 64,
    "convnext_atto": 64,
    "mobilenetv2_050": 64,
    "efficientnet_lite0": 64,
    "tinynet_e": 64,
    "ghostnet_050": 64,
    "mnasnet_small": 64,
    "semnasnet_075": 64,
    "fbnetc_100": 64,
    "hardcorenas_a": 64,
    "regnetx_002": 64,
    "regnety_002": 64,
    "resnet10t": 64,
    "rexnet_100": 64,
    "vit_tiny_patch16_224": 64,
    "deit_tiny_patch16_224": 64,
    "repvit_m0_9": 64,
    "mobileone_s0": 64,
    "dla46x_c": 64,
    "mixnet_s": 64,
    "spnasnet_100": 64,
    "pit_ti_224": 96,
}
"""Name -> size of the pictures. Depthwise, grouped and dilated convolutions, squeeze-excite, attention, layer scale."""


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_clipped_sums_are_exact(name):
    spec = ModelSpec(f"timm:{name}", classes=5, channels=3, size=NETS[name], dropout=0.0)
    module = build(spec, 0)
    assert parameter_count(module) < LARGEST
    FlatModel(module.double())
    x = torch.randn(
        3, spec.size, spec.size, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    x, y = x.permute(0, 3, 1, 2), torch.tensor([0, 3, 1])
    gradients = PrivateGradients(module)
    with WithoutChance():
        alone = []
        for index in range(3):
            functional.cross_entropy(module(x[[index]]), y[[index]]).backward()
            own = {n: p.grad for n, p in gradients.parameters.items() if p.grad is not None}
            alone.append({n: flat_order(grad[None])[0].clone() for n, grad in own.items()})
            gradients.forget()
        with gradients.recording(Units.single(3)):
            losses = functional.cross_entropy(module(x), y, reduction="none")
        norms = torch.stack([torch.cat(list(each.values())).norm() for each in alone])
        clip = float(norms.median())
        settled = gradients.settle(losses.sum(), clip)
    torch.testing.assert_close(settled.norms, norms, rtol=1e-10, atol=0)
    factors = (clip / (norms + NOTHING)).clamp(max=1.0)
    apart = [
        found - sum(f * each[n] for f, each in zip(factors, alone, strict=True))
        for n, found in settled.sums.items()
    ]
    assert float(torch.cat(apart).norm()) <= 1e-12 * clip
    assert set(settled.sums) == set(alone[0])
