# pyright: reportArgumentType=false
"""Every way to a unit's gradient of a convolution against a plain backward a unit, in float64."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from client.bookkeeping import bands, folds, kernels
from client.bookkeeping.kernels import Shape, flat_rows
from client.bookkeeping.units import ROUNDINGS, Units, parts_of

ROUTES = {
    "as the shapes have it": {},
    "a pass a unit": {"MANY_PLACES": 0, "FOLDED": 0},
    "patches and folding": {"MANY_PLACES": 1 << 40, "FOLDED": 1 << 40},
    "patches of a unit at a time": {"MANY_PLACES": 1 << 40, "CACHED": 1},
}


@st.composite
def convolutions(draw, groups=None):
    """Draw (x, g, w, shape, units) of a convolution."""
    groups = groups or draw(st.sampled_from([1, 1, 1, 2, 3]))
    depthwise = draw(st.booleans()) and groups > 1
    fan_in = groups if depthwise else groups * draw(st.integers(1, 3))
    fan_out = groups * draw(st.integers(1, 3))
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 3)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 2)))
    padding = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    least = [d * (k - 1) + 1 - 2 * p for d, k, p in zip(dilation, kernel, padding, strict=True)]
    size = [max(1, each) + draw(st.integers(0, 6)) for each in least]
    sizes = draw(st.sampled_from([(1, 1, 1), (2, 2), (3,), (1, 2, 1), (1,), (3, 1), (1,) * 5, (2,) * 5]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))

    def random(*form):
        return torch.randn(form, generator=generator, dtype=torch.float64)

    x, w = random(sum(sizes), fan_in, *size), random(fan_out, fan_in // groups, *kernel)
    shape = Shape(w.shape, stride, padding, dilation, groups)
    g = random(*torch.conv2d(x, w, None, stride, padding, dilation, groups).shape)
    if draw(st.booleans()):
        x, g, w = (each.contiguous(memory_format=torch.channels_last) for each in (x, g, w))
    return x, g, w, shape, Units(sizes)


def by_hand(x, g, w, shape, units):
    """Return each unit's gradient in the flat order, from one plain backward a unit."""
    found = []
    for own in units.slices:
        leaf = w.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
        y = torch.conv2d(x[own], leaf, None, shape.stride, shape.padding, shape.dilation, shape.groups)
        y.backward(g[own])
        found.append(leaf.grad)
    return flat_rows(torch.stack(found))


def near(found, expected, added=0.0):
    scale = max(1.0, float(expected.abs().max()))
    assert float((found - expected).abs().max()) <= 1e-12 * scale * expected.numel() ** 0.5 + added


@pytest.mark.parametrize("route", ROUTES)
@settings(max_examples=60, deadline=None)
@given(case=convolutions())
def test_rows_are_the_units_gradients(route, case):
    x, g, w, shape, units = case
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ROUTES[route].items():
            patch.setattr(kernels, name, value)
        near(kernels.rows(x, g, w, shape, units), by_hand(*case))


@settings(max_examples=60, deadline=None)
@given(case=convolutions(groups=1), held=st.sampled_from([1, 200, 1 << 17]))
def test_bands_give_gradients_norms_and_sums(case, held):
    x, g, w, shape, units = case
    each = Units.single(len(x))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bands, "CACHED", held)
        found, squares = bands.gradients(x, g, shape)
    expected = by_hand(x, g, w, shape, each)
    near(squares, expected.square().sum(1))
    near(torch.stack([bands.in_flat_order(row, shape) for row in found]), expected)
    mixing = x.shape[1] > 1 and not shape.pointwise
    assert bands.serves(x, g, shape, units) is (mixing and units.size == 1)
    assert not bands.serves(x, g.expand(-1, -1, g.shape[2], -1).repeat(1, 1, 700, 1), shape, each)


@settings(max_examples=60, deadline=None)
@given(case=convolutions(groups=1), lanes=st.sampled_from([1, 1 << 10]))
def test_folding_gives_gradients_norms_and_sums(case, lanes):
    x, g, w, shape, units = case
    each = Units.single(len(x))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folds, "LANES", lanes)  # every number of channels, or none, is a multiple
        found, squares = folds.gradients(x, g, shape)
        summed = torch.stack([folds.in_flat_order(row, shape) for row in found])
        patch.setattr(folds, "PLACES", 1)
        mixing = x.shape[1] > 1 and not shape.pointwise and shape.stride == (1, 1)
        assert folds.serves(x, g, shape, units) is (mixing and units.size == 1)
        patch.setattr(folds, "WIDEST", 0)
        assert not folds.serves(x, g, shape, each)
    expected = by_hand(x, g, w, shape, each)
    near(squares, expected.square().sum(1))
    near(summed, expected)


