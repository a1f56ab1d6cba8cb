"""From settings to the terms of secure aggregation, and whether a run uses it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from client.plan import Plan, Secure
from client.secagg.terms import FEWEST, MOST_COMPLETE, least_threshold
from client.strict import parse, require
from fer_models.samples import Samples
from simulations.partition import Partition
from simulations.settings import Settings


def terms_of(
    settings: Settings, sites: int, everybody: int, largest_weight: int, weighting: str
) -> Secure | None:
    """Return the terms of secure aggregation for rounds of ``sites`` sites, None for plain aggregation.

    Parameters
    ----------
    everybody : sites of the run, all of which evaluate.
    largest_weight : of a site, where weights follow the sizes.
    weighting : "size" or "uniform".

    Raises
    ------
    ConfigError : secure aggregation of too few sites, or terms that do not hold.
    """
    wanted = settings.aggregation
    require(
        wanted.kind in ("auto", "secure", "plain"),
        f"unknown aggregation {wanted.kind!r}",
        "aggregation",
        "Use auto, secure or plain.",
    )
    colluders = _colluders(settings)
    fits = sites >= FEWEST + colluders and (everybody <= MOST_COMPLETE or wanted.degree > 0)
    shown = settings.fairness.sites != "none"  # then sums alone are not enough
    if wanted.kind == "plain" or (wanted.kind == "auto" and (shown or not fits)):
        return None
    weight = largest_weight if wanted.largest_weight is None else wanted.largest_weight
    holders = wanted.degree + 1 if wanted.degree else sites
    threshold = wanted.threshold
    if threshold is None and wanted.profile in ("malicious", "semi-honest"):
        threshold = least_threshold(holders, wanted.profile, colluders)  # type: ignore[arg-type]
    facts: dict[str, Any] = {"everybody": 0 if everybody == sites else everybody}
    facts |= {"sites": sites, "threshold": threshold or 0, "colluders": colluders}
    least = min(sites, FEWEST + colluders)
    if wanted.degree:  # there the threshold is of peers, and no floor of a sum
        least = max(least, sites // 2 + 1)
    facts["minimum"] = least if wanted.minimum is None else wanted.minimum
    facts |= {"profile": wanted.profile, "degree": wanted.degree, "clip": wanted.clip}
    return parse(Secure, facts | {"largest_weight": weight if weighting == "size" else 1}, "aggregation")


def _colluders(settings: Settings) -> int:
    """Return how many sites may tell all they know: as many as may give their noise away, unless it is said."""
    own, privacy = settings.aggregation.colluders, settings.privacy
    noise = privacy.colluders if privacy.enabled and privacy.noise == "distributed" else 0
    return max(noise, 0) if own is None else own  # one below 0 is refused where it was given


def largest_weight(samples: Samples, division: Partition) -> int:
    """Return the least power of two that no site's training pictures exceed in number."""
    rows = division.site[samples.rows("train")]
    most = int(np.bincount(rows, minlength=division.sites).max())
    return 1 << (max(most, 1) - 1).bit_length()


def without_privacy(plan: Plan, heaviest: int) -> Plan:
    """Return a private plan without its privacy, sites weighted by size where its rule allows weights.

    ``heaviest`` is the largest weight.
    """
    weighting = "size" if plan.server.rule == "mean" else "uniform"
    server = replace(plan.server, weighting=weighting)
    secure = plan.secure and replace(plan.secure, largest_weight=heaviest)
    finish = plan.finish and replace(plan.finish, noise_multiplier=None)
    return replace(plan, privacy=None, server=server, secure=secure, finish=finish, statistics=None)
