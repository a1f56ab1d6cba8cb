"""Mixed pictures: a loss that asks a net about a picture and the next one of the batch at once.

Under privacy the guard refuses both, because a picture's gradient then depends on another picture.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fer_models.losses import Loss

MIXING = ("mixup", "mixaugment")
"""Losses that mix pictures."""

STRENGTH = 0.2
"""Alpha of the Beta distribution that shares are drawn from, where a plan does not say."""


def mixed_losses(
    name: str, net: Callable[[Tensor], Tensor], base: Loss, x: Tensor, targets: Tensor, strength: float = 0.0
) -> Tensor:
    """Return losses (B,) of pictures that are mixed with the next one of the batch.

    ``mixup`` (Zhang et al. 2018, arXiv:1710.09412): a share l is drawn for every picture from Beta(a, a), the larger of
    l and 1 - l stays its own, and the target is mixed alike. ``mixaugment`` (Psaroudakis and Kollias 2022,
    arXiv:2205.04442) adds the losses of the two pictures as they are.

    Parameters
    ----------
    x, targets : (B, C, H, W), or features (B, F) that a net goes on from, and (B, classes).
    strength : a; 0 takes :data:`STRENGTH`. Draws come from torch's global generator.
    """
    alpha = torch.full((len(x),), strength or STRENGTH)
    # Unchecked: a look at the values would be what the guard of private training complains of first.
    share = torch.distributions.Beta(alpha, alpha, validate_args=False).sample().to(x.device, x.dtype)
    share = torch.maximum(share, 1 - share)
    blended, wanted = _blend(x, share), _blend(targets, share)
    if name == "mixup":
        return base(net(blended), wanted)
    answers = net(torch.cat([blended, x]))
    alone = base(answers[len(x) :], targets)
    return base(answers[: len(x)], wanted) + alone + alone.roll(-1, 0)


def _blend(values: Tensor, share: Tensor) -> Tensor:
    share = share.view(-1, *[1] * (values.ndim - 1))
    return share * values + (1 - share) * values.roll(-1, 0)
