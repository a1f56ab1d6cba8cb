"""The critic: what it answers, whom its losses teach, and that no picture reaches another."""

import math

import pytest
import torch
from torch import nn

from fer_models.critic import FairLoss, WithCritic, answer, confusion, critic_losses, last_layer
from fer_models.errors import ModelError
from fer_models.losses import soft_cross_entropy
from fer_models.zoo import ModelSpec, build

SPEC = ModelSpec("cnn_tiny", norm="gn", classes=3, dropout=0.0)


def made(groups=2, **given):
    net = build(SPEC, 0)
    return WithCritic(net, last_layer(net, SPEC), groups, **given)


def given_of(targets, groups, own=1.0, critics=1.0):
    weights = torch.tensor([[own, critics]]).expand(len(targets), 2)
    return torch.cat([targets, groups, weights], 1)


PICTURES = torch.randn(4, 1, 48, 48, generator=torch.Generator().manual_seed(1))
TARGETS = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0.5, 0.5, 0], [0, 0, 1]])
GROUPS = torch.tensor([[1.0, 0], [0, 1], [0, 0], [1, 0]])


def test_it_answers_as_the_net_when_evaluated_and_adds_two_answers_in_training():
    both = made(hidden=5)
    alone = build(SPEC, 0)
    assert torch.equal(both.eval()(PICTURES), alone.eval()(PICTURES))
    assert both.train()(PICTURES).shape == (4, 3 + 2 + 2)
    assert torch.equal(both(PICTURES)[:, :3], alone.train()(PICTURES))
    assert made(reversed=True).train()(PICTURES).shape == (4, 3 + 2)
    assert made(classes=3).train()(PICTURES).shape == (4, 3 + 6 + 6)
    assert both._caught == [], "nothing of a batch stays behind"


def test_the_frozen_copy_stays_until_it_is_renewed():
    both = made().train()
    first = both(PICTURES)
    assert torch.allclose(first[:, 3:5], first[:, 5:]), "a copy at first"
    with torch.no_grad():
        for parameter in both.critic.parameters():
            parameter.add_(1.0)
    later = both(PICTURES)
    assert torch.equal(later[:, 5:], first[:, 5:])
    assert not torch.allclose(later[:, 3:5], first[:, 3:5])
    both.freeze()
    assert torch.equal(both(PICTURES)[:, 5:], both(PICTURES)[:, 3:5])


def test_losses_by_hand():
    answers = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]])
    groups = torch.tensor([[1.0, 0], [0, 0]])
    some = torch.ones(2, 1)
    assert critic_losses(answers, groups, some).tolist() == pytest.approx([math.log(4), 0.0])
    assert critic_losses(answers, groups, some, square=True).tolist() == pytest.approx(
        [math.log(4) ** 2 / 2, 0]
    )
    expected = -(math.log(0.25) + math.log(0.75)) / 2 - math.log(2)  # KL(uniform || (1/4, 3/4))
    assert confusion(answers, 2, some).tolist() == pytest.approx([expected, 0.0], abs=1e-6)


def test_given_the_class_only_the_answer_for_it_counts():
    answers = torch.tensor([[0.0, math.log(3), 5.0, -5.0]])  # class 0: (1/4, 3/4); class 1: sure of the first
    group = torch.tensor([[0.0, 1.0]])
    of_class = [critic_losses(answers, group, torch.eye(2)[[c]]).item() for c in (0, 1)]
    assert of_class == pytest.approx([-math.log(0.75), math.log(1 + math.exp(10))], rel=1e-4)
    shared = critic_losses(answers, group, torch.tensor([[0.5, 0.5]])).item()
    assert shared == pytest.approx(sum(of_class) / 2)
    assert confusion(answers, 2, torch.eye(2)[[0]]).item() == pytest.approx(0.1438, abs=1e-4)


def gradients(both, loss, given):
    both.zero_grad()
    loss(both(PICTURES), given).sum().backward()
    own = {name: p.grad.clone() for name, p in both.named_parameters() if p.grad is not None}
    return (
        {n: g for n, g in own.items() if n.startswith("net.")},
        {n: g for n, g in own.items() if n.startswith("critic.")},
    )


