"""What ``summary.json`` says of a system: its figures, what it cost, what is guaranteed, and how each site fares."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from client.audit_counts import epsilon_of_count, shares_of, variance_of_count
from client.plan import Plan
from client.trust import WORKED_OUT, learned_of, trust_of
from fer_models.counts import Counts
from fer_models.metrics import across_sites, headline, summarise
from fer_models.noisy_counts import variance_of_cell
from fer_models.noisy_intervals import Noise, figures_with_noise
from fer_models.samples import Samples
from server.results import Result
from simulations.partition import Partition
from simulations.prepare import accountant_note

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


def judged(counts: Counts) -> Summary:
    """Return all figures of one model, and the counts that they come from."""
    return {**summarise(counts), "counts": counts.to_json()}


def brief(counts: Counts) -> Summary:
    """Return the two figures of a site."""
    figures = headline(counts)
    return {"accuracy": figures["accuracy"], "balanced_accuracy": figures["balanced_accuracy"]}


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
        **judged(result.overall),
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
    return with_noise(found, plan, result) if totals.noises else found


def with_noise(found: Summary, plan: Plan, result: Result) -> Summary:
    """Return a summary whose counts carry noise: wider intervals, what is said of the noise, and of no site alone."""
    assert plan.privacy is not None
    groups, sites = [len(values) for values in plan.attributes.values()], result.totals.noises
    variance = variance_of_count(plan, sites)
    noise = {
        "epsilon": plan.privacy.audit_epsilon,
        "unit": plan.privacy.unit,
        "mechanism": "discrete_laplace",
        "tables": max(1, len(groups)),
        "epsilon_of_count": float(epsilon_of_count(plan)),
        "sites": sites,
        "shares": shares_of(plan),
        "deviation": variance**0.5,
        "deviation_overall": variance_of_cell(groups, variance) ** 0.5,
        "text": noise_in_words(plan),
    }
    per_site = [{"site": name, "epsilon": value} for name, value in sorted(result.epsilon.items())]
    told = {"noise_of_counts": noise, "sites": None, "sites_note": None, "per_site": per_site}
    return figures_with_noise(found, result.overall, Noise.of(noise)) | told


def noise_in_words(plan: Plan) -> str:
    """Return what was done to the counts of test pictures of a plan whose counts carry noise."""
    assert plan.privacy is not None
    whose = (
        "Each site added discrete Laplace noise to its counts of test pictures before they left it."
        if plan.privacy.noise == "site"
        else f"Each site added a share of discrete Laplace noise to its counts of test pictures; the shares of "
        f"{shares_of(plan)} sites are the whole of it."
    )
    one = (
        " One picture of each person was counted, drawn at random." if plan.privacy.unit == "subject" else ""
    )
    made = " The sum was made to fit by least squares and only then cut to whole numbers from 0 on."
    return whose + one + made


def _held(samples: Samples, division: Partition, split: str) -> list[int]:
    """Return how many pictures of a split each site holds."""
    return np.bincount(division.site[samples.rows(split)], minlength=division.sites).tolist()
