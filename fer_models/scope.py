"""Which layers of a net learn: all, the last quarter, or the classifying layer alone.

Layers are counted in the order in which a picture passes them, which a made-up picture shows; so the same rule holds
for every net, whatever it calls its parts. A layer is a module with a weight of two or more dimensions (a convolution,
a linear layer) together with the modules after it that have parameters of another kind (norms, scales).
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import nn

from fer_models.errors import ModelError
from fer_models.zoo import ModelSpec

Scope = Literal["all", "last_quarter", "head"]
"""``all``; ``last_quarter``: the last quarter of the layers, rounded up; ``head``: the last layer."""

SCOPES: tuple[str, ...] = get_args(Scope)
"""The scopes by name."""


def layers(module: nn.Module, spec: ModelSpec) -> list[list[str]]:
    """Return the names of the parameters of each layer, in the order in which a picture passes them.

    Parameters that are used before the first weight, or outside of a module's own call, belong to no layer and are
    in none of the lists.
    """
    still = _held(module)
    names = {id(p): name for name, p in module.named_parameters() if name not in still}
    found: list[list[str]] = []

    def passed(layer: nn.Module, _: object) -> None:
        own = [p for p in layer.parameters(recurse=False) if id(p) in names]
        if any(parameter.ndim >= 2 for parameter in own):
            found.append([])
        if found:
            found[-1] += [names.pop(id(parameter)) for parameter in own]

    hooks = [each.register_forward_pre_hook(passed) for each in module.modules()]
    training = module.training
    try:
        with torch.no_grad():
            like = next(module.parameters())
            module.eval()(torch.zeros(2, spec.channels, spec.size, spec.size).to(like))
    finally:
        module.train(training)
        for hook in hooks:
            hook.remove()
    return [layer for layer in found if layer]


def _held(module: nn.Module) -> set[str]:
    """Return the names of parameters that never learn, as a module's ``held`` says."""
    return {
        f"{name}.{each}".lstrip(".")
        for name, owner in module.named_modules()
        for each in getattr(owner, "held", ())
    }


def logit_bias(module: nn.Module, spec: ModelSpec) -> str:
    """Return the name of the parameter that is added to the logits.

    Raises
    ------
    ModelError : the last layer gives no logits, or has no bias.
    """
    own = dict(module.named_parameters())
    found = [name for name in layers(module, spec)[-1] if tuple(own[name].shape) == (spec.classes,)]
    if len(found) != 1:
        raise ModelError(
            f"the last layer of {spec.name} has no bias to adjust",
            where="server.adjustment",
            cure="Use local.loss=logit_adjusted, or another net.",
        )
    return found[0]


def trained_names(module: nn.Module, spec: ModelSpec, scope: Scope) -> list[str]:
    """Return the names of the parameters that learn.

    Raises
    ------
    ModelError : the last layer is not the one that gives the logits.
    """
    if scope == "all":
        return [name for name, _ in module.named_parameters() if name not in _held(module)]
    order = layers(module, spec)
    own = dict(module.named_parameters())
    if not any(own[name].ndim >= 2 and len(own[name]) == spec.classes for name in order[-1]):
        raise ModelError(
            f"the last layer of {spec.name} does not give its {spec.classes} logits",
            where="local.scope",
            cure="Use local.scope=all, or another net.",
        )
    kept = 1 if scope == "head" else -(-len(order) // 4)
    return [name for layer in order[-kept:] for name in layer]


def restrict(module: nn.Module, spec: ModelSpec, scope: Scope) -> nn.Module:
    """Let only the parameters in ``scope`` learn: the others get ``requires_grad`` False. Returns ``module``."""
    chosen = set(trained_names(module, spec, scope))
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name in chosen)
    return module
