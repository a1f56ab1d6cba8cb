"""The features of every net are what its last layer turns into logits."""

import pytest
import torch
from torch import nn

from fer_models.embedding import embed, last_layer
from fer_models.errors import ModelError
from fer_models.features import TwoStage
from fer_models.zoo import NETS, ModelSpec, build


@pytest.mark.parametrize("name", [*NETS, "timm:mobilenetv4_conv_small"])
def test_the_last_layer_makes_logits_of_the_features(name):
    spec = ModelSpec(name, norm="none" if name.startswith("cnn") else "gn", size=48)
    module = build(spec, 1).eval()
    x = torch.randn(3, 1, 48, 48, generator=torch.Generator().manual_seed(0))
    last = last_layer(module, spec)
    features = embed(module, last, x)
    with torch.inference_mode():
        assert torch.equal(last(features), module(x))
        if isinstance(module, TwoStage):
            assert torch.equal(features, module.features(x))
    assert not last._forward_pre_hooks


def test_the_hook_goes_when_the_net_fails():
    spec = ModelSpec("fer_nano")
    module = build(spec, 1).eval()
    last = last_layer(module, spec)
    with pytest.raises(RuntimeError):
        embed(module, last, torch.zeros(1, 2, 48, 48))
    assert not last._forward_pre_hooks


def test_a_net_that_ends_otherwise_is_refused():
    net = nn.Sequential(nn.Conv2d(1, 8, 48), nn.Flatten())
    with pytest.raises(ModelError, match="does not give its 8 logits from features"):
        last_layer(net, ModelSpec("fer_nano"))
