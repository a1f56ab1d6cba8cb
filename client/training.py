"""A site's work in one round: from the round's weights to an update."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from client.bookkeeping.gradients import PrivateGradients
from client.gradients import PrivateTrainer, optimizer_of
from client.guards import prove, require_apart
from client.inputs import Features, Fixed, Inputs
from client.plan import LocalWork, Plan, Privacy
from client.randomness import Entropy, KeyedStream, torch_generator
from client.strict import require
from fer_models.errors import PrivacyError, TrainingError
from fer_models.features import TwoStage
from fer_models.flat import FlatModel
from fer_models.losses import Loss, build_loss
from fer_models.memory import keep_freed_memory
from fer_models.samples import Samples
from fer_models.scope import restrict
from fer_models.transforms import Augmentation, augment, to_input
from fer_models.zoo import build

AUGMENTATION = Augmentation()
"""The one strength of augmentation that a plan can ask for."""


class Workbench:
    """One net and its flat buffers, shared by all sites that one process serves.

    Parameters
    ----------
    plan : what is trained.
    device : where.

    Raises
    ------
    ModelError : there is no such net.
    PrivacyError : the plan is private and the net has no sound per-sample gradients.
    """

    def __init__(self, plan: Plan, device: torch.device) -> None:
        keep_freed_memory()
        self.plan = plan
        self.device = device
        module = restrict(build(plan.model, plan.seed), plan.model, plan.local.scope)
        self.flat = FlatModel(module.to(device))
        self.flat.module.train()
        self._fixed = self._fix()
        # Until sites have counted; uneven, so that the trial sees a prior at work.
        self._prior = tuple(float(place) for place in range(1, len(plan.labels) + 1))
        self.loss = loss_of(plan, self._prior)
        self.gradients = None if plan.privacy is None else self._prove(plan.privacy.allow_slow)

    def _fix(self) -> Fixed | None:
        module, spec = self.flat.module, self.plan.model
        if not isinstance(module, TwoStage) or not module.keeps_features():
            return None
        with torch.no_grad():
            made_up = torch.zeros(1, spec.channels, spec.size, spec.size, device=self.device)
            return Fixed(module, self.device, module.features(made_up).shape[1])

    def load_(self, values: torch.Tensor) -> None:
        """Overwrite the weights with ``values`` (P + Q,); kept features are dropped where fixed layers change.

        Raises
        ------
        ModelError : the length or the dtype differs.
        """
        if self._fixed is None:
            self.flat.load_(values)
            return
        before = [p.clone() for p in self.flat.module.parameters() if not p.requires_grad]
        self.flat.load_(values)
        after = [p for p in self.flat.module.parameters() if not p.requires_grad]
        if not all(torch.equal(one, other) for one, other in zip(before, after, strict=True)):
            self._fixed = replace(self._fixed)

    def fixed(self, samples: Samples) -> Fixed | None:
        """Return the net where its features of a table's pictures stay the same and may be kept, else None."""
        return self._fixed if self._fixed is not None and self._fixed.fits(samples) else None

    def seen(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the layers that learn are given of pictures (B, C, H, W): features, where others are fixed."""
        if self._fixed is None:
            return x
        with torch.no_grad():
            return self._fixed.net.features(x)

    def losses(self, x: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the losses (B,) of pictures (B, C, H, W), or of their features, with targets (B, classes)."""
        return self.loss(self.flat.module(x), targets)

    def expect(self, prior: tuple[float, ...]) -> None:
        """Let the loss go by these shares of the classes, where it needs any and the plan names none.

        Raises
        ------
        ConfigError : not one positive share a class.
        """
        work = self.plan.local
        if work.tells_prior and prior != self._prior:
            require(
                len(prior) == len(self.plan.labels),
                f"{len(prior)} shares for {len(self.plan.labels)} classes",
                "prior",
                "Run the same version of FedFER everywhere.",
            )
            self.loss, self._prior = loss_of(self.plan, prior), prior

    def _prove(self, allow_slow: bool) -> PrivateGradients:
        """Try net, loss and augmentation on made-up pictures, before any real one is looked at."""
        spec = self.plan.model
        form, generator = (3, spec.channels, spec.size, spec.size), torch.Generator().manual_seed(0)
        x = torch.randn(form, generator=generator).to(self.device, memory_format=torch.channels_last)
        targets = torch.rand(3, spec.classes, generator=generator).to(self.device)
        if self.plan.local.augment:
            require_apart(lambda given: augment(given, generator, AUGMENTATION), x, "the augmentation")
        gradients = PrivateGradients(self.flat.module, allow_slow=allow_slow)
        prove(gradients, self.losses, x, targets / targets.sum(1, keepdim=True))
        if self._fixed is not None:  # then the book sees features, here as in training
            prove(gradients, self.losses, self.seen(x), targets / targets.sum(1, keepdim=True))
        self.flat.zero_grad()
        return gradients


def loss_of(plan: Plan, prior: tuple[float, ...]) -> Loss:
    """Return the plan's loss, with the plan's own shares of the classes or else with ``prior``."""
    work = plan.local
    if not work.needs_prior:
        return build_loss(work.loss, smoothing=work.smoothing, focusing=work.focusing)
    return build_loss(work.loss, smoothing=work.smoothing, prior=work.prior or prior, tau=work.tau)


@contextlib.contextmanager
def dropout_seeded(plan: Plan, key: bytes) -> Iterator[None]:
    """Seed torch's global generator, which dropout draws from, and put it back afterwards."""
    if plan.model.dropout == 0:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_generator(key).initial_seed())
        yield


