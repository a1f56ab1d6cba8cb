# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false
# pyright: reportIndexIssue=false, reportOptionalMemberAccess=false, reportPrivateImportUsage=false

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fer_models.checkpoints import CARD, CONFIG, WEIGHTS, load_model, load_weights, save_model
from fer_models.errors import ModelError, RunFolderError
from fer_models.flat import FlatModel
from fer_models.zoo import ModelSpec, build

LABELS = ("neutral", "happiness", "surprise")
SPEC = ModelSpec("fer_nano", classes=3)
FACTS = {
    "name": "drawn faces, 8 sites",
    "data": "5,000 drawn faces of 900 people who do not exist.",
    "figures": {"accuracy": 0.81234, "accuracy_interval": [0.79, 0.83], "recall": {"happiness": 0.9}},
    "privacy": {"epsilon": 8.0, "unit": "record"},
}


def saved(folder, spec=SPEC, seed=1, facts=FACTS):
    module = build(spec, seed)
    save_model(folder, module, spec, labels=LABELS, facts=facts)
    return module


def edit(folder, change):
    config = json.loads((folder / CONFIG).read_text())
    change(config)
    (folder / CONFIG).write_text(json.dumps(config))


@pytest.mark.parametrize(
    "spec", [SPEC, ModelSpec("fer_nano", norm="bn", classes=3), ModelSpec("timm:lcnet_050", classes=3)]
)
def test_a_model_comes_back_to_the_bit(tmp_path, spec):
    module = saved(tmp_path / "run" / "model", spec)
    loaded, found, labels = load_model(tmp_path / "run" / "model")
    assert (found, labels, loaded.training) == (spec, LABELS, False)
    assert all(torch.equal(loaded.state_dict()[k], v) for k, v in module.state_dict().items())
    assert sorted(p.name for p in (tmp_path / "run" / "model").iterdir()) == sorted([WEIGHTS, CONFIG, CARD])


def test_a_flat_model_is_saved_in_the_usual_order(tmp_path):
    plain = build(SPEC, 1)
    flat = FlatModel(build(SPEC, 1))
    save_model(tmp_path, flat.module, SPEC, labels=LABELS, facts={})
    assert torch.equal(load_file(tmp_path / WEIGHTS)["body.1.0.weight"], plain.body[1][0].weight)


def test_the_configuration_says_what_a_user_needs(tmp_path):
    saved(tmp_path)
    config = json.loads((tmp_path / CONFIG).read_text())
    assert config["labels"] == list(LABELS) and config["size"] == 48 and config["parameters"] == 79_187
    assert config["spec"]["name"] == "fer_nano" and "mean" in config["normalisation"]


def test_the_card_tells_data_figures_limits_and_privacy(tmp_path):
    saved(tmp_path)
    card = (tmp_path / CARD).read_text()
    assert "---\n\n# drawn faces, 8 sites\n" in card
    for row in (
        "| accuracy | 0.8123 |",
        "| accuracy_interval | 0.79 to 0.83 |",
        "| recall, happiness | 0.9 |",
    ):
        assert row in card
    assert "| epsilon | 8 |" in card and "not an emotion" in card and "2024/1689" in card
    saved(tmp_path, facts={"data": "x", "group_figures": "see report"})
    card = (tmp_path / CARD).read_text()
    assert "without differential privacy" in card and "## Group figures\n\nsee report" in card


def test_a_later_model_replaces_the_earlier(tmp_path):
    saved(tmp_path, seed=1)
    later = saved(tmp_path, seed=2)
    assert torch.equal(load_model(tmp_path)[0].head.weight, later.head.weight)


def test_a_failed_write_leaves_the_earlier_model(tmp_path, monkeypatch):
    earlier = saved(tmp_path)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunFolderError, match=r"No space left on device.*Free disk space"):
        saved(tmp_path, seed=2)
    assert torch.equal(load_model(tmp_path)[0].head.weight, earlier.head.weight)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "model").write_text("")
    with pytest.raises(RunFolderError):
        saved(tmp_path / "model")


def test_half_written_and_mixed_folders_are_refused(tmp_path):
    saved(tmp_path / "one", seed=1)
    saved(tmp_path / "two", seed=2)
    (tmp_path / "one" / WEIGHTS).write_bytes((tmp_path / "two" / WEIGHTS).read_bytes())
    with pytest.raises(ModelError, match="not those"):
        load_model(tmp_path / "one")
    (tmp_path / "two" / CONFIG).unlink()
    with pytest.raises(ModelError, match="no complete model"):
        load_model(tmp_path / "two")


