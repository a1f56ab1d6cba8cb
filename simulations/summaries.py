"""What ``summary.json`` says of a system: its figures, what it cost, what is guaranteed, and how each site fares."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from client.audit_counts import is_noisy
from client.plan import Plan
from client.trust import WORKED_OUT, learned_of, trust_of
from fer_models.counts import Counts
from fer_models.metrics import across_sites, headline
from fer_models.samples import Samples
from server.figures import figures_of
from server.results import Result
from simulations.partition import Partition
from simulations.prepare import accountant_note
from simulations.subjects import doubt

Summary = dict[str, Any]

_GUARANTEE = ("delta", "noise_multiplier", "unit", "noise", "counts_epsilon", "audit_epsilon")


def guarantee(plan: Plan | None, epsilon: float | None) -> Summary:
    """Return what is said of privacy; every value is None without it."""
    privacy = None if plan is None else plan.privacy
    if plan is None or privacy is None:
        return dict.fromkeys(("epsilon", "epsilon_note", *_GUARANTEE, "trust"))
    kept = {name: getattr(privacy, name) for name in _GUARANTEE}
    return {"epsilon": epsilon, **kept, "trust": trust_of(privacy, simulated=True, secure=plan.secure)}


def cost(cpu_seconds: float, visits: int) -> Summary:
    """Return what is said of a system that sends nothing and promises nothing."""
    nothing = {**guarantee(None, None), "bytes_up": 0, "bytes_down": 0, "rounds": None}
    return {**nothing, "cpu_seconds": round(cpu_seconds, 3), "visits": visits}


def brief(counts: Counts) -> Summary:
    """Return the two figures of a site, and the interval of the first: over people where the counts know of them."""
    figures, rows = headline(counts), counts.overall.sum(keepdims=True)[0]
    limits = counts.effect().limits("accuracy", np.trace(counts.overall)[None], rows, 0.95)[0].tolist()
    interval = limits if counts.rows else None
    both = {"accuracy": figures["accuracy"], "balanced_accuracy": figures["balanced_accuracy"]}
    return {**both, "accuracy_interval": interval}


def federated_summary(
    plan: Plan,
    result: Result,
    own: Mapping[str, Counts],
    samples: Samples,
    division: Partition,
    start: str | None,
) -> Summary:
    """Return what is said of a federated system.

    Parameters
    ----------
    own : site -> counts of its test pictures. With secure aggregation the simulation has counted them by itself.
    start : what the run started from, in words.
    """
    train, test = (_held(samples, division, part) for part in ("train", "test"))
    names, totals = sorted(own), result.totals
    found = {
        **figures_of(plan, result),
        **doubt(result.overall, samples, noisy=is_noisy(plan), one_each=_one_each(plan)),
        **({"people_sums": "simulation"} if result.people else {}),
        **cost(totals.cpu_seconds, totals.visits),
        **guarantee(plan, totals.epsilon),
        "epsilon_note": accountant_note(plan, division.sites) or None,
        "bytes_up": totals.bytes_up,
        "bytes_down": totals.bytes_down,
        "rounds": plan.server.rounds,
        "start": start,
        "class_shares": result.prior or None,
        "adjustment": plan.server.adjustment,
        "aggregation": plan.aggregation,
        "secure": dataclasses.asdict(plan.secure) if plan.secure else None,
        "learned": learned_of(plan),
        "rule": plan.server.rule,
        "sites": across_sites([own[name] for name in names]),
        "sites_note": WORKED_OUT if plan.secure else None,
        "per_site": [
            {
                "site": name,
                **brief(own[name]),
                "train": train[i],
                "test": test[i],
                "epsilon": result.epsilon.get(name),
            }
            for i, name in enumerate(names)
        ],
        "note": "trained at the sites with differential privacy" if plan.privacy else "trained at the sites",
    }
    if not totals.noises:
        return found
    per_site = [{"site": name, "epsilon": value} for name, value in sorted(result.epsilon.items())]
    return found | {
        "sites": None,
        "sites_note": None,
        "per_site": per_site,
    }  # nothing is told of a site alone


def _one_each(plan: Plan) -> bool:
    """Whether one test picture of each person was counted."""
    return is_noisy(plan) and plan.privacy is not None and plan.privacy.unit == "subject"


def _held(samples: Samples, division: Partition, split: str) -> list[int]:
    """Return how many pictures of a split each site holds."""
    return np.bincount(division.site[samples.rows(split)], minlength=division.sites).tolist()
