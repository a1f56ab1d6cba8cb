"""What a site lets be asked of it: rules that only the site writes, and what they say of a plan.

A policy is a YAML file. Every rule stands in it: a rule that is missing or misspelt is an error, and never a default.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from client.accounting import epsilon_of
from client.audit_counts import is_noisy
from client.hours import window_of
from client.limits import Limit, cost_beside, with_rounds
from client.mechanisms import History
from client.plan import Plan
from client.reading import read_yaml
from client.secagg.policy import Policy
from client.secagg.terms import FEWEST, Profile, least_threshold
from client.secagg.wire import PROFILES
from client.strict import parse, require
from fer_models.errors import PolicyError
from fer_models.labels import UNDISCLOSED

Statistic = Literal[
    "label_counts", "group_counts", "test_counts", "feature_sums", "people_sums", "site_statistics"
]
"""What may be counted: training pictures by class; by group and class; answers on test pictures; sums of features; sums
over the people on test pictures; and tables of training pictures before training."""

OF_TEST = frozenset({"test_counts", "people_sums"})
"""Which of them are over test pictures; the others are over training pictures."""

FINGERPRINT = re.compile(r"[0-9a-f]{4}( [0-9a-f]{4}){7}")
"""What two people compare of a coordinator's key, see :func:`client.enrolment.fingerprint`."""


@dataclass(frozen=True)
class PrivacyRules:
    """What private training may cost; ``epsilon`` is for all runs together."""

    required: bool
    epsilon: float
    epsilon_a_run: float
    delta: float
    unit: Literal["record", "subject"]

    def __post_init__(self) -> None:
        for name in ("epsilon", "epsilon_a_run"):
            value = getattr(self, name)
            require(value > 0, f"an epsilon of {value:g}", f"privacy.{name}", "Give a number above 0.")
        require(0 < self.delta < 1, f"delta {self.delta:g}", "privacy.delta", "Give 1.0e-5 or so.")


@dataclass(frozen=True)
class AggregationRules:
    """Who may see what leaves the site, and in whose company it is added up."""

    secure: bool
    smallest_cohort: int
    colluders: int
    profile: Profile

    def __post_init__(self) -> None:
        require(self.colluders >= 0, "fewer than 0 colluders", "aggregation.colluders", "Give 0 or more.")
        require(
            self.smallest_cohort >= FEWEST + self.colluders,
            f"a sum of {self.smallest_cohort} sites hides none of them",
            "aggregation.smallest_cohort",
            f"Give {FEWEST + self.colluders} or more.",
        )


@dataclass(frozen=True)
class TrainingRules:
    """What may be trained, and for how long."""

    models: tuple[str, ...]
    losses: tuple[str, ...]
    epochs: float
    hours: float
    times: tuple[str, ...]

    def __post_init__(self) -> None:
        require(self.epochs > 0, f"{self.epochs:g} passes", "training.epochs", "Give a number above 0.")
        require(self.hours > 0, f"{self.hours:g} hours of work", "training.hours", "Give a number above 0.")
        for each in self.times:
            window_of(each)


@dataclass(frozen=True)
class StatisticsRules:
    """What may be counted."""

    allowed: tuple[Statistic, ...]
    minimum_counts: Mapping[str, int]
    largest_minimum: int
    smallest_group: int
    exact_test_counts: bool
    by_site: bool

    def __post_init__(self) -> None:
        known, where = set(get_args(Statistic)), "statistics.minimum_counts"
        for name in sorted(known ^ set(self.minimum_counts)):
            what = "a value is missing" if name in known else "this is no statistic"
            require(False, what, f"{where}.{name}", f"Give a number for each of {', '.join(sorted(known))}.")
        for name, fewest in self.minimum_counts.items():
            require(fewest >= 0, f"at least {fewest} pictures", f"{where}.{name}", "Give 0 or more.")
        least, where = self.minimum_counts["site_statistics"], "statistics.largest_minimum"
        what = f"at most {self.largest_minimum} pictures, where {least} are the fewest"
        require(self.largest_minimum >= max(1, least), what, where, f"Give {max(1, least)} or more.")
        good = self.smallest_group >= 1
        require(good, f"a group of {self.smallest_group}", "statistics.smallest_group", "Give 1 or more.")


