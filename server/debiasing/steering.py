"""From secure sums to what sites are told in the next round: weights by group and class, and the strength of a critic.

Nothing here sees a site. Before the first round there are the label counts by group and class; after each round the
tally, in which every training picture of the round is one count by group, class and answer. Under privacy both carry
noise, and all that follows is post-processing.

*Weights.* "counts": w[g, c] = P(g) P(c) / P(g, c), which makes group and class independent (Kamiran and Calders 2012).
"errors": log w[g, c] = a[g] + b[c] by exponentiated gradients, after each round

    a[g] += eta (error[g] - error),    b[c] += eta (error[c] - error)

(the update of group minimax training: Mohri, Sivek and Suresh 2019; Diana et al. 2021). Adding up two short lists, and
not keeping one long one of cells, is what small groups and noise allow. Pictures count alike until :data:`AFTER` of the
rounds: a net first learns features from all that there is, and is weighed then (deferred re-weighting: Cao et al. 2019,
arXiv:1906.07413), which costs the larger groups less for what the smaller gain. Both lists are divided by their
maximum, for weights after the clip may be 1 at most, and cut at :data:`LEAST`. Both constants are multiplied by the
share of pictures whose group is disclosed: the fewer disclose it, the more their weights have to do for all. Pictures
whose group is undisclosed have what the groups have on average. Weights of classes beside those of groups stay within
:data:`BESIDE`: they keep the worst class where it was while groups are evened out, and with more say would take from
the smaller group what its weight gives it.

*Errors.* The tally is smoothed over rounds. An error rate is drawn towards that of everybody by k pictures, k several
deviations of the noise in their number: a group that the noise hides counts as an average one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.plan import Plan
from client.private_training import divisor_of
from client.told import Told
from server.debiasing.rules import Standing, rule_of, weighed

LEAST = 1 / 3
"""Smallest weight, of a largest of 1, where every group is disclosed."""

BESIDE = 0.6
"""Smallest weight of a class, of a largest of 1, where groups are weighed too."""

AFTER = 0.45
"""Share of the rounds in which pictures count alike, before errors weigh them, where every group is disclosed."""

FEWEST_DISCLOSED = 0.25
"""Share of disclosed pictures below which weights do no more than at it."""

KEPT, KEPT_PRIVATE = 0.8, 0.95
"""Share of the tally so far that is left after a round; more under privacy, to average noise out."""

DRAWN = 4.0
"""Deviations of the noise in a number of pictures by which its error rate is drawn towards everybody's."""

FEWEST = 1e-3
"""The same without noise, as a share of a round's pictures."""

RAISES, RAISE, MOST_STRENGTH = 20, 1.5, 100.0
"""How often a run may raise lambda, by how much, and up to what."""

POINTS = 60
"""Points of the record that a run keeps of its steering."""

Array = NDArray[np.float64]


