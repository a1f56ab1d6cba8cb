"""What a finished run says of its test pictures: figures, the counts that they come from, and the noise in them."""

from __future__ import annotations

from typing import Any

from client.audit_counts import epsilon_of_count, shares_of, variance_of_count
from client.plan import Plan
from fer_models.counts import Counts
from fer_models.metrics import summarise
from fer_models.noisy_counts import variance_of_cell
from fer_models.noisy_intervals import Noise, figures_with_noise
from server.results import Result

Facts = dict[str, Any]


def judged(counts: Counts) -> Facts:
    """Return all figures of one model, and the counts that they come from."""
    return {**summarise(counts), "counts": counts.to_json()}


def figures_of(plan: Plan, result: Result) -> Facts:
    """Return :func:`judged` of a run; where its counts carry noise, with that in the intervals and told of."""
    found = judged(result.overall)
    if not result.totals.noises:
        return found
    noise = noise_facts(plan, result.totals.noises)
    return figures_with_noise(found, result.overall, Noise.of(noise)) | {"noise_of_counts": noise}


def noise_facts(plan: Plan, sites: int) -> Facts:
    """Return what is told of the noise in counts over so many sites."""
    assert plan.privacy is not None
    groups = [len(values) for values in plan.attributes.values()]
    variance = variance_of_count(plan, sites)
    return {
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
