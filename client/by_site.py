"""Fair to sites: rules that weigh a site's update by how the site itself fares.

They need what no sum over sites tells, a figure of each site in clear: its loss, or how its groups fare. So they have
no place where the coordinator is to learn sums alone, nor where every number that leaves a site has noise on it. They
are here so that other methods can be held against them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from client.methods.registry import method_of
from client.strict import nearest, require
from fer_models.errors import PrivacyError
from fer_models.labels import UNDISCLOSED

if TYPE_CHECKING:
    from client.plan import Plan

RULES = ("q_ffl", "afl", "fairfed")
"""Names of :attr:`BySite.rule`, which are those of their methods."""

MOST_Q = 10.0
"""Largest q; losses to a higher power leave the worst site alone with its noise."""


@dataclass(frozen=True)
class BySite:
    """How sites are weighed against each other.

    Attributes
    ----------
    rule : "q_ffl" (Li et al. 2020, q-FedAvg): by the site's loss to the power of q. "afl" (Mohri, Sivek and Suresh
        2019): a mixture of the sites that moves towards those with a high loss. "fairfed" (Ezzeldin et al. 2023): less,
        the further the gap between groups at the site is from that over all sites.
    q : of "q_ffl"; 0 weighs as the plan does.
    mixture_step : of "afl", by how much the mixture moves for a loss of 1.
    beta : of "fairfed", by how much a weight falls for a gap that is 1 further off than the mean.
    attribute : of "fairfed", whose groups; of :attr:`client.plan.Plan.groups`.
    """

    rule: Literal["q_ffl", "afl", "fairfed"]
    q: float = 1.0
    mixture_step: float = 0.01
    beta: float = 0.01
    attribute: str = ""

    def __post_init__(self) -> None:
        require(
            0 <= self.q <= MOST_Q, f"q {self.q} is not in [0, {MOST_Q:g}]", "fairness.q", "Give 1.0 or so."
        )
        for name in ("mixture_step", "beta"):
            value = getattr(self, name)
            what = f"{name} {value} is not in [0, 10]"
            require(math.isfinite(value) and 0 <= value <= 10, what, f"fairness.{name}", "Give 0.01 or so.")
        missing, where = f"{self.rule} compares groups, and no attribute says whose", "fairness.attribute"
        require(bool(self.attribute) or not self.counts, missing, where, "Name a column of groups.")
        require(not self.attribute or self.counts, f"{self.rule} knows no groups", where, "Leave it out.")

    @property
    def counts(self) -> bool:
        """Whether sites count how their training pictures fare, group by group."""
        return self.rule == "fairfed"


def own_attributes(plan: Plan) -> dict[str, tuple[str, ...]] | None:
    """Return the attribute by which sites count their own training pictures, and its values; None for no counts.

    :data:`fer_models.labels.UNDISCLOSED` is always among them: a site may opt out.
    """
    terms = plan.server.by_site
    if terms is None or not terms.counts:
        return None
    values = plan.attributes[terms.attribute]
    return {terms.attribute: values if UNDISCLOSED in values else (*values, UNDISCLOSED)}


def require_by_site(plan: Plan) -> None:
    """Refuse a plan in which sites cannot be weighed by themselves.

    Raises
    ------
    ConfigError : an attribute that nobody has; not all sites in every round; another rule for updates.
    PrivacyError : a site's figure would have to leave it in clear.
    """
    terms = plan.server.by_site
    assert terms is not None
    rule, attribute = terms.rule, terms.attribute
    method = method_of(rule)
    if plan.aggregation == "secure":
        cure = "Use aggregation=plain, where the coordinator sees what each site sends; or another fairness."
        raise PrivacyError(f"{rule} and secure aggregation: {method.secure}", where="aggregation", cure=cure)
    if plan.privacy is not None:
        cure = "Use privacy=none; or another fairness, see fedfer fairness."
        raise PrivacyError(f"{rule} and differential privacy: {method.private}", where="privacy", cure=cure)
    require(
        not attribute or attribute in plan.attributes,
        f"no site tells {attribute!r}",
        "fairness.attribute",
        nearest(attribute, plan.attributes)
        if plan.attributes
        else "Give pictures a group, or use fairness=none.",
    )
    require(
        rule == "q_ffl" or plan.server.participation >= 1,
        f"{rule} sets all sites against each other, and only some answer in a round",
        "server.participation",
        "Use server.participation=1.0, or fairness=q_ffl.",
    )
    require(
        plan.server.rule == "mean",
        f"{plan.server.rule} and {rule} both say what is made of the updates",
        "server.rule",
        "Use server.rule=mean, or fairness=none.",
    )
