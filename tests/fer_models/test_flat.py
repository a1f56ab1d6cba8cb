# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false
# pyright: reportIndexIssue=false, reportOptionalMemberAccess=false, reportPrivateImportUsage=false

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, vmap
from torch.nn import functional as F

from fer_models.errors import ModelError
from fer_models.flat import FlatModel, Slot
from fer_models.zoo import NETS, ModelSpec, build

VARIANTS = [(name, "gn") for name in NETS] + [("fer_nano", norm) for norm in ("bn", "ws", "none")]


def small():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2)
    )


def step(module, x, y):
    F.cross_entropy(module(x), y).backward()


@pytest.mark.parametrize(("name", "norm"), VARIANTS)
def test_training_equals_plain_torch(name, norm):
    plain = build(ModelSpec(name, norm=norm, dropout=0.0), 1).double()
    flat = FlatModel(copy.deepcopy(plain))
    options = {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3}
    one, two = torch.optim.SGD(plain.parameters(), **options), torch.optim.SGD([flat.vector], **options)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 4, 1, 48, 48, dtype=torch.float64, generator=generator)
    y = torch.randint(0, 8, (3, 4), generator=generator)
    for batch, label in zip(x, y, strict=True):
        one.zero_grad()
        flat.zero_grad()
        step(plain, batch, label)
        step(flat, batch, label)
        one.step()
        two.step()
    assert flat.is_intact()
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(flat.to_state()[key], value, rtol=0, atol=1e-12, msg=key)


@pytest.mark.parametrize(("name", "norm"), VARIANTS)
def test_gradients_stay_inside_the_buffer_in_float32(name, norm):
    flat = FlatModel(build(ModelSpec(name, norm=norm), 0))
    start, stop = flat.gradient.data_ptr(), flat.gradient.data_ptr() + 4 * len(flat.gradient)
    x, y = torch.randn(2, 1, 48, 48), torch.tensor([0, 1])
    step(flat, x, y)
    once = flat.gradient.clone()
    assert once.abs().sum() > 0
    for parameter in flat.module.parameters():
        assert start <= parameter.grad.data_ptr() < stop
        if parameter.ndim == 4:
            assert parameter.is_contiguous(memory_format=torch.channels_last)
    parts = [p.grad.permute(0, 2, 3, 1) if p.ndim == 4 else p.grad for p in flat.module.parameters()]
    assert torch.equal(once, torch.cat([part.reshape(-1) for part in parts]))
    flat.zero_grad()
    assert flat.gradient.abs().sum() == 0 and flat.is_intact()


def test_canonical_order_by_hand():
    conv = nn.Conv2d(2, 1, (1, 2), bias=True)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]]))  # in channel 0: 1 2, channel 1: 3 4
        conv.bias.fill_(5)
    flat = FlatModel(conv)
    assert flat.vector.tolist() == [1, 3, 2, 4, 5]
    assert flat.slots == (Slot("weight", (1, 2, 1, 2), 0, 4), Slot("bias", (1,), 4, 5))


def test_views_write_through_both_ways():
    flat = FlatModel(small())
    flat.vector.zero_()
    assert all(not p.any() for p in flat.module.parameters())
    flat.module[4].bias.data.fill_(2)
    assert flat.vector[-2:].tolist() == [2, 2]


def test_buffers_follow_the_parameters():
    flat = FlatModel(small())
    assert len(flat) == len(flat.vector) + 6
    assert [slot.name for slot in flat.buffer_slots] == ["1.running_mean", "1.running_var"]
    flat.module(torch.randn(4, 2, 4, 4) + 3)
    assert flat.is_intact() and flat.buffers_vector[:3].abs().min() > 0
    averaged = flat.full_vector.clone()
    averaged[-3:] = 7
    flat.load_(averaged)
    assert flat.module[1].running_var.tolist() == [7, 7, 7]


def test_constants_stay_out():
    module = nn.Linear(2, 2)
    module.register_buffer("table", torch.ones(3), persistent=False)
    module.register_buffer("steps", torch.tensor(0))
    assert len(FlatModel(module)) == 6


