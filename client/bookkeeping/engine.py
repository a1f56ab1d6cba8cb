"""The book-keeping step for any training loop: an Opacus ``PrivacyEngine`` with a mode of its own.

::

    engine = BookKeepingEngine()
    net, optimizer, loss, loader = engine.make_private(
        module=net,
        optimizer=torch.optim.SGD(net.parameters(), 0.1),
        criterion=torch.nn.CrossEntropyLoss(),
        data_loader=loader,
        noise_multiplier=1.1,
        max_grad_norm=1.0,
        grad_sample_mode=MODE,
    )
    for x, y in loader:
        optimizer.zero_grad()
        loss(net(x), y).backward()
        optimizer.step()

Loader, accountant, noise and virtual batches (``BatchMemoryManager``) stay Opacus's. A site trains with
:class:`client.gradients.PrivateTrainer` instead, whose noise and sampling come from keyed streams.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from opacus import PrivacyEngine
from opacus.grad_sample.gsm_base import AbstractGradSampleModule
from opacus.optimizers import DPOptimizer
from opacus.utils.uniform_sampler import UniformWithReplacementSampler
from torch import Tensor, nn
from torch.utils.data import DataLoader

from client.bookkeeping.book import from_flat_order
from client.bookkeeping.gradients import PrivateGradients
from client.bookkeeping.optimizer import BookKeepingOptimizer, Passes
from client.bookkeeping.units import Units
from client.guards import prove, require_separate
from fer_models.errors import PrivacyError

MODE = "ghost_bookkeeping"
"""Value of ``grad_sample_mode``; Opacus wraps the criterion in modes that have "ghost" in their name."""


class BookKeepingModule(AbstractGradSampleModule):
    """A net whose forward passes in training are written into a book."""

    gradients: PrivateGradients

    def __init__(
        self,
        m: nn.Module,
        *,
        batch_first: bool = True,
        loss_reduction: str = "mean",
        allow_slow: bool = False,
    ) -> None:
        if not batch_first:
            raise PrivacyError("samples must come first", where="batch_first", cure="Use batch_first=True.")
        super().__init__(m, batch_first=batch_first, loss_reduction=loss_reduction)
        self.gradients = PrivateGradients(m, allow_slow=allow_slow)
        self.input: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return the net's answer to a batch (B, ...)."""
        if not self.training or not torch.is_grad_enabled() or not len(x):
            return self._module(x)
        self.input = x.detach()
        with self.gradients.recording(Units.single(len(x))):
            return self._module(x)

    def remove_hooks(self) -> None:
        """Leave the net as it was."""
        self.gradients.close()


class BookKeepingLoss:
    """A criterion whose ``backward`` leaves the sum of clipped gradients in ``grad``."""

    def __init__(
        self, module: BookKeepingModule, optimizer: BookKeepingOptimizer, criterion: Any, loss_reduction: str
    ) -> None:
        if getattr(criterion, "reduction", None) != loss_reduction:
            raise PrivacyError(
                f"the criterion does not reduce by {loss_reduction}",
                where="loss_reduction",
                cure="Use a criterion with a field reduction, such as nn.CrossEntropyLoss().",
            )
        self.module, self.optimizer = module, optimizer
        self._each = copy.deepcopy(criterion)
        self._each.reduction = "none"
        self._mean = loss_reduction == "mean"

    def __call__(self, output: Tensor, target: Tensor) -> BatchLoss:
        """Return the loss of a batch, ready for ``backward()``."""
        losses = self._each(output, target)
        if len(losses) and self.module.gradients.proven is None:
            self._prove(output, target)
            with self.module.gradients.recording(Units.single(len(output))):
                losses = self._each(self.module._module(self.module.input), target)
        return BatchLoss(losses, self)

    def _prove(self, output: Tensor, target: Tensor) -> None:
        """Try net and criterion on made-up samples that look like those of the first batch."""
        given = self.module.input
        assert given is not None
        made_up = torch.randn(3, *given.shape[1:], generator=torch.Generator().manual_seed(0)).to(given)
        targets = made_up_targets(output, target)
        prove(self.module.gradients, lambda x, t: self._each(self.module._module(x), t), made_up, targets)


def made_up_targets(output: Tensor, target: Tensor) -> Tensor:
    """Return three targets that differ, so that a criterion by which they meet shows.

    Classes where ``target`` (B, ...) is whole numbers, else distributions over its second dimension, or shares.

    Parameters
    ----------
    output : (B, classes, ...), what the net answers.
    """
    form = (3, *target.shape[1:])
    if target.is_floating_point():
        shares = torch.rand(form, generator=torch.Generator().manual_seed(0)) + 0.1
        return (shares / shares.sum(1, keepdim=True) if len(form) > 1 else shares).to(target)
    classes = output.shape[1] if output.dim() > 1 else 2
    each = torch.arange(math.prod(form[1:])).view(1, *form[1:])
    return ((each + torch.arange(3).view(3, *[1] * (len(form) - 1))) % classes).to(target)