def damaged(content: bytes) -> bytes:
    return content[: len(content) // 2]


@pytest.mark.parametrize(
    "harm",
    [
        lambda f: (f / WEIGHTS).unlink(),
        lambda f: (f / WEIGHTS).write_bytes(damaged((f / WEIGHTS).read_bytes())),
        lambda f: (f / WEIGHTS).write_bytes(b"\x80\x04\x95pickle"),
        lambda f: (f / WEIGHTS).write_bytes(bytes(4 << 20)),
        lambda f: (f / CONFIG).write_text("{"),
        lambda f: (f / CONFIG).write_bytes(b"\xff\xfe"),
        lambda f: (f / CONFIG).write_text("[]"),
        lambda f: (f / CONFIG).write_text(" " * (2 << 20)),
        lambda f: edit(f, lambda c: c.update(format="other")),
        lambda f: edit(f, lambda c: c.update(extra=1)),
        lambda f: edit(f, lambda c: c.update(normalisation="x / 255")),
        lambda f: edit(f, lambda c: c.update(labels=["a", "b"])),
        lambda f: edit(f, lambda c: c.update(labels=["a", "a", "b"])),
        lambda f: edit(f, lambda c: c.update(labels="abc")),
        lambda f: edit(f, lambda c: c.update(spec=[])),
        lambda f: edit(f, lambda c: c["spec"].update(name="fer_smal")),
        lambda f: edit(f, lambda c: c["spec"].update(norm="bn")),
        lambda f: edit(f, lambda c: c["spec"].update(channels=3)),
        lambda f: edit(f, lambda c: c["spec"].update(classes="3")),
    ],
)
def test_damage_is_one_typed_error_with_the_cure(tmp_path, harm):
    saved(tmp_path)
    harm(tmp_path)
    with pytest.raises(ModelError) as caught:
        load_model(tmp_path)
    assert caught.value.cure and "\n" not in str(caught.value)


def test_a_file_larger_than_the_model_is_not_read(tmp_path):
    saved(tmp_path)
    save_file({"much": torch.zeros(1 << 20)}, tmp_path / WEIGHTS)
    with pytest.raises(ModelError, match="where at most"):
        load_model(tmp_path)


def test_labels_must_name_the_classes(tmp_path):
    with pytest.raises(ModelError, match="3 classes"):
        save_model(tmp_path, build(SPEC, 0), SPEC, labels=("a", "b"), facts={})


def weights_of(module, path: Path, **changes):
    state = {**{k: v.clone() for k, v in module.state_dict().items()}, **changes}
    save_file({k: v for k, v in state.items() if v is not None}, path)
    return path


def test_pretrained_head_is_left_and_colour_is_summed(tmp_path):
    colour = build(ModelSpec("fer_nano", classes=7, channels=3), 1)
    path = weights_of(colour, tmp_path / "w.safetensors")
    gray = build(SPEC, 2)
    head = gray.head.weight.clone()
    assert load_weights(gray, path) == ("head.weight", "head.bias")
    assert torch.equal(gray.head.weight, head)
    torch.testing.assert_close(gray.body[0][0].weight, colour.body[0][0].weight.sum(1, keepdim=True))
    x = torch.randn(2, 1, 48, 48)
    torch.testing.assert_close(
        gray.features(x), colour.features(x.expand(2, 3, 48, 48)), rtol=1e-4, atol=1e-4
    )
    back = build(ModelSpec("fer_nano", classes=3, channels=3), 3)
    load_weights(back, weights_of(gray, tmp_path / "g.safetensors"))
    assert torch.equal(back.body[0][0].weight[:, 1:2], gray.body[0][0].weight / 3)
    torch.testing.assert_close(back.features(x.expand(2, 3, 48, 48)), gray.features(x), rtol=1e-4, atol=1e-4)


def test_weights_with_batch_norm_fit_a_converted_net(tmp_path):
    original = build(ModelSpec("timm:lcnet_050", norm="bn", classes=10, channels=3), 1)
    for layer in original.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(layer.weight)
    path = weights_of(original, tmp_path / "w.safetensors")
    module = build(ModelSpec("timm:lcnet_050", classes=3), 2)
    assert set(load_weights(module, path)) == {"classifier.weight", "classifier.bias"}
    assert torch.equal(module.bn1.norm.weight, original.bn1.weight)


def test_half_precision_weights_are_widened(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file({k: v.half() for k, v in build(SPEC, 1).state_dict().items()}, path)
    module = build(SPEC, 2)
    load_weights(module, path)
    assert module.head.weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"body.1.0.weight": None}, "is missing"),
        ({"body.1.0.weight": torch.zeros(5, 16, 3, 3)}, "float32"),
        ({"body.1.0.weight": torch.zeros(32, 16, 3, 3, dtype=torch.int32)}, "int32"),
        ({"tail.weight": torch.zeros(2)}, "tail.weight"),
        ({"body.1.0.weight": torch.full((32, 16, 3, 3), torch.inf)}, "not finite"),
    ],
)
def test_weights_of_another_net_are_refused_and_change_nothing(tmp_path, changes, message):
    path = weights_of(build(SPEC, 1), tmp_path / "w.safetensors", **changes)
    module = build(SPEC, 2)
    with pytest.raises(ModelError, match=message):
        load_weights(module, path)
    assert all(torch.equal(v, build(SPEC, 2).state_dict()[k]) for k, v in module.state_dict().items())


def test_missing_weights_name_the_file(tmp_path):
    with pytest.raises(ModelError, match=r"none\.safetensors"):
        load_weights(build(SPEC, 0), tmp_path / "none.safetensors")
