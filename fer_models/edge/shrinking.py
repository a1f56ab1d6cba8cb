"""A trained net made smaller or plainer, and taught to answer as before: pruning, fixed norms, ReLU, distillation.

Each change here alters answers, unlike :mod:`fer_models.edge.folding`. What is lost is mostly won back by distillation
(Hinton et al. 2015, arXiv:1503.02531): the changed net learns the answers of the one that it was made of, on pictures
that need no labels.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from fer_models.edge.folding import folded, replaced
from fer_models.embedding import input_of
from fer_models.errors import ModelError
from fer_models.transforms import Augmentation, augment, to_input

ROUND_TO = 8
"""Channels of a pruned layer are a multiple of this, which vectors and groups of eight want."""

BATCH, LEARNING_RATE, ANEW, DECAY = 64, 2e-3, 4e-3, 0.01
"""Of distillation: AdamW under a one-cycle schedule; ``ANEW`` is the rate of a student that has learned nothing."""

OBSERVED = 256
"""Pictures on which the statistics of a GroupNorm are observed."""

Progress = Callable[[int, int], None]
"""Told of steps done and steps in all."""


def pruned(net: nn.Module, share: float, channels: int, size: int) -> nn.Module:
    """Return a copy of a folded net without the least of each layer's channels.

    Structured pruning through torch-pruning (Fang et al. 2023, CVPR): channels that depend on each other go together,
    the weakest first by the 2-norm of their filters (Li et al. 2017, ICLR). The logits keep their classes.

    Parameters
    ----------
    share : of the channels of a layer, above 0 and below 1.
    channels, size : of the pictures that it takes.

    Raises
    ------
    ModelError : the net's layers cannot be told apart for pruning.
    """
    import torch_pruning

    small = copy.deepcopy(net).eval()
    for parameter in small.parameters():
        parameter.requires_grad_(True)
    example = torch.zeros(2, channels, size, size)
    last = list[nn.Module](part for part in small.modules() if isinstance(part, nn.Linear))[-1:]
    try:
        torch_pruning.pruner.BasePruner(
            small,
            example,
            importance=torch_pruning.importance.MagnitudeImportance(p=2),
            pruning_ratio=share,
            ignored_layers=last,
            round_to=ROUND_TO,
        ).step()
        with torch.no_grad():
            small(example)
    except Exception as error:  # its graphs raise nearly anything for a net that they do not know
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        cure = "Leave prune out, or prune a plain net such as fer_small."
        raise ModelError(f"the net cannot be pruned: {reason}", where="prune", cure=cure) from error
    return small


def with_relu(net: nn.Module) -> nn.Module:
    """Return a copy of a net with ReLU for SiLU: eight-bit convolutions take ReLU in, and SiLU is steps of its own."""
    return replaced(copy.deepcopy(net), lambda part: nn.ReLU() if isinstance(part, nn.SiLU) else part).eval()


@torch.no_grad()
def with_fixed_norms(net: nn.Module, pictures: NDArray[np.uint8]) -> nn.Module:
    """Return a copy of a net whose GroupNorms use the mean statistics of some pictures, folded into convolutions.

    Layer by layer, each observed behind those that are fixed already. Only a GroupNorm right after a convolution in an
    ``nn.Sequential`` is fixed; others stay.

    Parameters
    ----------
    pictures : uint8 (N, H, W) or (N, H, W, 3); :data:`OBSERVED` of them are looked at.
    """
    plain = copy.deepcopy(net).eval()
    x = to_input(pictures[:OBSERVED]).contiguous()
    for sequence in [part for part in plain.modules() if isinstance(part, nn.Sequential)]:
        for place in range(1, len(sequence)):
            norm = sequence[place]
            if isinstance(norm, nn.GroupNorm) and isinstance(sequence[place - 1], nn.Conv2d):
                sequence[place] = _fixed(norm, input_of(norm, plain, x))
    return folded(plain)


def _fixed(norm: nn.GroupNorm, x: Tensor) -> nn.BatchNorm2d:
    """Return a BatchNorm with the statistics that a GroupNorm has on the mean of pictures (B, C, H, W)."""
    groups = x.reshape(len(x), norm.num_groups, -1)
    times = norm.num_channels // norm.num_groups
    mean = groups.mean((0, 2))
    scale = torch.rsqrt(groups.var(2, unbiased=False) + norm.eps).mean(0)  # what a picture is multiplied by
    fixed = nn.BatchNorm2d(norm.num_channels, eps=0.0).eval()
    assert fixed.running_mean is not None and fixed.running_var is not None
    fixed.running_mean.copy_(mean.repeat_interleave(times))
    fixed.running_var.copy_(scale.square().reciprocal().repeat_interleave(times))
    if norm.affine:
        fixed.weight.copy_(norm.weight)
        fixed.bias.copy_(norm.bias)
    return fixed


def distilled(
    student: nn.Module,
    teacher: nn.Module,
    pictures: NDArray[np.uint8],
    epochs: float,
    seed: int,
    progress: Progress | None = None,
    *,
    anew: bool = False,
) -> nn.Module:
    """Return a copy of the student that has learned the teacher's answers to pictures, varied as in training.

    The loss is the Kullback-Leibler divergence from the teacher's probabilities to the student's.

    Parameters
    ----------
    pictures : uint8 (N, H, W) or (N, H, W, 3); labels are not needed.
    epochs : passes over the pictures.
    anew : whether the student has learned nothing yet; its BatchNorms then normalise each batch by itself, and learn
        the statistics that they use afterwards.
    """
    student, teacher = copy.deepcopy(student).train(anew), teacher.eval()
    for part in student.modules():
        if isinstance(part, nn.Dropout):
            part.eval()  # the answers are the teacher's, of all features
    for parameter in student.parameters():
        parameter.requires_grad_(True)
    steps = max(1, round(epochs * len(pictures) / BATCH))
    rate = ANEW if anew else LEARNING_RATE
    optimizer = torch.optim.AdamW(student.parameters(), rate / 25, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, total_steps=max(steps + 1, 6), pct_start=0.2
    )
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        rows = torch.randint(len(pictures), (min(BATCH, len(pictures)),), generator=generator).numpy()
        x = augment(to_input(pictures[rows]), generator, Augmentation())
        with torch.no_grad():
            wanted = teacher(x).log_softmax(1)
        loss = functional.kl_div(student(x).log_softmax(1), wanted, reduction="batchmean", log_target=True)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if progress is not None and (step + 1) % 50 == 0:
            progress(step + 1, steps)
    return student.eval()
