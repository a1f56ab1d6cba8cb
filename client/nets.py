"""The net that a plan trains: the zoo's, and beside it a critic or the parameters of a loss where there are any."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from client.plan import Plan
from fer_models import embedding
from fer_models.critic import WithCritic, last_layer
from fer_models.flat import FlatModel
from fer_models.scope import restrict
from fer_models.terms import WithTerms
from fer_models.zoo import build

NET, CRITIC, TERMS = "net.", "critic.", "terms."
"""What the names of parameters begin with where something is beside the net: those of the net, and its own."""


def net_of(plan: Plan) -> nn.Module:
    """Return the plan's net with its first weights, in training mode, with what the plan has beside it.

    Raises
    ------
    ModelError : there is no such net, or it gives a critic or a loss not what they look at.
    """
    net = restrict(build(plan.model, plan.seed), plan.model, plan.local.scope)
    if plan.local.has_terms:
        return WithTerms(net, embedding.last_layer(net, plan.model), plan.local.loss, seed=plan.seed)
    fairness = plan.fairness
    if fairness is None or not fairness.has_critic:
        return net
    return WithCritic(
        net,
        last_layer(net, plan.model),
        len(plan.disclosed),
        classes=len(plan.labels) if fairness.conditional else 1,
        hidden=fairness.hidden,
        reversed=fairness.adversary == "gradient_reversal",
        seed=plan.seed,
    )


def critic_range(flat: FlatModel) -> slice:
    """Return where a critic's numbers lie in ``flat.full_vector``; empty where there is none."""
    return _range_of(flat, CRITIC)


def _range_of(flat: FlatModel, *prefixes: str) -> slice:
    own = [slot for slot in flat.slots if slot.name.startswith(prefixes)]
    return slice(own[0].start, own[-1].stop) if own else slice(0, 0)


def model_of(flat: FlatModel, vector: Tensor) -> Tensor:
    """Return the numbers of the zoo's net in a plan's weights (P + Q,), without those of a critic or a loss."""
    beside = _range_of(flat, CRITIC, TERMS)
    if beside.stop == 0:
        return vector
    return torch.cat([vector[: beside.start], vector[beside.stop :]])


def with_critic(flat: FlatModel, vector: Tensor) -> Tensor:
    """Return a plan's weights (P + Q,), given the net's; those of a critic or a loss stay as they are in ``flat``."""
    beside = _range_of(flat, CRITIC, TERMS)
    if beside.stop == 0:
        return vector
    return torch.cat([vector[: beside.start], flat.full_vector[beside].to(vector), vector[beside.start :]])
