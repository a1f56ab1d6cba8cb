import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from fer_models.errors import ConfigError
from fer_models.transforms import (
    Augmentation,
    _affine,
    _sampling_grid,
    augment,
    mirrored_probabilities,
    to_input,
)

STILL = Augmentation(flip=0, rotation=0, scale=0, shift=0)


def pictures(count=3, size=16, colour=False, seed=0):
    shape = (count, size, size, 3) if colour else (count, size, size)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("colour", [False, True])
def test_normalisation_is_the_formula_a_picture(colour):
    stored = pictures(colour=colour)
    x = to_input(stored)
    assert x.dtype == torch.float32 and x.shape == (3, 3 if colour else 1, 16, 16)
    for i, picture in enumerate(stored.astype(np.float64)):
        expected = (picture - picture.mean()) / (picture.std() + 1)
        expected = expected.transpose(2, 0, 1) if colour else expected[None]
        np.testing.assert_allclose(x[i].numpy(), expected, atol=1e-5)


def test_colour_comes_out_channels_last():
    assert to_input(pictures(colour=True)).is_contiguous(memory_format=torch.channels_last)


def test_stored_pictures_stay_as_they_were():
    stored = pictures()
    copy = stored.copy()
    stored.setflags(write=False)
    to_input(stored)
    assert (stored == copy).all()
    tensor = torch.from_numpy(copy)
    to_input(tensor)
    assert (stored == copy).all()


def test_blank_pictures_become_zero():
    assert to_input(np.full((2, 8, 8), 200, np.uint8)).abs().max() == 0


@given(st.integers(1, 6), st.booleans())
@settings(deadline=None, max_examples=20)
def test_no_picture_sees_another(count, colour):
    stored = pictures(count, 20, colour)
    together = to_input(stored)
    for i in range(count):
        torch.testing.assert_close(together[i : i + 1], to_input(stored[i : i + 1]), rtol=0, atol=1e-6)


def test_grid_is_that_of_torch():
    theta = torch.randn(5, 2, 3)
    expected = F.affine_grid(theta, [5, 1, 6, 9], align_corners=False)
    torch.testing.assert_close(_sampling_grid(theta, 6, 9), expected)


def test_nothing_asked_changes_nothing():
    x = to_input(pictures())
    torch.testing.assert_close(augment(x, generator(), STILL), x, rtol=0, atol=1e-5)


def test_certain_flip_mirrors():
    x = to_input(pictures(colour=True))
    flipped = augment(x, generator(), Augmentation(flip=1, rotation=0, scale=0, shift=0))
    torch.testing.assert_close(flipped, x.flip(3), rtol=0, atol=1e-5)


def test_flip_shares_and_draws_stay_in_range():
    spec = Augmentation(flip=0.25, rotation=0.3, scale=0.2, shift=0.1)
    theta = _affine(4000, generator(), spec)
    scale = torch.linalg.vector_norm(theta[:, 1, :2], dim=1)
    assert 0.8 - 1e-5 <= scale.min() < 0.81 and 1.19 < scale.max() <= 1.2 + 1e-5
    angle = torch.atan2(theta[:, 1, 0], theta[:, 1, 1])
    assert 0.29 < angle.abs().max() <= 0.3 + 1e-5 and abs(angle.mean()) < 0.02
    assert -0.1 <= theta[:, :, 2].min() < -0.099 and 0.099 < theta[:, :, 2].max() <= 0.1
    determinant = torch.linalg.det(theta[:, :, :2])
    torch.testing.assert_close(determinant.abs(), scale**2)  # a similarity, mirrored or not: no shear
    assert abs((determinant < 0).float().mean() - 0.25) < 0.03


def test_a_shift_moves_by_whole_pixels_and_pads_with_zero():
    x = torch.arange(16.0).view(1, 1, 4, 4) + 1
    theta = torch.tensor(
        [[[1.0, 0, 0.5], [0, 1, 0]]]
    )  # half of a half-width: one pixel to the right in the input
    out = torch.grid_sampler(x, _sampling_grid(theta, 4, 4), 0, 0, False)
    assert out[0, 0].tolist() == [[2, 3, 4, 0], [6, 7, 8, 0], [10, 11, 12, 0], [14, 15, 16, 0]]


def test_randomness_comes_from_the_generator_alone():
    x = to_input(pictures(8, 24))
    spec = Augmentation()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one, two = augment(x, generator(1), spec), augment(x, generator(1), spec)
    assert torch.equal(one, two) and torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(one, augment(x, generator(2), spec))
    assert not torch.equal(one[0] - x[0], one[1] - x[1])


def test_a_picture_is_augmented_by_its_own_draws():
    x = to_input(pictures(8, 24))
    full, first = augment(x, generator(1), Augmentation()), augment(x[:3], generator(1), Augmentation())
    torch.testing.assert_close(full[:3], first)


@pytest.mark.parametrize(
    "values", [{"flip": 1.5}, {"rotation": -0.1}, {"scale": 1.0}, {"shift": math.nan}, {"shift": 2}]
)
def test_strengths_are_checked(values):
    with pytest.raises(ConfigError, match=f"augmentation.{next(iter(values))}"):
        Augmentation(**values)


def test_mirrored_probabilities_by_hand():
    x = torch.tensor([[[[1.0, 0.0]]], [[[0.0, 0.0]]]])

    def left(pictures):
        return torch.stack([pictures[:, 0, 0, 0], torch.zeros(len(pictures))], 1)

    p = 1 / (1 + math.exp(-1))
    expected = torch.tensor([[(p + 0.5) / 2, (1.5 - p) / 2], [0.5, 0.5]])
    torch.testing.assert_close(mirrored_probabilities(left, x), expected)
