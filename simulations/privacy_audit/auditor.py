"""Watches the rounds of a run with canaries, and scores each canary by what its site sent."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from flwr.app import RecordDict
from numpy.typing import NDArray

from client.messages import text
from client.plan import Plan
from client.question import Question
from client.training import people_of
from client.workbench import Workbench
from fer_models.samples import Samples
from server.aggregation import aggregate_of
from server.asking import answer_of
from server.run_folder import write_bytes
from simulations.partition import Partition
from simulations.privacy_audit.canaries import Canaries
from simulations.privacy_audit.evidence import Round, log_odds, round_of
from simulations.privacy_audit.gradients import Units
from simulations.privacy_audit.lens import Lens


def units_of(samples: Samples, rows: NDArray[np.intp], plan: Plan) -> tuple[NDArray[np.intp], list[int]]:
    """Return rows with those of one unit of privacy next to each other, and the rows of each unit."""
    if plan.privacy is None or plan.privacy.unit == "record":
        return rows, [1] * len(rows)
    people = people_of(samples, rows)
    return rows[np.concatenate(people)], [len(own) for own in people]


class Auditor:
    """Sees every update of every site, as a coordinator does, and knows all but noise, batches and coins.

    Parameters
    ----------
    plan : what the sites are asked for.
    names : of the sites, in the order of their numbers.
    samples, division : the real pictures, without canaries, and who holds which.
    canaries : what was thrown in.
    folder : where each round's log odds are kept, so that a run that was killed can go on.
    device : where the net is.
    """

    def __init__(
        self,
        plan: Plan,
        names: list[str],
        samples: Samples,
        division: Partition,
        canaries: Canaries,
        folder: Path,
        device: str = "cpu",
    ) -> None:
        self._plan, self._numbers, self._folder = plan, {name: i for i, name in enumerate(names)}, folder
        self._samples, self._division, self._canaries = samples, division, canaries
        self._bench = Workbench(plan, torch.device(device))
        self._distributed = plan.privacy is not None and plan.privacy.noise == "distributed"
        self._lenses: dict[tuple[int, ...], tuple[Lens, Round]] = {}

    def began(self, question: Question) -> None:
        """Keep a round's question, and let the loss go by its shares of the classes."""
        self._bench.expect(question.told, partial=self._samples.known is not None)
        self._question, self._answered = question, []
        self._odds = np.zeros(len(self._canaries))
        self._sum = aggregate_of(self._plan, len(self._bench.flat.trained))

    def saw(self, content: RecordDict) -> None:
        """Score a site's canaries by its update; with distributed noise wait for the sum, which alone is released."""
        site = self._numbers[text(content, "site")]
        judged, size = self._question.judged is not None, len(self._bench.flat.trained)
        update, *_ = answer_of(content, self._plan, self._sum.kind, size, judged=judged)
        if self._distributed:
            self._sum.add(update, 1.0)
            self._answered.append(site)
        else:
            self._score((site,), update)

    def ended(self) -> None:
        """Keep what the round said."""
        if self._distributed:
            self._score(tuple(sorted(self._answered)), self._sum.mean().numpy())
        file = io.BytesIO()
        np.save(file, self._odds, allow_pickle=False)
        write_bytes(self._path(self._question.round_number), file.getvalue())

    def _score(self, sites: tuple[int, ...], update: NDArray[np.floating]) -> None:
        own = np.flatnonzero(np.isin(self._canaries.site, sites))
        if not len(own):
            return
        if sites not in self._lenses:
            if self._distributed:  # who takes part may change with every round
                self._lenses.clear()
            units = self._units(sites, own)
            self._lenses[sites] = Lens(self._bench, units), round_of(self._plan)
        lens, mechanism = self._lenses[sites]
        self._odds[own] = log_odds(
            lens.products(self._question.vector, update, mechanism), len(own), mechanism
        )

    def _path(self, round_number: int) -> Path:
        return self._folder / f"round-{round_number:06d}.npy"

    def has(self, rounds: int) -> bool:
        """Whether the first ``rounds`` rounds were seen."""
        return all(self._path(number).exists() for number in range(1, rounds + 1))

    def scores(self, rounds: int) -> NDArray[np.float64]:
        """Return each canary's log odds (m,), added up over the rounds."""
        seen = [np.load(self._path(number), allow_pickle=False) for number in range(1, rounds + 1)]
        return np.sum(seen, axis=0)

    def _units(self, sites: tuple[int, ...], own: NDArray[np.intp]) -> Units:
        """Return all who may have added to an update of some sites, the canaries first."""
        canaries, plan = self._canaries, self._plan
        held = [self._division.rows(site, self._samples, "train") for site in sites]
        rows, sizes = units_of(self._samples, np.concatenate(held), plan)
        return Units(
            np.concatenate([canaries.pictures[own], self._samples.pictures[rows]]),
            np.concatenate([canaries.targets(len(plan.labels))[own], targets_of(self._samples, rows, plan)]),
            [1] * len(own) + sizes,
            len(own),
        )


def targets_of(samples: Samples, rows: NDArray[np.intp], plan: Plan) -> NDArray[np.float32]:
    """Return the label distributions (n, C) that a plan trains on."""
    return (samples if plan.local.targets == "votes" else replace(samples, votes=None)).targets(rows)
