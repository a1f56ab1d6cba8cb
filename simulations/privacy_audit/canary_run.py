"""Trains once with canaries, then tries one round many times, and bounds epsilon from below.

All of it goes through the sites' own code.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import OmegaConf

from client.accounting import epsilon_of
from client.limits import cost_beside, cost_of_round
from client.mechanisms import merged, repeated
from client.plan import Plan
from client.strict import require
from fer_models.errors import ConfigError
from fer_models.flat import FlatModel
from fer_models.intervals import auc_interval
from fer_models.metrics import accuracy
from fer_models.samples import Samples
from fer_models.zoo import build
from server.results import Result
from server.rounds import Coordinator
from server.run_folder import RunFolder
from simulations.fairness import is_fair
from simulations.federated import Sites, choose_device, local_grid, require_engine
from simulations.prepare import most_rounds, prepare
from simulations.pretraining import identity, start_of
from simulations.privacy_audit.auditor import Auditor, targets_of
from simulations.privacy_audit.bounds import (
    canaries_needed,
    guessed,
    largest,
    most_provable,
)
from simulations.privacy_audit.canaries import insert, make_canaries
from simulations.privacy_audit.inference import Inference, area, by_person, infer, losses
from simulations.privacy_audit.laboratory import Laboratory
from simulations.privacy_audit.trials import run_trials
from simulations.privacy_audit.verdict import judged
from simulations.privacy_audit.watch import WatchedGrid
from simulations.settings import Settings

SYSTEM = "federated"
"""Name of the run in its folder: it is the federated system, with some more pictures."""

RESULT = "privacy_audit.json"
"""Where an audit leaves what it found."""

BINS = 40
"""Bars of a histogram of scores."""

MODELS = ("white_box", "black_box")
"""The two attacks on canaries: one sees every update of every site, one the last model alone."""

ATTACKS = len(MODELS) + 1
"""These two and the trials of one round: among them the chance of a bound above the truth is divided."""

Facts = dict[str, Any]


class CanaryRun:
    """One training run with canaries.

    Parameters
    ----------
    settings : the whole configuration; ``privacy_audit`` says how to audit.
    path : the folder of the audit's own run.
    observer : told of every record; for the live table.
    """

    def __init__(self, settings: Settings, path: Path, observer: Callable[..., None]) -> None:
        engine, self._wanted = settings.engine, settings.privacy_audit
        require_engine(engine.name, engine.workers, 1)
        if engine.name != "local":
            raise ConfigError(
                "the audit listens to messages of this machine",
                where="engine",
                cure="Use engine=local.",
            )
        require_confidence(self._wanted.confidence)
        plain = dataclasses.replace(settings.aggregation, kind="plain")  # to see what each site sends
        self.settings = dataclasses.replace(settings, aggregation=plain)
        self._path, self._observer = path, observer
        self.device = choose_device(engine.device)
        self.workers = engine.workers or os.cpu_count() or 1

    def prepare(self) -> None:
        """Read the pictures, make the plan as if there were no canaries, and make the canaries.

        Raises
        ------
        ConfigError : there is no claim to audit, or too few canaries or trials to ever refute it.
        """
        if is_fair(self.settings.fairness):
            raise ConfigError(
                "canaries are not followed through a critic and through weights after the clip",
                where="fairness",
                cure="Audit the same run with fairness=none, or a finished model with audit-privacy model=RUN.",
            )
        self.prepared = prepare(self.settings)
        wanted, division = self._wanted, self.prepared.partition
        self._require_power(self.prepared.plan)
        self.canaries = make_canaries(
            wanted.pictures, wanted.canaries, self.prepared.samples, division.sites, self.settings.seed
        )

    def _require_power(self, plan: Plan) -> None:
        require_claim(plan, "privacy")
        assert plan.privacy is not None
        a_round, delta = cost_of_round(plan), plan.privacy.delta
        rounds = most_rounds(plan.server, self.prepared.partition.sites, plan.seed)
        for key, cost, count in (
            ("canaries", merged((*cost_beside(plan), *repeated(a_round, rounds))), self._wanted.canaries),
            ("trials", a_round, self._wanted.trials),
        ):
            claimed = epsilon_of(cost, delta).value
            require_enough(claimed, delta, self._wanted.confidence, count, f"privacy_audit.{key}")

    def run(self) -> Facts:
        """Train, unless that is done already, and return what the audit found."""
        folder, prepared = RunFolder(self._path), self.prepared
        folder.open(self._identity(), OmegaConf.to_yaml(OmegaConf.structured(self.settings)))
        found = folder.read_json(RESULT)
        if folder.complete and found is not None:
            return found
        table, division = insert(prepared.samples, prepared.partition, self.canaries)
        sites = Sites(table, division, self.settings.seed, folder.path / "ledger", self.device)
        auditor = Auditor(
            prepared.plan,
            sites.names,
            prepared.samples,
            prepared.partition,
            self.canaries,
            folder.path / "audit",
            self.device,
        )
        self._require_scores(folder, auditor)
        start = start_of(prepared.pretraining, prepared.plan, folder, self._observer, self.device)
        initial = start.vector if start else None
        with local_grid(sites, self.workers) as grid:
            coordinator = Coordinator(prepared.plan, folder, SYSTEM, self._observer, initial)
            result = coordinator.run(WatchedGrid(grid, auditor))
        facts = self._facts(result, auditor.scores(prepared.plan.server.rounds), initial)
        facts["one_round"] = self._one_round(sites.names, result, initial)
        facts = judged(facts)
        folder.write_json(RESULT, facts)
        folder.finish()
        return facts

    def _identity(self) -> Facts:
        plan, settings = self.prepared.plan, self.settings
        facts = {"systems": ["privacy_audit"], "plan": dataclasses.asdict(plan), "hash": plan.digest}
        facts |= {"seed": settings.seed, "data": settings.data.facts()}
        facts |= {"partition": dataclasses.asdict(settings.partition)}
        if self.prepared.pretraining.wanted:
            facts["pretrain"] = identity(self.prepared.pretraining)
        return facts | {"privacy_audit": dataclasses.asdict(self._wanted)}

    @staticmethod
    def _require_scores(folder: RunFolder, auditor: Auditor) -> None:
        """Start over where a checkpoint is there and the scores of its rounds are not."""
        held = folder.load_checkpoint(f"checkpoint-{SYSTEM}")
        if held is not None and not auditor.has(held[1]["round"]):
            folder.drop_checkpoint(f"checkpoint-{SYSTEM}")

    # What was found

    def _facts(self, result: Result, white: NDArray[np.float64], initial: torch.Tensor | None) -> Facts:
        plan, canaries, wanted = self.prepared.plan, self.canaries, self._wanted
        assert plan.privacy is not None
        delta = plan.privacy.delta
        nets = [self._net(initial), self._net(result.vector)]
        black = np.subtract(*self._canary_losses(nets))
        error = (1 - wanted.confidence) / ATTACKS
        found = {
            name: _attack(scores, canaries.included, delta, error, joining(plan, plan.server.rounds))
            for name, scores in zip(MODELS, (white, black), strict=True)
        }
        seen = membership(nets[1], self.prepared.samples, plan, delta, wanted.confidence, self.settings.seed)
        audited = max(each["epsilon"] for each in found.values())
        return {
            "method": "canaries",
            "name": self.settings.name,
            "claimed_epsilon": result.totals.epsilon,
            "audited_epsilon": audited,
            "delta": delta,
            "unit": plan.privacy.unit,
            "confidence": wanted.confidence,
            "most_provable": most_provable(len(canaries), delta, error),
            "canaries": len(canaries),
            "included": int(canaries.included.sum()),
            "pictures": wanted.pictures,
            "sites": self.prepared.partition.sites,
            "rounds": plan.server.rounds,
            "accuracy": accuracy(result.overall),
            "plan_hash": plan.digest,
            **found,
            "membership": seen.to_json() if seen else None,
            "held_out": self.prepared.held_out,
        }

    def _one_round(self, names: list[str], result: Result, initial: torch.Tensor | None) -> Facts:
        """Try one round many times, with and without the picture that moves it most."""
        plan, seed, wanted = self.prepared.plan, self.settings.seed, self._wanted
        assert plan.privacy is not None
        first = FlatModel(build(plan.model, plan.seed)).full_vector if initial is None else initial
        vectors = (first.cpu().numpy().copy(), result.vector.cpu().numpy())
        held = self.prepared.samples, self.prepared.partition
        laboratory = Laboratory(plan, vectors, tuple(result.prior.values()), names, *held, seed, self.device)
        seen = run_trials(laboratory, plan, wanted.trials, seed, self._observer)
        delta = plan.privacy.delta
        return {
            "claimed_epsilon": epsilon_of(cost_of_round(plan), delta).value,
            "trials": wanted.trials,
            "included": int(seen.coins.sum()),
            "picture": seen.picture,
            "beside": seen.beside,
            "site": seen.site,
            "moved": seen.moved,
            **_attack(seen.scores, seen.coins, delta, (1 - wanted.confidence) / ATTACKS, joining(plan, 1)),
        }

    def _net(self, vector: torch.Tensor | None) -> torch.nn.Module:
        """Return the net with the weights of a vector, or with those it starts from."""
        plan = self.prepared.plan
        flat = FlatModel(build(plan.model, plan.seed))
        if vector is not None:
            flat.load_(vector)
        return flat.module

    def _canary_losses(self, nets: list[torch.nn.Module]) -> list[NDArray[np.float64]]:
        targets = self.canaries.targets(len(self.prepared.plan.labels))
        return [losses(net, self.canaries.pictures, targets) for net in nets]


def joining(plan: Plan, rounds: int) -> float:
    """Return the chance of being in any batch of so many rounds of a site."""
    return 1 - (1 - plan.local.rate) ** (plan.local.amount * rounds)


def _attack(
    scores: NDArray[np.float64], coins: NDArray[np.bool_], delta: float, error: float, chance: float
) -> Facts:
    """Return the bounds of one attack, how well its scores tell the coins, and their histogram."""
    bounds = guessed(scores, coins, delta, error, chance)
    auc = area(scores[coins], scores[~coins])
    counts = (int(coins.sum()), int((~coins).sum()))
    edges = np.histogram_bin_edges(scores, BINS)
    return {
        "epsilon": largest(bounds),
        "guesses": [dataclasses.asdict(each) for each in bounds],
        "auc": auc,
        "auc_interval": auc_interval(auc, *counts),
        "edges": edges.tolist(),
        "in": np.histogram(scores[coins], edges)[0].tolist(),
        "out": np.histogram(scores[~coins], edges)[0].tolist(),
    }


def membership(
    net: torch.nn.Module, samples: Samples, plan: Plan, delta: float, confidence: float, seed: int
) -> Inference | None:
    """Attack a model by the losses of its real training rows and of the held-out rows, by unit of privacy."""
    assert plan.privacy is not None
    scores = []
    for split in ("train", "test"):
        rows = samples.rows(split)
        if samples.subject is None:
            scores.append(-losses(net, samples.pictures[rows], targets_of(samples, rows, plan)))
            continue
        if (
            plan.privacy.unit == "record"
        ):  # one picture a person: those of one person are no independent trials
            _, first = np.unique(samples.subject[rows], return_index=True)
            rows = rows[first]
        found = -losses(net, samples.pictures[rows], targets_of(samples, rows, plan))
        scores.append(by_person(found, samples.subject[rows]))
    chance = np.random.default_rng([seed, 1])
    return infer(scores[0], scores[1], delta=delta, confidence=confidence, chance=chance)


def require_claim(plan: Plan, where: str) -> None:
    """Refuse a plan that claims nothing.

    Raises
    ------
    ConfigError : it has no privacy.
    """
    require(
        plan.privacy is not None,
        "nothing to audit: a run without privacy claims no epsilon",
        where,
        "Give privacy=dp, or experiment=private.",
    )


def require_enough(claimed: float, delta: float, confidence: float, count: int, where: str) -> None:
    """Refuse so few canaries or trials that even with all of them guessed right no bound would be above the claim.

    Raises
    ------
    ConfigError : with how many it takes, or that no number will do.
    """
    needed = canaries_needed(claimed, delta, (1 - confidence) / ATTACKS)
    kind = where.rpartition(".")[2]
    require(
        needed is not None,
        f"no number of {kind} can refute an epsilon of {claimed:.2f} at delta {delta:g} with {100 * confidence:g} % "
        "confidence",
        where,
        "Audit the same code at a smaller epsilon, such as privacy.target_epsilon=3.",
    )
    assert needed is not None
    require(
        count >= needed,
        f"{count} {kind} cannot refute an epsilon of {claimed:.2f}, even if all are guessed right",
        where,
        f"Give {needed} or more, or audit the same code at a smaller epsilon (privacy.target_epsilon).",
    )


def require_confidence(confidence: float) -> None:
    """Refuse a confidence that is none.

    Raises
    ------
    ConfigError : it is not between a half and 1.
    """
    require(
        0.5 < confidence < 1,
        f"a confidence of {confidence:g}",
        "privacy_audit.confidence",
        "Give a number above 0.5 and below 1, such as 0.95.",
    )