@dataclass(frozen=True)
class CoordinatorRules:
    """Whose plans are answered; ``keys`` holds fingerprints, empty for whoever's was compared when the site joined."""

    signed: bool
    keys: tuple[str, ...]

    def __post_init__(self) -> None:
        for each in self.keys:
            good = FINGERPRINT.fullmatch(each) is not None
            cure = "Give what fedfer server sites prints, eight groups of four digits."
            require(good, f"{each!r} is no fingerprint", "coordinator.keys", cure)


@dataclass(frozen=True)
class Refusal:
    """A rule that refuses a plan.

    Attributes
    ----------
    rule : its name in the file, such as ``privacy.epsilon_a_run``.
    what, cure : as in an error.
    """

    rule: str
    what: str
    cure: str


@dataclass(frozen=True)
class SitePolicy:
    """A site's rules.

    Example::

        policy = read_policy(Path("site/policy.yaml"))
        policy.require_held(pictures=480, tested=120, site="clinic-a")
        for refusal in policy.refusals(plan, pictures=480):
            print(refusal.rule, refusal.what)
    """

    privacy: PrivacyRules
    aggregation: AggregationRules
    training: TrainingRules
    statistics: StatisticsRules
    coordinator: CoordinatorRules

    @property
    def limit(self) -> Limit:
        """The limit of the site's ledger."""
        return Limit(self.privacy.epsilon, self.privacy.delta)

    @property
    def floors(self) -> Policy:
        """What the site holds every session of secure aggregation against."""
        return Policy(self.aggregation.colluders, self.aggregation.profile)

    def refusals(self, plan: Plan, pictures: int, *, opted_out: bool = False) -> tuple[Refusal, ...]:
        """Return the rules that refuse a plan, in the order of the file.

        Whether the ledger has room for it is the ledger's to say; who signed it and the hours of work are looked at
        with every question (:mod:`client.conditions`).

        The coordinator sees the answer, and may ask with many plans. So no rule here depends on what the site holds,
        but for two. Passes are counted from the power of two at or below ``pictures``, and under privacy, where the
        rate is public, not at all from them. And a site that has opted out refuses by the rule of small groups, as
        sites do that have not.

        Parameters
        ----------
        pictures : the site's training pictures.
        opted_out : the site tells nobody's group.
        """
        found = (
            *_of_privacy(self.privacy, plan),
            *_of_aggregation(self.aggregation, plan),
            *_of_training(self.training, plan, pictures),
            *_of_statistics(self.statistics, plan, opted_out),
        )
        return tuple(Refusal(*each) for each in found)

    def require_held(self, pictures: int, tested: int, site: str) -> None:
        """Refuse to take part in anything with pictures that the policy does not fit, before there is any plan.

        As plans are not held against numbers of pictures, a site that answers tells this one thing of them, and
        whatever is asked of it the same.

        Parameters
        ----------
        pictures, tested : the site's training pictures and its test pictures.

        Raises
        ------
        PolicyError : the rule that does not fit.
        """
        held = {name: tested if name in OF_TEST else pictures for name in self.statistics.allowed}
        held.pop("site_statistics", None)  # whose rule is about cells
        for name, number in held.items():
            fewest = self.statistics.minimum_counts[name]
            if number < fewest and name in OF_TEST and not tested:
                raise PolicyError(
                    f"the site holds no test pictures, and {name} are allowed: it takes part in nothing",
                    where=f"{site}, statistics.minimum_counts",
                    cure=f"Hold some out (split: holdout in data.yaml), or take {name} out of statistics.allowed; "
                    "look with fedfer site check DIR, then fedfer site run DIR.",
                )
            if number < fewest:
                raise PolicyError(
                    f"{name} may be over {fewest} pictures or more, and the site has {number}",
                    where=f"{site}, statistics.minimum_counts",
                    cure=f"Hold more pictures, take {name} out of statistics.allowed, or lower its minimum.",
                )
        if self.privacy.delta * pictures >= 1:
            raise PolicyError(
                f"delta {self.privacy.delta:g} is not below 1 / {pictures}, the training pictures of this site",
                where=f"{site}, privacy.delta",
                cure=f"Write {0.1 / pictures:.0e} or less.",
            )

    def require_trusted(self, fingerprint: str, site: str) -> None:
        """Refuse a coordinator that the site does not trust.

        Raises
        ------
        PolicyError : its fingerprint is none of those in the file.
        """
        if self.coordinator.keys and fingerprint not in self.coordinator.keys:
            raise PolicyError(
                f"the coordinator {fingerprint} is not among those that this site trusts",
                where=f"{site}, coordinator.keys",
                cure="Compare it by phone, and write it into policy.yaml; or join another coordinator's study.",
            )

    def over_run(self, history: History) -> Refusal | None:
        """Return the refusal of a run that would have cost ``history``, None where that is allowed."""
        found = next(_over_run(self.privacy, history), None)
        return None if found is None else Refusal(*found)


