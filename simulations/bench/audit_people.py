"""The study of :mod:`simulations.bench.audit_coverage` with people who have many rows each and differ from each other.

A person is recognised well or badly, in all classes alike: the person's recall of a class is drawn around the class's
from a beta distribution, at the same quantile for all classes. Over people the chances are those of the other study, so
the true figures are, too; rows of one person are not independent.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from fer_models.counts import Counts
from fer_models.labels import EXPRESSIONS
from fer_models.parity import SMALLEST
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

ALL_ALIKE, UNEQUAL = "90 people of 34 rows", "300 people of 10 rows on average"
"""Kinds of test sets, of some 3,000 rows each: as many people as CREMA-D has actors, with as many rows each; and many
people with few rows or some dozens, geometrically distributed, as pictures from the web have."""

ALIKE = 8.0
"""Parameters of the beta distribution of a recall sum to it: a deviation of .15 where the mean recall is .7."""


BOOTSTRAP = 400
"""Draws of people, with replacement, of a bootstrap that the closed form is held beside."""


class Rows(NamedTuple):
    """A test set row by row, all int64 (N,): who is on it, of which group, its class and what it was called."""

    person: NDArray[np.int64]
    group: NDArray[np.int64]
    true: NDArray[np.int64]
    predicted: NDArray[np.int64]


def study_people(draws: int, seed: int = 0) -> dict[str, float]:
    """Return ``people.coverage``, ``people.false_alarm`` and so on, as :func:`summary` names them, over ``draws`` test
    sets of each kind with a gap and as many without; ``people.coverage_row_wise``, that of accuracy if rows were
    independent, the lowest of a kind of test set; and

    ``people.width_over_bootstrap`` : the width of accuracy's interval over that of a percentile bootstrap of people;
    ``people.bootstrap_coverage`` : that of the bootstrap's intervals of accuracy;
    ``people.bootstrap_false_alarm`` : how often the bootstrap states a gap in accuracy where there is none.
    """
    tally, rows, rng = Tally(), Tally(), np.random.default_rng(seed)
    boots, ratios = Tally(), []
    for kind, gap in product((ALL_ALIKE, UNEQUAL), (False, True)):
        truth = chances(gap)
        rules = limits_at(truth)
        tally.test_set = rows.test_set = f"{kind}, {'a' if gap else 'no'} gap"
        for number in range(draws):
            table = rows_of(rng, truth, kind)
            counts = counts_of(table)
            compare(tally, truth, counts, rules)
            whole = (
                Counts(counts.labels, {}, counts.overall).effect().limits("accuracy", *_right(counts), 0.95)
            )
            rows.add("accuracy", "", float(np.trace(truth.sum(0))), whole[0].tolist())
            limits = bootstrap(np.random.default_rng([seed, kind == UNEQUAL, gap, number]), table)
            boots.add("accuracy", "", float(np.trace(truth.sum(0))), limits["accuracy"])
            if not gap:
                boots.add("gap", "", 0.0, limits["gap"], 0.0)
            closed = counts.effect().limits("accuracy", *_right(counts), 0.95)[0]
            ratios.append(np.ptp(closed) / np.ptp(limits["accuracy"]))
    found = {key: rate for key, rate in summary(tally, draws).items() if "." not in key}
    found["coverage_row_wise"] = min(held / times for held, times in rows.held.values())
    found["width_over_bootstrap"] = float(np.mean(ratios))
    held, times = boots.held["accuracy", "", ""]
    alarms, chances_of_alarm = boots.alarms["gap", "", ""]
    found |= {"bootstrap_coverage": held / times, "bootstrap_false_alarm": alarms / chances_of_alarm}
    return {f"people.{key}": rate for key, rate in found.items()}


def bootstrap(rng: np.random.Generator, table: Rows) -> dict[str, list[float]]:
    """Return the percentile intervals of accuracy and of its gap between groups of a bootstrap of people."""
    people = int(table.person[-1]) + 1
    hits, n = np.zeros((people, len(GROUPS))), np.zeros((people, len(GROUPS)))
    np.add.at(hits, (table.person, table.group), table.true == table.predicted)
    np.add.at(n, (table.person, table.group), 1)
    weight = rng.multinomial(people, np.full(people, 1 / people), BOOTSTRAP)
    x, rows = weight @ hits, weight @ n
    rates = np.divide(x, rows, out=np.full_like(x, np.nan), where=rows > 0)[:, n.sum(0) >= SMALLEST]
    figures = {"accuracy": x.sum(1) / rows.sum(1), "gap": np.nanmax(rates, 1) - np.nanmin(rates, 1)}
    return {name: np.quantile(each, (0.025, 0.975)).tolist() for name, each in figures.items()}


def _right(counts: Counts) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.trace(counts.overall)[None], counts.overall.sum(keepdims=True)[0]


def drawn(rng: np.random.Generator, truth: Chances) -> Counts:
    """Return the counts of a test set of people, with the sums over them."""
    return counts_of(rows_of(rng, truth))


def rows_of(rng: np.random.Generator, truth: Chances, kind: str = ALL_ALIKE) -> Rows:
    """Return the rows of a test set of people, person by person."""
    each = np.full(90, 34) if kind == ALL_ALIKE else rng.geometric(0.1, 300)
    group = np.repeat(rng.choice(len(GROUPS), len(each), p=SHARES), each)
    person = np.repeat(np.arange(len(each)), each)
    own = truth / truth.sum(2, keepdims=True)
    true = _choice(rng, (truth.sum(2) / truth.sum((1, 2))[:, None])[group])
    recall = own[group, true, true]
    skill = rng.random(len(each))[person]
    right = rng.random(len(person)) < betaincinv(ALIKE * recall, ALIKE * (1 - recall), skill)
    wrong = own[group, true].copy()
    wrong[np.arange(len(person)), true] = 0
    predicted = np.where(right, true, _choice(rng, wrong / wrong.sum(1, keepdims=True)))
    return Rows(person, group, true, predicted)


def counts_of(table: Rows) -> Counts:
    """Return the counts of a test set, with the sums over its people."""
    column = {"group": np.array(GROUPS)[table.group]}
    counts = Counts.of(table.true, table.predicted, EXPRESSIONS, column, {"group": GROUPS})
    rows = table.person, table.true, table.predicted
    return replace(counts, people=People.of(*rows, len(EXPRESSIONS), column, counts.groups))


def _choice(rng: np.random.Generator, chances: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return a class a row (N,), by the chances of each row (N, C)."""
    ends = chances.cumsum(1)
    return (rng.random((len(chances), 1)) * ends[:, -1:] > ends).sum(1)
