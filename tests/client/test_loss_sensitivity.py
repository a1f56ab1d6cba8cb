# pyright: reportArgumentType=false, reportPrivateImportUsage=false
"""By how much a sample more moves a clipped sum: by the clip at most for every loss on offer, searched for the worst.

Losses of a batch as a whole, which have no such bound, are measured with the same engine and refused by the guards.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from client.bookkeeping.gradients import PrivateGradients
from client.bookkeeping.units import Units
from client.guards import prove
from fer_models.errors import PrivacyError
from fer_models.losses import LOSSES, NEED_PRIOR, build_loss

CLASSES, GROUPS, CLIP, ROUNDING = 4, 2, 0.8, 1e-4


def loss_named(name, smoothing=0.0):
    prior = [0.9, 0.07, 0.02, 0.01] if name in NEED_PRIOR else None
    similar = [[0.7, 0.1, 0.1, 0.1], [0.0, 1.0, 0.0, 0.0], [0.2, 0.2, 0.4, 0.2], [0.1, 0.0, 0.0, 0.9]]
    rows = similar if name == "pdls" else ()
    return build_loss(name, smoothing=smoothing, prior=prior, similar=rows)


def net(seed, outputs=CLASSES):
    """A net whose layers are far from alike, so that gradients are long and short."""
    generator = torch.Generator().manual_seed(seed)
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.SiLU(), nn.Linear(12, outputs))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 10 ** (seed % 5 - 3))
    return module


def batch(seed, size, spread):
    """Return pictures (size, 1, 4, 4), classes and groups; one picture alone is of group 1, the last to come."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, 1, 4, 4, generator=generator) * 10.0**spread
    label = torch.randint(CLASSES, (size,), generator=generator)
    group = torch.zeros(size, dtype=torch.long)
    group[-1] = 1
    return x, functional.one_hot(label, CLASSES).float(), functional.one_hot(group, GROUPS).float()


def clipped_sum(module, total_of, x, y):
    """Return the clipped sum (P,) over a batch, whatever the loss does with it."""
    gradients = PrivateGradients(module)
    with gradients.recording(Units.single(len(x))):
        losses = total_of(module(x), y)
    sums = gradients.settle(losses.sum(), CLIP).sums
    gradients.close()
    return torch.cat([sums[name].double() for name in sorted(sums)])


def moved(module, total_of, x, y):
    """Return by how many clips the last picture moves the sum over all the others."""
    without = clipped_sum(module, total_of, x[:-1], y[:-1])
    return float((clipped_sum(module, total_of, x, y) - without).norm()) / CLIP


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 24), st.floats(-3, 3), st.sampled_from([0.0, 0.3]))
def test_a_sample_moves_the_sum_by_the_clip_at_most(name, seed, size, spread, smoothing):
    x, y, _ = batch(seed, size, spread)
    assert moved(net(seed), loss_named(name, smoothing), x, y) <= 1 + ROUNDING


@pytest.mark.parametrize("name", LOSSES)
def test_the_worst_that_is_found_is_the_clip_itself(name):
    found = [moved(net(seed), loss_named(name), *batch(seed, 12, seed % 4)[:2]) for seed in range(60)]
    assert max(found) == pytest.approx(1, abs=ROUNDING)


# Losses of a batch as a whole


def squared_batch_mean(scores, targets):
    """The discriminator's loss of Hong et al. (2021), section 4: half the square of the batch's mean cross-entropy."""
    mean = -(targets * scores.log_softmax(1)).sum(1).mean()
    return (mean.square() / 2).expand(len(scores))


def disparity(outputs, targets):
    """Cross-entropy and a batch's gap between groups in how often a class is named (Corbucci et al. 2024, PUFFLE)."""
    y, group = targets[:, :CLASSES], targets[:, CLASSES:]
    named = outputs.softmax(1)
    of_group = (group.T @ named) / group.sum(0).clamp(min=1)[:, None]
    gap = (of_group[0] - of_group[1]).abs().max()
    return -(y * outputs.log_softmax(1)).sum(1) + 5 * gap


def worst(loss, outputs, targets_of):
    """Search nets and batches for the largest move; the sample that is added is the only one of its group.

    The site holds one group until then, as in the paper, and its pictures look alike; the net has learnt to name it.
    """
    found = 0.0
    for seed in range(60):
        x, y, group = batch(seed, 32, 0)
        x = 0.3 * x + x[:1]
        x[-1] = x[0] * 10.0 ** (seed % 3)
        module = net(3 + seed % 2, outputs)
        with torch.no_grad():
            module[-1].bias[0] += seed % 4
        found = max(found, moved(module, loss, 3.0 ** (seed % 5 - 1) * x, targets_of(y, group)))
    return found


@pytest.mark.parametrize(
    ("loss", "outputs", "targets_of", "clips"),
    [
        (squared_batch_mean, GROUPS, lambda y, group: group, 8),
        (disparity, CLASSES, lambda y, group: torch.cat([y, group], 1), 25),
    ],
    ids=["FADE", "PUFFLE"],
)
def test_losses_of_a_batch_break_the_bound_and_are_refused(loss, outputs, targets_of, clips):
    assert worst(loss, outputs, targets_of) > clips  # where the ledger would count one
    x, y, group = batch(0, 3, 0)
    module = net(2, outputs)
    gradients = PrivateGradients(module)
    with pytest.raises(PrivacyError, match="the loss of one picture reacts to another"):
        prove(gradients, lambda x, y: loss(module(x), y), x, targets_of(y, group))
    with pytest.raises(PrivacyError, match="cannot be clipped one by one"):
        prove(gradients, lambda x, y: loss(module(x), y).mean(), x, targets_of(y, group))
    gradients.close()
