# pyright: reportArgumentType=false
"""A picture at the kink of an activation, which is no reason to refuse a net, and no way around the trial."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from client import guards
from client.bookkeeping.gradients import PrivateGradients
from client.guards import prove
from fer_models.errors import PrivacyError

X = torch.randn(3, 1, 48, 48, generator=torch.Generator().manual_seed(1))
Y = torch.tensor([0, 2, 1])


def losses_of(module):
    return lambda x, y: functional.cross_entropy(module(x), y, reduction="none")


class Kinked(nn.Module):
    """Reads one pixel through a ReLU, and rounds otherwise in company, as sums of other lengths do.

    Parameters
    ----------
    company : by what a picture's answer is multiplied where it is not alone.
    """

    def __init__(self, company=1.0):
        super().__init__()
        self.head, self.company = nn.Linear(48 * 48, 4), company
        with torch.no_grad():
            self.head.weight[1:].uniform_(0.0, 1.0)
            self.head.weight[0].zero_()[0] = 1.0
            self.head.bias.zero_()

    def forward(self, x):
        alone = len(x) == 1
        y = self.head(x.flatten(1) + (1e-7 if alone else -1e-7)).relu()
        return y if alone else y * self.company


def at_a_kink():
    x = X.clone()
    x[0, 0, 0, 0] = 0.0
    return x


def test_a_picture_at_a_kink_is_no_reason_to_refuse_a_net(monkeypatch):
    module = Kinked()
    prove(PrivateGradients(module), losses_of(module), at_a_kink(), Y)
    monkeypatch.setattr(guards, "PICTURES", 1)  # what differs is the kink
    with pytest.raises(PrivacyError, match="is not what it is when the sample is alone"):
        prove(PrivateGradients(module), losses_of(module), at_a_kink(), Y)


@pytest.mark.parametrize("x", [X, at_a_kink()])
def test_a_net_that_mixes_pictures_is_not_helped_by_kinks(x):
    module = Kinked(company=1.01)
    with pytest.raises(PrivacyError, match="is not what it is when the sample is alone"):
        prove(PrivateGradients(module), losses_of(module), x, Y)


def test_away_from_kinks_no_other_pictures_are_tried(monkeypatch):
    class Centred(nn.Linear):
        def forward(self, x):
            return super().forward((x - x.mean(0).detach()).flatten(1))

    asked = []
    monkeypatch.setattr(
        guards, "_try_waiting", lambda *given, real=guards._try_waiting: (asked.append(given), real(*given))
    )
    module = Centred(48 * 48, 4)
    with pytest.raises(PrivacyError, match="is not what it is when the sample is alone"):
        prove(PrivateGradients(module), losses_of(module), X, Y)
    assert len(asked) == 1


def test_after_a_kink_one_picture_that_passes_is_not_enough(monkeypatch):
    """Else a net that mixes in some batches would have four chances."""
    outcomes = iter([True, False, True, True])

    def tried(gradients, losses, x, targets):
        if next(outcomes):
            raise guards.UnequalError("a sample's gradient is another", where="model", cure="")

    monkeypatch.setattr(guards, "_try_waiting", tried)
    monkeypatch.setattr(guards, "_at_a_kink", lambda *_: True)
    module = Kinked()
    with pytest.raises(PrivacyError, match="is another"):
        prove(PrivateGradients(module), losses_of(module), X, Y)
    assert not list(outcomes), "all four were tried"


class Brightest(nn.Module):
    """Compares what its first convolution says with the batch's mean, which no Jacobian sees."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1, bias=False).to(memory_format=torch.channels_last)
        self.norm, self.head = nn.GroupNorm(4, 8), nn.Linear(8, 4)

    def forward(self, x):
        y = self.conv(x)
        z = self.norm(y).relu() * (1 + 0.5 * (y > y.mean(0)))
        return self.head(z.mean((2, 3)))


def test_a_comparison_with_the_batch_is_seen_though_the_convolution_waits():
    module = Brightest()
    with pytest.raises(PrivacyError):
        prove(PrivateGradients(module), losses_of(module), X.contiguous(memory_format=torch.channels_last), Y)


class Slow(nn.Module):
    """Has a layer that Opacus serves, and looks again at what its first convolution says."""

    def __init__(self, mixes):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.GroupNorm(4, 8)
        self.slow, self.mixes = nn.Conv1d(8, 4, 3), mixes
        self.to(memory_format=torch.channels_last)

    def forward(self, x):
        y = self.conv(x)
        z = self.norm(y) + y
        if self.mixes:
            z = z - z.detach().mean(0)
        return self.slow(z.flatten(2)).mean(2)


def test_a_net_that_opacus_serves_in_part_is_tried_more_than_once():
    x = X.contiguous(memory_format=torch.channels_last)
    module = Slow(mixes=False)
    gradients = PrivateGradients(module, allow_slow=True)
    for _ in range(2):
        prove(gradients, losses_of(module), x, Y)
    module = Slow(mixes=True)
    with pytest.raises(PrivacyError):
        prove(PrivateGradients(module, allow_slow=True), losses_of(module), x, Y)
