"""What a plan has the sites add up after the last round, so that the coordinator can mend the finished net.

No more training: features of the training pictures, made by the finished net, go into a few secure sums, and what the
coordinator works out from them becomes part of the net. The steps are rounds of their own, numbered on from the last:

=========  ==================================================================================  ===============
step       what a picture adds                                                                 sensitivity
=========  ==================================================================================  ===============
norms      1 to the count of the power of two that the norm of its features lies below         1
moments    to the sums of its group, where that is disclosed: 1/4 and z                        sqrt(1 + 1/16)
moments    without privacy, and of few features, also 1, z, z z^T to the sums of everybody     none asked for
spread     to the sums of everybody: 1/4, z, |z|^2 / 4                                         sqrt(1 + 1/8)
cells      to the sums of the cluster whose centre its features are nearest to: 1/4, z         sqrt(1 + 1/16)
scores     to the sums of its cluster: its class (one-hot), and the probabilities it is given  sqrt(2)
=========  ==================================================================================  ===============

Here z are the picture's features, cut to the norm R that the first step found and divided by it, so that \\|z\\| <= 1.
The sensitivity is the 2-norm of what one picture adds. Counts matter less than sums of features, so they take the
smaller part of it; the first step needs little, and has :data:`AHEAD` times the noise of the others. Moments are for
erasure (:mod:`fer_models.erasure`), the rest for biases of clusters (:mod:`fer_models.clusters`), with "cells" repeated
:data:`REPEATED` times: k-means from sums. (Where a person is the unit, one picture of each, drawn at random, is looked
at.)

*Noise.* Sums travel as whole numbers in steps of 1 / :data:`STEPS`. Rounding moves each by less than one step, so one
picture moves them by at most D = STEPS sensitivity (1 + 2^-10) + sqrt(P), as :mod:`client.grid` has it. With noise
"site" each site adds discrete Gaussian noise of deviation sigma D; with "distributed", a share of it of deviation
sigma D / sqrt(threshold - colluders), and the sum alone is private. The theorem of :mod:`client.discrete_accounting`
holds for both, with rate 1 and one use a step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from client.audit_counts import audit_round, cost_of_audit
from client.discrete import MOST
from client.discrete_accounting import slack
from client.fairness import disclosed
from client.mechanisms import History, Mechanism
from client.strict import require
from fer_models.erasure import moments_size
from fer_models.errors import ConfigError, PrivacyError

if TYPE_CHECKING:
    from client.plan import Plan

BINS = 33
"""Powers of two of norms, from 2^-16 to 2^16."""

STEPS = 1 << 16
"""Steps in 1 of what travels."""

MARGIN = 2.0**-10
"""Share of the sensitivity that is left for rounding errors of float sums."""

COUNTED = 1 / 4
"""What a picture adds to the count of its group."""

AHEAD = 3.0
"""Noise multiplier of the norms over that of the other steps."""

REPEATED = 4
"""Steps of k-means."""

MOST_FEATURES = 4096
"""F, at most."""

MOST_SECOND = 512
"""F up to which sums of z z^T travel; above it, as under privacy, erasure does without them."""


@dataclass(frozen=True)
class Finish:
    """What is done with the finished net.

    Attributes
    ----------
    erase : attribute whose groups' features get one mean, so that no linear rule tells them apart; empty for none.
    features : F, what the net's last layer is given of a picture.
    noise_multiplier : sigma of the noise in every step but the first, None without privacy.
    clusters : how many clusters of features get a bias of their own, 0 for none; those of the plan's net.
    """

    erase: str = ""
    features: int = 1
    noise_multiplier: float | None = None
    clusters: int = 0

    def __post_init__(self) -> None:
        require(
            1 <= self.features <= MOST_FEATURES,
            f"{self.features} features",
            "fairness",
            f"Use a net whose last layer is given {MOST_FEATURES} numbers at most.",
        )
        noisy = self.noise_multiplier is None or 0 < self.noise_multiplier < math.inf
        require(noisy, "no noise, no privacy", "fairness.moments_epsilon", "Give an epsilon such as 0.5.")
        some = bool(self.erase) or self.clusters > 0
        require(
            some, "sums of features that nothing needs", "fairness", "Set fairness.erase, or give clusters."
        )

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps in order."""
        found = ("norms", "moments") if self.erase else ("norms",)
        return (*found, "spread", *("cells",) * REPEATED, "scores") if self.clusters else found

    @property
    def second(self) -> bool:
        """Whether sums of z z^T travel: noise would drown them."""
        return self.noise_multiplier is None and self.features <= MOST_SECOND

    def sigma(self, step: str) -> float:
        """Return the noise multiplier of a step of a private plan."""
        assert self.noise_multiplier is not None
        return self.noise_multiplier * _multiple(step)

    @property
    def together(self) -> float:
        """What all steps' Gaussian noise of ``noise_multiplier`` 1 comes to, as the noise of one step.

        Releases of everybody with noise sigma_i add up like one with 1 / sigma^2 = sum of 1 / sigma_i^2.
        """
        return sum(_multiple(step) ** -2.0 for step in self.steps) ** -0.5


def _multiple(step: str) -> float:
    return AHEAD if step == "norms" else 1.0


