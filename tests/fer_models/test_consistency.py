import numpy as np
import pytest
import torch
from torch import nn

from fer_models.backbones import FerNet
from fer_models.consistency import require_sample_independence
from fer_models.errors import EvaluationError
from fer_models.zoo import NETS, ModelSpec, build

LABEL = np.random.default_rng(0).integers(0, 7, 80)


def faces(size=48, count=80):
    generator = torch.Generator().manual_seed(0)
    shift = torch.from_numpy(LABEL[:count]).view(-1, 1, 1, 1) / 4
    return torch.randn(count, 1, size, size, generator=generator) + shift


class BatchAttention(nn.Module):
    """A classifier whose samples attend to each other, the flaw of PAtt-Lite's released code."""

    def __init__(self, across: int):
        super().__init__()
        self.features = FerNet((16,), (1,), classes=16, channels=1, norm="gn", dropout=0.0)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.head = nn.Linear(16, 7)
        self.across = across

    def forward(self, x):
        tokens = self.features(x).unsqueeze(
            self.across
        )  # 0: the batch is the sequence, 1: one token a sample
        return self.head(tokens + self.attention(tokens, tokens, tokens)[0]).squeeze(self.across)


@pytest.mark.parametrize("name", [*NETS, "timm:lcnet_050"])
def test_nets_of_the_zoo_are_accepted(name):
    module = build(ModelSpec(name), 0).eval()
    require_sample_independence(module, faces(count=24), LABEL[:24], seed=1)


@pytest.mark.parametrize("norm", ["bn", "ws", "none"])
def test_every_norm_is_accepted_in_evaluation_mode(norm):
    module = build(ModelSpec("fer_nano", norm=norm), 0).eval()
    require_sample_independence(module, faces(), torch.from_numpy(LABEL), seed=1)


def test_batch_norm_in_training_mode_is_refused():
    module = build(ModelSpec("fer_nano", norm="bn", dropout=0.0), 0)
    with pytest.raises(EvaluationError, match=r"logits .* differ .* model\.eval\(\)"):
        require_sample_independence(module, faces(), LABEL, seed=1)


def test_batch_norm_that_cannot_take_one_picture_is_refused():
    module = nn.Sequential(nn.Flatten(), nn.Linear(48 * 48, 8), nn.BatchNorm1d(8))
    with pytest.raises(EvaluationError, match="fails at batch size 1"):
        require_sample_independence(module, faces(), LABEL, seed=1)


def test_attention_across_the_batch_is_refused_and_across_tokens_accepted():
    torch.manual_seed(0)
    flawed, sound = BatchAttention(0).eval(), BatchAttention(1).eval()
    require_sample_independence(sound, faces(), LABEL, seed=1)
    with pytest.raises(EvaluationError, match="differ"):
        require_sample_independence(flawed, faces(), LABEL, seed=1)


def test_dropout_left_on_is_refused():
    module = build(ModelSpec("fer_nano", dropout=0.5), 0)
    with pytest.raises(EvaluationError, match="differ"):
        require_sample_independence(module, faces(), LABEL, seed=1)


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_the_deviation_is_relative_to_the_logits(size):
    weights = torch.randn(48 * 48, 7, generator=torch.Generator().manual_seed(0))

    def predict(x, leak=0.0):
        return size * (x.flatten(1) @ weights + leak * x.mean())

    require_sample_independence(predict, faces(), LABEL, seed=1)
    with pytest.raises(EvaluationError):
        require_sample_independence(lambda x: predict(x, 30.0), faces(), LABEL, seed=1)


def test_what_only_a_large_batch_does_is_refused():
    def predict(x):
        return x.flatten(1)[:, :7] + float(len(x) > 8)

    with pytest.raises(EvaluationError, match="in one batch"):
        require_sample_independence(predict, faces(), LABEL, seed=1)


def test_constant_logits_are_accepted():
    require_sample_independence(lambda x: torch.full((len(x), 7), 0.3), faces(), LABEL, seed=1)
    require_sample_independence(lambda x: torch.zeros(len(x), 7), faces(), LABEL, seed=1)


def test_logits_that_are_not_finite_are_refused():
    with pytest.raises(EvaluationError, match="not finite"):
        require_sample_independence(lambda x: torch.full((len(x), 7), torch.nan), faces(), LABEL, seed=1)


def test_only_some_pictures_are_drawn_by_the_seed():
    sizes, seen = [], {}

    def predict(x):
        sizes.append(len(x))
        return x.flatten(1)[:, :7]

    for seed in (1, 1, 2):
        sizes.clear()
        require_sample_independence(predict, faces(), LABEL, seed=seed, most=20)
        assert sorted(sizes) == sorted([8, 8, 4] * 2 + [20] + [1] * 20)
        seen[seed] = True
    require_sample_independence(predict, faces(count=1), LABEL[:1], seed=1)
