# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportIndexIssue=false
"""Losses of features, mixed pictures and penalties, against values worked out by hand."""

import math

import pytest
import torch
from torch import nn

from fer_models.blocks import Heads
from fer_models.embedding import last_layer
from fer_models.errors import ModelError
from fer_models.losses import soft_cross_entropy
from fer_models.mixing import mixed_losses
from fer_models.penalties import adareg, adareg_gradient
from fer_models.terms import (
    TERMS,
    AdCorre,
    Centre,
    Dacl,
    DanPartition,
    EmbeddingDiscriminator,
    RelativeUncertainty,
    WeightedCluster,
    WithTerms,
    with_terms,
)
from fer_models.zoo import ModelSpec, build

PER_PICTURE = ("centre", "weighted_cluster", "dacl", "ad_corre_embedding", "dan_partition")


def generator():
    return torch.Generator().manual_seed(0)


def made(name, **facts):
    spec = ModelSpec("dan_lite" if name == "dan_partition" else "fer_nano", classes=4, size=32, dropout=0.0)
    net = build(spec, 0)
    return WithTerms(net, last_layer(net, spec), name, **facts)


def batch(count=4):
    x = torch.randn(count, 1, 32, 32, generator=generator())
    return x, torch.rand(count, 4, generator=generator()).softmax(1)


def test_centre_is_half_the_squared_distance():
    term = Centre(2, 2, generator())
    with torch.no_grad():
        term.centres.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
    found = term.value(term.columns(torch.tensor([[4.0, 4.0]])), torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(found, torch.tensor([(9.0 + 16.0) / 2]))
    found = term.value(term.columns(torch.tensor([[4.0, 4.0]])), torch.tensor([[0.5, 0.5]]))
    torch.testing.assert_close(found, torch.tensor([(25.0 / 2 + 20.0 / 2) / 2]))


def test_weighted_cluster_divides_by_how_far_other_centres_are():
    term = WeightedCluster(2, 3, generator())
    with torch.no_grad():
        term.centres.copy_(torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]]))
    found = term.columns(torch.tensor([[1.0, 0.0]]))
    expected = [0.5 / (9 + 16 + 1), 2.0 / (9 + 25 + 1), 17 / 2 / (16 + 25 + 1)]
    torch.testing.assert_close(found, torch.tensor([expected]))


def test_dacl_weighs_dimensions():
    term = Dacl(2, 2, generator())
    with torch.no_grad():
        for p in term.parameters():
            p.zero_()
        term.wide.bias.copy_(torch.tensor([0.0, math.log(3.0)]))  # attention 1/2 and 3/4
    found = term.columns(torch.tensor([[2.0, 4.0]]))
    torch.testing.assert_close(found, torch.full((1, 2), (4 / 2 + 16 * 3 / 4) / 2))


def test_embeddings_that_are_one_another_cost_most():
    term = EmbeddingDiscriminator(4, 2, generator())
    one = torch.randn(1, 1, 32, generator=generator())
    targets = torch.tensor([[1.0, 0.0]])
    torch.testing.assert_close(term.apart(one.expand(1, 3, 32), targets), torch.tensor([2.0]))
    against = torch.cat([one, -one, one], 1)
    torch.testing.assert_close(term.apart(against, targets), torch.tensor([2 / 3]))


def test_ad_corre_wants_classes_apart():
    """Two classes, two pictures each: embeddings that are their class's cost least, those of the other class most."""
    term, targets = AdCorre(4, 2, generator()), torch.eye(2)[[0, 0, 1, 1]]
    direction = torch.randn(3, 32, generator=generator())
    good = torch.stack([direction, direction, -direction, -direction])
    bad = torch.stack([direction, -direction, -direction, direction])
    own = EmbeddingDiscriminator.apart(term, good, targets)
    torch.testing.assert_close(term.apart(good, targets) - own, torch.zeros(4), atol=1e-4, rtol=0)
    assert (term.apart(bad, targets) > term.apart(good, targets) + 0.5).all()