class Steering:
    """Steers one run.

    Parameters
    ----------
    plan : has a fairness, and so groups.
    """

    def __init__(self, plan: Plan) -> None:
        assert plan.fairness is not None
        self._plan, self._fairness = plan, plan.fairness
        groups, classes = len(plan.disclosed), len(plan.labels)
        self._shares = np.full((groups + 1, classes), 1 / ((groups + 1) * classes))
        self._disclosed = 1.0
        self._group_log, self._class_log = np.zeros(groups), np.zeros(classes)
        self._rule, self._cells = rule_of(plan.fairness.weighting), np.ones((groups, classes))
        self._tally = np.zeros((groups + 1, classes, plan.answers))
        self._seen = self._squares = (
            0.0  # sums of the rounds' weights in the smoothed tally, and of their squares
        )
        self.strength = plan.fairness.strength
        self._record: list[dict[str, float]] = []

    def begin(self, counts: NDArray[np.int64]) -> None:
        """Take the label counts of all sites, one row of (G + 1) C."""
        kept = np.maximum(counts.reshape(self._shares.shape), 0).astype(np.float64)
        self._shares = (kept + 1) / (kept + 1).sum()
        self._disclosed = float(kept[:-1].sum() / max(kept.sum(), 1.0))

    # What sites are told

    def told(self, round_number: int, prior: tuple[float, ...] = ()) -> Told:
        """Return the public numbers of a round."""
        fairness, weights, balance = self._fairness, self.weights(), self.balance()
        strength = self.strength * fairness.ramped(round_number, self._plan.server.rounds)
        own = 1.0 if weights is None else float((self._shares * weights).sum())
        critic = float(self._shares[:-1].sum(1) @ balance)
        return Told(
            prior,
            strength if fairness.has_critic else 0.0,
            () if weights is None else tuple(map(tuple, weights.tolist())),
            tuple(balance.tolist()) if fairness.has_critic else (),
            (min(1.0, own), min(1.0, critic) if fairness.has_critic else 1.0),
        )

    def weights(self) -> Array | None:
        """Return the weights by group and class ((G + 1), C), the undisclosed last; None where all are 1."""
        if self._fairness.weighting == "none":
            return None
        found = self._by_counts() if self._fairness.weighting == "counts" else self._by_errors()
        return np.maximum(found / found.max(), self.least)

    @property
    def least(self) -> float:
        """The smallest weight."""
        return math.prod(self._floors)

    @property
    def _told(self) -> float:
        """The share of pictures whose group is disclosed, as far as it sets what weights may do."""
        return max(self._disclosed, FEWEST_DISCLOSED)

    @property
    def _begins(self) -> float:
        """The share of the rounds after which errors weigh pictures."""
        return AFTER * self._told

    @property
    def _floors(self) -> tuple[float, float]:
        """The smallest factor that a group has, and a class."""
        least, by = LEAST * self._told, self._fairness.by
        if self._fairness.weighting == "counts" or self._rule is not None or by == "group":
            return least, 1.0
        return (1.0, least) if by == "class" else (least, BESIDE)

    def _by_counts(self) -> Array:
        known = self._shares[:-1] / self._shares[:-1].sum()
        found = known.sum(1, keepdims=True) * known.sum(0) / known
        return np.vstack([found, np.ones(known.shape[1])])

    def _by_errors(self) -> Array:
        own = self._shares[:-1].sum(1)
        if self._rule is not None:
            return np.vstack([self._cells, own @ self._cells / own.sum()])
        logs = np.append(self._group_log, self._group_log @ own / own.sum())
        return np.exp(logs[:, None] + self._class_log)

    def balance(self) -> Array:
        """Return the weight of each disclosed group in the critic's loss (G,): the rarest counts like the largest."""
        own = self._shares[:-1].sum(1)
        rarest = max(float(own.min()), 0.25 * float(own.sum()) / len(own))
        return np.minimum(1.0, rarest / own)

    # What comes back

    def take(self, tally: Array, round_number: int) -> None:
        """Take a round's tally (K,), shares of the pictures seen, and set the next round's numbers."""
        if not self._plan.tally_size:
            return
        kept = KEPT if self._plan.privacy is None else KEPT_PRIVATE
        self._tally = kept * self._tally + (1 - kept) * tally.reshape(self._tally.shape)
        self._seen = kept * self._seen + (1 - kept)
        self._squares = kept**2 * self._squares + (1 - kept) ** 2
        if self._fairness.by_errors and round_number >= self._begins * self._plan.server.rounds:
            self._reweigh(round_number)
        gap = self.gap()
        period = max(1, self._plan.server.rounds // RAISES)
        tolerance = 1.0 if self._fairness.tolerance is None else self._fairness.tolerance
        if round_number % period == 0 and gap > tolerance:
            self.strength = min(MOST_STRENGTH, self.strength * RAISE)
        self._note(round_number, gap)

    def _reweigh(self, round_number: int) -> None:
        if self._rule is not None:
            found = weighed(self._rule, self._fairness.weighting, self._standing(round_number))
            self._cells = np.maximum(found / found.max(), self.least)
            return
        error, by_group, by_class = self.errors()
        if self._fairness.by in ("group", "cell"):
            self._group_log += self._fairness.step * (by_group - error)
        if self._fairness.by in ("class", "cell"):
            self._class_log += self._fairness.step * (by_class - error)
        for logs, floor in zip((self._group_log, self._class_log), self._floors, strict=True):
            np.maximum(logs - logs.max(), math.log(floor), out=logs)

    def _standing(self, round_number: int) -> Standing:
        right, seen = self._right()
        mean = np.clip(1 - right.sum(0) / np.maximum(seen.sum(0), FEWEST), 0, 1)
        return Standing(
            self._plan.disclosed,
            self._plan.labels,
            self._rates((seen - right)[:-1], seen[:-1], mean, 2),
            self._shares[:-1],
            self._cells,
            self._fairness.step,
            round_number,
            self._plan.server.rounds,
        )

    def _note(self, round_number: int, gap: float) -> None:
        rounds = self._plan.server.rounds
        if round_number % max(1, rounds // POINTS) and round_number != rounds:
            return
        point = {"round": round_number, "strength": self.strength, "gap": gap}
        self._record.append({key: round(value, 4) for key, value in point.items()})

    @property
    def tally(self) -> Array:
        """The smoothed tally (G + 1, C, answers)."""
        return self._tally / max(self._seen, 1e-9)

    def _drawn(self, cells: int) -> float:
        """Return by how many pictures, as a share of a round's, a rate over so many cells is drawn to everybody's."""
        privacy = self._plan.privacy
        if privacy is None:
            return FEWEST
        sites, steps = max(1, self._plan.most_sites), self._plan.local.amount
        deviation = privacy.noise_multiplier * self._plan.stretch * self._fairness.noise_ratio
        a_round = deviation / (divisor_of(self._plan) * math.sqrt(steps * sites))
        if privacy.noise == "distributed":
            a_round = deviation / (divisor_of(self._plan) * sites)
        return DRAWN * a_round * math.sqrt(cells * self._squares) / max(self._seen, 1e-9)

    def _right(self) -> tuple[Array, Array]:
        """Return right answers and all pictures by group and class, (G + 1, C) each."""
        tally = self.tally
        if self._fairness.tolerance_on == "parity":
            return np.diagonal(tally, axis1=1, axis2=2).copy(), tally.sum(2)
        return tally[:, :, 1], tally.sum(2)

    def errors(self) -> tuple[float, Array, Array]:
        """Return the error rate over all pictures, of each disclosed group (G,), and of each class (C,)."""
        right, seen = self._right()
        error = float(np.clip(1 - right.sum() / max(seen.sum(), FEWEST), 0, 1))
        groups, classes = right.shape
        by_group = self._rates((seen - right)[:-1].sum(1), seen[:-1].sum(1), error, 2 * classes)
        by_class = self._rates((seen - right).sum(0), seen.sum(0), error, 2 * groups)
        return error, by_group, by_class

    def _rates(self, some: Array, whole: Array, mean: float | Array, cells: int) -> Array:
        drawn = self._drawn(cells)
        return np.clip((some + drawn * mean) / np.maximum(whole + drawn, 1e-9), 0, 1)

    def gap(self) -> float:
        """Return the gap between the best and the worst disclosed group that the tolerance is about, 0 to 1."""
        if self._fairness.tolerance_on == "parity":
            predicted = self.tally.sum(1)  # (G + 1, C)
            seen = predicted.sum(1, keepdims=True)
            mean = predicted.sum(0) / max(predicted.sum(), FEWEST)
            rates = self._rates(predicted[:-1], seen[:-1], mean, predicted.shape[1])
            return float((rates.max(0) - rates.min(0)).max())
        right, seen = self._right()
        everybody = right.sum(0) / np.maximum(seen.sum(0), 1e-9)
        recall = self._rates(right[:-1], seen[:-1], np.clip(everybody, 0, 1), 2).mean(1)
        return float(recall.max() - recall.min())

    # Between processes, and for the report

    def facts(self) -> dict[str, Any]:
        """Return the state as plain data."""
        own = {} if self._rule is None else {"cells": self._cells.tolist()}
        return {
            **own,
            "shares": self._shares.tolist(),
            "disclosed": self._disclosed,
            "groups": self._group_log.tolist(),
            "classes": self._class_log.tolist(),
            "tally": self._tally.tolist(),
            "seen": [self._seen, self._squares],
            "strength": self.strength,
            "record": self._record,
        }

    def take_up(self, facts: Mapping[str, Any]) -> None:
        """Go on from the state that :meth:`facts` returned."""
        self._shares, self._tally = np.array(facts["shares"]), np.array(facts["tally"])
        self._disclosed = float(facts["disclosed"])
        self._group_log, self._class_log = np.array(facts["groups"]), np.array(facts["classes"])
        self._cells = np.array(facts.get("cells", self._cells))
        self._seen, self._squares = map(float, facts["seen"])
        self.strength = float(facts["strength"])
        self._record = [dict(point) for point in facts["record"]]

    def report(self) -> dict[str, Any]:
        """Return what is told of the finished run: its last weights, its lambda, and how it came there."""
        weights, tolerance = self.weights(), self._fairness.tolerance
        found: dict[str, Any] = {
            "groups": list(self._plan.disclosed),
            "shares": [round(float(each), 4) for each in self._shares.sum(1)],
            "weights": None if weights is None else np.round(weights, 4).tolist(),
            "strength": round(self.strength, 4) if self._fairness.has_critic else None,
            "record": self._record,
        }
        if tolerance is not None:
            found |= {"tolerance": tolerance, "gap": round(self.gap(), 4), "met": self.gap() <= tolerance}
        return found
