import numpy as np
import pytest
import torch

from client.inputs import BLOCK, Inputs
from fer_models.labels import SEVEN
from fer_models.samples import Samples
from fer_models.transforms import to_input

CPU = torch.device("cpu")


def drawn(count, channels):
    rng = np.random.default_rng(0)
    shape = (count, 16, 16) if channels == 1 else (count, 16, 16, channels)
    pictures = rng.integers(0, 256, shape, np.uint8)
    label = rng.integers(0, len(SEVEN), count).astype(np.int16)
    return Samples(pictures, label, SEVEN, source=np.full(count, "x"), split=np.full(count, "train"))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [3, BLOCK + 5])
def test_kept_pictures_are_those_made_anew_bit_for_bit(channels, count):
    samples = drawn(count, channels)
    kept, anew = Inputs(samples, CPU), Inputs(samples, CPU, limit=0)
    for rows in (np.arange(count), np.array([count - 1, 0, 0]), np.arange(1), np.zeros(0, np.intp)):
        expected = to_input(samples.pictures[rows])
        for found in (kept(rows), kept(rows), anew(rows)):
            assert torch.equal(found, expected)
            assert not len(rows) or found.is_contiguous(memory_format=torch.channels_last)


def test_a_batch_is_the_caller_s_own():
    inputs = Inputs(drawn(4, 1), CPU)
    inputs(np.arange(2)).zero_()
    assert torch.equal(inputs(np.arange(2)), to_input(inputs.samples.pictures[:2]))


def test_a_table_above_the_limit_is_not_kept():
    samples = drawn(4, 1)
    size = 4 * 4 * 16 * 16
    assert Inputs(samples, CPU, limit=size - 1)._keeps is False
    assert Inputs(samples, CPU, limit=size)._keeps is True
