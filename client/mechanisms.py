"""Ways of adding noise, and histories of them: what there is to account for, without the accounting."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from client.strict import parse, require
from fer_models.errors import ConfigError

Unit = Literal["record", "subject"]
"""Whose presence is protected: one picture, or one person with all pictures."""


@dataclass(frozen=True, order=True)
class Mechanism:
    """One way of adding noise, used ``count`` times.

    Attributes
    ----------
    name : "gaussian"; "discrete_gaussian", on integers; "laplace"; or "pure", any epsilon-DP mechanism, such as
        counts with discrete Laplace (geometric) noise, for which the bound is exact at sensitivity 1.
    noise : of the Gaussians, the standard deviation over the 2-norm by which one unit moves the result; of Laplace,
        the scale over that 1-norm; of a pure mechanism, 1 / epsilon.
    rate : each unit takes part by itself with this probability (Poisson sampling); 1 is no sampling.
    count : how often, each time with fresh noise and a fresh sample.
    unit : of what one is added or removed.
    slack : of the discrete Gaussian, the epsilon of one use beyond that of the Gaussian with the same noise
        (:func:`client.discrete_accounting.slack`).
    """

    name: Literal["gaussian", "discrete_gaussian", "laplace", "pure"]
    noise: float
    rate: float = 1.0
    count: int = 1
    unit: Unit = "record"
    slack: float = 0.0

    def __post_init__(self) -> None:
        require(0 < self.noise < math.inf, f"noise {self.noise:g}", "noise", "Give more than 0.")
        require(0 < self.rate <= 1, f"rate {self.rate:g}", "rate", "Give more than 0, up to 1.")
        require(self.count >= 1, f"{self.count} steps", "count", "Give 1 or more.")
        require(0 <= self.slack < math.inf, f"slack {self.slack:g}", "slack", "Give 0 or more.")

    @property
    def pure_epsilon(self) -> float:
        """Epsilon of one use at delta 0, infinite for the Gaussians.

        Sampling amplifies it to log(1 + rate (e^epsilon - 1)) (Balle et al. 2018, theorem 8).
        """
        if self.name not in ("laplace", "pure"):
            return math.inf
        epsilon = 1 / self.noise
        # Beyond 700, where e^epsilon leaves the floating-point numbers, sampling is left out.
        return epsilon if epsilon > 700 else math.log1p(self.rate * math.expm1(epsilon))


LONGEST = 1 << 20
"""Characters of a history as JSON; a kind of release takes about a hundred."""

History = tuple[Mechanism, ...]
"""Mechanisms in a canonical order, alike ones merged: :func:`merged` makes it."""


def gaussian(noise_multiplier: float, rate: float, steps: int, unit: Unit = "record") -> History:
    """Return the history of ``steps`` of DP-SGD (Abadi et al. 2016)."""
    return (Mechanism("gaussian", noise_multiplier, rate, steps, unit),)


def as_gaussian(history: History) -> History:
    """Return the history with continuous noise in place of discrete noise."""
    return merged(
        replace(each, name="gaussian", slack=0.0) if each.name == "discrete_gaussian" else each
        for each in history
    )


def shared_noise(*noise_multipliers: float) -> float:
    """Return the noise multiplier of several Gaussian sums over one and the same batch, taken as one release.

    Sums of vectors with norms up to C_i and noise sigma_i C_i are, each divided by sigma_i C_i, one vector of norm up
    to sqrt(sum sigma_i^-2) with unit noise. To count them one by one would be wrong: who is in the batch is drawn once
    for all of them.
    """
    return sum(sigma**-2.0 for sigma in noise_multipliers) ** -0.5


def merged(mechanisms: Iterable[Mechanism]) -> History:
    """Return mechanisms as a history; the order in which they were used does not matter."""
    counts: Counter[Mechanism] = Counter()
    for each in mechanisms:
        counts[replace(each, count=1)] += each.count
    return tuple(replace(each, count=count) for each, count in sorted(counts.items()))


def repeated(history: History, times: int) -> History:
    """Return a history gone through ``times`` times, 0 or more."""
    return tuple(replace(each, count=each.count * times) for each in history if times)


def is_part(history: History, whole: History) -> bool:
    """Whether ``whole`` holds every use of every mechanism of ``history``."""
    counts = {replace(each, count=1): each.count for each in whole}
    return all(each.count <= counts.get(replace(each, count=1), 0) for each in history)


def of_unit(history: History, unit: Unit) -> History:
    """Return the mechanisms of one unit."""
    return tuple(each for each in history if each.unit == unit)


def to_plain(history: History) -> list[dict[str, Any]]:
    """Return a history as plain data, for JSON."""
    return [asdict(each) for each in history]


def from_json(given: str, where: str = "history") -> History:
    """Return the history that a site tells as JSON.

    Raises
    ------
    ConfigError : it is none, or longer than :data:`LONGEST`.
    """
    cure = "Run the same version of FedFER everywhere."
    require(len(given) <= LONGEST, f"a history of {len(given)} characters", where, cure)
    try:
        plain = json.loads(given)
    except (ValueError, RecursionError) as error:
        raise ConfigError("a history that is no JSON", where=where, cure=cure) from error
    try:
        return from_plain(plain, where)
    except ConfigError as error:  # a mechanism's own checks know only the field
        place = error.where if error.where.startswith(where) else f"{where}, {error.where}"
        raise ConfigError(error.what, where=place, cure=error.cure) from error


def from_plain(given: Any, where: str = "history") -> History:
    """Return the history that :func:`to_plain` wrote.

    Raises
    ------
    ConfigError : it is none.
    """
    require(
        isinstance(given, list), "a history is a list", where, "Run the same version of FedFER everywhere."
    )
    return merged(parse(Mechanism, each, f"{where}[{i}]") for i, each in enumerate(given))
