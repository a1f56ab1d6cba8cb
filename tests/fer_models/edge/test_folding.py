"""A folded net gives the answers of the net that it was made of."""

import pytest
import torch
from torch import nn

from fer_models.backbones import WSConv2d
from fer_models.edge.folding import folded
from fer_models.zoo import ModelSpec, build


@pytest.fixture(scope="module")
def x():
    return torch.randn(5, 1, 48, 48, generator=torch.Generator().manual_seed(3))


def trained(norm, x):
    """A net whose statistics, gains and biases are not those that it begins with."""
    net = build(ModelSpec("fer_nano", norm=norm), 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        net(x)  # moves BatchNorm's running statistics
    return net


@pytest.mark.parametrize("norm", ["ws", "bn"])
def test_folded_layers_answer_alike(norm, x):
    net = trained(norm, x)
    small = folded(net)
    with torch.no_grad():
        own, given = net.eval()(x), small(x)
    assert (own - given).abs().max() <= 1e-6 * own.abs().max()
    kinds = {type(part) for part in small.modules()}
    assert nn.Conv2d in kinds
    assert not kinds & {WSConv2d, nn.BatchNorm2d}


def test_the_net_itself_stays_as_it_was(x):
    net = trained("ws", x)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    folded(net)
    assert net.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert any(isinstance(part, WSConv2d) for part in net.modules())


def test_group_norm_stays(x):
    net = trained("gn", x)
    small = folded(net)
    assert sum(isinstance(part, nn.GroupNorm) for part in small.modules()) == 4
    with torch.no_grad():
        assert torch.equal(net.eval()(x), small(x))


def test_a_batch_norm_that_reads_the_batch_is_not_folded():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, track_running_stats=False))
    assert isinstance(folded(net)[1], nn.BatchNorm2d)
