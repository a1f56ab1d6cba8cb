"""Statistics of the sites before training: tables of their training pictures by group and class.

A plan that asks for them names the attributes; each gives a table of groups by classes, the undisclosed in the last
row, and without an attribute there is one table of classes alone. The coordinator learns the sum over the sites.

Without privacy a site counts no cell by itself that has fewer pictures than the plan's smallest: such pictures go to
the undisclosed of their class. Where those are too few by themselves, the smallest cell of the class that is left joins
them; so a class has the same total in all tables, and nothing small is to be had as the difference of two totals. A
class that is itself too small is in no table. Where all such classes together are too small, the smallest class that is
left joins them, as how many pictures a site has may be known. Where the plan has label counts told as well, they tell
how many pictures a class has, and so do the tables: a class that is too small is undisclosed in them. Counts of other
plans could tell the rest by subtraction: :mod:`client.settled`.

With privacy such rules would let one picture move a count by more than one, so there are none: every count gets
discrete Laplace noise
(:mod:`client.label_counts`). One picture more or less changes one count of each table by one, so with A tables noise of
epsilon / A makes the whole release epsilon-differentially private. Where a person is the unit, one picture of each
person is counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from client.fairness import disclosed
from client.mechanisms import History, Mechanism
from client.privacy import COUNTS_EPSILON
from client.strict import nearest, require
from fer_models.errors import DataError, PrivacyError
from fer_models.labels import UNDISCLOSED

if TYPE_CHECKING:
    from client.plan import Plan
    from fer_models.samples import Samples

KIND = "statistics"
"""What the release is called in ledgers, and the session that it is for."""


@dataclass(frozen=True)
class Statistics:
    """What a plan asks sites to count before the first round.

    Attributes
    ----------
    by : attributes of :attr:`client.plan.Plan.groups`, a table each; () for one table of classes alone.
    smallest : fewest pictures of a count that is shown, and without privacy of one that leaves a site.
    epsilon : what all tables of a site cost, in pure epsilon, in a private plan; None without privacy.
    """

    by: tuple[str, ...] = ()
    smallest: int = 10
    epsilon: float | None = None

    def __post_init__(self) -> None:
        where = "statistics.smallest"
        require(self.smallest >= 1, f"counts of {self.smallest} pictures", where, "Give 10 or so.")
        require(len(set(self.by)) == len(self.by), "an attribute twice", "statistics.by", "Name each once.")
        least, most = COUNTS_EPSILON
        good = self.epsilon is None or least <= self.epsilon <= most
        what = f"statistics at epsilon {self.epsilon} are not in [{least}, {most}]"
        require(good, what, "statistics.epsilon", "Give 0.5 or so.")


def require_statistics(plan: Plan) -> None:
    """Refuse a plan whose statistics name what no site tells, or would be exact in a private plan.

    Raises
    ------
    ConfigError, PrivacyError : what is wrong.
    """
    asked = plan.statistics
    assert asked is not None
    for name in asked.by:
        known = list(plan.attributes)
        cure = nearest(name, known) if known else "Leave statistics.by empty."
        require(name in known, f"no site tells {name!r}", "statistics.by", cure)
    if (plan.privacy is None) != (asked.epsilon is None):
        raise PrivacyError(
            "exact counts of a private plan would tell who is there"
            if plan.privacy
            else "noise that no privacy asks for",
            where="statistics.epsilon",
            cure="Give 0.5 or so with privacy, and null without.",
        )
    if asked.smallest > 1 and plan.privacy is None and is_bare(plan):
        raise PrivacyError(
            f"tables of counts from {asked.smallest} pictures on, beside exact counts by group that tell the rest",
            where="statistics.smallest",
            cure="Use privacy.enabled=true with statistics.epsilon; or statistics.smallest=1, which hides nothing.",
        )


def is_bare(plan: Plan) -> bool:
    """Return whether a plan without privacy has sites count training pictures by group as they are, small or not: for
    fair training, for a rule of single sites, or for steps after the last round.
    """
    by_site = plan.server.by_site
    bare = plan.fairness is not None or plan.finish is not None or (by_site is not None and by_site.counts)
    return plan.privacy is None and bare


def shows_totals(plan: Plan) -> bool:
    """Return whether exact tables tell of every class how many pictures it has, as label counts of the plan do."""
    assert plan.statistics is not None
    return plan.counts_labels or plan.statistics.smallest == 1


def tables_of(plan: Plan) -> dict[str, tuple[str, ...]]:
    """Return the tables and their rows: attribute -> groups, the undisclosed last; "" -> one row, without any."""
    assert plan.statistics is not None
    by = plan.statistics.by
    return {name: (*disclosed(name, plan.attributes), UNDISCLOSED) for name in by} or {"": ("all",)}


def statistics_size(plan: Plan) -> int:
    """Return how many numbers all tables have."""
    return len(plan.labels) * sum(map(len, tables_of(plan).values()))


def cost_of_statistics(plan: Plan) -> History:
    """Return what the tables cost a site; nothing where they carry no noise."""
    asked, privacy = plan.statistics, plan.privacy
    if asked is None or asked.epsilon is None or privacy is None:
        return ()
    return (Mechanism("pure", 1 / asked.epsilon, unit=privacy.unit),)


def counted(plan: Plan, samples: Samples, rows: NDArray[np.intp], *, opted_out: bool) -> NDArray[np.int64]:
    """Return a site's tables as they are, one behind the other (:func:`statistics_size`,).

    Parameters
    ----------
    rows : pictures that count.
    opted_out : the site tells nobody's group: all are undisclosed.

    Raises
    ------
    DataError : the site has no such column, and has not opted out.
    """
    classes, found = len(plan.labels), []
    for name, groups in tables_of(plan).items():
        place = np.full(len(rows), len(groups) - 1, np.intp)
        if name and not opted_out:
            if name not in samples.groups:
                raise DataError(
                    f"no column tells {name!r}",
                    where=samples.name,
                    cure="Give the pictures that column, with undisclosed where it is not known, or opt the site out.",
                )
            column = samples.groups[name][rows]
            for index, value in enumerate(groups[:-1]):
                place[column == value] = index
        cells = place * classes + samples.label[rows]
        found.append(np.bincount(cells, minlength=len(groups) * classes))
    return np.concatenate(found).astype(np.int64)


def folded(plan: Plan, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return exact tables in which no count is smaller than the plan's smallest, 0 aside, and no difference tells one;
    where label counts are told, a class that is too small has its number as undisclosed.

    What is too small becomes undisclosed, and with it, from the smallest on, as many cells of the class as it takes for
    the undisclosed to be large enough (complementary suppression: Cox, JASA 1980). Classes that are left out are chosen
    in the same way.
    """
    assert plan.statistics is not None
    smallest, kept = plan.statistics.smallest, counts.copy()
    tables = list(split(plan, kept).values())  # views
    out = [] if shows_totals(plan) else _too_small(tables[0].sum(0), smallest)
    for table in tables:
        table[:, out] = 0
        for column in table.T:  # a class, the undisclosed last
            hidden = _too_small(column[:-1], smallest, int(column[-1]))
            column[-1] += column[hidden].sum()
            column[hidden] = 0
    return kept


