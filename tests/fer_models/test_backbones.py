# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false
# pyright: reportIndexIssue=false, reportOptionalMemberAccess=false, reportPrivateImportUsage=false

import copy

import numpy as np
import pytest
import torch
from opacus import GradSampleModule
from torch import nn

from fer_models.backbones import NORMS, SILU_GAIN, FerNet, WSConv2d, cnn_pool, cnn_tiny


def net(norm="gn", widths=(8, 12), depths=(2, 1), **keywords):
    torch.manual_seed(0)
    return FerNet(widths, depths, **{"classes": 7, "channels": 1, "norm": norm, "dropout": 0.0, **keywords})


def kinds(module):
    return [type(layer) for layer in module.modules() if not list(layer.children())]


def test_stages_halve_the_picture_and_depth_adds_blocks():
    body = net(widths=(8, 12, 16), depths=(2, 1, 3)).body
    x, sides = torch.zeros(1, 1, 48, 48), []
    for stage in body:
        x = stage(x)
        sides.append((x.shape[1], x.shape[2]))
    assert sides == [(8, 24), (8, 24), (12, 12), (16, 6), (16, 6), (16, 6)]


def test_depths_must_match_widths():
    with pytest.raises(ValueError):
        net(widths=(8, 12), depths=(1,))


@pytest.mark.parametrize("norm", NORMS)
def test_norm_decides_the_layers_and_the_biases(norm):
    found = kinds(net(norm))
    assert found.count(nn.GroupNorm) == (3 if norm == "gn" else 0)
    assert found.count(nn.BatchNorm2d) == (3 if norm == "bn" else 0)
    assert found.count(WSConv2d) == (3 if norm == "ws" else 0)
    convolutions = [layer for layer in net(norm).modules() if isinstance(layer, nn.Conv2d)]
    assert all((conv.bias is not None) == (norm in ("ws", "none")) for conv in convolutions)
    assert not any(getattr(layer, "inplace", False) for layer in net(norm).modules())


@pytest.mark.parametrize(("width", "groups"), [(24, 8), (12, 6), (10, 5), (7, 7), (11, 1), (96, 8)])
def test_groups_are_the_largest_divisor_up_to_eight(width, groups):
    norm = net(widths=(width,), depths=(1,)).body[0][1]
    assert isinstance(norm, nn.GroupNorm) and norm.num_groups == groups


def test_weight_standardisation_is_the_formula_of_the_paper():
    conv = WSConv2d(2, 3, 3, padding=1)
    with torch.no_grad():
        conv.gain.copy_(torch.tensor([1.0, 0.5, 2.0]))
    w = conv.weight.detach().double().numpy()
    fan_in = 2 * 3 * 3
    expected = np.stack(
        [
            SILU_GAIN * gain * (w[i] - w[i].mean()) / np.sqrt(fan_in * w[i].var() + conv.eps)
            for i, gain in enumerate([1.0, 0.5, 2.0])
        ]
    )
    np.testing.assert_allclose(conv.standardised().detach().numpy(), expected, rtol=1e-5, atol=1e-7)
    x = torch.randn(2, 2, 5, 5)
    by_hand = nn.functional.conv2d(x, torch.from_numpy(expected).float(), conv.bias, padding=1)
    torch.testing.assert_close(conv(x), by_hand)


@pytest.mark.parametrize("norm", ["ws", "none"])
def test_signal_keeps_its_scale_without_an_activation_norm(norm):
    deep = net(norm, widths=(32, 48, 64), depths=(3, 3, 3))
    out = deep.body(torch.randn(8, 1, 64, 64))
    assert 0.1 < out.std() < 3
    torch.manual_seed(0)
    for layer in deep.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.data.mul_(0.1)
    shrunk = deep.body(torch.randn(8, 1, 64, 64)).std()
    assert shrunk > 0.1 if norm == "ws" else shrunk < 0.01  # standardised weights forget their scale


@pytest.mark.parametrize("norm", ["gn", "ws", "none"])
def test_per_sample_gradients_of_hooks_equal_one_backward_a_sample(norm):
    module = net(norm).double()
    x, y = torch.randn(3, 1, 24, 24).double().requires_grad_(), torch.tensor([0, 3, 6])
    hooked = GradSampleModule(copy.deepcopy(module), loss_reduction="sum")
    nn.functional.cross_entropy(hooked(x), y, reduction="sum").backward()
    for i in range(3):
        module.zero_grad()
        nn.functional.cross_entropy(module(x[i : i + 1]), y[i : i + 1]).backward()
        for (name, p), q in zip(module.named_parameters(), hooked.parameters(), strict=True):
            torch.testing.assert_close(q.grad_sample[i], p.grad, rtol=1e-9, atol=1e-12, msg=name)


def test_dropout_works_in_training_only():
    module = net(dropout=0.5)
    x = torch.randn(2, 1, 24, 24)
    assert not torch.equal(module(x), module(x))
    module.eval()
    assert torch.equal(module(x), module(x))


def test_features_feed_the_head():
    module = net().eval()
    x = torch.randn(2, 1, 24, 24)
    assert module.features(x).shape == (2, 12)
    torch.testing.assert_close(module(x), module.head(module.features(x)))


@pytest.mark.parametrize("fixed", range(4))
def test_features_end_where_learning_begins(fixed):
    module = net().eval()
    for block in module.body[:fixed]:
        block.requires_grad_(False)
    assert module.keeps_features() == (fixed > 0)
    assert module.cut == (fixed or len(module.body))
    x = torch.randn(2, 1, 24, 24)
    torch.testing.assert_close(module(module.features(x)), module(x))
    module.body[-1].requires_grad_(True)
    module.head.requires_grad_(False)
    assert module.keeps_features() == (fixed > 0)
    module.body[0].requires_grad_(True)
    assert not module.keeps_features()
    assert module.features(x).shape == (2, 12)


@pytest.mark.parametrize(("make", "count"), [(cnn_pool, 173_063), (cnn_tiny, 10_727)])
def test_reference_nets_have_the_agreed_sizes(make, count):
    assert sum(p.numel() for p in make(classes=7, channels=1).parameters()) == count
    assert make(classes=5, channels=3)(torch.zeros(2, 3, 48, 48)).shape == (2, 5)
