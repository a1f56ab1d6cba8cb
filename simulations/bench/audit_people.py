"""The study of :mod:`simulations.bench.audit_coverage` with people who have many rows each and differ from each other.

A person is recognised well or badly, in all classes alike: the person's recall of a class is drawn around the class's
from a beta distribution, at the same quantile for all classes. Over people the chances are those of the other study, so
the true figures are, too; rows of one person are not independent.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from fer_models.counts import Counts
from fer_models.labels import EXPRESSIONS
from fer_models.people import People
from simulations.bench.audit_coverage import (
    GROUPS,
    SHARES,
    Chances,
    Tally,
    chances,
    compare,
    limits_at,
    summary,
)

PEOPLE, ROWS = 90, 34
"""People of a test set, as many as CREMA-D has actors, and rows of each: some 3,068 rows together."""

ALIKE = 8.0
"""Parameters of the beta distribution of a recall sum to it: a deviation of .15 where the mean recall is .7."""


def study_people(draws: int, seed: int = 0) -> dict[str, float]:
    """Return ``people.coverage``, ``people.false_alarm`` and so on, as :func:`summary` names them, over ``draws`` test
    sets with a gap and as many without; and ``people.coverage_row_wise``, that of accuracy if rows were independent.
    """
    tally, rows, rng = Tally(), Tally(), np.random.default_rng(seed)
    for gap in (False, True):
        truth = chances(gap)
        rules = limits_at(truth)
        tally.test_set = f"{PEOPLE} people, {'a' if gap else 'no'} gap"
        for _ in range(draws):
            counts = drawn(rng, truth)
            compare(tally, truth, counts, rules)
            plain = Counts(counts.labels, {}, counts.overall)
            whole = plain.effect().limits("accuracy", *_right(plain), 0.95)[0]
            rows.add("accuracy", "", float(np.trace(truth.sum(0))), whole.tolist())
    found = {key: rate for key, rate in summary(tally, draws).items() if "." not in key}
    found["coverage_row_wise"] = min(held / times for held, times in rows.held.values())
    return {f"people.{key}": rate for key, rate in found.items()}


def _right(counts: Counts) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.trace(counts.overall)[None], counts.overall.sum(keepdims=True)[0]


def drawn(rng: np.random.Generator, truth: Chances) -> Counts:
    """Return the counts of a test set of people, with the effect of their rows."""
    group = np.repeat(rng.choice(len(GROUPS), PEOPLE, p=SHARES), ROWS)
    person = np.repeat(np.arange(PEOPLE), ROWS)
    own = truth / truth.sum(2, keepdims=True)
    true = _choice(rng, (truth.sum(2) / truth.sum((1, 2))[:, None])[group])
    recall = own[group, true, true]
    skill = rng.random(PEOPLE)[person]
    right = rng.random(len(person)) < betaincinv(ALIKE * recall, ALIKE * (1 - recall), skill)
    wrong = own[group, true].copy()
    wrong[np.arange(len(person)), true] = 0
    predicted = np.where(right, true, _choice(rng, wrong / wrong.sum(1, keepdims=True)))
    column = {"group": np.array(GROUPS)[group]}
    counts = Counts.of(true, predicted, EXPRESSIONS, column, {"group": GROUPS})
    people = People.of(person, true, predicted, len(EXPRESSIONS), column, counts.groups)
    return replace(counts, people=people)


def _choice(rng: np.random.Generator, chances: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return a class a row (N,), by the chances of each row (N, C)."""
    ends = chances.cumsum(1)
    return (rng.random((len(chances), 1)) * ends[:, -1:] > ends).sum(1)
