"""Several sites trained in one pass, for nets so small that calling an operation costs more than computing it.

Each site keeps its own copy of the weights and its own batches; the copies are stacked, and torch.func.vmap turns
their convolutions into one grouped convolution. A simulation may choose this; the updates are those of training
one after the other, up to rounding and to the draws of dropout.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import zip_longest

import numpy as np
import torch
from numpy.typing import NDArray
from torch.func import functional_call, vmap

from client.plan import LocalWork, Plan
from client.randomness import Entropy, torch_generator
from client.training import LocalResult, LocalRows, batches, dropout_seeded, local_optimizer
from client.workbench import Workbench
from fer_models.errors import ConfigError, ModelError, PrivacyError, TrainingError
from fer_models.transforms import augment


class Stack:
    """Copies of a bench's weights, one a site, with gradients and an optimizer over all of them.

    ``values`` and ``gradient`` are float32 (sites, P).
    """

    def __init__(self, bench: Workbench, vector: torch.Tensor, sites: int, work: LocalWork) -> None:
        flat = bench.flat
        if flat.buffer_slots:
            raise ModelError(
                "a net that keeps statistics cannot be trained for several sites in one pass",
                where="engine.together",
                cure="Use engine.together=1, or model.norm=gn.",
            )
        self.start = vector.to(bench.device)
        self.values = self.start.repeat(sites, 1)
        self.gradient = torch.zeros_like(self.values)
        self._leaves: dict[str, torch.Tensor] = {}
        module = flat.module
        for slot, parameter in zip(flat.slots, module.parameters(), strict=True):
            leaf = slot.view(self.values).detach()
            if parameter.requires_grad:
                leaf.requires_grad_().grad = slot.view(self.gradient)
            self._leaves[slot.name] = leaf
        self._forward = vmap(
            lambda parameters, x: functional_call(module, parameters, (x,)),
            in_dims=(0, 0),
            randomness="different",
        )
        self._work, self._loss = work, bench.loss
        self._optimizer = local_optimizer(
            flat.learning.parts(self.values), flat.learning.parts(self.gradient), work
        )

    def losses(self, x: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return losses (sites, B) of pictures (sites, B, C, H, W) and label distributions (sites, B, classes)."""
        logits = self._forward(self._leaves, x)
        flat = self._loss(logits.flatten(0, 1), targets.flatten(0, 1))
        return flat.view(targets.shape[:2])

    def step(self, weighted: torch.Tensor) -> None:
        """Take one step of all sites down the sum of their losses."""
        self.gradient.zero_()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "grad and param do not obey the gradient layout")
            weighted.sum().backward()
        with torch.no_grad():
            if self._work.gradient_clip > 0:
                norms = torch.linalg.vector_norm(self.gradient, dim=1, keepdim=True)
                self.gradient.mul_((self._work.gradient_clip / (norms + 1e-6)).clamp(max=1.0))
            if self._work.proximal > 0:
                self.gradient.add_(self.values - self.start, alpha=self._work.proximal)
            self._optimizer.step()


