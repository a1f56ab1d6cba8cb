"""A bias for each cluster: what it is by hand, that it levels clusters, and how a net holds it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fer_models.checkpoints import load_model, save_model
from fer_models.clusters import LARGEST, Clustered, first_centres, nearest, next_centres, offsets_of
from fer_models.embedding import embed, last_layer
from fer_models.errors import ModelError
from fer_models.scope import logit_bias, restrict
from fer_models.zoo import ModelSpec, build

SPEC = ModelSpec("fer_nano", clusters=3)


def net(spec=SPEC):
    module = build(spec, 1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name in Clustered.held:
            held = getattr(module, name)
            held.copy_(torch.randn(held.shape, generator=generator))
    return module


def pictures(count=5):
    return torch.randn(count, 1, 48, 48, generator=torch.Generator().manual_seed(2))


def test_biases_by_hand():
    """Everybody: 60 and 40 labelled, 50 and 50 given. Cluster 0 is called class 0 twice as often as it should be."""
    labelled, given_ = np.array([[20.0, 20], [40, 20]]), np.array([[40.0, 0.0], [10, 50]])
    found = offsets_of(labelled, given_, drawn=0.0)
    everybody = np.log([60 / 50, 40 / 50])
    assert found[0, 0] == pytest.approx(np.log(0.5) - everybody[0])
    assert found[1] == pytest.approx(np.log([4, 0.4]) - everybody)
    assert found[0, 1] == LARGEST, "what is never given is raised, up to a limit"
    less = offsets_of(labelled, given_, drawn=1e9)
    assert np.abs(less).max() < 1e-6, "beside many pictures of everybody a cluster says nothing"


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.1, 100))
def test_clusters_that_are_alike_have_no_bias(seed, drawn):
    rng = np.random.default_rng(seed)
    size, labels, probabilities = rng.uniform(1, 50, (4, 1)), *rng.dirichlet(np.ones(3), 2)
    assert np.abs(offsets_of(size * labels, size * probabilities, drawn)).max() < 1e-9


def test_noise_that_made_counts_negative_does_no_harm():
    found = offsets_of(np.array([[-5.0, 3], [2, -1]]), np.array([[4.0, -2], [-3, 1]]))
    assert np.isfinite(found).all()
    assert offsets_of(np.zeros((2, 3)), np.zeros((2, 3))).tolist() == np.zeros((2, 3)).tolist()


def test_a_bias_levels_a_cluster_that_a_net_misjudges():
    """Two kinds of faces, equal labels; the net's logits for class 0 are 1 too high for the second kind."""
    rng = np.random.default_rng(0)
    label, kind = rng.integers(0, 2, 4000), rng.integers(0, 2, 4000)
    logits = np.stack([1.5 * (label == 0) + kind, 1.5 * (label == 1)], 1) + rng.normal(size=(4000, 2)) * 0.7

    def recalls(scores):
        right = scores.argmax(1) == label
        return np.array([[right[(kind == k) & (label == c)].mean() for c in (0, 1)] for k in (0, 1)])

    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    shown = kind == np.arange(2)[:, None]
    found = offsets_of(shown @ np.eye(2)[label].astype(float), shown @ p)
    before, after = recalls(logits), recalls(logits + found[kind])
    assert np.abs(before[0] - before[1]).max() > 0.15
    assert np.abs(after[0] - after[1]).max() < 0.5 * np.abs(before[0] - before[1]).max()


def test_centres_begin_around_the_mean_and_move_to_the_means():
    mean = np.array([1.0, 2, 3])
    centres = first_centres(mean, 0.5, 4, seed=1)
    assert np.linalg.norm(centres - mean, axis=1) == pytest.approx(0.5)
    moved = next_centres(centres, np.array([2.0, 0, 4, -3]), np.arange(12.0).reshape(4, 3))
    assert moved[0].tolist() == [0, 0.5, 1]
    assert moved[2].tolist() == [1.5, 1.75, 2]
    assert np.array_equal(moved[[1, 3]], centres[[1, 3]])


def test_the_nearest_centre_is_found():
    z, centres = torch.tensor([[0.0, 0], [3, 0], [0, 9]]), torch.tensor([[1.0, 0], [4, 0], [0, 5]])
    assert nearest(z, centres).tolist() == [0, 1, 2]


def test_evaluation_adds_the_bias_of_the_nearest_cluster_and_training_none():
    module, plain = net().eval(), build(ModelSpec("fer_nano"), 1).eval()
    x = pictures()
    z = embed(plain, last_layer(plain, SPEC), x)
    with torch.inference_mode():
        expected = plain(x) + module.offsets[nearest(z, module.centres)]
        assert torch.equal(module(x), expected)
        module.train().net.eval()  # without dropout
        assert torch.equal(module(x), plain(x))


def test_training_moves_neither_centres_nor_biases():
    module = restrict(net(), SPEC, "all")
    assert {n for n, p in module.named_parameters() if not p.requires_grad} == set(Clustered.held)
    module(pictures()).sum().backward()
    assert module.offsets.grad is None
    head = restrict(net(), SPEC, "head")
    assert [n for n, p in head.named_parameters() if p.requires_grad] == ["net.head.weight", "net.head.bias"]
    assert logit_bias(module, SPEC) == "net.head.bias"
    assert last_layer(module, SPEC) is module.net.head


def test_a_saved_model_holds_them(tmp_path):
    module = net().eval()
    save_model(tmp_path, module, SPEC, labels=[f"c{i}" for i in range(8)], facts={"data": "none"})
    found, spec, _ = load_model(tmp_path)
    assert spec == SPEC
    with torch.inference_mode():
        assert torch.equal(found(pictures()), module(pictures()))


def test_a_specification_without_clusters_is_what_it_was():
    assert "clusters" not in ModelSpec("fer_nano").to_dict()
    assert ModelSpec.from_dict(ModelSpec("fer_nano").to_dict()) == ModelSpec("fer_nano")
    assert ModelSpec.from_dict(SPEC.to_dict()) == SPEC
    for bad in (1, -1, 1000):
        with pytest.raises(ModelError, match="clusters"):
            ModelSpec("fer_nano", clusters=bad)
