"""Which layers learn: by the order in which a picture passes them, for every net."""

import pytest
import torch
from torch import nn

from fer_models.errors import ModelError
from fer_models.flat import FlatModel, Ranges
from fer_models.scope import SCOPES, layers, restrict, trained_names
from fer_models.zoo import NETS, ModelSpec, build


def trained(name, scope, **options):
    spec = ModelSpec(name, **options)
    return trained_names(build(spec, 0), spec, scope)


def test_a_quarter_of_the_layers_is_rounded_up():
    """fer_small has 8 convolutions and a head: 9 layers, of which 3 learn."""
    assert trained("fer_small", "last_quarter") == [
        "body.6.0.weight",
        "body.6.1.weight",
        "body.6.1.bias",
        "body.7.0.weight",
        "body.7.1.weight",
        "body.7.1.bias",
        "head.weight",
        "head.bias",
    ]
    assert trained("fer_small", "head") == ["head.weight", "head.bias"]


@pytest.mark.parametrize("name", [*NETS, "timm:lcnet_050"])
def test_scopes_are_nested_and_end_with_the_logits(name):
    size = 64 if name.startswith("timm") else 48
    parts = [set(trained(name, scope, size=size, classes=5)) for scope in SCOPES]
    assert parts[0] >= parts[1] >= parts[2] > set()
    net = build(ModelSpec(name, size=size, classes=5), 0)
    own = dict(net.named_parameters())
    assert all(len(own[each]) == 5 for each in parts[2])
    assert parts[0] == set(own)


def test_layers_stand_in_the_order_of_use_and_not_of_definition():
    class Crossed(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(4, 3)
            self.scale = nn.Parameter(torch.ones(1))
            self.norm = nn.LayerNorm(4)
            self.body = nn.Conv2d(1, 4, 3)
            self.unused = nn.Linear(2, 2)

        def forward(self, x):
            return self.head(self.norm(self.scale * self.body(x).mean((2, 3))))

    net = Crossed()
    found = layers(net, ModelSpec("fer_nano", classes=3, size=16))
    assert found == [["body.weight", "body.bias", "norm.weight", "norm.bias"], ["head.weight", "head.bias"]]
    assert net.training
    restrict(net, ModelSpec("fer_nano", classes=3, size=16), "head")
    assert FlatModel(net).trained == Ranges(((1, 16),), 1 + 15 + 8 + 40 + 6)  # after the scale


def test_a_net_whose_last_layer_gives_no_logits_is_refused():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.after = nn.Linear(256, 3), nn.Linear(3, 7)

        def forward(self, x):
            logits = self.head(x.flatten(1))
            self.after(logits)
            return logits

    with pytest.raises(ModelError, match="does not give its 3 logits"):
        restrict(Backwards(), ModelSpec("fer_nano", classes=3, size=16), "head")


def test_ranges_take_and_put():
    some = Ranges(((1, 3), (4, 6)), 7)
    values = torch.arange(14.0).view(2, 7)
    assert some.take(values).tolist() == [[1, 2, 4, 5], [8, 9, 11, 12]]
    assert some.take(values.numpy()).tolist() == some.take(values).tolist()
    assert (len(some), some.whole, Ranges(((0, 7),), 7).whole) == (4, False, True)
    some.put(values, torch.zeros(2, 4))
    assert values.tolist() == [[0, 0, 0, 3, 0, 0, 6], [7, 0, 0, 10, 0, 0, 13]]
    one = Ranges(((2, 5),), 7)
    assert one.take(values).data_ptr() == values[:, 2:].data_ptr()


def test_what_learns_of_a_net_with_statistics():
    spec = ModelSpec("fer_nano", norm="bn", classes=3)
    flat = FlatModel(restrict(build(spec, 0), spec, "head"))
    count, total = len(flat.vector), len(flat)
    assert flat.learning == Ranges(((count - 291, count),), count)
    assert flat.trained == Ranges(((count - 291, total),), total)
    assert FlatModel(build(spec, 0)).trained.whole
