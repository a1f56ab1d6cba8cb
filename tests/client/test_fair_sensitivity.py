# pyright: reportArgumentType=false, reportPrivateImportUsage=false
"""By how much a picture moves what a fair private step sums up: net and critic by their clips, together by the stretch.

Searched for the worst over nets, batches, losses and weights, where the last picture is the only one of its group.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from client.bookkeeping.gradients import PrivateGradients
from client.bookkeeping.units import Units
from client.fairness import Fairness
from fer_models.critic import FairLoss, WithCritic
from fer_models.losses import soft_cross_entropy

CLASSES, GROUPS, CLIP, ROUNDING = 4, 2, 0.8, 1e-4
FAIRNESS = Fairness("age", adversary="critic")
CRITICS = CLIP / FAIRNESS.noise_ratio
MODES = ["critic", "gradient_reversal"]


def net(seed, mode, classes, hidden):
    """A net and its critic, whose layers are far from alike."""
    generator = torch.Generator().manual_seed(seed)
    head = nn.Linear(12, CLASSES)
    inner = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.SiLU(), head)
    both = WithCritic(
        inner, head, GROUPS, classes=classes, hidden=hidden, reversed=mode == "gradient_reversal"
    ).train()
    with torch.no_grad():
        for parameter in both.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 10 ** (seed % 5 - 3))
    both.freeze()
    both.reversal = 3.0
    return both


def batch(seed, size, spread):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, 1, 4, 4, generator=generator) * 10.0**spread
    label = torch.randint(CLASSES, (size,), generator=generator)
    group = torch.zeros(size, dtype=torch.long)
    group[-1] = 1
    shown = functional.one_hot(group, GROUPS).float()
    shown[seed % size] *= seed % 2  # now and then somebody is undisclosed
    return x, torch.cat([functional.one_hot(label, CLASSES).float(), shown, torch.ones(size, 2)], 1)


def clipped_sums(module, loss, x, y, weights):
    """Return the clipped and weighted sums of net and critic."""
    gradients = PrivateGradients(module, part_of=lambda name: int(name.startswith("critic.")))
    with gradients.recording(Units.single(len(x))):
        losses = loss(module(x), y)
    sums = gradients.settle(losses.sum(), (CLIP, CRITICS), weights).sums
    gradients.close()
    return [
        torch.cat([sums[name].double() for name in sorted(sums) if name.startswith(prefix)])
        for prefix in ("net.", "critic.")
    ]


def moved(module, loss, x, y, weights):
    """Return by how much the last picture moves the sums of net and critic over all the others."""
    without = clipped_sums(module, loss, x[:-1], y[:-1], [w[:-1] for w in weights])
    return [
        float((a - b).norm()) for a, b in zip(clipped_sums(module, loss, x, y, weights), without, strict=True)
    ]


def loss_of(mode, square=False):
    loss = FairLoss(soft_cross_entropy, CLASSES, GROUPS, mode, square=square)
    loss.strength = 3.0
    return loss


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(2, 24),
    st.floats(-3, 3),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0, 3]),
)
def test_a_picture_moves_each_part_by_its_clip_at_most(mode, seed, size, spread, square, conditional, hidden):
    x, y = batch(seed, size, spread)
    generator = torch.Generator().manual_seed(seed)
    weights = [torch.rand(size, generator=generator) for _ in range(2)]
    module = net(seed, mode, CLASSES if conditional else 1, hidden)
    own, critics = moved(module, loss_of(mode, square), x, y, weights)
    assert own <= CLIP * (float(weights[0][-1]) + ROUNDING)
    assert critics <= CRITICS * (float(weights[1][-1]) + ROUNDING)
    assert (own**2 + critics**2) ** 0.5 <= FAIRNESS.stretch * CLIP * (1 + ROUNDING)


@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_the_worst_that_is_found_is_the_bound_itself(mode, square):
    found = [0.0, 0.0]
    for seed in range(40):
        x, y = batch(2 * seed + 1, 12, seed % 4)
        ones = [torch.ones(12), torch.ones(12)]
        each = moved(net(seed, mode, 1, 0), loss_of(mode, square), x, y, ones)
        found = [max(a, b) for a, b in zip(found, each, strict=True)]
    assert found[0] == pytest.approx(CLIP, rel=ROUNDING)
    assert found[1] == pytest.approx(CRITICS, rel=ROUNDING)
