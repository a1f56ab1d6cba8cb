"""Grad-CAM: which places of a picture raise a net's score of a class.

Selvaraju et al. 2017, "Grad-CAM: visual explanations from deep networks via gradient-based localization", ICCV,
equations 1 and 2. Of the maps A (channels k, places i, j) that a convolutional layer gives, and the score y of a class,

    weight[k] = mean over i, j of dy / dA[k, i, j],      heat[i, j] = sum over k of weight[k] A[k, i, j],

and what is below 0 is set to 0. Three choices differ from the paper's, for small nets with SiLU and GroupNorm:

- The paper takes the last convolutional layer, which has 7 or 14 places a side for pictures of 224 pixels. For faces
  of 48 pixels the last layer often has 3, so here it is the last one with :data:`FEWEST_PLACES` or more.
- y is the class's logit minus the mean of all logits: only differences of logits decide.
- 0 is the mean of the picture's heat. The paper's maps come from ReLU, where 0 is "nothing found"; after SiLU or a norm
  0 means nothing, and a map's level would be heat everywhere.

With a pattern in a known quarter of a picture, the heat in that quarter grows by the second and the third choice
(``tests/fer_models/test_explain.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from fer_models.errors import ModelError

FEWEST_PLACES = 6
"""Places a side that the explained layer has at least."""


def grad_cam(module: nn.Module, x: Tensor, classes: Tensor) -> Tensor:
    """Return how much each place of each picture raises the score of one class: (B, H, W), 0 to 1.

    The heat is interpolated to the picture's size and divided by its largest value, so that every picture counts
    alike in a mean; where no place raises the score more than another, it is 0 everywhere. The net is called as it
    is: put it into evaluation mode first. Its parameters and their gradients stay as they were.

    Parameters
    ----------
    x : normalised pictures (B, C, H, W).
    classes : int64 (B,), whose score is explained.

    Raises
    ------
    ModelError : no layer of the net gives maps, or what comes after the maps is no convolutional net's.
    """
    with torch.enable_grad(), _watched(module) as given:
        logits = module(x.detach().requires_grad_())
        maps = _last_maps(given)
        score = (logits.gather(1, classes.view(-1, 1)) - logits.mean(1, keepdim=True)).sum()
        (gradient,) = torch.autograd.grad(score, maps)
    heat = (gradient.mean((2, 3), keepdim=True) * maps.detach()).sum(1, keepdim=True)
    above = (heat - heat.mean((2, 3), keepdim=True)).relu()
    wide = functional.interpolate(above, size=x.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    peak = wide.amax((1, 2), keepdim=True)
    return wide / torch.where(peak > 0, peak, 1.0)


@contextmanager
def _watched(module: nn.Module) -> Iterator[list[Tensor]]:
    """Keep what every part of the net gives, in the order in which a picture passes them."""
    given: list[Tensor] = []

    def keep(_: nn.Module, __: object, answer: object) -> None:
        if isinstance(answer, Tensor):
            given.append(answer)

    hooks = [each.register_forward_hook(keep) for each in module.modules()]
    try:
        yield given
    finally:
        for hook in hooks:
            hook.remove()


def _last_maps(given: list[Tensor]) -> Tensor:
    places = [i for i, answer in enumerate(given) if _is_map(answer)]
    # After maps a sequence (B, N, C) is a transformer's: what its patches are cut from says nothing of what it attends.
    if not places or any(answer.ndim == 3 for answer in given[places[-1] :]):
        raise ModelError(
            f"no layer gives maps of {FEWEST_PLACES} x {FEWEST_PLACES} places or more that the score follows from",
            where="explain",
            cure="Explain a convolutional net, such as fer_small, or leave explain=true out.",
        )
    return given[places[-1]]


def _is_map(answer: Tensor) -> bool:
    square = answer.ndim == 4 and answer.shape[2] == answer.shape[3] >= FEWEST_PLACES
    return square and answer.requires_grad