class BatchLoss:
    """The losses of one batch."""

    def __init__(self, losses: Tensor, criterion: BookKeepingLoss) -> None:
        self._losses, self._criterion = losses, criterion

    def item(self) -> float:
        """Return the loss, reduced as the criterion was."""
        values = self._losses.detach()
        return float(values.mean() if self._criterion._mean else values.sum())

    def backward(self) -> None:
        """Leave the sum of clipped gradients in the parameters' ``grad``."""
        optimizer, gradients = self._criterion.optimizer, self._criterion.module.gradients
        limit = optimizer.max_grad_norm
        if not len(self._losses):
            gradients.forget()
            sums: dict[str, Tensor] = {}
        else:
            sums = gradients.settle(self._losses.sum(), limit).sums
        for name, parameter in gradients.parameters.items():
            found = sums.get(name)
            parameter.grad = (
                torch.zeros_like(parameter)
                if found is None
                else from_flat_order(found, parameter.shape).contiguous()
            )
        optimizer.has_gradients = True


class BookKeepingEngine(PrivacyEngine):
    """Opacus's ``PrivacyEngine``, which also knows ``grad_sample_mode`` :data:`MODE`.

    Parameters
    ----------
    allow_slow : let Opacus's own formulas serve layers that the book does not know, at a multiple of the time.
    facts : what Opacus's engine takes, such as ``accountant``.
    """

    def __init__(self, *, allow_slow: bool = False, **facts: Any) -> None:
        super().__init__(**facts)
        self._allow_slow = allow_slow

    def make_private(
        self, *, grad_sample_mode: str = MODE, poisson_sampling: bool = True, **facts: Any
    ) -> Any:
        """Make model, optimizer, criterion and loader private, as Opacus does.

        Raises
        ------
        PrivacyError : other sampling than Poisson's, which the accountants assume; a net that mixes samples; clipping
            layer by layer, or several machines.
        """
        if not poisson_sampling:
            raise PrivacyError(
                "the accountants assume Poisson sampling",
                where="poisson_sampling",
                cure="Leave poisson_sampling=True; epsilon would be a claim without a proof.",
            )
        made = super().make_private(grad_sample_mode=grad_sample_mode, poisson_sampling=True, **facts)
        if grad_sample_mode == MODE:
            _watch(made[-1], made[1])
        return made

    def _prepare_model(self, module: nn.Module, *, grad_sample_mode: str = MODE, **facts: Any) -> Any:
        if grad_sample_mode != MODE:
            return super()._prepare_model(module, grad_sample_mode=grad_sample_mode, **facts)
        require_separate(module)
        return BookKeepingModule(
            module,
            batch_first=facts["batch_first"],
            loss_reduction=facts["loss_reduction"],
            allow_slow=self._allow_slow,
        )

    def _prepare_optimizer(
        self,
        *,
        optimizer: torch.optim.Optimizer,
        grad_sample_mode: str = MODE,
        noise_generator: torch.Generator | None = None,
        distributed: bool = False,
        clipping: str = "flat",
        **facts: Any,
    ) -> DPOptimizer:
        if grad_sample_mode != MODE:
            return super()._prepare_optimizer(
                optimizer=optimizer,
                grad_sample_mode=grad_sample_mode,
                noise_generator=noise_generator,
                distributed=distributed,
                clipping=clipping,
                **facts,
            )
        if distributed or clipping != "flat":
            raise PrivacyError(
                f"{MODE} clips whole gradients, on one machine",
                where="clipping" if clipping != "flat" else "module",
                cure='Use clipping="flat" and a module without DistributedDataParallel, or a mode of Opacus.',
            )
        return BookKeepingOptimizer(
            optimizer.original_optimizer if isinstance(optimizer, DPOptimizer) else optimizer,
            generator=self.secure_rng if self.secure_mode else noise_generator,
            secure_mode=self.secure_mode,
            **facts,
        )

    def _prepare_criterion(
        self,
        *,
        module: Any,
        optimizer: DPOptimizer,
        criterion: Callable[..., Tensor],
        loss_reduction: str = "mean",
        **facts: Any,
    ) -> Any:
        if isinstance(module, BookKeepingModule):
            assert isinstance(optimizer, BookKeepingOptimizer)
            return BookKeepingLoss(module, optimizer, criterion, loss_reduction)
        return super()._prepare_criterion(
            module=module, optimizer=optimizer, criterion=criterion, loss_reduction=loss_reduction, **facts
        )


def _watch(loader: DataLoader[Any], optimizer: DPOptimizer) -> None:
    """Let a loader's passes begin with a clean optimizer; a torch loader lets nobody else exchange its sampler."""
    sampler = loader.batch_sampler
    assert isinstance(sampler, UniformWithReplacementSampler)
    assert isinstance(optimizer, BookKeepingOptimizer)
    vars(loader)["batch_sampler"] = Passes(sampler, optimizer)
