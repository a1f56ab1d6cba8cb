# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportIndexIssue=false
"""Attention blocks: shapes, what they look at, and that no picture sees another."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fer_models.attended import Attended
from fer_models.blocks import BLOCKS, Cbam, ChannelGate, Coordinate, Patches, PlaceGate, Tokens, attach
from fer_models.errors import ModelError
from fer_models.explain import grad_cam
from fer_models.zoo import ModelSpec, build, parameter_count


def maps(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("sides", [(6, 6), (5, 7), (1, 1)])
def test_maps_stay_maps_and_pictures_stay_apart(name, sides):
    torch.manual_seed(0)
    block = BLOCKS[name](12).double()
    x = maps(3, 12, *sides).requires_grad_()
    y = block(x)
    assert y.shape == x.shape
    (reached,) = torch.autograd.grad(y[1].sum(), x)
    assert not reached[[0, 2]].any()
    assert reached[1].any()
    torch.testing.assert_close(block(x[1:2]), y[1:2], rtol=0, atol=1e-12)


def test_gates_begin_near_one_and_end_at_two():
    torch.manual_seed(0)
    x = maps(2, 16, 6, 6).float()
    for gate in (ChannelGate(16), PlaceGate()):
        assert float((gate(x).detach() - 1).abs().mean()) < 0.3
    channels = ChannelGate(16)
    with torch.no_grad():
        channels.wide.bias.fill_(40.0)
    torch.testing.assert_close(channels(x), torch.full((2, 16, 1, 1), 2.0))


def test_cbam_by_hand():
    """One hidden unit, one channel: gates of a map whose mean is 1 and whose largest value is 3."""
    block = Cbam(1)
    with torch.no_grad():
        for p in block.parameters():
            p.zero_()
        block.channels.narrow.weight[0].fill_(1.0)
        block.channels.wide.weight[0, 0].fill_(1.0)
        block.places.look.weight[0, 1, 3, 3] = 1.0  # the place's own largest value
    x = torch.tensor([[[[3.0, 0.0], [1.0, 0.0]]]])
    silu = torch.nn.functional.silu
    first = 2 * torch.sigmoid(silu(torch.tensor(1.0)) + silu(torch.tensor(3.0))) * x
    torch.testing.assert_close(block(x), first * 2 * torch.sigmoid(first))


def test_coordinate_gates_follow_rows_and_columns():
    torch.manual_seed(0)
    block = Coordinate(4).double()
    x = maps(1, 4, 6, 6)
    gate = block(x) / x
    rows, columns = gate[:, :, :, :1], gate[:, :, :1, :]
    torch.testing.assert_close(gate, rows * columns / gate[:, :, :1, :1])


def test_tokens_attend_by_scaled_dot_products():
    torch.manual_seed(0)
    block = Tokens(8, heads=2).double()
    x = maps(2, 8, 3, 2)
    y = x + block.place(x)
    z = block.norm(y).flatten(2).transpose(1, 2)  # (B, places, C)
    of = lambda conv: nn.functional.linear(z, conv.weight[:, :, 0, 0], conv.bias)  # noqa: E731
    heads = zip(*(of(each).chunk(2, 2) for each in (block.ask, block.key, block.value)), strict=True)
    found = [nn.functional.scaled_dot_product_attention(q, k, v) for q, k, v in heads]
    joined = nn.functional.linear(torch.cat(found, 2), block.join.weight[:, :, 0, 0], block.join.bias)
    expected = y + joined.transpose(1, 2).reshape(x.shape)
    torch.testing.assert_close(block(x), expected, rtol=0, atol=1e-12)


def test_each_quarter_has_filters_of_its_own():
    torch.manual_seed(0)
    block = Patches(2)
    x = torch.zeros(1, 2, 8, 8)
    blank = block(x)
    x[:, :, :4, 4:] = 1.0
    changed = (block(x) - x - blank).abs().amax((0, 1)) > 0
    assert changed[:4, 4:].all()
    assert not changed[:4, :4].any()
    assert not changed[4:].any()


@pytest.mark.parametrize(("size", "place"), [(48, 3), (96, 4), (16, 1)])
def test_a_block_goes_behind_the_last_maps_that_are_large_enough(size, place):
    stages = [nn.Conv2d(fan_in, 8, 3, stride=2, padding=1) for fan_in in (1, 8, 8, 8)]
    assert attach(stages, "cbam", 1, size) == place
    assert isinstance(stages[place], Cbam)


@pytest.mark.parametrize("name", ["fer_small", "mini_xception", "timm:lcnet_050"])
def test_attention_goes_on_other_nets_and_into_their_words(name):
    plain = ModelSpec(name, size=64)
    spec = dataclasses.replace(plain, attention="coordinate")
    module = build(spec, 0)
    assert parameter_count(module) > parameter_count(build(plain, 0))
    assert module(torch.zeros(2, 1, 64, 64)).shape == (2, 8)
    assert "attention" not in plain.to_dict()
    assert ModelSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert grad_cam(module.eval(), torch.randn(1, 1, 64, 64), torch.tensor([1])).any()


@pytest.mark.parametrize(
    ("name", "facts", "what"),
    [
        ("fer_nano", {"attention": "cbm"}, "unknown attention 'cbm'.*Use cbam"),
        ("efficientface", {"attention": "cbam"}, "attention of its own"),
        ("cnn_pool", {"attention": "cbam"}, "no maps for attention"),
        ("timm:vit_tiny_patch16_224", {"attention": "cbam", "size": 64}, "no maps for attention"),
        ("mini_xception", {"norm": "ws"}, "only a norm keeps the scale"),
    ],
)
def test_what_does_not_go_together_is_refused(name, facts, what):
    with pytest.raises(ModelError, match=what):
        build(ModelSpec(name, **facts), 0)


def test_weights_of_timm_are_the_start_below_attention(tmp_path):
    spec = ModelSpec("timm:lcnet_050", size=64)
    save_file(build(spec, 1).state_dict(), tmp_path / "own.safetensors")
    module = build(dataclasses.replace(spec, attention="cbam"), 0, weights=tmp_path / "own.safetensors")
    assert isinstance(module, Attended)
    torch.testing.assert_close(module.net.state_dict(), build(spec, 1).state_dict())


def test_weights_of_another_net_are_refused(tmp_path):
    save_file(build(ModelSpec("dan_lite"), 0).state_dict(), tmp_path / "dan.safetensors")
    with pytest.raises(ModelError, match="Choose the model that the weights were trained for"):
        build(ModelSpec("patt_lite"), 0, weights=tmp_path / "dan.safetensors")
