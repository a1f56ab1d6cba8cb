"""Nets made smaller or plainer answer nearly as before, and distillation wins back what is lost."""

import numpy as np
import pytest
import torch
from torch import nn

from fer_models.edge.folding import folded
from fer_models.edge.shrinking import distilled, pruned, with_fixed_norms, with_relu
from fer_models.errors import ModelError
from fer_models.transforms import to_input
from fer_models.zoo import ModelSpec, build
from simulations.faces import FacesConfig, draw


@pytest.fixture(scope="module")
def pictures():
    return draw(FacesConfig(count=120), 0).pictures


def net_of(norm):
    """A net whose answers depend on the picture: its last layer is not as small as at the beginning."""
    return folded(unfolded(norm))


def unfolded(norm, dropout=0.2):
    net = build(ModelSpec("fer_nano", norm=norm, classes=7, dropout=dropout), 0)
    with torch.no_grad():
        net.head.weight.mul_(8)
    return net.eval()


def parameters(net):
    return sum(each.numel() for each in net.parameters())


def divergence(net, other, pictures):
    x = to_input(pictures).contiguous()
    with torch.no_grad():
        p, q = other(x).log_softmax(1), net(x).log_softmax(1)
    return float((p.exp() * (p - q)).sum(1).mean())


@pytest.mark.parametrize("norm", ["ws", "gn"])
def test_pruned_layers_have_fewer_channels_and_the_same_classes(norm):
    net = net_of(norm)
    before = parameters(net)
    small = pruned(net, 0.5, 1, 48)
    assert parameters(net) == before
    assert parameters(small) < 0.6 * before
    widths = [part.out_channels for part in small.modules() if isinstance(part, nn.Conv2d)]
    assert all(width % 8 == 0 for width in widths)
    assert small(torch.zeros(3, 1, 48, 48)).shape == (3, 7)


def test_the_strongest_channels_stay():
    net = net_of("ws")
    first = next(part for part in net.modules() if isinstance(part, nn.Conv2d))
    with torch.no_grad():
        first.weight[[1, 3, 5, 7, 9, 11, 13, 15]] *= 10
    kept = next(part for part in pruned(net, 0.5, 1, 48).modules() if isinstance(part, nn.Conv2d))
    assert torch.equal(kept.weight, first.weight[1::2])


def test_a_net_that_cannot_be_pruned_is_refused():
    with pytest.raises(ModelError, match="cannot be pruned"):
        pruned(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(1, 2)), 0.5, 1, 48)


def test_fixed_norms_fold_away_and_answer_alike_on_the_mean(pictures):
    net = net_of("gn")
    plain = with_fixed_norms(net, pictures)
    kinds = {type(part) for part in plain.modules()}
    assert not kinds & {nn.GroupNorm, nn.BatchNorm2d}
    assert sum(isinstance(part, nn.GroupNorm) for part in net.modules()) == 4
    lost = divergence(plain, net, pictures)
    uniform = net_of("gn")
    nn.init.zeros_(uniform.head.weight)
    assert 0 < lost < 0.5 * divergence(uniform, net, pictures)


def test_a_norm_of_the_picture_that_it_was_fixed_on_is_exact(pictures):
    net = net_of("gn")
    one = pictures[:1]
    x = to_input(one).contiguous()
    with torch.no_grad():
        assert (net(x) - with_fixed_norms(net, one)(x)).abs().max() < 1e-4


def test_distillation_wins_back_what_relu_has_lost(pictures):
    net = net_of("ws")
    plain = with_relu(net)
    assert not any(isinstance(part, nn.SiLU) for part in plain.modules())
    told = []
    taught = distilled(plain, net, pictures, 40, 0, lambda done, steps: told.append((done, steps)))
    assert told == [(50, 75)]
    assert divergence(taught, net, pictures) < 0.5 * divergence(plain, net, pictures)
    again = distilled(plain, net, pictures, 1, 0), distilled(plain, net, pictures, 1, 0)
    assert all(torch.equal(a, b) for a, b in zip(again[0].parameters(), again[1].parameters(), strict=True))
    assert np.isfinite(divergence(again[0], net, pictures))


def test_a_student_that_has_learned_nothing_learns_the_statistics_of_its_norms(pictures):
    teacher, student = net_of("ws"), unfolded("bn", dropout=0.5)
    before = student.body[0][1].running_mean.clone()
    anew = distilled(student, teacher, pictures, 40, 0, anew=True)
    assert not any(part.training for part in anew.modules())
    assert not torch.equal(anew.body[0][1].running_mean, before)
    assert torch.equal(student.body[0][1].running_mean, before)
    assert divergence(anew, teacher, pictures) < 0.8 * divergence(student, teacher, pictures)
    assert divergence(folded(anew), anew, pictures) < 1e-6
    later = distilled(anew, teacher, pictures, 1, 0)
    assert torch.equal(later.body[0][1].running_mean, anew.body[0][1].running_mean)
