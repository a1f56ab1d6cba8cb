import math

import numpy as np
import pytest
import torch

from fer_models.features import Hog, HogLinear


def stripes(angle, size=48):
    """A ramp whose brightness grows along ``angle``, so that every gradient points there."""
    y, x = np.mgrid[0:size, 0:size]
    return torch.tensor(x * math.cos(angle) + y * math.sin(angle), dtype=torch.float32)[None, None]


@pytest.mark.parametrize("index", range(9))
def test_a_gradient_in_the_middle_of_a_bin_falls_into_that_bin_alone(index):
    hog = Hog(cell=6)
    features = hog(stripes((index + 0.5) * math.pi / 9)).view(4, 9, 7, 7)[:, :, 1:-1, 1:-1]
    share = features.square().sum((0, 2, 3))
    assert int(share.argmax()) == index
    assert float(share[index] / share.sum()) > 0.99


def test_a_gradient_between_two_bins_is_shared_and_opposite_gradients_are_one():
    hog = Hog(cell=6)
    between = hog(stripes(2 * math.pi / 9)).view(4, 9, 7, 7)[:, :, 2, 2].sum(0)
    torch.testing.assert_close(between[1], between[2], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(hog(stripes(0.3)), hog(-stripes(0.3)), rtol=1e-4, atol=1e-4)


def test_blocks_have_norm_one_and_contrast_does_not_matter():
    x = torch.randn(3, 1, 48, 48, generator=torch.Generator().manual_seed(0)) * 5
    hog = Hog(cell=6)
    blocks = hog(x).view(3, 36, 49)
    torch.testing.assert_close(blocks.norm(dim=1), torch.ones(3, 49), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(hog(7 * x), hog(x), rtol=1e-3, atol=1e-4)
    assert hog(x).shape[1] == hog.width(48)


@pytest.mark.parametrize("size", [32, 48, 112])
@pytest.mark.parametrize("channels", [1, 3])
def test_only_the_classifier_learns(size, channels):
    net = HogLinear(classes=5, size=size, dropout=0.0)
    logits = net(torch.randn(2, channels, size, size))
    assert logits.shape == (2, 5)
    logits.sum().backward()
    assert [name for name, _ in net.named_parameters()] == ["classifier.weight", "classifier.bias"]
    assert float(net.classifier.weight.grad.abs().sum()) > 0
