"""Features: what the last layer of a net is given. The same for every net, whatever it calls its parts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fer_models.errors import ModelError
from fer_models.scope import layers
from fer_models.zoo import ModelSpec


def last_layer(module: nn.Module, spec: ModelSpec) -> nn.Linear:
    """Return the linear layer that gives the logits.

    Raises
    ------
    ModelError : the layer that a picture passes last is of another kind.
    """
    order = layers(module, spec)
    owners = [module.get_submodule(name.rpartition(".")[0]) for name in order[-1]] if order else []
    found = [each for each in owners if isinstance(each, nn.Linear) and each.out_features == spec.classes]
    if not found:
        raise ModelError(
            f"the last layer of {spec.name} does not give its {spec.classes} logits from features",
            where="model.name",
            cure="Use a net that ends in a linear layer.",
        )
    return found[0]


def input_of(part: nn.Module, net: nn.Module, x: Tensor) -> Tensor:
    """Return what ``part`` of a net is given when the net answers x, in the mode that the net is in."""
    given: list[Tensor] = []
    hook = part.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    try:
        net(x)
    finally:
        hook.remove()
    return given[0]


@torch.inference_mode()
def embed(module: nn.Module, last: nn.Linear, x: Tensor) -> Tensor:
    """Return features (B, F) of pictures x (B, C, H, W): what ``last`` is given when the net answers.

    The net is called as it is: put it into evaluation mode first, or dropout has its way.
    """
    return input_of(last, module, x)