def train_together(
    bench: Workbench,
    data: Sequence[LocalRows],
    plan: Plan,
    round_number: int,
    entropies: Sequence[Entropy],
    vector: torch.Tensor,
    names: Sequence[str],
) -> tuple[NDArray[np.float32], list[LocalResult]]:
    """Train several sites from the round's weights; return their weights (sites, P) and what each did.

    Raises
    ------
    PrivacyError : the plan is private; per-sample gradients are made site by site.
    ConfigError : the plan is fair; groups are looked at site by site. Or the loss is of more than logits, or each
        site's steps are corrected by its own control variate.
    ModelError : the vector or the net does not fit.
    TrainingError : a site's loss or weights are not finite.
    """
    if plan.privacy is not None:
        raise PrivacyError(
            "private training of several sites in one pass",
            where="engine.together",
            cure="Use engine.together=1.",
        )
    if plan.local.scaffold:
        raise ConfigError(
            "SCAFFOLD of several sites in one pass", where="engine.together", cure="Use engine.together=1."
        )
    if plan.fairness is not None or not plan.local.of_logits or plan.local.is_added:
        raise ConfigError(
            f"{'fair training' if plan.fairness else plan.local.loss} of several sites in one pass",
            where="engine.together",
            cure="Use engine.together=1.",
        )
    work = plan.local
    bench.load_(vector)  # which refuses a vector of another model
    stack = Stack(bench, vector, len(data), work)
    augmenting = [torch_generator(e.key(round_number, "augment")) for e in entropies] if work.augment else []
    streams = [
        batches(work, len(d.rows), round_number, e, d.samples.label[d.rows])
        for d, e in zip(data, entropies, strict=True)
    ]
    ended: dict[int, torch.Tensor] = {}
    visits, steps, sums = np.zeros(len(data), int), np.zeros(len(data), int), torch.zeros(len(data))
    with dropout_seeded(plan, entropies[0].key(round_number, "dropout")):
        for chosen in zip_longest(*streams):
            sizes = np.array([0 if rows is None else len(rows) for rows in chosen])
            for site in np.flatnonzero(sizes == 0):  # momentum and decay would move it on
                ended.setdefault(int(site), stack.values[site].clone())
            x, targets = _stacked(bench, data, chosen, augmenting, int(sizes.max()))
            counted = torch.arange(x.shape[1]) < torch.from_numpy(sizes)[:, None]
            weights = (counted / torch.from_numpy(sizes).clamp(min=1)[:, None]).to(x)
            losses = stack.losses(x, targets) * weights
            stack.step(losses)
            sums += losses.detach().sum(1).cpu() * torch.from_numpy(sizes)
            visits, steps = visits + sizes, steps + (sizes > 0)
    for site, values in ended.items():
        stack.values[site] = values
    return stack.values.cpu().numpy(), _results(names, round_number, stack.values, visits, steps, sums)


def _stacked(
    bench: Workbench,
    data: Sequence[LocalRows],
    chosen: tuple[NDArray[np.int64] | None, ...],
    augmenting: Sequence[torch.Generator],
    size: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return inputs (sites, size, C, H, W) and targets (sites, size, classes).

    Short batches end in repeats of the site's first picture, which weights of 0 leave out of the loss.
    """
    positions = np.zeros((len(data), size), np.int64)
    for own, taken in zip(positions, chosen, strict=True):
        own[: 0 if taken is None else len(taken)] = () if taken is None else taken
    x = _pictures(data, positions, bench.device).unflatten(0, positions.shape)
    for i, (generator, taken) in enumerate(
        zip(augmenting, chosen, strict=False)
    ):  # none without augmentation
        if taken is not None:
            x[i, : len(taken)] = augment(x[i, : len(taken)], generator, bench.plan.local.augmentation)
    targets = [site.targets[torch.from_numpy(own)] for site, own in zip(data, positions, strict=True)]
    return _grouped(x), torch.stack(targets).to(bench.device)


def _pictures(data: Sequence[LocalRows], positions: NDArray[np.int64], device: torch.device) -> torch.Tensor:
    """Return pictures (sites * size, C, H, W), taken at once where all stand in one table."""
    kept = data[0].kept
    if kept is None or any(site.kept is not kept for site in data):
        return torch.cat([site.inputs(own, device) for site, own in zip(data, positions, strict=True)])
    return kept(np.concatenate([site.rows[own] for site, own in zip(data, positions, strict=True)]))


def _grouped(x: torch.Tensor) -> torch.Tensor:
    """Return ``x`` (sites, B, C, H, W) such that sites and channels together are the last in memory.

    vmap makes one grouped convolution of the sites' and folds sites into channels; in this order that is a
    ``channels_last`` picture as it stands, in which grouped convolutions are about twice as fast.
    """
    sites, size, channels, height, width = x.shape
    if channels == 1:
        last = x.reshape(sites, -1).t().contiguous()  # a plain transpose is several times as fast
        return last.view(size, height, width, sites, 1).permute(3, 0, 4, 1, 2)
    return x.permute(1, 3, 4, 0, 2).contiguous().permute(3, 0, 4, 1, 2)


def _results(
    names: Sequence[str],
    round_number: int,
    ended: torch.Tensor,
    visits: NDArray[np.int_],
    steps: NDArray[np.int_],
    sums: torch.Tensor,
) -> list[LocalResult]:
    good = torch.isfinite(ended.sum(1)).cpu() & torch.isfinite(sums)
    if not bool(good.all()):
        raise TrainingError(
            "the loss or the weights are not finite",
            where=f"{names[int((~good).nonzero()[0])]}, round {round_number}",
            cure="Lower local.learning_rate, or set local.gradient_clip.",
        )
    return [
        LocalResult(int(v), int(s), float(t) / max(1, int(v)))
        for v, s, t in zip(visits, steps, sums, strict=True)
    ]