def test_heads_that_agree_cost_more_than_heads_that_do_not():
    module = made("dan_partition")
    x, _ = batch(2)
    columns = module(x)[:, 4:]
    heads = next(each for each in module.net.modules() if isinstance(each, Heads))
    maps = module.net.body[:-1](x)
    pooled = torch.stack([head(maps).mean((2, 3)) for head in heads.heads], 1)
    expected = torch.log(1 + 4 / (pooled.var(1).mean(1) + 1e-6))
    torch.testing.assert_close(columns[:, 0], expected)
    module.terms.forget()
    with pytest.raises(ModelError, match=r"no attention heads.*model=dan_lite"):
        net = build(ModelSpec("fer_nano", classes=4, size=32), 0)
        DanPartition(96, 4, generator()).watch(net, net.head)


def test_relative_uncertainty_by_hand():
    last = nn.Linear(2, 2, bias=False)
    term = RelativeUncertainty(2, 2, generator())
    with torch.no_grad():
        last.weight.copy_(torch.eye(2))
        term.uncertain.weight.copy_(torch.tensor([[1.0, 0.0]]))
    term.watch(last, last)
    z = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    s = torch.nn.functional.softplus(torch.tensor([2.0, 0.0])) + 1e-6
    mixed = (s[0] * z[0] + s[1] * z[1]) / s.sum()
    columns = term.columns(z)
    torch.testing.assert_close(columns, mixed.expand(2, 2))
    found = term.value(columns, torch.eye(2))
    torch.testing.assert_close(found, (-mixed.log_softmax(0).mean()).expand(2))


@pytest.mark.parametrize("name", TERMS)
def test_a_net_with_terms_answers_as_the_net_and_learns_both(name):
    module, (x, targets) = made(name), batch()
    base = build(ModelSpec("dan_lite" if name == "dan_partition" else "fer_nano", classes=4, size=32), 0)
    torch.testing.assert_close(module.eval()(x), base.eval()(x))
    module.train()
    loss = with_terms(module.terms, soft_cross_entropy, 4)
    answers = module(x)
    found = loss(answers, targets)
    assert found.shape == (4,)
    found.sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in module.terms.parameters())
    if module.terms.beside:
        plain = soft_cross_entropy(answers[:, :4], targets)
        half = with_terms(module.terms, soft_cross_entropy, 4, strength=0.5)(answers, targets)
        twice = with_terms(module.terms, soft_cross_entropy, 4, strength=1.0)(answers, targets)
        torch.testing.assert_close(2 * (half - plain), twice - plain)
    again = made(name)
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), again.parameters(), strict=True))
    assert name in PER_PICTURE or _couples(module, loss)
    assert name not in PER_PICTURE or not _couples(module, loss)


def _couples(module, loss):
    x, targets = batch()
    x.requires_grad_()
    (reached,) = torch.autograd.grad(loss(module(x), targets)[0], x)
    return bool(reached[1:].any())


@pytest.mark.parametrize("name", ["mixup", "mixaugment"])
def test_mixed_pictures_have_mixed_targets(name):
    x, targets = torch.randn(3, 1, 4, 4, generator=generator()), torch.eye(3)
    seen = []

    def net(given):
        seen.append(given)
        return given.flatten(1)[:, :3]

    torch.manual_seed(1)
    found = mixed_losses(name, net, soft_cross_entropy, x, targets)
    blended = seen[0][:3]
    share = (blended - x.roll(-1, 0))[:, 0, 0, 0] / (x - x.roll(-1, 0))[:, 0, 0, 0]
    assert ((share >= 0.5 - 1e-6) & (share <= 1 + 1e-6)).all()
    wanted = share[:, None] * targets + (1 - share[:, None]) * targets.roll(-1, 0)
    expected = soft_cross_entropy(net(blended), wanted)
    if name == "mixaugment":
        alone = soft_cross_entropy(net(x), targets)
        expected = expected + alone + alone.roll(-1, 0)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.manual_seed(1)
    assert torch.equal(mixed_losses(name, net, soft_cross_entropy, x, targets), found)


def test_adareg_by_hand_and_its_gradient():
    e = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 8.0]], dtype=torch.float64)
    apart = 5 + 8 + 5
    assert float(adareg(e, 0.5)) == pytest.approx(1 / (0.5 * apart), rel=1e-6)
    gradient = adareg_gradient(e, 0.5)
    assert float(adareg(e - 1e-3 * gradient, 0.5)) < float(adareg(e, 0.5))
    torch.autograd.gradcheck(lambda x: adareg(x, 0.5), e.requires_grad_())