@dataclass(frozen=True)
class LocalRows:
    """The pictures a site trains on.

    Attributes
    ----------
    samples : the table they stand in.
    rows : int (n,), the site's rows of it.
    targets : float32 (n, C), a label distribution a row.
    kept : where the process keeps normalised pictures of that table; None makes them anew.
    """

    samples: Samples
    rows: NDArray[np.intp]
    targets: torch.Tensor
    kept: Inputs | None = None

    @functools.cached_property
    def features(self) -> Features:
        """What fixed layers make of these pictures."""
        return Features(self.samples, self.rows)

    def inputs(self, positions: NDArray[np.integer], device: torch.device) -> torch.Tensor:
        """Return normalised pictures (len(positions), channels, H, W)."""
        rows = self.rows[positions]
        return to_input(self.samples.pictures[rows], device) if self.kept is None else self.kept(rows)

    @functools.cached_property
    def people(self) -> tuple[NDArray[np.intp], ...]:
        """The positions of each person's pictures; see :func:`people_of`."""
        return people_of(self.samples, self.rows)


def people_of(samples: Samples, rows: NDArray[np.intp]) -> tuple[NDArray[np.intp], ...]:
    """Return for each person the places in ``rows`` of their pictures.

    Raises
    ------
    PrivacyError : the data set does not say who is on a picture.
    """
    if samples.subject is None:
        raise PrivacyError(
            "the pictures do not say who is on them, so no person can be protected as a whole",
            where="privacy.unit",
            cure="Give the pictures a column subject, or use privacy.unit=record and protect single pictures.",
        )
    _, person = np.unique(samples.subject[rows], return_inverse=True)
    order = np.argsort(person, kind="stable")
    return tuple(np.split(order, np.cumsum(np.bincount(person))[:-1]))


