"""A critic beside a net: it learns to tell groups from the net's features, and the net learns to leave it nothing.

:class:`WithCritic` holds both, so that one forward and one backward serve them and one vector holds their numbers. The
features z are what the net's last layer is given, scaled to a mean square of 1, picture by picture; no step joins the
pictures of a batch. The critic learns from z without a gradient to the net. What reaches the net is either

*frozen* : the answer of a copy of the critic that stays as it was when :meth:`WithCritic.freeze` was called, or
*reversed* : the critic's own answer with its gradient turned round (Ganin and Lempitsky 2015; Hong et al. 2021).
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fer_models import embedding
from fer_models.errors import ModelError
from fer_models.losses import Loss
from fer_models.zoo import ModelSpec

TINY = 1e-6
"""Added to the mean square of features, so that features of 0 stay finite."""


def last_layer(module: nn.Module, spec: ModelSpec) -> nn.Linear:
    """Return the layer whose input a critic looks at, see :func:`fer_models.embedding.last_layer`.

    Raises
    ------
    ModelError : it is no linear one.
    """
    try:
        return embedding.last_layer(module, spec)
    except ModelError as error:
        raise ModelError(
            f"the last layer of {spec.name} is no linear one, so it has no features for a critic",
            where="fairness.adversary",
            cure="Use fairness.adversary=none, or another net.",
        ) from error


class WithCritic(nn.Module):
    """A net and its critic.

    In evaluation mode it answers as the net does, with logits (B, C). In training mode it answers (B, C + K) or,
    frozen, (B, C + 2 K): logits, then the critic's answers, then those of the frozen copy, K = G or with ``classes``
    above 1 that many times G, one answer a class.

    Parameters
    ----------
    net : gives logits; something before its last layer has to learn.
    head : its last layer.
    groups : G.
    classes : how many classes the critic has an answer for each, 1 for one answer whatever the class.
    hidden : units of its hidden layer, 0 for none.
    reversed : let the critic's own answer reach the net, in place of a frozen copy's.
    seed : of the critic's first weights.
    """

    def __init__(
        self,
        net: nn.Module,
        head: nn.Linear,
        groups: int,
        *,
        classes: int = 1,
        hidden: int = 0,
        reversed: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.net = net
        own = {id(parameter) for parameter in head.parameters()}
        if not any(p.requires_grad for p in net.parameters() if id(p) not in own):
            raise ModelError(
                "nothing before the last layer learns, so no critic can change the features",
                where="fairness.adversary",
                cure="Use fairness.adversary=none, local.scope=all, or a net with layers that learn.",
            )
        self.critic = critic_of(head.in_features, groups * classes, hidden, seed)
        self.reversal = 0.0
        self._reversed = reversed
        self._caught: list[Tensor] = []
        self._frozen: list[Tensor] = []
        head.register_forward_pre_hook(lambda _, inputs: self._caught.append(inputs[0]))
        self.freeze()

    @torch.no_grad()
    def freeze(self) -> None:
        """Let the frozen copy be the critic as it is now."""
        self._frozen = [parameter.detach().clone() for parameter in self.critic.parameters()]

    def forward(self, x: Tensor) -> Tensor:
        """Return the answers to pictures (B, channels, H, W)."""
        self._caught.clear()
        logits = self.net(x)
        z = self._caught.pop().flatten(1)
        if not self.training:
            return logits
        z = z * (z.square().mean(1, keepdim=True) + TINY).rsqrt()
        if self._reversed:
            # z itself, with the gradient of -reversal z.
            turned = (1 + self.reversal) * z.detach() - self.reversal * z
            return torch.cat([logits, answer(turned, list(self.critic.parameters()))], 1)
        own = answer(z.detach(), list(self.critic.parameters()))
        return torch.cat([logits, own, answer(z, self._frozen)], 1)


def critic_of(features: int, answers: int, hidden: int, seed: int) -> nn.Sequential:
    """Return a critic: one linear layer, or two with ReLU between them; its first weights follow from the seed."""
    generator = torch.Generator().manual_seed(seed)
    widths = [features, *([hidden] if hidden else []), answers]
    made: list[nn.Linear] = []
    for fan_in, fan_out in itertools.pairwise(widths):
        layer = nn.Linear(fan_in, fan_out)
        with torch.no_grad():
            layer.weight.copy_(torch.randn(fan_out, fan_in, generator=generator) / math.sqrt(fan_in))
            layer.bias.zero_()
        made.append(layer)
    return nn.Sequential(*made)


def answer(z: Tensor, weights: list[Tensor]) -> Tensor:
    """Return what a critic with these weights and biases says of features (B, F): logits (B, K)."""
    for place in range(0, len(weights), 2):
        z = F.linear(z if place == 0 else z.relu(), weights[place], weights[place + 1])
    return z


def critic_losses(answers: Tensor, groups: Tensor, targets: Tensor, *, square: bool = False) -> Tensor:
    """Return the critic's loss for every picture, (B,): cross-entropy l, or l^2 / 2; 0 where no group is disclosed.

    Parameters
    ----------
    answers : (B, K), logits; of K = C G those of class c are weighted by the target's share of c.
    groups : (B, G), one-hot, or zeros where the group is undisclosed.
    targets : (B, C), distributions over the classes.
    """
    log_p = _by_class(answers, groups.shape[1]).log_softmax(2)  # (B, 1 or C, G)
    found = -(log_p * groups[:, None]).sum(2)
    each = (found * _shares(targets, log_p.shape[1])).sum(1)
    return each.square() / 2 if square else each


def confusion(answers: Tensor, groups: int, targets: Tensor) -> Tensor:
    """Return how far a critic's answer is from knowing nothing, (B,): KL(uniform || answer), for every picture."""
    log_p = _by_class(answers, groups).log_softmax(2)
    each = -log_p.mean(2) - math.log(groups)
    return (each * _shares(targets, log_p.shape[1])).sum(1)


