"""What a site sends in a session of secure aggregation, and what the coordinator reads of a sum.

A plan and a purpose fix the layout of the vector, so that a site works it out by itself and compares.

=============  ====================================================================================================
purpose        what adds up
=============  ====================================================================================================
train          the update times the weight, or with distributed noise a share of a sum of gradients; in fair training
               the tally behind it; with SCAFFOLD the change of the control variate times the weight, as a second
               segment; without privacy the training loss and the pictures seen; CPU time; with an evaluation also
               its counts
evaluate       test pictures by group, true and predicted class (:mod:`fer_models.counts`), or their tables with noise
               (:mod:`client.audit_counts`); where the plan asks for it sums over the people on them
               (:mod:`fer_models.people`); CPU time
label_counts   training pictures of each class, in fair training of each group and class
statistics     training pictures by group and class, a table an attribute (:mod:`client.statistics`)
moments        what a step after the last round adds up over training pictures (:mod:`client.finish`)
=============  ====================================================================================================

The loss travels as a whole number: the mean loss a picture times the pictures, in steps of 2^-16. Under privacy there
is none, and the pictures seen are those that the plan's public constants make one expect. CPU time is in microseconds,
and 0 from a site that is not simulated: it follows the size of the site. Counts with noise may be negative, so
:data:`OFFSET` is added to each, and taken off as often as there are survivors.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from client.audit_counts import audit_size, is_noisy
from client.finish import size_of, step_of
from client.scaffold import largest_change
from client.secagg.encoding import LARGEST, Layout, Segment
from client.statistics import statistics_size
from fer_models.counts import Counts, vector_size
from fer_models.people import people_size

if TYPE_CHECKING:  # which need nets, and this does not
    from client.agent import Update
    from client.plan import Plan

Purpose = Literal["train", "evaluate", "label_counts", "moments", "statistics"]

MOST = 1 << 40
"""Largest count of pictures, and largest CPU time in microseconds, of one site in one session."""

MOST_SUM = 1 << 48
"""Largest sum over the people of one site, of squares and products of their pictures."""

LOSS_STEPS = 1 << 16
"""Steps in a loss of 1."""

MOST_LOSS = 1 << 48
"""Largest loss of one site, summed over its pictures, in steps; what lies beyond is cut."""

OFFSET = 1 << 40
"""What is added to a count with noise."""

MOMENTS = 1 << 47
"""Largest size of one site's sum of features, in steps; it is added to each, as sums may be negative."""

Values = dict[str, NDArray[Any]]


