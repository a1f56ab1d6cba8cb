"""The net that a plan trains: the zoo's, and beside it a critic where the plan has one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from client.plan import Plan
from fer_models.critic import WithCritic, last_layer
from fer_models.flat import FlatModel
from fer_models.scope import restrict
from fer_models.zoo import build

NET, CRITIC = "net.", "critic."
"""What the names of parameters begin with where there is a critic: those of the net, and its own."""


def net_of(plan: Plan) -> nn.Module:
    """Return the plan's net with its first weights, in training mode, with a critic where the plan has one.

    Raises
    ------
    ModelError : there is no such net, or it gives a critic no features.
    """
    net = restrict(build(plan.model, plan.seed), plan.model, plan.local.scope)
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
    own = [slot for slot in flat.slots if slot.name.startswith(CRITIC)]
    return slice(own[0].start, own[-1].stop) if own else slice(0, 0)


def model_of(flat: FlatModel, vector: Tensor) -> Tensor:
    """Return the numbers of the zoo's net in a plan's weights (P + Q,), without those of a critic."""
    critic = critic_range(flat)
    if critic.stop == 0:
        return vector
    return torch.cat([vector[: critic.start], vector[critic.stop :]])


def with_critic(flat: FlatModel, vector: Tensor) -> Tensor:
    """Return a plan's weights (P + Q,), given those of the zoo's net; the critic's stay as they are in ``flat``."""
    critic = critic_range(flat)
    if critic.stop == 0:
        return vector
    return torch.cat([vector[: critic.start], flat.full_vector[critic].to(vector), vector[critic.start :]])