def _by_class(answers: Tensor, groups: int) -> Tensor:
    return answers.unflatten(1, (-1, groups))


def _shares(targets: Tensor, answers: int) -> Tensor:
    return targets if answers > 1 else targets.sum(1, keepdim=True)


class FairLoss:
    """The loss of a net with or without a critic, with a weight for every picture.

    Parameters
    ----------
    loss : of logits (B, C) and targets (B, C).
    classes, groups : C and G.
    adversary : "none", "critic" or "gradient_reversal".
    square : see :func:`critic_losses`.

    Attributes
    ----------
    strength : what the frozen critic's confusion is multiplied by.
    """

    def __init__(
        self, loss: Loss, classes: int, groups: int, adversary: str, *, square: bool = False
    ) -> None:
        self.loss, self.strength = loss, 1.0
        self._classes, self._groups, self._adversary, self._square = classes, groups, adversary, square

    def __call__(self, answers: Tensor, given: Tensor) -> Tensor:
        """Return losses (B,).

        Parameters
        ----------
        answers : as :class:`WithCritic` gives them in training, or logits (B, C) without a critic.
        given : (B, C + G + 2): distribution over the classes, one-hot group or zeros, and two weights: of the net's
            loss with the confusion, and of the critic's own loss.
        """
        c, g = self._classes, self._groups
        targets, groups, own, critics = given.split([c, g, 1, 1], 1)
        total = self.loss(answers[:, :c], targets)
        targets = targets.clamp(min=0)  # where a class is not known, nobody has it
        if self._adversary == "none":
            return total * own[:, 0]
        told = answers[:, c:]
        if self._adversary == "critic":
            told, frozen = told.chunk(2, 1)
            total = total + self.strength * confusion(frozen, g, targets)
        losses = critic_losses(told, groups, targets, square=self._square)
        return total * own[:, 0] + losses * critics[:, 0]