@functools.lru_cache(maxsize=16)
def layout_of(plan: Plan, purpose: Purpose, numbers: int = 0, *, evaluates: bool = False) -> Layout:
    """Return the layout of a session of a plan with secure aggregation.

    Parameters
    ----------
    numbers : T + K, or with SCAFFOLD T + T, how many numbers of an update travel, or P, how many moments.
    evaluates : whether training comes with counts of an evaluation.

    Raises
    ------
    ConfigError : sums of the plan's sites could overflow.
    """
    assert plan.secure is not None
    secure = plan.secure.of(purpose)
    counts = Segment("counts", "exact", vector_size(plan.labels, plan.attributes), MOST)
    cpu = Segment("cpu", "exact", 1, MOST)
    if purpose == "label_counts":
        parts = [Segment("label_counts", "exact", math.prod(plan.counted), MOST + OFFSET)]
    elif purpose == "statistics":
        parts = [Segment("statistics", "exact", statistics_size(plan), MOST + OFFSET)]
    elif purpose == "evaluate":
        parts = [
            Segment("audit", "exact", audit_size(plan), MOST + OFFSET) if is_noisy(plan) else counts,
            cpu,
        ]
        if plan.server.people:
            parts.append(Segment("people", "exact", people_size(plan.labels, plan.attributes), MOST_SUM))
    elif purpose == "moments":
        parts = [Segment("moments", "exact", numbers, 2 * MOMENTS)]
    else:
        if plan.privacy is not None and plan.privacy.noise == "distributed":
            updates = [Segment("update", "whole", numbers, LARGEST[0] // secure.sites)]
        elif plan.local.scaffold:
            half = numbers // 2
            own = Segment("control", "fixed", half, clip=largest_change(plan))
            updates = [Segment("update", "fixed", half, clip=secure.clip), own]
        else:
            updates = [Segment("update", "fixed", numbers, clip=secure.clip)]
        parts = [*updates, cpu, *([counts] if evaluates else [])]
        if plan.privacy is None:
            parts += [Segment("loss", "exact", 1, MOST_LOSS), Segment("visits", "exact", 1, MOST)]
    return Layout(tuple(parts), secure.sites, secure.largest_weight)


def session_layout(plan: Plan, purpose: str, round_number: int, numbers: int) -> Layout:
    """Return the layout of a plan's session: that of its purpose, with the counts of a round in which sites evaluate.

    ``numbers`` is T + K, how many numbers of an update travel.
    """
    if purpose == "moments":
        return layout_of(plan, "moments", size_of(plan, step_of(plan, round_number)))
    evaluates = purpose == "train" and plan.judges_in(round_number)
    return layout_of(plan, cast("Purpose", purpose), numbers, evaluates=evaluates)


# At the site


def trained(plan: Plan, update: Update, cpu_seconds: float, counts: Counts | None) -> Values:
    """Return what a site sends of a round; ``cpu_seconds`` is 0 where the site is not simulated."""
    values: Values = {"update": update.delta, "cpu": _time(cpu_seconds)}
    if plan.local.scaffold:
        values["update"], values["control"] = np.split(update.delta, 2)
    if counts is not None:
        values["counts"] = counts.to_vector()
    if plan.privacy is None:
        loss = min(round(update.loss * update.visits * LOSS_STEPS), MOST_LOSS)
        values |= {"loss": np.array([loss]), "visits": np.array([update.visits])}
    return values


def evaluated(counts: Counts, cpu_seconds: float) -> Values:
    """Return what a site sends of an evaluation by itself."""
    people = {} if counts.people is None else {"people": counts.people.to_vector()}
    return {"counts": counts.to_vector(), "cpu": _time(cpu_seconds), **people}


def audited(counts: NDArray[np.int64], cpu_seconds: float) -> Values:
    """Return what a site sends of an evaluation whose counts carry noise."""
    return {"audit": np.clip(counts, -OFFSET, MOST) + OFFSET, "cpu": _time(cpu_seconds)}


def labelled(counts: NDArray[np.int64]) -> Values:
    """Return what a site sends of its label counts; one beyond the offset, which no site can have, is cut."""
    return {"label_counts": np.clip(counts, -OFFSET, MOST) + OFFSET}


def tabled(counts: NDArray[np.int64]) -> Values:
    """Return what a site sends of its tables; a count beyond the offset, which no site can have, is cut."""
    return {"statistics": np.clip(counts, -OFFSET, MOST) + OFFSET}


def summed(moments: NDArray[np.int64]) -> Values:
    """Return what a site sends of its moments (P,); a sum that no site can have is cut."""
    return {"moments": np.clip(moments, -MOMENTS, MOMENTS) + MOMENTS}


def _time(seconds: float) -> NDArray[np.int64]:
    return np.array([min(max(0, round(seconds * 1e6)), MOST)])


# At the coordinator


@dataclass(frozen=True)
class Sum:
    """What a sum over sites holds.

    Attributes
    ----------
    sites : how many sites it is over.
    weight : sum of their weights.
    update : (T + K,), float64 the sum of weights times updates (T + T, with SCAFFOLD), or int64 the sum of shares; None
        where nothing trained.
    loss : mean training loss a picture, 0 under privacy.
    visits : training pictures seen.
    cpu_seconds : of local work and evaluation.
    counts : of all sites' test pictures, None where nothing was evaluated.
    label_counts : int64 (C,) or ((G + 1) C,), None where they were not asked for.
    moments : int64 (P,), in steps; None where they were not asked for.
    statistics : int64, tables one behind the other; None where they were not asked for.
    audit : int64, tables of test pictures with noise; None where counts carry none.
    """

    sites: int
    weight: int
    update: NDArray[Any] | None = None
    loss: float = 0.0
    visits: int = 0
    cpu_seconds: float = 0.0
    counts: Counts | None = None
    label_counts: NDArray[np.int64] | None = None
    moments: NDArray[np.int64] | None = None
    statistics: NDArray[np.int64] | None = None
    audit: NDArray[np.int64] | None = None


def read_sum(plan: Plan, layout: Layout, total: bytes | bytearray, survivors: int) -> Sum:
    """Return what an unmasked vector holds.

    Raises
    ------
    SecureAggregationError : it is no sum of so many vectors of that layout.
    DataError : counts that do not fit each other.
    """
    found = cast("Mapping[str, NDArray[Any]]", layout.decode(total, survivors))
    visits, loss = survivors * plan.expected_visits if "update" in found else 0, 0.0
    if "visits" in found:
        visits = int(found["visits"][0])
        loss = int(found["loss"][0]) / LOSS_STEPS / max(1, visits)
    update, counts = found.get("update"), found.get("counts")
    if update is not None and "control" in found:
        update = np.concatenate([update, found["control"]])
    labels, moments, audit = (found.get(name) for name in ("label_counts", "moments", "audit"))
    tables = found.get("statistics")
    return Sum(
        survivors,
        int(found["weight"][0]),
        update,
        loss,
        visits,
        int(found["cpu"][0]) / 1e6 if "cpu" in found else 0.0,
        None if counts is None else Counts.told(counts, found.get("people"), plan.labels, plan.attributes),
        None if labels is None else labels - survivors * OFFSET,
        None if moments is None else moments - survivors * MOMENTS,
        None if tables is None else tables - survivors * OFFSET,
        None if audit is None else audit - survivors * OFFSET,
    )