def losses_of(
    bench: Workbench,
    data: LocalRows,
    positions: NDArray[np.integer],
    work: LocalWork,
    augmenting: torch.Generator | None,
) -> torch.Tensor:
    """Return the losses (len(positions),) of some of a site's pictures, with a graph.

    ``augmenting`` is what augmentation draws from, None for none.
    """
    generator = augmenting if work.augment else None
    fixed = bench.fixed(data.samples) if generator is None else None
    targets = data.targets.index_select(0, torch.from_numpy(positions)).to(bench.device)
    if fixed is not None:
        return bench.losses(data.features.of(fixed, positions), targets)
    x = data.inputs(positions, bench.device)
    if generator is not None:
        x = augment(x, generator, AUGMENTATION)
    return bench.losses(bench.seen(x), targets)


def batch_size(work: LocalWork, rows: int) -> int:
    """Return the rows of one batch at a site that holds ``rows``."""
    wanted = round(work.rate * rows) if work.rate > 0 else work.batch
    return min(rows, max(1, wanted))


def batches(work: LocalWork, rows: int, round_number: int, entropy: Entropy) -> Iterator[NDArray[np.int64]]:
    """Yield the positions of each batch of a round, without privacy.

    Epochs shuffle the site's rows anew and take them all. Steps go on through the same shuffled epochs from round
    to round, so that every row is visited equally often; nothing has to be remembered between rounds.
    """
    size = batch_size(work, rows)

    def order(epoch: int) -> NDArray[np.int64]:
        return torch.randperm(rows, generator=torch_generator(entropy.key(epoch, "order"))).numpy()

    if work.unit == "epochs":
        for epoch in range((round_number - 1) * work.amount, round_number * work.amount):
            shuffled = order(epoch)
            yield from (shuffled[i : i + size] for i in range(0, rows, size))
        return
    start = (round_number - 1) * work.amount * size
    stop = start + work.amount * size
    epochs = range(start // rows, (stop - 1) // rows + 1)
    stream = np.concatenate([order(epoch) for epoch in epochs])[start - epochs[0] * rows :]
    yield from (stream[i * size : (i + 1) * size] for i in range(work.amount))


@dataclass(frozen=True)
class LocalResult:
    """What local work did: visits (pictures seen), steps, and the mean loss a visit."""

    visits: int
    steps: int
    loss: float


def train_plain(
    bench: Workbench, data: LocalRows, work: LocalWork, round_number: int, entropy: Entropy, where: str
) -> LocalResult:
    """Train the bench's net in place without privacy."""
    flat = bench.flat
    augmenting = torch_generator(entropy.key(round_number, "augment")) if work.augment else None
    start = flat.vector.clone() if work.proximal > 0 else None
    optimizer = local_optimizer(flat.learning.parts(flat.vector), flat.learning.parts(flat.gradient), work)
    losses: list[tuple[torch.Tensor, int]] = []
    for positions in batches(work, len(data.rows), round_number, entropy):
        flat.zero_grad()
        loss = losses_of(bench, data, positions, work, augmenting).mean()
        loss.backward()
        with torch.no_grad():
            shape_gradient(flat, work, start)
            optimizer.step()
        losses.append((loss.detach(), len(positions)))
    visits = sum(count for _, count in losses)
    # Read at the end, so that an accelerator need not wait in between.
    total = sum(float(loss) * count for loss, count in losses)
    return finite(LocalResult(visits, len(losses), total / max(1, visits)), flat, where)


def shape_gradient(flat: FlatModel, work: LocalWork, start: torch.Tensor | None) -> None:
    """Clip the batch gradient to ``work.gradient_clip`` and add FedProx's pull towards ``start``, in place."""
    if work.gradient_clip > 0:
        norm = torch.linalg.vector_norm(flat.gradient)
        flat.gradient.mul_((work.gradient_clip / (norm + 1e-6)).clamp(max=1.0))
    if start is not None:
        flat.gradient.add_(flat.vector - start, alpha=work.proximal)


class PlainSGD:
    """``torch.optim.SGD`` without momentum and decay on a few vectors; a step is one operation each."""

    def __init__(
        self, vectors: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor], learning_rate: float
    ) -> None:
        self._pairs, self._learning_rate = list(zip(vectors, gradients, strict=True)), learning_rate

    def step(self) -> None:
        """Take a step."""
        for vector, gradient in self._pairs:
            vector.sub_(gradient, alpha=self._learning_rate)