def test_frozen_the_critic_learns_from_disclosed_groups_and_the_net_from_everybody():
    both, loss = made().train(), FairLoss(soft_cross_entropy, 3, 2, "critic")
    loss.strength = 0.7
    net, critic = gradients(both, loss, given_of(TARGETS, GROUPS))
    assert all(bool(g.abs().sum() > 0) for g in critic.values())

    nobody, silent = gradients(both, loss, given_of(TARGETS, torch.zeros(4, 2)))
    assert all(bool((g == 0).all()) for g in silent.values()), "no group, nothing to learn from"
    for name, gradient in net.items():
        assert torch.allclose(gradient, nobody[name]), (
            "what reaches the net does not depend on anybody's group"
        )

    plain = build(SPEC, 0).train()
    z = []
    last_layer(plain, SPEC).register_forward_pre_hook(lambda _, inputs: z.append(inputs[0]))
    logits = plain(PICTURES)
    scaled = z[0] * (z[0].square().mean(1, keepdim=True) + 1e-6).rsqrt()
    other = answer(scaled, both._frozen)
    (soft_cross_entropy(logits, TARGETS) + 0.7 * confusion(other, 2, TARGETS)).sum().backward()
    for name, parameter in plain.named_parameters():
        assert torch.allclose(parameter.grad, net[f"net.{name}"], atol=1e-5), name


def test_reversed_the_net_climbs_where_the_critic_descends():
    both, loss = made(reversed=True).train(), FairLoss(soft_cross_entropy, 3, 2, "gradient_reversal")
    given = given_of(torch.zeros(4, 3), GROUPS)  # the critic's loss alone
    both.reversal = 0.0
    still, own = gradients(both, loss, given)
    assert all(bool((g == 0).all()) for g in still.values())
    both.reversal = -1.0
    down, _ = gradients(both, loss, given)
    both.reversal = 2.0
    up, same = gradients(both, loss, given)
    for name in down:
        assert torch.allclose(up[name], -2 * down[name], atol=1e-5), name
    for name in own:
        assert torch.allclose(own[name], same[name]), "the critic itself learns alike"


@pytest.mark.parametrize("adversary", ["critic", "gradient_reversal"])
def test_weights_multiply_each_loss_by_itself(adversary):
    both = made(reversed=adversary == "gradient_reversal").train()
    loss = FairLoss(soft_cross_entropy, 3, 2, adversary)
    answers = both(PICTURES)
    main = loss(answers, given_of(TARGETS, GROUPS, 1.0, 0.0))
    critics = loss(answers, given_of(TARGETS, GROUPS, 0.0, 1.0))
    both_of_them = loss(answers, given_of(TARGETS, GROUPS, 0.5, 0.25))
    assert torch.allclose(both_of_them, 0.5 * main + 0.25 * critics)
    assert (critics[2] == 0) == (GROUPS[2].sum() == 0)


def test_without_a_critic_the_loss_is_weighted_alone():
    loss = FairLoss(soft_cross_entropy, 3, 2, "none")
    logits = torch.randn(4, 3)
    found = loss(logits, given_of(TARGETS, GROUPS, 0.5, 1.0))
    assert torch.allclose(found, 0.5 * soft_cross_entropy(logits, TARGETS))


@pytest.mark.parametrize("reversed", [False, True])
def test_no_picture_reaches_another(reversed):
    both = made(reversed=reversed).train()
    loss = FairLoss(soft_cross_entropy, 3, 2, "gradient_reversal" if reversed else "critic")
    both.reversal = loss.strength = 1.0
    whole = loss(both(PICTURES), given_of(TARGETS, GROUPS))
    for i in range(4):
        alone = loss(both(PICTURES[i : i + 1]), given_of(TARGETS, GROUPS)[i : i + 1])
        assert torch.allclose(alone, whole[i : i + 1], atol=1e-5)


def test_first_weights_follow_from_the_seed():
    one, two, other = (list(made(hidden=4, seed=s).critic.parameters()) for s in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not torch.equal(one[0], other[0])


def test_a_net_that_no_critic_can_change_is_refused():
    net = build(SPEC, 0)
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name.startswith("head"))
    head = last_layer(net, SPEC)
    for parameter in net.parameters():
        parameter.requires_grad_(any(parameter is own for own in head.parameters()))
    with pytest.raises(ModelError, match="nothing before the last layer learns"):
        WithCritic(net, head, 2)


def test_a_net_without_a_linear_last_layer_is_refused():
    class Convolving(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(1, 3, 48)

        def forward(self, x):
            return self.layer(x).flatten(1)

    with pytest.raises(ModelError, match="no linear one"):
        last_layer(Convolving(), SPEC)