def test_load_takes_numpy_and_refuses_other_vectors():
    flat = FlatModel(small())
    values = np.arange(len(flat), dtype=np.float32)
    flat.load_(values)
    assert flat.full_vector.tolist() == values.tolist()
    for wrong in (values[:-1], values.astype(np.float64), values[:, None]):
        with pytest.raises(ModelError, match="same specification"):
            flat.load_(wrong)


def test_state_has_the_usual_order_and_comes_back():
    flat, other = FlatModel(small()), FlatModel(small())
    flat.vector.normal_()
    state = flat.to_state()
    assert state["0.weight"].is_contiguous() and state["0.weight"].shape == (3, 2, 3, 3)
    other.from_state(state)
    assert torch.equal(other.full_vector, flat.full_vector) and other.is_intact()
    flat.vector.zero_()
    assert state["0.weight"].any()  # a copy
    for broken in (
        {k: v for k, v in state.items() if k != "4.bias"},
        {**state, "5.bias": torch.zeros(2)},
        {**state, "4.bias": torch.zeros(3)},
        {**state, "4.bias": torch.zeros(2).double()},
        {**state, "4.bias": torch.tensor([0, torch.nan])},
    ):
        with pytest.raises(ModelError):
            other.from_state(broken)
    assert torch.equal(other.full_vector, FlatModel(small()).full_vector) is False
    plain = small()
    plain.load_state_dict(state)
    torch.testing.assert_close(plain(torch.ones(2, 2, 4, 4)), other(torch.ones(2, 2, 4, 4)))


def test_a_lost_gradient_view_is_noticed_and_given_back():
    flat = FlatModel(small())
    flat.module.zero_grad(set_to_none=True)
    assert not flat.is_intact()
    flat.zero_grad()
    assert flat.is_intact()


def test_foreign_gradients_are_gathered():
    flat = FlatModel(small())
    flat.gradient.fill_(9)
    for parameter in flat.module.parameters():
        parameter.grad = torch.full_like(parameter, 3.0)
    flat.module[4].bias.grad = None
    gathered = flat.gather_gradient()
    assert gathered is flat.gradient and flat.is_intact()
    assert gathered[:-2].eq(3).all() and gathered[-2:].eq(0).all()


def test_frozen_parameters_travel_but_get_no_gradient():
    module = small()
    module[0].weight.requires_grad_(False)
    flat = FlatModel(module)
    step(flat, torch.randn(4, 2, 4, 4), torch.tensor([0, 1, 0, 1]))
    assert flat.is_intact() and flat.gradient[:54].eq(0).all() and flat.gradient[54:].any()


def test_a_moved_module_is_noticed():
    flat = FlatModel(small())
    flat.module.double()
    assert not flat.is_intact()


def test_mixed_numbers_are_refused():
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double())
    with pytest.raises(ModelError, match="mixes 2 kinds"):
        FlatModel(module)


def test_stacked_vectors_run_many_sites_at_once():
    flat = FlatModel(build(ModelSpec("fer_nano", dropout=0.0), 0))
    stack = torch.stack([flat.full_vector, flat.full_vector * 0.5])
    x = torch.randn(2, 3, 1, 48, 48)
    together = vmap(lambda values, pictures: functional_call(flat.module, values, pictures))(
        flat.views(stack), x
    )
    for site in range(2):
        flat.load_(stack[site])
        torch.testing.assert_close(together[site], flat(x[site]), rtol=1e-4, atol=1e-4)


@given(st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=5), min_size=1, max_size=5))
@settings(deadline=None, max_examples=30)
def test_slots_cover_the_vector_once(shapes):
    module = nn.ParameterList([torch.randn(shape) for shape in shapes])
    before = [parameter.detach().clone() for parameter in module]
    flat = FlatModel(module)
    assert flat.slots[0].start == 0 and flat.slots[-1].stop == len(flat)
    assert all(a.stop == b.start for a, b in zip(flat.slots, flat.slots[1:], strict=False))
    assert all(torch.equal(new, old) for new, old in zip(module, before, strict=True))
    ones = torch.ones(len(flat))
    for view in flat.views(ones).values():
        view.add_(1)
    assert ones.eq(2).all()
