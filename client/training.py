"""A site's work in one round: from the round's weights to an update."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from client.gradients import optimizer_of
from client.inputs import Features, Inputs
from client.plan import LocalWork, Plan
from client.randomness import Entropy, torch_generator
from client.workbench import Workbench
from fer_models.errors import ModelError, PrivacyError, TrainingError
from fer_models.flat import FlatModel
from fer_models.mixing import MIXING
from fer_models.samples import Samples
from fer_models.transforms import augment, to_input


@contextlib.contextmanager
def dropout_seeded(plan: Plan, key: bytes) -> Iterator[None]:
    """Seed torch's global generator, which dropout and mixed pictures draw from, and put it back afterwards."""
    if plan.model.dropout == 0 and plan.local.loss not in MIXING:
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
    if samples.people is None:
        raise PrivacyError(
            "the pictures do not say who is on them, so no person can be protected as a whole",
            where="privacy.unit",
            cure="Give the pictures a column subject, or use privacy.unit=record and protect single pictures.",
        )
    _, person = np.unique(samples.people[rows], return_inverse=True)
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
    chosen = torch.from_numpy(positions)
    targets = data.targets.index_select(0, chosen).to(bench.device)
    if bench.fair is not None:
        targets = torch.cat([targets, bench.fair.columns.index_select(0, chosen).to(bench.device)], 1)
    if fixed is not None:
        return bench.losses(data.features.of(fixed, positions), targets)
    x = data.inputs(positions, bench.device)
    if generator is not None:
        x = augment(x, generator, work.augmentation)
    return bench.losses(bench.seen(x), targets)


def batch_size(work: LocalWork, rows: int) -> int:
    """Return the rows of one batch at a site that holds ``rows``."""
    wanted = round(work.rate * rows) if work.rate > 0 else work.batch
    return min(rows, max(1, wanted))


def shuffled(
    rows: int, generator: torch.Generator, labels: NDArray[np.integer] | None = None
) -> NDArray[np.int64]:
    """Return the positions (rows,) of an epoch in random order: every row once, or with ``labels`` every class alike.

    Of each class that occurs, as many positions as of any other, give or take one: its rows in random order, again and
    again where it has few (Shen et al. 2016, "Relay backpropagation", ECCV, section 3.3).
    """
    order = torch.randperm(rows, generator=generator).numpy()
    if labels is None:
        return order
    present = np.unique(labels)
    turns = present[np.arange(rows) % len(present)][order]  # which class is taken at each place
    found = np.empty(rows, np.int64)
    for name in present:
        places, own = np.flatnonzero(turns == name), np.flatnonzero(labels == name)
        passes = [
            own[torch.randperm(len(own), generator=generator).numpy()]
            for _ in range(-(-len(places) // len(own)))
        ]
        found[places] = np.concatenate(passes)[: len(places)] if passes else own[:0]
    return found


def batches(
    work: LocalWork,
    rows: int,
    round_number: int,
    entropy: Entropy,
    labels: NDArray[np.integer] | None = None,
) -> Iterator[NDArray[np.int64]]:
    """Yield the positions of each batch of a round, without privacy.

    Epochs shuffle the site's rows anew and take them all. Steps go on through the same shuffled epochs from round
    to round, so that every row is visited equally often; nothing has to be remembered between rounds. ``labels``
    (rows,) are looked at where ``work.sampling`` is "classes".
    """
    size = batch_size(work, rows)
    by = labels if work.sampling == "classes" else None

    def order(epoch: int) -> NDArray[np.int64]:
        return shuffled(rows, torch_generator(entropy.key(epoch, "order")), by)

    if work.unit == "epochs":
        for epoch in range((round_number - 1) * work.amount, round_number * work.amount):
            taken = order(epoch)
            yield from (taken[i : i + size] for i in range(0, rows, size))
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
    bench: Workbench,
    data: LocalRows,
    work: LocalWork,
    round_number: int,
    entropy: Entropy,
    where: str,
    shift: torch.Tensor | None = None,
) -> LocalResult:
    """Train the bench's net in place without privacy; ``shift`` (T,) is added to each gradient of what learns."""
    flat = bench.flat
    if shift is not None:
        shift = whole_shift(flat, shift)
    augmenting = torch_generator(entropy.key(round_number, "augment")) if work.augment else None
    start = flat.vector.clone() if work.proximal > 0 else None
    optimizer = local_optimizer(flat.learning.parts(flat.vector), flat.learning.parts(flat.gradient), work)
    losses: list[tuple[torch.Tensor, int]] = []
    labels = data.samples.label[data.rows]
    for positions in batches(work, len(data.rows), round_number, entropy, labels):
        flat.zero_grad()
        loss = losses_of(bench, data, positions, work, augmenting).mean()
        loss.backward()
        with torch.no_grad():
            shape_gradient(flat, work, start, bench.apart)
            bench.penalise(flat.gradient)
            if shift is not None:
                flat.gradient.add_(shift)
            optimizer.step()
        losses.append((loss.detach(), len(positions)))
        if bench.tally is not None:
            bench.tally.note(positions)
    visits = sum(count for _, count in losses)
    # Read at the end, so that an accelerator need not wait in between.
    total = sum(float(loss) * count for loss, count in losses)
    return finite(LocalResult(visits, len(losses), total / max(1, visits)), flat, where)


def whole_shift(flat: FlatModel, shift: torch.Tensor) -> torch.Tensor:
    """Return numbers (T,) of what learns at their places among all parameters (P,).

    Raises
    ------
    ModelError : the net keeps statistics, or learns another number of parameters.
    """
    if flat.buffer_slots or len(shift) != len(flat.learning):
        raise ModelError(
            f"{len(shift)} control variates for a net of which {len(flat.learning)} parameters learn",
            where="local.scaffold",
            cure="Use a net without statistics (model.norm=gn), and the same version of FedFER everywhere.",
        )
    whole = torch.zeros_like(flat.vector)
    flat.learning.put(whole, shift.to(whole))
    return whole


def shape_gradient(
    flat: FlatModel, work: LocalWork, start: torch.Tensor | None, apart: slice = slice(0, 0)
) -> None:
    """Clip the batch gradient to ``work.gradient_clip`` and add FedProx's pull towards ``start``, in place.

    ``apart`` is where a critic's numbers are, which are clipped by themselves: its gradient is no reason to cut the
    net's.
    """
    if work.gradient_clip > 0:
        ranges = [flat.gradient]
        if apart.stop:
            ranges = [flat.gradient[: apart.start], flat.gradient[apart]]
        for part in ranges:
            norm = torch.linalg.vector_norm(part)
            part.mul_((work.gradient_clip / (norm + 1e-6)).clamp(max=1.0))
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
