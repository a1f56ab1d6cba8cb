# pyright: reportArgumentType=false
"""In single precision, as sites train: what one unit adds to the clipped sum is never longer than the clip."""

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from client.gradients import PrivateTrainer
from client.plan import LocalWork, Privacy
from client.randomness import KeyedStream
from client.trial import WithoutChance
from fer_models.flat import FlatModel
from fer_models.zoo import ModelSpec, build

ROUNDING = 1e-5
NETS = [
    *[(name, norm) for name in ("fer_nano", "fer_small", "fer_base") for norm in ("gn", "ws")],
    *[("fer_nano", "none"), ("cnn_pool", "none"), ("cnn_tiny", "none"), ("hog_linear", "none")],
]
PICTURES = ("noise", "flat", "stripes", "one bright place", "bright", "all the same")


@functools.cache
def net(name, norm):
    return FlatModel(build(ModelSpec(name, norm=norm, classes=4, dropout=0.0), 0))


def pictures(kinds):
    """Return pictures (n, 1, 48, 48) of these kinds; the last two repeat places, so that terms add up or cancel."""
    generator = torch.Generator().manual_seed(len(kinds))
    x = torch.randn(len(kinds), 1, 48, 48, generator=generator)
    for each, kind in zip(x, kinds, strict=True):
        if kind == "flat":
            each.fill_(0.7)
        elif kind == "stripes":
            each.copy_(torch.tensor([3.0, -3.0]).repeat(24))
        elif kind == "one bright place":
            each.zero_()[0, 20, 20] = 1e3
        elif kind == "bright":
            each.mul_(1e3)
        elif kind == "all the same":
            each.copy_(x[0])
    return x.contiguous(memory_format=torch.channels_last)


@st.composite
def batches(draw):
    """Draw (kinds of pictures, size of each unit, factor of each unit's loss, clip)."""
    sizes = draw(st.sampled_from([(1,), (1, 1, 1), (2, 2), (3, 1), (1, 2, 1), (4,), (4, 4)]))
    kinds = draw(st.lists(st.sampled_from(PICTURES), min_size=sum(sizes), max_size=sum(sizes)))
    powers = st.sampled_from([-40, -20, -5, -1, 0, 0, 1, 3, 6, 12, 19, 25, 37])
    factors = [10.0 ** draw(powers) * draw(st.sampled_from([1, -1])) for _ in sizes]
    return kinds, sizes, factors, draw(st.sampled_from([1e-3, 0.7, 1.0, 30.0]))


@pytest.mark.parametrize(("name", "norm"), NETS)
@settings(max_examples=12, deadline=None)
@given(batch=batches())
def test_no_unit_adds_more_than_the_clip(name, norm, batch):
    """Units of pictures, of their views, and persons' pictures are the same here: runs of rows."""
    kinds, sizes, factors, clip = batch
    flat, x = net(name, norm), pictures(kinds)
    y = torch.arange(len(kinds)) % 4
    trainer = PrivateTrainer(
        flat,
        Privacy(1.0, clip=clip, delta=1e-5, nominal_units=4),
        divisor=1.0,
        work=LocalWork(),
        stream=KeyedStream(bytes(32)),
    )
    rows = np.arange(len(kinds))
    unit = np.repeat(np.arange(len(sizes)), sizes)

    def length(chosen, only):
        """Return the length of the sum over the batch, where the losses of the others count as nothing."""
        weights = torch.tensor([factors[u] if u == only else 0.0 for u in unit])

        def losses(part):
            return weights[part] * functional.cross_entropy(flat.module(x[part]), y[part], reduction="none")

        with WithoutChance():
            kept = [size for u, size in enumerate(sizes) if chosen[unit == u].any()]
            found = trainer.clipped_sum(rows[chosen], losses, kept)
        assert torch.isfinite(found).all()
        return float(found.double().norm())

    for index in range(len(sizes)):
        assert length(unit == index, index) <= clip * (1 + ROUNDING), "alone"
    assert length(unit >= 0, 0) <= clip * (1 + ROUNDING), "in company"
    trainer.close()
