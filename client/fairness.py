"""What a plan asks for so that a model serves groups alike, what it costs under privacy, and what it must not do.

*Parts.* A private step of such a plan releases up to three things at once: the sum of the net's clipped gradients, the
sum of the critic's, and the tally, in which every picture is one count. The critic's gradients are clipped to C / rho
by themselves, and the tally is counted in steps of C / rho. Adding a picture (a person, where people are the unit) then
moves the first by a 2-norm of at most C and the others by at most C / rho each; together, as one vector, by at most

    s C,   s = sqrt(1 + k / rho^2),

k the parts besides the net. Gaussian noise of deviation sigma s C on every coordinate of that vector is the Gaussian
mechanism with noise multiplier sigma, so what the ledger charges is the plan's own noise multiplier. Against its own
clip, the critic has rho times the noise of the net. With rho = 3, s is 1.05 with one such part and 1.11 with both: a
tenth more noise on the net pays for all. Weights of at most 1 after the clip move nothing further.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from client.strict import nearest, require
from fer_models.errors import PrivacyError
from fer_models.labels import UNDISCLOSED

if TYPE_CHECKING:
    from client.plan import Plan

MOST_HIDDEN = 1024
"""Units of a critic's hidden layer, at most."""


@dataclass(frozen=True)
class Fairness:
    """How training is made fair.

    Attributes
    ----------
    attribute : of :attr:`client.plan.Plan.groups`, whose values are the groups.
    adversary : "critic" pulls features to where the coordinator's critic of the round cannot tell groups apart: for
        every picture, whoever is on it, the Kullback-Leibler divergence of its answer from the uniform one.
        "gradient_reversal" is FADE (Hong et al. 2021): the critic's own loss with its gradient reversed, for pictures
        whose group is disclosed. "none" has no critic.
    critic_loss : what the critic minimises, per picture: cross-entropy l, or l^2 / 2 ("square").
    conditional : the critic answers for each class by itself, so that groups are to look alike given the class (equal
        opportunity), not over all classes.
    hidden : units of the critic's hidden layer; 0 for a linear critic.
    strength : lambda, the weight of what the critic has to say.
    ramp : with p the share of the rounds that are done, lambda is multiplied by 2 / (1 + exp(-ramp p)) - 1 (Ganin and
        Lempitsky 2015); 0 has it whole from the start.
    noise_ratio : rho: critic and tally are clipped to 1 / rho of the net's clip, under the same noise.
    weighting : weights of pictures by group and class. "counts": what makes group and class independent (Kamiran and
        Calders 2012); "errors": raised where errors are above the mean, round by round; "none". Any other name is a
        rule of another package, which the coordinator alone needs: sites are told weights as with "errors".
    by : "group", "class" or "cell" (both, added up): whose errors "errors" goes by.
    step : eta of "errors": log weights grow by eta times the error above the mean.
    tolerance : gap up to which lambda is left alone; above it lambda is raised by half, twenty times a run at most.
        None for a fixed lambda.
    tolerance_on : the gap between the best and the worst group: of "recall" (mean over classes) or of "parity" (the
        rate at which a class is predicted; the largest over classes).
    """

    attribute: str
    adversary: Literal["none", "critic", "gradient_reversal"] = "none"
    critic_loss: Literal["cross_entropy", "square"] = "cross_entropy"
    conditional: bool = False
    hidden: int = 0
    strength: float = 1.0
    ramp: float = 10.0
    noise_ratio: float = 3.0
    weighting: str = "none"
    by: Literal["group", "class", "cell"] = "group"
    step: float = 0.3
    tolerance: float | None = None
    tolerance_on: Literal["recall", "parity"] = "recall"

    def __post_init__(self) -> None:
        for name, low, high in (
            ("strength", 0.0, 100.0),
            ("ramp", 0.0, 100.0),
            ("noise_ratio", 0.1, 100.0),
            ("step", 1e-6, 10.0),
        ):
            value = getattr(self, name)
            what = f"{name} {value:g} is not in [{low:g}, {high:g}]"
            require(low <= value <= high, what, f"fairness.{name}", "Leave it out for the usual value.")
        require(
            re.fullmatch(r"\w{1,64}", self.weighting) is not None,
            f"{self.weighting!r} is no name",
            "fairness.weighting",
            "Use none, counts or errors.",
        )
        require(
            0 <= self.hidden <= MOST_HIDDEN,
            f"{self.hidden} hidden units",
            "fairness.hidden",
            f"Give 0 to {MOST_HIDDEN}.",
        )
        require(
            self.adversary != "none" or self.weighting != "none",
            "a method that does nothing",
            "fairness",
            "Set fairness.adversary=critic or fairness.weighting=errors, or fairness=none.",
        )
        require(
            self.tolerance is None or self.adversary != "none",
            "a tolerance steers the strength of a critic, and there is none",
            "fairness.tolerance",
            "Set fairness.adversary=critic, or leave the tolerance out.",
        )
        require(
            self.tolerance is None or 0 <= self.tolerance < 1,
            f"a tolerance of {self.tolerance}",
            "fairness.tolerance",
            "Give a gap such as 0.05.",
        )

    @property
    def has_critic(self) -> bool:
        """Whether there is a critic to train."""
        return self.adversary != "none"

    @property
    def tallies(self) -> bool:
        """Whether the sites count how their training pictures fare, group by group."""
        return self.by_errors or self.tolerance is not None

    @property
    def by_errors(self) -> bool:
        """Whether pictures are weighed by how they fare, round by round."""
        return self.weighting not in ("none", "counts")

    @property
    def stretch(self) -> float:
        """How far one picture moves all parts together, in units of the net's clip."""
        return math.sqrt(1 + (self.has_critic + self.tallies) / self.noise_ratio**2)

    def ramped(self, round_number: int, rounds: int) -> float:
        """Return what lambda is multiplied by in a round, 0 to 1."""
        if self.ramp == 0:
            return 1.0
        return 2 / (1 + math.exp(-self.ramp * (round_number - 1) / max(1, rounds - 1))) - 1


def disclosed(attribute: str, attributes: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return the groups that are told apart: the values of an attribute but "undisclosed"."""
    return tuple(value for value in attributes[attribute] if value != UNDISCLOSED)


def require_fair(plan: Plan) -> None:
    """Refuse a plan whose fairness could not work, or would show whose pictures a site holds.

    Raises
    ------
    ConfigError : an attribute that nobody has, or with one group.
    PrivacyError : single answers, or differences between them, would tell the group of a site.
    """
    fairness = plan.fairness
    assert fairness is not None
    known, where = plan.attributes, "fairness.attribute"
    require(
        fairness.attribute in known,
        f"no site tells {fairness.attribute!r}",
        where,
        nearest(fairness.attribute, known) if known else "Give pictures a group, or use fairness=none.",
    )
    groups = disclosed(fairness.attribute, known)
    require(
        len(groups) >= 2,
        f"{fairness.attribute} has {'one group' if groups else 'no group'} that is disclosed"
        + (f", {groups[0]}" if groups else ""),
        where,
        "Use an attribute of two groups or more.",
    )
    if plan.aggregation == "plain":
        raise PrivacyError(
            "what a site sends about its groups would reach the coordinator by itself: the critic's update alone "
            "tells whether a site holds one group, and which",
            where="aggregation",
            cure="Use aggregation=secure with three sites or more, or fairness=none.",
        )
    if plan.server.participation < 1 and plan.privacy is None:
        raise PrivacyError(
            "sums over changing sites differ by what single sites sent of their groups, and no noise hides it",
            where="server.participation",
            cure="Use server.participation=1.0, or privacy.enabled=true.",
        )