def erased_groups(plan: Plan) -> tuple[str, ...]:
    """Return the groups whose features are made alike: the disclosed values of the attribute; none without one."""
    assert plan.finish is not None
    if not plan.finish.erase:
        return ()
    return disclosed(plan.finish.erase, plan.attributes)


def step_of(plan: Plan, round_number: int) -> str:
    """Return the step that a round after the last stands for.

    Raises
    ------
    ConfigError : there is none.
    """
    steps = () if plan.finish is None else plan.finish.steps
    place = round_number - plan.server.rounds - 1
    if not 0 <= place < len(steps):
        raise ConfigError(
            f"round {round_number} of a plan of {plan.server.rounds}, with {len(steps)} steps after them",
            where="finish",
            cure="Run the same version of FedFER everywhere.",
        )
    return steps[place]


def size_of(plan: Plan, step: str) -> int:
    """Return P, how many numbers a step adds up."""
    assert plan.finish is not None
    features, groups, clusters = plan.finish.features, len(erased_groups(plan)), plan.finish.clusters
    if step != "moments":
        scores = 2 * clusters * len(plan.labels)
        sizes = {"norms": BINS, "spread": 2 + features, "cells": clusters * (1 + features), "scores": scores}
        return sizes[step]
    return moments_size(features, groups) if plan.finish.second else groups * (1 + features)


def sensitivity(plan: Plan, step: str) -> float:
    """Return D, by how many steps of :data:`STEPS` one unit moves a step's noisy sums at most, in 2-norm."""
    own = {"norms": 1.0, "spread": math.sqrt(1 + 2 * COUNTED**2), "scores": math.sqrt(2)}
    largest = own.get(step, math.sqrt(1 + COUNTED**2))
    return STEPS * largest * (1 + MARGIN) + math.sqrt(size_of(plan, step))


def deviation(plan: Plan, step: str) -> float:
    """Return the deviation of the noise that one site adds to each number, in steps; 0 without privacy."""
    assert plan.finish is not None
    if plan.finish.noise_multiplier is None or plan.privacy is None:
        return 0.0
    return plan.finish.sigma(step) * sensitivity(plan, step) / math.sqrt(_shares(plan))


def _shares(plan: Plan) -> int:
    privacy = plan.privacy
    assert privacy is not None
    return privacy.threshold - privacy.colluders  # 1 where a site's noise rests on no other's


def cost_of_step(plan: Plan, step: str) -> Mechanism:
    """Return what a step of a private plan costs a unit of a site that takes part."""
    assert plan.finish is not None and plan.privacy is not None
    lost = slack(size_of(plan, step), deviation(plan, step), _shares(plan))
    return Mechanism("discrete_gaussian", plan.finish.sigma(step), unit=plan.privacy.unit, slack=lost)


def cost_after(plan: Plan, done: frozenset[int] = frozenset()) -> History:
    """Return what a plan costs a site after the last round, an audit's counts among it; nothing without privacy.

    Parameters
    ----------
    done : rounds that are paid for.
    """
    audit = () if audit_round(plan) in done else cost_of_audit(plan)
    if plan.finish is None or plan.privacy is None:
        return audit
    last = plan.server.rounds
    steps = enumerate(plan.finish.steps, last + 1)
    return (*(cost_of_step(plan, step) for number, step in steps if number not in done), *audit)


def require_finish(plan: Plan) -> None:
    """Refuse a plan whose finish could not work, or would show whose pictures a site holds.

    Raises
    ------
    ConfigError : an attribute that nobody has, or with one group.
    PrivacyError : single sums would tell the group of a site, or no noise hides them.
    """
    finish = plan.finish
    assert finish is not None
    if finish.erase:
        _require_groups(plan, finish)
    require(
        finish.clusters == plan.model.clusters,
        f"biases for {finish.clusters} clusters in a net with {plan.model.clusters}",
        "fairness.clusters",
        "Run the same version of FedFER everywhere.",
    )
    if plan.aggregation == "plain":
        raise PrivacyError(
            "a site's own sums of features would tell which faces it holds, and which groups",
            where="aggregation",
            cure="Use aggregation=secure with three sites or more, or another method of fairness.",
        )
    if (plan.privacy is None) != (finish.noise_multiplier is None):
        raise PrivacyError(
            "sums of features cost epsilon in a private plan, and nothing says how much"
            if plan.privacy
            else "noise that no privacy asks for",
            where="fairness.moments_epsilon",
            cure="Give 0.5 or so with privacy, and null without.",
        )
    if plan.privacy is not None:
        widest = max(deviation(plan, step) for step in finish.steps)
        require(
            1 <= widest <= MOST,
            f"noise of deviation {widest:.3g} steps",
            "fairness",
            "Give a larger fairness.moments_epsilon.",
        )


def _require_groups(plan: Plan, finish: Finish) -> None:
    require(
        finish.erase in plan.attributes,
        f"no site tells {finish.erase!r}",
        "fairness.attribute",
        f"Use one of {', '.join(plan.attributes) or 'none: give pictures a group, or fairness.erase=false'}.",
    )
    groups = erased_groups(plan)
    require(
        len(groups) >= 2,
        f"{finish.erase} has {'one group' if groups else 'no group'} that is disclosed",
        "fairness.attribute",
        "Use an attribute of two groups or more, or fairness.erase=false.",
    )
