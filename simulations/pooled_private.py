"""The yardstick of private federation: the same private training with everybody's pictures in one place.

Centralized DP-SGD, run as a federation of one site that holds all rows: the same net, rounds, local work, rate, clip
and server optimizer, continuous Gaussian noise, and the least of it that keeps the same epsilon by the same accountant.
What the federated run loses against it, it loses by noise that is added more than once, or by the grid.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from client.accounting import noise_for
from client.limits import cost_before
from client.plan import Plan
from fer_models.samples import Samples
from simulations.partition import Partition

SYSTEM = "pooled_private"
"""Its name in run folders."""


def one_site(samples: Samples) -> Partition:
    """Return the partition that gives every row to one site."""
    return Partition(np.zeros(len(samples), np.int32), 1)


def pooled_private(plan: Plan, sites: int) -> Plan:
    """Return the plan of the yardstick of a private plan for ``sites`` sites.

    Its divisor is rate * nominal_units * sites, as that of a distributed round in which all take part, and delta is
    below one over all records. A plan that was given its noise multiplier keeps it.
    """
    plan = without_fairness(plan)
    privacy = plan.privacy
    assert privacy is not None
    records = privacy.nominal_units * sites
    sigma, delta = privacy.noise_multiplier, min(privacy.delta, 0.1 / records)
    if privacy.target_epsilon is not None:
        steps = plan.server.rounds * plan.local.amount
        sigma = noise_for(
            privacy.target_epsilon,
            delta,
            plan.local.rate,
            steps,
            unit=privacy.unit,
            beside=cost_before(plan),
        )
    own = {"noise": "site", "threshold": 1, "colluders": 0, "audit_epsilon": None}
    private = replace(privacy, noise_multiplier=sigma, delta=delta, nominal_units=records, **own)
    alone = replace(plan, aggregation="plain", secure=None)
    server = replace(plan.server, participation=1.0, rule="mean", malicious=0)
    return replace(alone, privacy=private, server=server)


def without_fairness(plan: Plan) -> Plan:
    """Return a plan without its fairness, and without the counts and sums that only its fairness needed."""
    if plan.finish is not None or plan.statistics is not None:
        plan = replace(plan, finish=None, statistics=None)
    if plan.fairness is None:
        return plan
    privacy = plan.privacy
    if privacy is not None and not (plan.uses_prior and not plan.local.prior):
        privacy = replace(privacy, counts_epsilon=None)
    return replace(plan, fairness=None, privacy=privacy)


def of_the_net(plan: Plan) -> Plan:
    """Return a plan whose weights are those of the net alone, as it is judged: without fairness, with a plain loss."""
    plan = without_fairness(plan)
    if not plan.local.has_terms:
        return plan
    return replace(plan, local=replace(plan.local, loss="cross_entropy", strength=0.0))