def _too_small(sizes: NDArray[np.int64], smallest: int, hidden: int = 0) -> list[int]:
    """Return the places of sizes that are too small, and of those that hide them where they are too few together.

    Parameters
    ----------
    hidden : what is hidden with them in any case.
    """
    found: list[int] = []
    for place in np.argsort(sizes, kind="stable"):
        if sizes[place] >= smallest and not 0 < hidden < smallest:
            break
        hidden += int(sizes[place])
        found.append(int(place))
    return found


def with_noise(plan: Plan, counts: NDArray[np.int64], key: bytes) -> NDArray[np.int64]:
    """Return tables with noise; they can be negative.

    Parameters
    ----------
    key : of the noise.
    """
    from client.label_counts import discrete_laplace  # late: it brings torch, which reading a plan needs not
    from client.randomness import KeyedStream

    stream, epsilon = KeyedStream(key), _epsilon_of_count(plan)
    return counts + np.array([discrete_laplace(epsilon, stream) for _ in counts], np.int64)


def _epsilon_of_count(plan: Plan) -> Fraction:
    """Return the epsilon of the noise on each count, where every unit is counted once in each table."""
    from client.label_counts import exact

    assert plan.statistics is not None and plan.statistics.epsilon is not None
    return exact(plan.statistics.epsilon) / len(tables_of(plan))


def split(plan: Plan, counts: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """Return views of tables that stand one behind the other: attribute -> (groups, classes)."""
    classes, start, found = len(plan.labels), 0, {}
    for name, groups in tables_of(plan).items():
        end = start + len(groups) * classes
        found[name] = counts[start:end].reshape(len(groups), classes)
        start = end
    return found


def deviation(plan: Plan, sites: int) -> float:
    """Return the standard deviation of each count of a sum over so many sites, 0 without privacy."""
    from client.label_counts import variance_of

    assert plan.statistics is not None
    if plan.statistics.epsilon is None:
        return 0.0
    return math.sqrt(sites * variance_of(float(_epsilon_of_count(plan))))
