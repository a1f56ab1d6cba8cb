# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false
# pyright: reportIndexIssue=false, reportOptionalMemberAccess=false, reportPrivateImportUsage=false

import pytest
import timm.layers as tl
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision.ops.misc import FrozenBatchNorm2d

from fer_models.norms import (
    ConvertedNorm,
    convert_batch_norm,
    disable_inplace,
    find_batch_coupled,
    group_count,
)


@given(st.integers(1, 2048))
@settings(deadline=None, max_examples=30)
def test_groups_divide_the_width_and_are_not_too_narrow(width):
    groups = group_count(width)
    assert width % groups == 0 and 1 <= groups <= 32
    assert width // groups >= min(8, width)


@pytest.mark.parametrize(
    ("width", "groups"), [(4, 1), (8, 1), (16, 2), (24, 3), (20, 2), (37, 1), (128, 16), (512, 32), (960, 32)]
)
def test_groups_by_hand(width, groups):
    assert group_count(width) == groups


NORMS = {
    "1d": lambda: nn.BatchNorm1d(16),
    "2d": lambda: nn.BatchNorm2d(16),
    "3d": lambda: nn.BatchNorm3d(16),
    "sync": lambda: nn.SyncBatchNorm(16),
    "timm": lambda: tl.BatchNormAct2d(16),
    "timm sync": lambda: tl.SyncBatchNormAct(16),
    "timm split": lambda: tl.SplitBatchNorm2d(16, num_splits=2),
    "frozen": lambda: FrozenBatchNorm2d(16),
    "timm frozen": lambda: tl.FrozenBatchNormAct2d(16),
}


@pytest.mark.parametrize("kind", NORMS)
def test_every_batch_norm_is_found_and_replaced(kind):
    module = nn.Sequential(nn.Conv2d(1, 16, 3), nn.Sequential(NORMS[kind]()))
    assert find_batch_coupled(module)[:1] == ([] if "frozen" in kind else ["1.0"])
    convert_batch_norm(module)
    assert find_batch_coupled(module) == []
    new = module[1][0]
    norm = new.norm if isinstance(new, ConvertedNorm) else new
    assert type(norm) is nn.GroupNorm and (norm.num_groups, norm.num_channels) == (2, 16)
    assert not list(module.buffers())


def test_activation_drop_and_affine_map_survive():
    old = tl.BatchNormAct2d(16, act_layer=nn.Hardswish, drop_layer=lambda: nn.Dropout(0.5), eps=1e-3).eval()
    with torch.no_grad():
        old.weight.copy_(torch.rand(16))
        old.bias.copy_(torch.rand(16))
    new = convert_batch_norm(old)
    assert isinstance(new, ConvertedNorm) and new.drop is old.drop and new.act is old.act
    assert not new.training and new.act.inplace is False
    x = torch.randn(3, 16, 5, 5)
    by_hand = nn.functional.hardswish(nn.functional.group_norm(x, 2, old.weight, old.bias, 1e-3))
    torch.testing.assert_close(new(x), by_hand)


def test_batch_norm_without_affine_map_gives_group_norm_without():
    new = convert_batch_norm(nn.BatchNorm2d(16, affine=False).double())
    assert isinstance(new, nn.GroupNorm) and new.weight is None
    assert convert_batch_norm(nn.BatchNorm2d(16).double()).weight.dtype == torch.float64


def test_a_shared_layer_stays_shared():
    shared = nn.BatchNorm2d(8)
    module = nn.ModuleList([shared, nn.Sequential(shared)])
    convert_batch_norm(module)
    assert isinstance(module[0], nn.GroupNorm) and module[0] is module[1][0]


def test_other_norms_are_left_alone():
    layers = [
        nn.GroupNorm(4, 16),
        tl.GroupNormAct(16, num_groups=4),
        tl.GroupNorm1(16),
        tl.LayerNorm2d(16),
        nn.LayerNorm(16),
        nn.InstanceNorm2d(16),
    ]
    module = convert_batch_norm(nn.Sequential(*layers))
    assert all(new is old for new, old in zip(module, layers, strict=True))
    assert find_batch_coupled(module) == []


def test_running_instance_norm_and_batch_evonorm_are_named():
    module = nn.ModuleDict(
        {
            "instance": nn.InstanceNorm2d(8, track_running_stats=True),
            "evo": tl.EvoNorm2dB0(8),
            "sample": tl.EvoNorm2dS0(8),
        }
    )
    assert find_batch_coupled(module) == ["instance", "evo"]
    assert find_batch_coupled(nn.BatchNorm2d(3)) == [""]
    assert find_batch_coupled(nn.BatchNorm2d(3).eval()) == [""]


def test_in_place_layers_are_switched_off():
    module = nn.Sequential(
        nn.ReLU(inplace=True), nn.Sequential(nn.SiLU(inplace=True), nn.Dropout(inplace=True))
    )
    assert disable_inplace(module) is module
    assert not any(getattr(layer, "inplace", False) for layer in module.modules())
    x = torch.full((2,), -1.0)
    module(x)
    assert (x == -1).all()


def test_converted_net_keeps_samples_apart_in_training_mode():
    module = nn.Sequential(nn.Conv2d(1, 16, 3), tl.BatchNormAct2d(16), nn.Conv2d(16, 4, 3), nn.BatchNorm2d(4))
    x = torch.randn(4, 1, 9, 9)
    coupled = (module(x)[:1] - module(x[:1])).abs().max()
    convert_batch_norm(module)
    assert coupled > 1e-2
    torch.testing.assert_close(module(x)[:1], module(x[:1]))
