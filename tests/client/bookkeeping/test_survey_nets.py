# pyright: reportArgumentType=false
"""The survey's nets and the attention blocks: clipped sums are those of Opacus's hooks, in float64, to 1e-12."""

import pytest
import torch
from opacus import GradSampleModule
from torch.nn import functional

from client.bookkeeping.book import NOTHING, flat_order
from client.bookkeeping.gradients import PrivateGradients, quiet_hooks
from client.bookkeeping.units import Units
from client.guards import prove
from fer_models.blocks import BLOCKS
from fer_models.errors import PrivacyError
from fer_models.flat import FlatModel
from fer_models.zoo import ModelSpec, build

SURVEY = (
    "microexpnet",
    "mini_xception",
    "vgg48",
    "efficientface",
    "a_mobilenet",
    "ddamfn_lite",
    "dan_lite",
    "patt_lite",
)
SPECS = [ModelSpec(name, size=32, classes=4, dropout=0.0) for name in SURVEY]
SPECS += [ModelSpec("fer_nano", size=32, classes=4, dropout=0.0, attention=name) for name in BLOCKS]
STANDARDISED = [
    ModelSpec("a_mobilenet", norm="ws", size=16, classes=4, dropout=0.0),
    ModelSpec("microexpnet", norm="none", size=32, classes=4, dropout=0.0),
]
Y = torch.tensor([0, 3, 1])


def name_of(spec):
    return f"{spec.name}-{spec.norm}-{spec.attention}"


def pictures(spec):
    form = (3, spec.channels, spec.size, spec.size)
    return torch.randn(form, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def by_opacus(spec):
    """Return each sample's gradient by name, in the flat order, from Opacus's hooks."""
    module = GradSampleModule(build(spec, 0).double(), loss_reduction="sum")
    with quiet_hooks():
        functional.cross_entropy(module(pictures(spec)), Y, reduction="sum").backward()
    return {name: flat_order(p.grad_sample) for name, p in module._module.named_parameters()}


def alone(spec):
    """The same from one plain backward a sample, for layers whose weights are computed."""
    module, found = build(spec, 0).double(), []
    for index in range(3):
        module.zero_grad()
        functional.cross_entropy(module(pictures(spec)[[index]]), Y[[index]]).backward()
        found.append({name: flat_order(p.grad[None])[0].clone() for name, p in module.named_parameters()})
    return {name: torch.stack([each[name] for each in found]) for name in found[0]}


@pytest.mark.parametrize("spec", [*SPECS, *STANDARDISED], ids=name_of)
def test_clipped_sums_are_exact(spec):
    rows = alone(spec) if spec in STANDARDISED else by_opacus(spec)
    module = build(spec, 0).double()
    flat = FlatModel(module)
    gradients = PrivateGradients(module)
    with gradients.recording(Units.single(3)):
        losses = functional.cross_entropy(module(pictures(spec)), Y, reduction="none")
    norms = torch.cat(list(rows.values()), 1).norm(dim=1)
    clip = float(norms.median())
    settled = gradients.settle(losses.sum(), clip)
    gradients.close()
    torch.testing.assert_close(settled.norms, norms, rtol=1e-10, atol=0)
    factors = (clip / (norms + NOTHING)).clamp(max=1.0)
    assert set(settled.sums) == set(rows) == {slot.name for slot in flat.slots}
    apart = torch.cat([found - factors @ rows[name] for name, found in settled.sums.items()])
    assert float(apart.norm()) <= 1e-12 * clip


@pytest.mark.parametrize("name", SURVEY)
def test_the_guard_lets_them_in(name):
    module = build(ModelSpec(name, size=32, classes=4), 0)
    gradients = PrivateGradients(module)
    x = torch.randn(3, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    prove(gradients, lambda x, y: functional.cross_entropy(module(x), y, reduction="none"), x, Y)
    assert gradients.proven


@pytest.mark.parametrize("name", SURVEY)
def test_batch_norm_is_refused_by_the_layers_names(name):
    module = build(ModelSpec(name, norm="bn", size=32, classes=4), 0)
    with pytest.raises(PrivacyError, match="layers mix the pictures of a batch") as error:
        prove(PrivateGradients(module), lambda x, y: module(x).sum(1) + y, torch.zeros(3, 1, 32, 32), Y)
    assert error.value.where.startswith("body.")