Found = Iterator[tuple[str, str, str]]


def _of_privacy(rules: PrivacyRules, plan: Plan) -> Found:
    privacy = plan.privacy
    if privacy is None:
        if rules.required:
            yield "privacy.required", "the plan has no differential privacy", "Plan privacy=dp."
        return
    if privacy.delta > rules.delta:
        what = f"delta {privacy.delta:g} is larger than {rules.delta:g}"
        yield "privacy.delta", what, f"Plan privacy.delta={rules.delta:g} or less."
    if rules.unit == "subject" and privacy.unit != "subject":
        what = "the plan protects single pictures, and the site wants people protected"
        yield "privacy.unit", what, "Plan privacy.unit=subject."
    # A site that is drawn for some rounds only cannot know for how many, and looks at each release: over_run().
    rounds = plan.server.rounds if plan.server.participation >= 1 else 1
    yield from _over_run(rules, with_rounds(cost_beside(plan), plan, rounds))


def _over_run(rules: PrivacyRules, history: History) -> Found:
    cost = epsilon_of(history, rules.delta).value
    if cost > rules.epsilon_a_run:
        spent = f"{cost:.3g}" if math.isfinite(cost) else "more than can be stated"
        what = f"the run would cost epsilon {spent}, and {rules.epsilon_a_run:g} is allowed"
        yield "privacy.epsilon_a_run", what, "Plan fewer rounds, or a smaller privacy.target_epsilon."


def _of_aggregation(rules: AggregationRules, plan: Plan) -> Found:
    secure = plan.secure
    if secure is None:
        if rules.secure:
            what = "the plan would show the coordinator this site's own answers"
            yield "aggregation.secure", what, "Plan aggregation=secure."
        return
    if secure.fewest < rules.smallest_cohort:
        what = (
            f"a sum could be over {secure.fewest} sites, and {rules.smallest_cohort} are the fewest allowed"
        )
        cure = f"Plan aggregation.minimum={rules.smallest_cohort} and as many sites."
        yield "aggregation.smallest_cohort", what, cure
    floor = least_threshold(secure.holders, rules.profile, rules.colluders)
    if secure.threshold < floor:
        what = f"a threshold of {secure.threshold}, where {rules.colluders} colluding sites ask for {floor}"
        yield "aggregation.colluders", what, f"Plan aggregation.colluders={rules.colluders}, or more sites."
    if secure.degree or PROFILES.index(secure.profile) > PROFILES.index(rules.profile):
        what = "the plan trusts the coordinator to follow the protocol"
        yield "aggregation.profile", what, "Plan aggregation.profile=malicious aggregation.degree=0."