def local_optimizer(
    vectors: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor], work: LocalWork
) -> PlainSGD | torch.optim.Optimizer:
    """Return the local optimizer over the parts of the parameters that learn, with a fresh state."""
    for vector, gradient in zip(vectors, gradients, strict=True):
        vector.grad = gradient
    if work.optimizer == "sgd" and work.momentum == work.weight_decay == 0:
        return PlainSGD(vectors, gradients, work.learning_rate)
    return optimizer_of(vectors, work)


def poisson_batch(
    data: LocalRows, privacy: Privacy, rate: float, stream: KeyedStream
) -> tuple[NDArray[np.intp], list[int]]:
    """Draw a batch: every unit joins by itself with probability ``rate``; it may be empty.

    Returns the positions (n,) of its pictures, each ``privacy.views`` times and those of one unit next to each other,
    and the number of positions of each unit.
    """
    if privacy.unit == "record":
        chosen = np.flatnonzero(stream.uniform(len(data.rows)) < rate)
        return np.repeat(chosen, privacy.views), [privacy.views] * len(chosen)
    drawn = np.flatnonzero(stream.uniform(len(data.people)) < rate)
    people = [data.people[index] for index in drawn]
    rows = np.concatenate(people) if people else np.zeros(0, np.intp)
    return np.repeat(rows, privacy.views), [privacy.views * len(own) for own in people]


@contextlib.contextmanager
def private_trainer(
    bench: Workbench, plan: Plan, round_number: int, entropy: Entropy
) -> Iterator[PrivateTrainer]:
    """Open the private step on the bench's net; nothing without noise stays behind when it closes."""
    assert plan.privacy is not None
    trainer = PrivateTrainer(
        bench.flat,
        plan.privacy,
        divisor=plan.local.rate * plan.privacy.nominal_units,
        work=plan.local,
        stream=KeyedStream(entropy.key(round_number, "noise")),
        gradients=bench.gradients,
    )
    try:
        yield trainer
    finally:
        trainer.close()
        bench.flat.zero_grad()  # drops the gradients without noise, and gives the parameters their views back


def train_private(
    bench: Workbench, data: LocalRows, plan: Plan, round_number: int, entropy: Entropy, where: str
) -> LocalResult:
    """Train the bench's net in place with DP-SGD; the caller has written the ledger.

    Poisson sampling: every unit of privacy joins a step by itself with probability ``plan.local.rate``.
    """
    privacy, work = plan.privacy, plan.local
    assert privacy is not None
    sampling = KeyedStream(entropy.key(round_number, "poisson"))
    augmenting = torch_generator(entropy.key(round_number, "augment"))
    total, visits = 0.0, 0
    with private_trainer(bench, plan, round_number, entropy) as trainer:
        for _ in range(work.amount):
            rows, sizes = poisson_batch(data, privacy, work.rate, sampling)
            total += trainer.step(rows, lambda part: losses_of(bench, data, part, work, augmenting), sizes)
            visits += len(rows)
    # An error may tell of nothing but the weights.
    finite(LocalResult(visits, work.amount, 0.0), bench.flat, where)
    return LocalResult(visits, work.amount, total / max(1, visits))


def finite(result: LocalResult, flat: FlatModel, where: str) -> LocalResult:
    """Return ``result`` unless its loss or the weights are not finite.

    Raises
    ------
    TrainingError : training diverged.
    """
    # One sum tells: what is not finite stays so under addition.
    if math.isfinite(result.loss) and math.isfinite(float(flat.full_vector.sum())):
        return result
    raise TrainingError(
        "the loss or the weights are not finite",
        where=where,
        cure="Lower local.learning_rate, or set local.gradient_clip.",
    )
