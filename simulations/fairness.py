"""From settings to a fairness, its groups, and the sites that opt out."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from functools import reduce

import numpy as np

from client.accounting import noise_for
from client.by_site import RULES
from client.fairness import Fairness
from client.finish import Finish
from client.plan import Attribute, Plan
from client.privacy import COUNTS_EPSILON
from client.strict import nearest, parse, require
from fer_models.errors import ConfigError
from fer_models.labels import UNDISCLOSED
from fer_models.samples import Samples
from server.debiasing.rules import require_rule
from simulations.settings import FairnessSettings

CROSS = "*"
"""Between attributes whose intersections are the groups."""

FEW = 10
"""People below which a group's figures are hardly more than chance."""

BY_SITE = ("q", "mixture_step", "beta")
"""Settings of a rule for sites."""

OURS = ("method", "opt_out", "erase", "clusters", "moments_epsilon", "sites", *BY_SITE)
"""Settings that are not those of groups."""


def is_steered(wanted: FairnessSettings) -> bool:
    """Whether training is to be made fair."""
    return wanted.adversary != "none" or wanted.weighting != "none"


def is_fair(wanted: FairnessSettings) -> bool:
    """Whether a method is asked for that the sites have a part in."""
    return is_steered(wanted) or is_finished(wanted)


def is_finished(wanted: FairnessSettings) -> bool:
    """Whether the finished net is to be made fair."""
    return wanted.erase or wanted.clusters > 0


def asks_groups(wanted: FairnessSettings) -> bool:
    """Whether sites are asked for anything about groups."""
    return is_fair(wanted) or wanted.sites == "fairfed"


def with_intersections(samples: Samples, wanted: FairnessSettings) -> Samples:
    """Return samples with a column of the intersections that ``fairness.attribute`` asks for, such as sex*age.

    Whoever is undisclosed in one of the attributes is undisclosed there.

    Raises
    ------
    ConfigError : an attribute that the samples do not have.
    """
    names = wanted.attribute.split(CROSS)
    if not asks_groups(wanted) or len(names) < 2:
        return samples
    for name in names:
        _require_known(name, samples)
    columns = [samples.groups[name] for name in names]
    joined = reduce(lambda a, b: np.char.add(np.char.add(a, " & "), b), columns)
    shown = np.logical_and.reduce([column != UNDISCLOSED for column in columns])
    return replace(samples, groups={**samples.groups, wanted.attribute: np.where(shown, joined, UNDISCLOSED)})


def _require_known(name: str, samples: Samples) -> None:
    known = ", ".join(samples.groups) or "none; this data set has no groups"
    require(name in samples.groups, f"no site tells {name!r}", "fairness.attribute", f"Known: {known}.")


def fairness_of(
    wanted: FairnessSettings, attributes: tuple[Attribute, ...], samples: Samples
) -> Fairness | None:
    """Return what a plan says of fairness, None where no method is asked for.

    Raises
    ------
    ConfigError : no attribute, or one that nobody has.
    """
    if not 0 <= wanted.opt_out <= 1:
        raise ConfigError(f"an opt-out of {wanted.opt_out}", where="fairness.opt_out", cure="Give a share.")
    if not is_steered(wanted):
        return None
    require_rule(wanted.weighting)
    facts = {key: value for key, value in dataclasses.asdict(wanted).items() if key not in OURS}
    return parse(Fairness, facts | {"attribute": _attribute(wanted, attributes, samples)}, "fairness")


def finish_of(
    wanted: FairnessSettings, plan: Plan, attributes: tuple[Attribute, ...], samples: Samples, features: int
) -> Finish | None:
    """Return what a plan does with the finished net, None for nothing.

    Parameters
    ----------
    features : F, what the net's last layer is given.

    Raises
    ------
    ConfigError : no attribute, or one that nobody has.
    PrivacyError : sums without noise in a private plan.
    """
    if not is_finished(wanted):
        return None
    erase = _attribute(wanted, attributes, samples) if wanted.erase else ""
    finish = Finish(erase, features, clusters=plan.model.clusters)
    if plan.privacy is None or wanted.moments_epsilon is None:
        return finish
    least, most = COUNTS_EPSILON
    epsilon, where = wanted.moments_epsilon, "fairness.moments_epsilon"
    require(least <= epsilon <= most, f"sums of features at epsilon {epsilon}", where, "Give 0.5 or so.")
    sigma = noise_for(epsilon, plan.privacy.delta, 1.0, 1, unit=plan.privacy.unit) / finish.together
    return replace(finish, noise_multiplier=sigma)


def _attribute(wanted: FairnessSettings, attributes: tuple[Attribute, ...], samples: Samples) -> str:
    """Return whose groups are meant: the attribute that is named, or the only one."""
    names = [attribute.name for attribute in attributes]
    if wanted.attribute:
        _require_known(wanted.attribute, samples)
    attribute = wanted.attribute or (names[0] if len(names) == 1 else "")
    require(
        attribute in names,
        f"{attribute} is not audited" if attribute else "which groups are meant is not said",
        "fairness.attribute",
        f"Give one of {', '.join(names)}." if names else "Give pictures a group, or use fairness=none.",
    )
    return attribute


def by_site_of(
    wanted: FairnessSettings, attributes: tuple[Attribute, ...], samples: Samples
) -> dict[str, object] | None:
    """Return what a plan says of weights of sites, None where they weigh as the server says.

    Raises
    ------
    ConfigError : an unknown rule; a rule beside a method for groups; no attribute where the rule needs one.
    """
    if wanted.sites == "none":
        return None
    if wanted.sites not in RULES:
        raise ConfigError(
            f"unknown rule {wanted.sites!r}", where="fairness.sites", cure=nearest(wanted.sites, RULES)
        )
    require(
        not is_fair(wanted),
        f"{wanted.sites} sees single sites, which what is asked of groups must not show",
        "fairness.sites",
        "Use fairness.sites=none, or fairness.adversary=none fairness.weighting=none.",
    )
    facts = {name: getattr(wanted, name) for name in BY_SITE}
    if wanted.sites == "fairfed":
        facts["attribute"] = _attribute(wanted, attributes, samples)
    return {"rule": wanted.sites, **facts}


def opting_out(wanted: FairnessSettings, sites: int, seed: int) -> frozenset[int]:
    """Return the sites that tell nobody's group: a seeded draw of ``fairness.opt_out`` of them."""
    order = np.random.default_rng([seed, 0x6F7074]).permutation(sites)
    return frozenset(order[: round(wanted.opt_out * sites)].tolist()) if asks_groups(wanted) else frozenset()


def notes_of(fairness: Fairness, groups: tuple[str, ...], samples: Samples) -> list[str]:
    """Return what to say of groups with few people in training, a sentence each."""
    column = samples.groups[fairness.attribute][samples.rows("train")]
    people = samples.people[samples.rows("train")] if samples.people is not None else None
    found = []
    for name in groups:
        own = column == name
        many = int(own.sum()) if people is None else len(np.unique(people[own]))
        if many < FEW:
            whom = "pictures" if people is None else "people"
            found.append(
                f"{fairness.attribute} {name} has {many} {whom} in training: fewer than {FEW} say little of a group"
            )
    return found