@settings(max_examples=60, deadline=None)
@given(case=convolutions(), chunk=st.integers(1, 3))
def test_norms_and_weighted_sums_need_no_rows(case, chunk):
    x, g, w, shape, units = case
    expected = by_hand(*case)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "CHUNK", chunk)
        near(kernels.row_norms(x, g, w, shape, units), expected.square().sum(1))
    if shape.groups == 1 and units.size:
        # Norms by Gram matrices add what rounding can have taken, a share of the largest that the terms can add up to.
        most = float(g.square().sum() * x.square().sum()) * shape.weight[2:].numel()
        rounding = 2 * ROUNDINGS * torch.finfo(x.dtype).eps * most
        near(kernels.norms(x, g, shape, units), expected.square().sum(1), rounding)
    factors = torch.linspace(0.1, 1.0, len(units), dtype=torch.float64)
    near(kernels.weighted_sum(x, g, w, shape, units.spread(factors)), factors @ expected)


def test_pixels_gram_matrices_give_those_of_patches():
    """The route for layers of one stride with more than a few places."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 8, 6, 6, generator=generator, dtype=torch.float64)
    w = torch.randn(8, 8, 3, 3, generator=generator, dtype=torch.float64)
    shape, units = Shape(w.shape, (1, 1), (1, 1), (1, 1), 1), Units.single(2)
    g = torch.randn(2, 8, 6, 6, generator=generator, dtype=torch.float64)
    expected = by_hand(x, g, w, shape, units).square().sum(1)
    near(kernels.norms(x, g, shape, units), expected)
    assert kernels._patch_gram(x, g.shape, shape).shape == (2, 36, 36)


def test_a_layer_takes_norms_where_they_are_cheap():
    late = Shape(torch.Size((128, 96, 3, 3)), (1, 1), (1, 1), (1, 1), 1)
    assert kernels.norms_only(late, 9, Units.single(64))
    assert not kernels.norms_only(late, 400, Units.single(64))
    assert not kernels.norms_only(late, 9, Units((1, 2)))
    assert not kernels.norms_only(late, 9, Units((64,)))
    # Where no two patches share a pixel, Gram matrices of pixels would be no smaller than those of patches.
    apart = Shape(late.weight, (3, 3), (1, 1), (1, 1), 1)
    assert kernels.norms_only(late, 48, Units.single(64))
    assert not kernels.norms_only(apart, 48, Units.single(64))


@given(st.lists(st.integers(1, 9), max_size=12), st.integers(1, 12))
def test_parts_keep_units_whole_and_in_order(sizes, most):
    parts = parts_of(sizes, most)
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(len(sizes)))
    for part in parts:
        held = sum(sizes[part])
        assert held <= most or part.stop - part.start == 1
    for one, two in itertools.pairwise(parts):
        assert sum(sizes[one]) + sizes[two.start] > most, "a part is filled"


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6))
def test_units_add_up_and_spread(sizes):
    units = Units(tuple(sizes))
    values = torch.arange(units.samples * 2, dtype=torch.float64).view(-1, 2)
    expected = torch.stack([values[own].sum(0) for own in units.slices])
    assert torch.equal(units.total(values), expected)
    each = torch.arange(len(units), dtype=torch.float64)
    assert units.spread(each).tolist() == [float(i) for i, size in enumerate(sizes) for _ in range(size)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_norms_from_gram_matrices_are_never_too_small(dtype):
    """Places that cancel: a gradient of almost nothing made of large terms."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(50, 1, 12, generator=generator, dtype=torch.float64) for _ in range(2))
    noise = 1e-4 * torch.randn(50, 8, 12, generator=generator, dtype=torch.float64)
    signs = torch.tensor([1.0, -1.0] * 4, dtype=torch.float64)[None, :, None]
    rows, others = (300 * a * signs + noise).to(dtype), (b + noise).to(dtype)
    for units in (Units.single(50), Units((2,) * 25), Units((1, 2, *(1,) * 47))):
        true = units.products(rows.double(), others.double()).flatten(1).square().sum(1)
        found = units.gram(rows, others).double()
        assert bool((found >= true * (1 - 1e-12)).all())
        if dtype == torch.float64:
            torch.testing.assert_close(found, true, rtol=1e-4, atol=0)
