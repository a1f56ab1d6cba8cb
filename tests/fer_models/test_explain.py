"""Grad-CAM against nets that can be worked out by hand, and against what a net was taught to look at."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from fer_models.errors import ModelError
from fer_models.explain import grad_cam
from fer_models.zoo import NETS, ModelSpec, build


class Mean(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))


def pooled(filters, weights, number=torch.float32):
    """1 x 1 filters, the mean over places, a linear layer: Grad-CAM is then the class activation map over places."""
    net = nn.Sequential(
        nn.Conv2d(1, len(filters), 1, bias=False), Mean(), nn.Linear(len(filters), 2, bias=False)
    )
    net = net.to(number)
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor(filters, dtype=number).view(-1, 1, 1, 1))
        net[2].weight.copy_(torch.tensor(weights, dtype=number))
    return net.eval()


def test_a_net_worked_out_by_hand():
    # Two maps, x and -x. Class 0 weighs them 3 and 1, class 1 weighs them 0 and 2. Beside the mean of both, class 0
    # has the weights (1.5, -0.5) / 36, so its heat is (1.5 + 0.5) x / 36, and that of class 1 the same below 0.
    net = pooled([1.0, -1.0], [[3.0, 1.0], [0.0, 2.0]])
    x = torch.zeros(1, 1, 6, 6)
    x[0, 0, 0, 0], x[0, 0, 0, 1], x[0, 0, 5, 4], x[0, 0, 5, 5] = 4.0, 1.0, -2.0, -3.0  # with a mean of 0
    first, second = torch.zeros(6, 6), torch.zeros(6, 6)
    first[0, 0], first[0, 1] = 1.0, 0.25
    second[5, 4], second[5, 5] = 2 / 3, 1.0
    assert torch.allclose(grad_cam(net, x, torch.tensor([0]))[0], first, atol=1e-6)
    assert torch.allclose(grad_cam(net, x, torch.tensor([1]))[0], second, atol=1e-6)


def test_no_place_is_more_than_another():
    net = pooled([1.0], [[2.0], [1.0]])
    assert not grad_cam(net, torch.ones(1, 1, 6, 6), torch.tensor([0])).any()


@given(st.integers(0, 1000), st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_with_pooled_features_it_is_the_class_activation_map(seed, channels):
    # Zhou et al. 2016, "Learning deep features for discriminative localization": the weights of the linear layer.
    # In double precision, as the sum over channels can cancel to next to nothing.
    rng, number = torch.Generator().manual_seed(seed), torch.float64
    filters = torch.randn(channels, generator=rng, dtype=number)
    weights = torch.randn(2, channels, generator=rng, dtype=number)
    x, classes = (
        torch.randn(3, 1, 8, 8, generator=rng, dtype=number),
        torch.randint(0, 2, (3,), generator=rng),
    )
    beside = weights[classes] - weights.mean(0)
    activation = (beside * filters).sum(1).view(-1, 1, 1) * x[:, 0]
    expected = (activation - activation.mean((1, 2), keepdim=True)).relu()
    peak = expected.amax((1, 2), keepdim=True)
    found = grad_cam(pooled(filters.tolist(), weights.tolist(), number), x, classes)
    assert torch.allclose(found, expected / torch.where(peak > 0, peak, 1.0), atol=1e-5)


CONVOLUTIONAL = [name for name in NETS if name != "hog_linear"]


@pytest.mark.parametrize("name", [*CONVOLUTIONAL, "timm:mobilenetv4_conv_small"])
def test_every_convolutional_net_is_explained_picture_by_picture(name):
    module = build(ModelSpec(name, size=96 if name.startswith("timm") else 48), 1).eval()
    size = 96 if name.startswith("timm") else 48
    x = torch.randn(4, 1, size, size, generator=torch.Generator().manual_seed(0))
    classes = torch.tensor([0, 3, 3, 7])
    together = grad_cam(module, x, classes)
    alone = torch.cat([grad_cam(module, x[i : i + 1], classes[i : i + 1]) for i in range(4)])
    assert torch.allclose(together, alone, atol=1e-3)
    assert together.shape == (4, size, size)
    assert together.min() >= 0 and torch.allclose(together.amax((1, 2)), torch.ones(4))
    assert all(parameter.grad is None for parameter in module.parameters())
    assert not any(each._forward_hooks for each in module.modules())


def test_a_net_with_clusters_and_a_net_that_does_not_learn_are_explained():
    module = build(ModelSpec("fer_nano", clusters=2), 1).eval().requires_grad_(False)
    heat = grad_cam(module, torch.randn(2, 1, 48, 48), torch.tensor([1, 2]))
    assert heat.amax((1, 2)).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(("name", "size"), [("hog_linear", 48), ("timm:vit_tiny_patch16_224", 224)])
def test_nets_without_maps_are_refused(name, size):
    module = build(ModelSpec(name, size=size), 0).eval()
    with pytest.raises(ModelError, match="no layer gives maps"):
        grad_cam(module, torch.zeros(1, 1, size, size), torch.tensor([0]))
    assert not any(each._forward_hooks for each in module.modules())


STRIPES = torch.tensor([1.0, 1.0, -1.0, -1.0]).repeat(3).expand(12, 12)


def striped(n, rng):
    """Noise with upright (0) or level (1) stripes in one quarter: pictures, classes, places of the quarters (n, 2)."""
    x, label = torch.randn(n, 1, 48, 48, generator=rng) / 2, torch.randint(0, 2, (n,), generator=rng)
    quarter = torch.randint(0, 2, (n, 2), generator=rng)
    for i, (down, across) in enumerate((24 * quarter + 6).tolist()):
        x[i, 0, down : down + 12, across : across + 12] += 2 * (STRIPES.T if label[i] else STRIPES)
    return x, label, quarter


@pytest.mark.parametrize(("name", "norm", "least"), [("cnn_pool", "none", 0.8), ("fer_nano", "gn", 0.5)])
def test_it_shows_what_the_net_was_taught_to_look_at(name, norm, least):
    rng = torch.Generator().manual_seed(2)
    module = build(ModelSpec(name, norm=norm, classes=2, dropout=0.0), 2)
    optimizer = torch.optim.Adam(module.parameters(), 3e-3)
    for _ in range(60):
        x, label, _ = striped(32, rng)
        optimizer.zero_grad()
        functional.cross_entropy(module(x), label).backward()
        optimizer.step()
    x, label, quarter = striped(64, rng)
    assert (module.eval()(x).argmax(1) == label).float().mean() > 0.95
    heat = grad_cam(module, x, label)
    parts = heat.view(64, 2, 24, 2, 24).sum((2, 4))
    share = parts[torch.arange(64), quarter[:, 0], quarter[:, 1]].sum() / heat.sum()
    assert share > least  # chance is a quarter