def _of_training(rules: TrainingRules, plan: Plan, pictures: int) -> Found:
    if plan.model.name not in rules.models:
        what = f"the net {plan.model.name} is not among {', '.join(rules.models) or 'none'}"
        yield "training.models", what, "Plan one that the site allows."
    if plan.local.loss not in rules.losses:
        what = f"the loss {plan.local.loss} is not among {', '.join(rules.losses) or 'none'}"
        yield "training.losses", what, "Plan one that the site allows."
    if passes(plan, 1 << max(0, pictures.bit_length() - 1)) > rules.epochs:
        what = f"the run would pass over the site's pictures more than {rules.epochs:g} times"
        yield "training.epochs", what, "Plan fewer rounds, or less local work."


def passes(plan: Plan, pictures: int) -> float:
    """Return how often a plan passes over a site's training pictures, at most, over all its rounds."""
    work = plan.local
    share = work.rate or work.batch / max(1, pictures)
    each = work.amount if work.unit == "epochs" else work.amount * share
    views = plan.privacy.views if plan.privacy else 1
    return each * views * plan.server.rounds


def _of_statistics(rules: StatisticsRules, plan: Plan, opted_out: bool) -> Found:
    for name, asked in asked_statistics(plan).items():
        if name not in rules.allowed:
            yield "statistics.allowed", f"the plan asks for {asked}", f"Plan without them, or allow {name}."
        elif name == "site_statistics":
            fewest = rules.minimum_counts[name]
            assert plan.statistics is not None
            if plan.statistics.smallest < fewest:
                what = f"the plan shows counts of {plan.statistics.smallest} pictures, and {fewest} are the fewest"
                yield "statistics.minimum_counts", what, f"Plan statistics.smallest={fewest}."
            # With noise nothing is settled by the first plan: see client.settled.
            if plan.statistics.smallest > rules.largest_minimum and plan.privacy is None:
                what = f"the plan would have exact counts told from {plan.statistics.smallest} pictures on for good"
                cure = f"Plan statistics.smallest={rules.largest_minimum} or less."
                yield "statistics.largest_minimum", what, cure
    if not rules.exact_test_counts and not is_noisy(plan):
        what = "the plan has answers on test pictures counted without noise"
        yield "statistics.exact_test_counts", what, "Plan privacy=dp with privacy.audit_epsilon=1."
    if plan.aggregation == "plain" and not rules.by_site:
        what = "plain aggregation shows the coordinator how the model does at this site alone"
        yield "statistics.by_site", what, "Plan aggregation=secure."
    blind = [each.name for each in plan.groups if UNDISCLOSED not in each.values]
    if blind and (rules.smallest_group > 1 or opted_out):
        what = f"the plan has no place for pictures whose {blind[0]} is undisclosed, as small groups are here"
        yield "statistics.smallest_group", what, f"Add the value {UNDISCLOSED} to {blind[0]}."


def asked_statistics(plan: Plan) -> dict[Statistic, str]:
    """Return what a plan asks a site to count, name -> words."""
    groups = ", ".join(each.name for each in plan.groups)
    by = f" by {groups}" if groups else ""
    found: dict[Statistic, str] = {"test_counts": f"right and wrong answers on test pictures by class{by}"}
    if plan.server.people:
        found["people_sums"] = f"sums over the people on test pictures by class{by}"
    if plan.fairness is not None or plan.server.by_site is not None:
        found["group_counts"] = "counts of training pictures by group and class"
    if plan.counts_labels and plan.fairness is None:
        found["label_counts"] = "counts of training pictures by class"
    if plan.finish is not None:
        found["feature_sums"] = "sums of features of training pictures"
    if plan.statistics is not None:
        by = ", ".join((*plan.statistics.by, "class"))
        found["site_statistics"] = f"training pictures by {by}, before training, in tables that are shown"
    return found


def read_policy(path: Path) -> SitePolicy:
    """Return the policy of a file.

    Raises
    ------
    ConfigError : it cannot be read; a rule is missing, unknown or of the wrong kind, with its place.
    """
    return parse(
        SitePolicy, read_yaml(path, "Write it anew with fedfer site init in another folder."), path.name
    )
