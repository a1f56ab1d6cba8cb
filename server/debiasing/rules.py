"""Rules for weights of pictures that other packages add (:mod:`fer_models.plugins`), and what such a rule is given.

A rule sees sums over sites alone, under privacy with their noise, and its weights are public numbers of the next round.
So it needs no guard: sites refuse a weight that is not in (0, 1], and under privacy put weights behind the clip.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client.strict import nearest, require
from fer_models.errors import ConfigError
from fer_models.plugins import added, load, origin

OWN = ("none", "counts", "errors")
"""What ``fairness.weighting`` is besides."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Standing:
    """How groups and classes fare after a round.

    Attributes
    ----------
    groups : names of the G disclosed groups.
    labels : names of the C classes.
    errors : (G, C), error rate on training pictures, 0 to 1, smoothed over rounds; where noise or few pictures hide a
        cell it is near that of its class.
    shares : (G, C), share of all training pictures.
    before : (G, C), the weights so far, of which the largest is 1.
    step : ``fairness.step``.
    round, rounds : the round that ended, from 1, and how many there are.
    """

    groups: tuple[str, ...]
    labels: tuple[str, ...]
    errors: Array
    shares: Array
    before: Array
    step: float
    round: int
    rounds: int


Rule = Callable[[Standing], Array]
"""Returns positive weights (G, C); only their ratios count."""


def require_rule(name: str) -> None:
    """Refuse a name that is neither ours nor a rule of an installed package.

    Raises
    ------
    ConfigError : with the nearest names.
    """
    known = (*OWN, *added("weightings"))
    require(name in known, f"unknown value {name!r}", "fairness.weighting", nearest(name, known))


def rule_of(name: str) -> Rule | None:
    """Return the rule of that name, None for one of :data:`OWN`.

    Raises
    ------
    ConfigError : there is none, or its package cannot be loaded.
    """
    require_rule(name)
    return None if name in OWN else load("weightings", name)


def weighed(rule: Rule, name: str, standing: Standing) -> Array:
    """Return the weights (G, C) that a rule gives.

    Raises
    ------
    ConfigError : they are not one positive number a group and class.
    """
    found = np.asarray(rule(standing), dtype=np.float64)
    if found.shape != standing.errors.shape or not (np.isfinite(found).all() and (found > 0).all()):
        groups, classes = standing.errors.shape
        raise ConfigError(
            f"{name} gives no positive weights for {groups} groups and {classes} classes",
            where=f"{name} of {origin('weightings', name)}",
            cure="Return an array like standing.before.",
        )
    return found
