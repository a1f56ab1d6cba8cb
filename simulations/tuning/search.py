"""Which trials a search runs, within a budget of time.

Three stages: every kind of levers once at the middle epsilon; one lever at a time around the two best kinds; the best
of every kind at all epsilons, over several seeds, and the best of all once more with adjusted logits where the classes
are told to be uneven. What is run follows from the facts, from results (which repeat bit for bit) and from what trials
cost by :mod:`simulations.tuning.levers`, not from the clock; the clock only cuts stages short where trials take
longer than planned, and the same command then goes on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from simulations.trials import Result, Trial, run_trials
from simulations.tuning.facts import FIGURES, Facts, Proxy
from simulations.tuning.levers import Levers, adjusted, beside, first

SHARES = (0.4, 0.65)
"""Of the budget that may be planned for, and of the time that may have passed, when the first two stages end."""

START = 0.2
"""Of the budget that one start from drawn faces may cost, at most."""

SEEDS = 3
"""Runs of each finalist at each epsilon, at most."""

FINALISTS = 3
"""Kinds of levers, at most, that are tried at all epsilons."""

Wanted = tuple[Levers, float, int]
"""Levers, target epsilon, seed."""


@dataclass(frozen=True)
class Tried:
    """A trial that has run, and what came of it."""

    levers: Levers
    epsilon: float
    seed: int
    result: Result

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        result = {key: value for key, value in self.result.items() if key != "words"}
        return {**asdict(self.levers), "target_epsilon": self.epsilon, "seed": self.seed, **result}


class Search:
    """Runs trials and keeps what they came to.

    Parameters
    ----------
    told : called with each trial as it ends.
    """

    def __init__(self, facts: Facts, proxy: Proxy, folder: Path, told: Callable[[Tried], None]) -> None:
        self.facts, self._proxy, self._folder, self._told = facts, proxy, folder, told
        self.tried: dict[str, Tried] = {}
        self.stopped = False
        self._workers = facts.workers or os.cpu_count() or 1
        self._budget, self._planned = 60 * facts.budget_minutes * self._workers, 0.0
        self._began = time.monotonic()
        self._started: set[str] = set()

    def run(self) -> None:
        """Run all stages."""
        facts = self.facts
        ordered = sorted(set(facts.target_epsilon))
        middle = ordered[len(ordered) // 2]
        begin = first(facts.noise, facts.nets, pretraining=facts.faces > 0)
        kinds = self._that_fit([(levers, middle, 0) for levers in begin], SHARES[0])
        self._run(kinds or [(begin[0], middle, 0)], SHARES[0], at_least=1)
        for place in range(2):
            best = self.best_by_kind(middle)
            if place < len(best):
                around = [(levers, middle, 0) for levers in beside(best[place])]
                self._run(self._that_fit(around, SHARES[1]), SHARES[1])
        self._run(self._finals(self.best_by_kind(middle), ordered), 1.0, at_least=len(ordered))

    def best_by_kind(self, epsilon: float) -> list[Levers]:
        """Return the best levers of each kind at an epsilon, by the first seed, the best kind first."""
        found: dict[tuple[str, str, bool], Tried] = {}
        for each in self.tried.values():
            if (each.epsilon, each.seed) == (epsilon, 0) and "refused" not in each.result:
                kind = each.levers.kind
                found[kind] = max(found.get(kind, each), each, key=self._figure)
        return [each.levers for each in sorted(found.values(), key=self._figure, reverse=True)]

    def _figure(self, tried: Tried) -> float:
        return float(tried.result[self.facts.by] or 0)

    def _that_fit(self, wanted: Sequence[Wanted], share: float) -> list[Wanted]:
        """Return those of the trials that a share of the budget has room for, cheap ones also after dear ones."""
        kept: list[Wanted] = []
        for each in wanted:
            cost, own = self._cost(each[0]), self._cost(replace(each[0], pretrained=False))
            if cost - own <= START * self._budget and self._planned + cost <= share * self._budget:
                self._plan(each[0], cost)
                kept.append(each)
        return kept

    def _finals(self, best: Sequence[Levers], epsilons: Sequence[float]) -> list[Wanted]:
        """Return the trials of the finalists: as many of them as can be tried at every epsilon, as often as fits.

        The best one is tried at every epsilon whatever the budget says.
        """
        finalists: list[Levers] = []
        twins = adjusted(best[0]) if best and self.facts.uneven else []
        for levers in [*best[:1], *twins, *best[1:FINALISTS]]:
            cost = len(epsilons) * self._cost(levers)
            if not finalists or self._planned + cost <= self._budget:
                self._plan(levers, cost)
                finalists.append(levers)
        again = len(epsilons) * sum(map(self._cost, finalists))
        seeds = 1
        while finalists and seeds < SEEDS and self._planned + again <= self._budget:
            self._planned, seeds = self._planned + again, seeds + 1
        return [(levers, e, seed) for seed in range(seeds) for levers in finalists for e in epsilons]

    def _plan(self, levers: Levers, cost: float) -> None:
        self._planned += cost
        if levers.pretrained:
            self._started.add(levers.net)

    def _cost(self, levers: Levers) -> float:
        """Return about how many CPU seconds a trial takes, with its start where no other has needed it."""
        facts = self.facts
        own = levers.seconds(facts.size, facts.trained, facts.judged)
        return own + (0.0 if levers.net in self._started else levers.start_seconds(facts.size, facts.faces))

    def _run(self, wanted: Sequence[Wanted], share: float, *, at_least: int = 0) -> None:
        """Run trials a few at a time, until all have run or a share of the time is over.

        Parameters
        ----------
        at_least : so many run whatever the clock says, so that every search ends with a frontier.
        """
        size = max(2 * self._workers, at_least)
        wanted = [each for each in wanted if self._trial(*each).key not in self.tried]
        until = self._began + 60 * share * self.facts.budget_minutes
        for start in range(0, len(wanted), size):
            part, must = wanted[start : start + size], at_least > 0 and start == 0
            trials = {(trial := self._trial(*each)).key: (trial, each) for each in part}
            known = all(trial.result is not None for trial, _ in trials.values())
            if time.monotonic() > until and not known and not must:
                self.stopped = True
                return
            run_trials(
                [trial for trial, _ in trials.values()],
                self._workers,
                lambda trial, result, trials=trials: self._told(Tried(*trials[trial.key][1], result)),
            )
            for key, (trial, each) in trials.items():  # in the order of the plan, whichever ended first
                self.tried[key] = Tried(*each, trial.result or {})

    def _trial(self, levers: Levers, epsilon: float, seed: int) -> Trial:
        words = [*self.facts.words(), *levers.words(), *levers.private_words(epsilon)]
        words += ["pretrain=faces", f"pretrain.faces={self.facts.faces}"] if levers.pretrained else []
        words += [f"seed={self.facts.seed + seed}"]
        return Trial(tuple(words), self._proxy.samples, self._proxy.partition, self._folder)


@dataclass(frozen=True)
class Point:
    """Levers at an epsilon, over seeds.

    Attributes
    ----------
    figures : name -> one value a seed.
    """

    levers: Levers
    epsilon: float
    figures: dict[str, list[float]]

    @property
    def runs(self) -> int:
        """How many seeds."""
        return len(self.figures[FIGURES[0]])

    def mean(self, name: str) -> float:
        """Return the mean over the seeds."""
        return float(np.mean(self.figures[name]))


def frontier(search: Search) -> list[Point]:
    """Return the choices that were tried most often at each epsilon, by epsilon, the best first."""
    groups: dict[tuple[Levers, float], list[Tried]] = {}
    for each in search.tried.values():
        if "refused" not in each.result:
            groups.setdefault((each.levers, each.epsilon), []).append(each)
    points = [
        Point(levers, e, {name: [float(one.result[name] or 0) for one in some] for name in FIGURES})
        for (levers, e), some in groups.items()
    ]
    most = {e: max(point.runs for point in points if point.epsilon == e) for e in {p.epsilon for p in points}}
    kept = [point for point in points if point.runs == most[point.epsilon]]
    return sorted(kept, key=lambda point: (point.epsilon, -point.mean(search.facts.by)))
