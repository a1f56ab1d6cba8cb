"""One round at one site, many times with and without one picture: what its presence does to all that is released.

Canaries in one run are scored along their own gradients. A fault that lets one picture change the gradients of the
others (a loss that is weighted by the batch, a layer that mixes it) moves the sum elsewhere. So here nothing is
worked out: the site's own agent is asked for one round on two data sets that differ in one picture. With the same keys
their batches and noise are the same, and the difference of the two updates is what the picture did, to itself and to
others.

1. *Worst picture.* Extreme pictures with every label are tried in several scenes (``laboratory.py``); the one that
   moves updates furthest in one direction is taken.
2. *Sensitivity.* No picture may move the sum of a step by more than one clip. That is the premise of the proof, and
   needs no statistics. It is looked at in single steps of SGD without chance of their own, as what more steps do with a
   difference is no longer bounded by the clip.
3. *Trials.* By the toss of a coin the picture is there or not, in rounds with fresh batches and noise; each update is
   scored along the mean difference. The auditor may know who else joins, as the guarantee holds whoever does: what the
   others give is taken off. Trials are independent, so the bounds for canaries hold for them, against what one round is
   claimed to cost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.grid import plan_grid
from client.plan import Plan
from client.randomness import KeyedStream, SeededEntropy
from simulations.privacy_audit.laboratory import Laboratory, Scene, Vector
from simulations.threads import one_thread

LOOKED_AT = 3
"""Rounds in which each picture is tried."""

AVERAGED = 8
"""Rounds whose differences make the direction that updates are scored along."""

FIRST_TRIAL = 1 << 20
"""Number of the first trial's batch and noise: far from those that the direction was made of."""

ROUNDING = 1e-4
"""Share of an update below which a difference is rounding: the picture was not in the batch."""


@dataclass(frozen=True)
class Trials:
    """What many rounds with and without one picture came to.

    Attributes
    ----------
    picture : the picture that moved updates furthest in one direction, and its label.
    beside : among which pictures of the site.
    site : the site's name.
    coins, scores : (t,), whether the picture was there, and how far the update lay along what it does.
    moved : the largest difference, for any picture, of two sums that differ in it, over what the clip allows.
    """

    picture: str
    beside: str
    site: str
    coins: NDArray[np.bool_]
    scores: Vector
    moved: float


Told = Callable[[dict[str, Any]], None]
"""Is told how far the work is: "system", "round" and "rounds", as of the rounds of a run."""


def run_trials(laboratory: Laboratory, plan: Plan, count: int, seed: int, told: Told) -> Trials:
    """Look for the picture that moves a step most, and try a round of the plan with it ``count`` times."""
    with one_thread():
        scene, picture, moved = _worst(laboratory, plain_step(plan), told)
        direction = _direction(laboratory, plan, scene, picture)
        coins = KeyedStream(SeededEntropy(seed, "privacy audit").key(0, "trials")).uniform(count) < 0.5
        scores = np.zeros(count)
        for trial, coin in enumerate(coins):
            number = FIRST_TRIAL + trial
            found = laboratory.release(plan, scene, picture if coin else None, number, number)
            scores[trial] = (found - laboratory.release(plan, scene, None, number)) @ direction
            told({"system": "one_round", "round": trial + 1, "rounds": count})
    return Trials(laboratory.called(picture), scene.told, laboratory.name, coins, scores, moved)


def plain_step(plan: Plan) -> Plan:
    """Return a plan with the same net, loss, clip and noise, whose round is one step of SGD without dropout and views.

    Dropout and augmentation draw for a whole batch: with one picture more, the others' draws would move too.
    """
    assert plan.privacy is not None
    work = {"amount": 1, "optimizer": "sgd", "learning_rate": 1.0, "momentum": 0.0}
    still = {"weight_decay": 0.0, "proximal": 0.0, "augment": False}
    return replace(
        plan,
        model=replace(plan.model, dropout=0.0),
        local=replace(plan.local, **work, **still),
        privacy=replace(plan.privacy, views=1),
    )


def allowed_move(plan: Plan) -> float:
    """Return the largest 2-norm by which one picture may move what a :func:`plain_step` releases."""
    privacy, work = plan.privacy, plan.local
    assert privacy is not None
    if privacy.noise == "distributed":
        return plan_grid(plan).sensitivity
    return work.learning_rate * privacy.clip / (work.rate * privacy.nominal_units)


def _joined(
    laboratory: Laboratory, plan: Plan, scene: Scene, picture: int, wanted: int
) -> Iterator[tuple[int, Vector]]:
    """Yield the first rounds in which a picture's presence changes anything, and the change (T,).

    Fewer than ``wanted`` where it joins none for so long that it happens by a chance of e^-8 only.
    """
    patience = math.ceil(8 / min(1.0, plan.local.rate * plan.local.amount))
    found = 0
    for number in range(1, wanted * patience + 1):
        without = laboratory.release(plan, scene, None, number)
        change = laboratory.release(plan, scene, picture, number) - without
        if np.linalg.norm(change) > ROUNDING * np.linalg.norm(without):
            found += 1
            yield number, change
        if found == wanted:
            return


def _worst(laboratory: Laboratory, plan: Plan, told: Told) -> tuple[Scene, int, float]:
    """Return scene and picture that move rounds furthest in one direction, and the most clips that any moves them."""
    best, chosen, largest = -1.0, (laboratory.scenes[0], 0), 0.0
    tries = len(laboratory.scenes) * laboratory.count
    for place, scene in enumerate(laboratory.scenes):
        # Whether a picture joins a batch follows from the keys, whatever it shows.
        joined = [number for number, _ in _joined(laboratory, plan, scene, 0, LOOKED_AT)]
        without = [laboratory.release(plan, scene, None, number) for number in joined]
        for picture in range(laboratory.count if joined else 0):
            moves = [
                laboratory.release(plan, scene, picture, number) - before
                for number, before in zip(joined, without, strict=True)
            ]
            largest = max(largest, *(float(np.linalg.norm(move)) for move in moves))
            signal = float(np.linalg.norm(np.mean(moves, axis=0)))
            if signal > best:
                best, chosen = signal, (scene, picture)
            done = place * laboratory.count + picture + 1
            told({"system": "worst_picture", "round": done, "rounds": tries})
    return *chosen, largest / allowed_move(plan)


def _direction(laboratory: Laboratory, plan: Plan, scene: Scene, picture: int) -> Vector:
    """Return the mean of what a picture does to rounds that it joins, at unit length; zeros if it joins none."""
    changes = [change for _, change in _joined(laboratory, plan, scene, picture, AVERAGED)]
    if not changes:
        return 0.0 * laboratory.release(plan, scene, None, 1)
    mean = np.mean(changes, axis=0)
    return mean / np.linalg.norm(mean)
