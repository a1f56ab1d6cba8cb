"""The first convolution and the group norm behind it: one layer of the book, and when it must not be."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from client import guards
from client.bookkeeping.gradients import PrivateGradients
from client.bookkeeping.units import Units
from fer_models.backbones import WSConv2d
from tests.client.bookkeeping.test_layers import alone, losses_of, pictures, require_exact

TAKEN = "FirstGroupNormBackward"


class Net(nn.Module):
    """A first convolution, what happens to its output, a group norm, and one more convolution."""

    def __init__(self, conv, between=lambda y: y, beside=lambda y: 0.0):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm = conv, nn.GroupNorm(2, conv.out_channels)
        self.second = nn.Conv2d(conv.out_channels, 3, 2)
        nn.init.normal_(self.norm.weight)
        nn.init.normal_(self.norm.bias)
        self.between, self.beside, self.seen = between, beside, ""

    def forward(self, x):
        y = self.first(x)
        z = self.norm(self.between(y))
        self.seen = "" if z.grad_fn is None else z.grad_fn.name()
        return self.second(functional.silu(z) + self.beside(y))


def conv(fan_in=1, kernel=3, *, kind=nn.Conv2d, **more):
    return kind(fan_in, 6, kernel, **({} if kind is WSConv2d else {"bias": False}), **more)


def tried(net, sizes=None, channels=1):
    """Compare a net's gradients with those by hand, and return which layer answered its norm."""
    net = net.double().to(memory_format=torch.channels_last)
    x = pictures(channels=channels)
    x = torch.empty((len(x), *x.shape[2:], channels), dtype=x.dtype).permute(0, 3, 1, 2).copy_(x)
    require_exact(net, x, sizes)
    gradients = PrivateGradients(net)
    with gradients.recording(Units.single(len(x))):
        net(x)
    gradients.close()
    return net.seen


@pytest.mark.parametrize("sizes", [None, (2, 2), (1, 3), (4,)])
@pytest.mark.parametrize(
    "how", [{"stride": 2, "padding": 1}, {"kernel": 5, "dilation": 2}, {"padding": (0, 1)}]
)
def test_it_is_exact_for_all_units(how, sizes):
    assert tried(Net(conv(**how)), sizes) == TAKEN


def waiting(net, sizes=None):
    """Try a net, compare its gradients with those by hand, and return whether its convolution waits for the norm."""
    net = net.double().to(memory_format=torch.channels_last)
    x = pictures(channels=1)
    x = torch.empty((len(x), *x.shape[2:], 1), dtype=x.dtype).permute(0, 3, 1, 2).copy_(x)
    gradients = PrivateGradients(net)
    guards.prove(gradients, lambda given, _: losses_of(net, given), x[:3], torch.zeros(3))
    units = Units(sizes or (1,) * len(x))
    with gradients.recording(units):
        losses = losses_of(net, x)
    found = gradients.settle(losses.sum(), 1e9).sums
    each = alone(net, x)
    for name, summed in found.items():
        torch.testing.assert_close(summed, sum(own[name] for own in each), rtol=1e-12, atol=1e-12)
    gradients.close()
    return gradients.waits


@pytest.mark.parametrize("sizes", [None, (2, 2), (1, 3)])
@pytest.mark.parametrize("how", [{"stride": 2, "padding": 1}, {"kernel": 5, "dilation": 2}, {"kernel": 1}])
def test_a_convolution_waits_for_its_norm(how, sizes):
    assert waiting(Net(conv(**how)), sizes)


def test_a_convolution_does_not_wait_where_something_else_looks_at_its_output():
    assert not waiting(Net(conv(), beside=lambda y: y.sin()))
    assert not waiting(Net(conv(), beside=lambda y: functional.group_norm(y, 3)))
    assert not waiting(Net(conv(), between=lambda y: y + 1.0))


def test_pictures_are_left_as_they_are():
    net = Net(conv(kernel=1)).to(memory_format=torch.channels_last)  # whose patches are the pictures
    x = torch.randn(4, 1, 12, 12)
    kept = x.clone()
    with PrivateGradients(net).recording(Units.single(4)):
        net(x)
    assert torch.equal(x, kept)


def test_parts_of_it_may_be_frozen():
    for frozen in ("first.weight", "norm.weight", "norm.bias", "norm."):
        net = Net(conv())
        for name, parameter in net.named_parameters():
            parameter.requires_grad_(not name.startswith(frozen))
        assert (tried(net) == TAKEN) is (frozen in ("norm.weight", "norm.bias"))


def test_an_output_that_goes_elsewhere_as_well_is_added_up():
    assert tried(Net(conv(), beside=lambda y: y.sin())) == TAKEN
    assert tried(Net(conv(), beside=lambda y: functional.group_norm(y, 3))) == TAKEN


def test_a_net_that_wants_no_gradient_of_the_convolution_gets_none():
    class Fixed(Net):
        def forward(self, x):
            with torch.no_grad():
                y = self.first(x)
            z = self.norm(y)
            self.seen = z.grad_fn.name()
            return self.second(z)

    assert tried(Fixed(conv())) == "GroupNormBackward"


@pytest.mark.parametrize(
    ("convolution", "channels", "between"),
    [
        (conv(), 1, lambda y: y.mul_(2.0)),
        (conv(), 1, lambda y: y + 1.0),
        (conv(3), 3, lambda y: y),
        (conv(kernel=7), 1, lambda y: y),
        (nn.Conv2d(1, 6, 3), 1, lambda y: y),
        (conv(kind=WSConv2d), 1, lambda y: y),
    ],
)
def test_what_it_does_not_fit_is_two_layers(convolution, channels, between):
    found = tried(Net(convolution, between), channels=channels)
    assert found == "GroupNormBackward"


def test_flat_and_bright_pictures_have_a_finite_gradient():
    """In single precision, where the sums of products cancel."""
    net = Net(conv(stride=2, padding=1)).to(memory_format=torch.channels_last)
    x = torch.stack([torch.full((12, 12, 1), 0.7), torch.full((12, 12, 1), 1e6), torch.zeros(12, 12, 1)])
    gradients = PrivateGradients(net)
    with gradients.recording(Units.single(3)):
        losses = net(x.permute(0, 3, 1, 2)).square().flatten(1).sum(1)
    settled = gradients.settle(losses.sum(), 1.0)
    assert net.seen == TAKEN
    assert bool(torch.isfinite(settled.norms).all())
