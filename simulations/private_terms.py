"""From settings to what a plan says of privacy: the unit, the clip, delta, and the noise that keeps a target."""

from __future__ import annotations

import math
from dataclasses import replace

from client.accounting import epsilon_of, noise_for
from client.discrete_accounting import KEPT
from client.grid import finest, grid_of
from client.limits import cost_beside
from client.mechanisms import History, gaussian
from client.plan import Plan, Privacy
from client.strict import parse, require
from client.training import people_of
from fer_models.errors import ConfigError, PrivacyError
from fer_models.samples import Samples
from simulations.partition import Partition
from simulations.settings import PrivacySettings


def privacy_of(
    wanted: PrivacySettings, samples: Samples, division: Partition, most: int, fewest: int
) -> Privacy | None:
    """Return what is asked for, with a noise multiplier of 1 until :func:`with_noise` knows it.

    Parameters
    ----------
    most, fewest : sites that the sum of a round can be over; distributed noise is divided among the fewest.
    """
    if not wanted.enabled:
        return None
    if (wanted.target_epsilon is None) == (wanted.noise_multiplier is None):
        raise ConfigError(
            "give either a target epsilon or a noise multiplier",
            where="privacy",
            cure="Set one of privacy.target_epsilon and privacy.noise_multiplier to null.",
        )
    for name in ("target_epsilon", "noise_multiplier"):
        value = getattr(wanted, name)
        good = value is None or 0 < value < math.inf
        what = f"{value} is not positive and finite"
        require(good, what, f"privacy.{name}", "Give a number such as 3.0.")
    rows = samples.rows("train")
    whole = len(people_of(samples, rows)) if wanted.unit == "subject" else len(rows)
    mean = max(1, round(whole / division.sites))
    nominal = mean if wanted.nominal_units is None else wanted.nominal_units
    shared = wanted.noise == "distributed"
    threshold = fewest if shared else 1
    delta = (
        min(1e-5, 0.1 / max(1, nominal * (most if shared else 1))) if wanted.delta is None else wanted.delta
    )
    facts = {"unit": wanted.unit, "views": wanted.views, "allow_slow": wanted.allow_slow}
    facts |= {"noise_multiplier": 1.0, "clip": wanted.clip, "delta": delta, "nominal_units": nominal}
    facts |= {"noise": wanted.noise, "threshold": threshold, "colluders": wanted.colluders}
    facts |= {"counts_epsilon": wanted.counts_epsilon, "audit_epsilon": wanted.audit_epsilon}
    if wanted.resolution is not None:
        facts["resolution"] = wanted.resolution
    return parse(Privacy, facts | {"target_epsilon": wanted.target_epsilon}, "privacy")


def with_noise(wanted: PrivacySettings, plan: Plan, parameters: int, steps: int) -> Privacy:
    """Return the plan's privacy with its noise, on a grid that fits where the noise is distributed.

    Parameters
    ----------
    parameters : how many numbers learn.
    steps : of the site that takes part most often.

    Raises
    ------
    PrivacyError : noise that gives no guarantee, no room for the target, or a grid that does not hold.
    """
    assert plan.privacy is not None
    privacy = replace(plan.privacy, noise_multiplier=_noise(wanted, plan, steps))
    if privacy.noise == "distributed":
        privacy = replace(privacy, parameters=parameters)
        plan = replace(plan, privacy=privacy)
        privacy = _distributed(wanted, plan, steps, cost_beside(plan))
    return privacy


def _noise(wanted: PrivacySettings, plan: Plan, steps: int) -> float:
    """Return the noise multiplier that is asked for, or the least that keeps the target over all steps."""
    assert plan.privacy is not None
    rate, delta, sigma = plan.local.rate, plan.privacy.delta, wanted.noise_multiplier
    if sigma is None:
        assert wanted.target_epsilon is not None
        beside = cost_beside(plan)
        _require_room(beside, wanted.target_epsilon, delta)
        return noise_for(wanted.target_epsilon, delta, rate, steps, unit=plan.privacy.unit, beside=beside)
    if not math.isfinite(epsilon_of(gaussian(sigma, rate, steps, plan.privacy.unit), delta).value):
        raise PrivacyError(
            f"noise multiplier {sigma:g} gives no guarantee",
            where="privacy.noise_multiplier",
            cure="Give more noise, such as 1.0.",
        )
    return sigma


def _require_room(beside: History, epsilon: float, delta: float) -> None:
    """Refuse counts and sums that cost all that training may cost as well."""
    if epsilon_of(beside, delta).value >= epsilon:
        raise PrivacyError(
            f"what is released beside training alone would cost the target epsilon of {epsilon:g}",
            where="privacy.counts_epsilon",
            cure=f"Give {0.1 * epsilon:.2g} or so.",
        )


def _distributed(wanted: PrivacySettings, plan: Plan, steps: int, beside: History) -> Privacy:
    """Return the privacy of distributed noise on a grid that fits, with the little that the grid costs paid for."""
    privacy, rate, most = plan.privacy, plan.local.rate, plan.most_sites
    assert privacy is not None
    if wanted.resolution is None:
        privacy = replace(privacy, resolution=finest(privacy, rate, most, plan.stretch))
    lost = steps * grid_of(privacy, rate, most, plan.stretch).slack
    if wanted.target_epsilon is not None:
        delta = privacy.delta * KEPT * math.exp(-lost)
        asked = wanted.target_epsilon - lost
        sigma = noise_for(asked, delta, rate, steps, unit=privacy.unit, beside=beside)
        privacy = replace(privacy, noise_multiplier=sigma)
        grid_of(privacy, rate, most, plan.stretch)
    return privacy
