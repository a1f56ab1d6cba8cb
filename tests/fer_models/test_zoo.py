# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false
# pyright: reportIndexIssue=false, reportOptionalMemberAccess=false, reportPrivateImportUsage=false

import os

import pytest
import torch
from safetensors.torch import save_file

from fer_models.backbones import NORMS
from fer_models.errors import ModelError
from fer_models.norms import find_batch_coupled
from fer_models.zoo import NETS, ModelSpec, build, listing, parameter_count

TIMM = (
    "lcnet_050",
    "mobilenetv3_small_050",
    "mobilenetv4_conv_small_035",
    "starnet_s050",
    "edgenext_xx_small",
    "mobilevit_xxs",
    "resnet10t",
    "repvgg_a0",
    "mobilenetv1_100",
    "convnext_atto",
    "vit_tiny_patch16_224",
)


@pytest.mark.parametrize("name", NETS)
def test_listed_parameters_are_the_real_ones(name):
    module = build(ModelSpec(name), 0)
    assert parameter_count(module) == NETS[name].parameters
    assert module(torch.zeros(2, 1, 48, 48)).shape == (2, 8)
    assert (name, NETS[name].parameters) in {row[:2] for row in listing()}


def test_agreed_sizes():
    counts = {name: parameter_count(build(ModelSpec(name, classes=7), 0)) for name in NETS}
    assert counts == {
        "hog_linear": 12_355,
        "fer_tiny": 76_839,
        "fer_edge": 206_247,
        "fer_nano": 79_575,
        "fer_small": 421_055,
        "fer_base": 832_679,
        "microexpnet": 27_879,
        "mini_xception": 49_783,
        "vgg48": 1_174_439,
        "efficientface": 209_282,
        "a_mobilenet": 411_773,
        "ddamfn_lite": 437_343,
        "dan_lite": 299_531,
        "patt_lite": 284_935,
        "cnn_pool": 173_063,
        "cnn_tiny": 10_727,
    }


@pytest.mark.parametrize("norm", NORMS)
def test_every_norm_takes_colour_and_other_sizes(norm):
    module = build(ModelSpec("fer_nano", norm=norm, classes=3, channels=3, size=64), 0)
    assert module(torch.randn(2, 3, 64, 64)).shape == (2, 3)
    assert bool(find_batch_coupled(module)) == (norm == "bn")


@pytest.mark.parametrize("name", ["fer_nano", "cnn_tiny", "timm:lcnet_050"])
def test_weights_follow_the_seed_and_leave_torch_alone(name):
    spec = ModelSpec(name, size=48)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, two, other = (build(spec, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    again = build(spec, 1).state_dict()
    assert all(torch.equal(one[key], two[key]) and torch.equal(one[key], again[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", TIMM)
def test_timm_nets_are_converted_and_run(name):
    module = build(ModelSpec(f"timm:{name}", classes=7, size=64), 0)
    assert module.training and find_batch_coupled(module) == []
    assert not any(getattr(layer, "inplace", False) for layer in module.modules())
    logits = module(torch.randn(2, 1, 64, 64))
    assert logits.shape == (2, 7) and torch.isfinite(logits).all()
    logits.sum().backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in module.parameters())


def test_timm_takes_dropout():
    module = build(ModelSpec("timm:lcnet_050", dropout=0.9, size=64), 0)
    x = torch.randn(1, 1, 64, 64)
    assert not torch.equal(module(x), module(x))


def test_timm_keeps_batch_norm_when_asked():
    module = build(ModelSpec("timm:lcnet_050", norm="bn", size=64), 0)
    assert len(find_batch_coupled(module)) == 27


def test_the_hub_is_off():
    build(ModelSpec("timm:lcnet_050"), 0)
    assert os.environ["HF_HUB_OFFLINE"] == "1"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("fer_smal", "fer_small"),
        ("lcnet_050", "timm:lcnet_050"),
        ("timm:lcnet_05", "timm:lcnet_050"),
        ("zzzzzz", "fer_nano"),
        ("timm:hf-hub:timm/lcnet_050.ra2_in1k", "Use one of|Did you mean"),
    ],
)
def test_unknown_names_get_the_close_ones(name, meant):
    with pytest.raises(ModelError, match=meant):
        build(ModelSpec(name), 0)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (ModelSpec("cnn_pool", norm="bn"), "no normalisation layer"),
        (ModelSpec("cnn_tiny", size=64), "takes 48 pixels"),
        (ModelSpec("timm:lcnet_050", norm="ws"), "cannot be built with norm"),
        (ModelSpec("timm:resnetv2_50x1_bit", norm="none"), "cannot be built with norm"),
        (ModelSpec("timm:xcit_nano_12_p16_224", size=20), "larger pictures"),
        (ModelSpec("timm:edgenext_xx_small", size=16), "larger pictures"),  # fails only when used
    ],
)
def test_what_a_net_cannot_do_is_refused(spec, message):
    with pytest.raises(ModelError, match=message):
        build(spec, 0)


@pytest.mark.parametrize(
    "values",
    [
        {"norm": "batch"},
        {"classes": 1},
        {"classes": 8.0},
        {"classes": True},
        {"channels": 2},
        {"size": 8},
        {"size": 4096},
        {"dropout": 1.0},
        {"dropout": "0.2"},
        {"dropout": float("nan")},
    ],
)
def test_specifications_are_checked(values):
    with pytest.raises(ModelError):
        ModelSpec("fer_nano", **values)


def test_specification_survives_plain_values():
    spec = ModelSpec("timm:lcnet_050", norm="bn", classes=7, channels=3, size=112, dropout=0)
    assert ModelSpec.from_dict(spec.to_dict()) == spec
    for broken in ({}, {**spec.to_dict(), "width": 3}, {**spec.to_dict(), "name": 7}):
        with pytest.raises(ModelError):
            ModelSpec.from_dict(broken, where="config.json")


def test_local_weights_are_the_start(tmp_path):
    trained = build(ModelSpec("fer_nano", classes=7), 3)
    save_file(trained.state_dict(), tmp_path / "start.safetensors")
    module = build(ModelSpec("fer_nano", classes=8), 4, weights=tmp_path / "start.safetensors")
    assert torch.equal(module.body[0][0].weight, trained.body[0][0].weight)
    assert module.head.weight.shape == (8, 96)
