"""A site's work in one round under privacy: Poisson batches, clipped sums, noise."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from client.gradients import Part, PrivateTrainer
from client.groups import Tally
from client.nets import CRITIC, NET
from client.plan import Plan, Privacy
from client.randomness import Entropy, KeyedStream, torch_generator
from client.training import LocalResult, LocalRows, finite, losses_of
from client.workbench import Workbench


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
        divisor=divisor_of(plan) * (1.0 if bench.fair is None else bench.fair.means[0]),
        work=plan.local,
        stream=KeyedStream(entropy.key(round_number, "noise")),
        gradients=bench.gradients,
        parts=parts_of(plan),
        penalise=bench.penalise,
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
    privacy, work, fair = plan.privacy, plan.local, bench.fair
    assert privacy is not None
    sampling = KeyedStream(entropy.key(round_number, "poisson"))
    augmenting = torch_generator(entropy.key(round_number, "augment"))
    total, visits = 0.0, 0
    with private_trainer(bench, plan, round_number, entropy) as trainer:
        for _ in range(work.amount):
            rows, sizes = poisson_batch(data, privacy, work.rate, sampling)
            weights = None if fair is None else fair.unit_weights(rows, sizes)
            total += trainer.step(
                rows, lambda part: losses_of(bench, data, part, work, augmenting), sizes, weights
            )
            if bench.tally is not None:
                bench.tally.note(rows, sizes)
            visits += len(rows)
    # An error may tell of nothing but the weights.
    finite(LocalResult(visits, work.amount, 0.0), bench.flat, where)
    return LocalResult(visits, work.amount, total / max(1, visits))


def divisor_of(plan: Plan) -> float:
    """Return what the sum of a step is divided by: the units of a batch, as the plan's public constants have it."""
    assert plan.privacy is not None
    return plan.local.rate * plan.privacy.nominal_units


def parts_of(plan: Plan) -> tuple[Part, ...]:
    """Return the parts of a private step, see :mod:`client.fairness`; none where there is only the net."""
    privacy, fairness = plan.privacy, plan.fairness
    assert privacy is not None
    if fairness is None:
        return ()
    deviation = privacy.noise_multiplier * fairness.stretch * privacy.clip
    if not fairness.has_critic:
        return (Part("", privacy.clip, deviation),)
    own = Part(NET, privacy.clip, deviation)
    return own, Part(CRITIC, privacy.clip / fairness.noise_ratio, deviation)


def noisy_tally(plan: Plan, tally: Tally, key: bytes) -> NDArray[np.float64]:
    """Return a round's tally as shares of the pictures that a round is taken to see, with the noise of all its steps.

    A picture is 1 in one place, so noise of sigma s rho a step is what :mod:`client.fairness` asks for; the sum over
    the steps has that noise once for each.
    """
    privacy, fairness, steps = plan.privacy, plan.fairness, plan.local.amount
    assert privacy is not None and fairness is not None
    deviation = privacy.noise_multiplier * fairness.stretch * fairness.noise_ratio * math.sqrt(steps)
    return (tally.total + deviation * KeyedStream(key).normal(len(tally.total))) / (divisor_of(plan) * steps)
