"""Penalties on parameters alone: they see no picture, so under privacy they are added after the noise.

AdaReg (Li et al. 2021, IEEE TIP 30, "Adaptively learning facial expression representation via C-F labels and
distillation"): the rows of the last layer are embeddings e of the classes, and the penalty

    1 / (L sum_(i < j) ||e_i - e_j||),    L > 0,

is small where they are far apart. The paper's weights of classes are 1 here.
"""

from __future__ import annotations

import torch
from torch import Tensor

PENALTIES = ("adareg",)
"""Losses that are cross-entropy with a penalty."""

STRENGTH = 0.1
"""L, where a plan does not say."""


def adareg(embeddings: Tensor, strength: float = 0.0) -> Tensor:
    """Return the penalty of class embeddings (C, F), a scalar."""
    first, second = torch.triu_indices(len(embeddings), len(embeddings), 1, device=embeddings.device)
    apart = torch.linalg.vector_norm(embeddings[first] - embeddings[second] + 1e-12, dim=1).sum()
    return 1 / ((strength or STRENGTH) * (apart + 1e-6))


def adareg_gradient(embeddings: Tensor, strength: float = 0.0) -> Tensor:
    """Return the penalty's gradient by the embeddings (C, F)."""
    with torch.enable_grad():
        own = embeddings.detach().clone().requires_grad_()
        (found,) = torch.autograd.grad(adareg(own, strength), own)
    return found
