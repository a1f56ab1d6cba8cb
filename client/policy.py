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

FINGERPRINT = re.compile(r"[0-9a-f]{4}( [0-9a-f]{4}){7}")
"""What two people compare of a coordinator's key, see :func:`client.enrolment.fingerprint`."""

TEMPLATE = """\
# What this site lets be asked of it. Only you write this file: the coordinator cannot change it, and a plan that
# breaks a rule is refused. All rules have to stand here. These values are careful; loosen them knowingly.

privacy:
  # Refuse plans without differential privacy.
  required: true
  # The most that everything which ever leaves this site may cost together, and the most that one run may. At epsilon 1
  # the odds of any guess about one picture change by a factor of 2.7 at most, at 8 by 2,981.
  epsilon: 10.0
  epsilon_a_run: 8.0
  # Largest delta of a plan, and that of the epsilon above: well below one over the number of your pictures.
  delta: 1.0e-5
  # What is protected as one: record (a picture) allows plans for pictures and for people, subject (a person with all
  # pictures) allows plans for people alone.
  unit: record

aggregation:
  # Refuse plans that show the coordinator this site's own update.
  secure: true
  # Fewest sites that a sum may be over.
  smallest_cohort: 3
  # How many other sites may tell the coordinator all they know without it learning more of this one.
  colluders: 0
  # malicious: the coordinator may break the protocol. semi-honest trusts it to follow the protocol.
  profile: malicious

training:
  # Nets and losses that may be trained here (fedfer models lists the nets).
  models: [hog_linear, fer_nano, fer_small, fer_base]
  losses: [cross_entropy, focal, logit_adjusted, class_balanced]
  # Most passes over the training pictures in one run, and most hours that this machine works for one run.
  epochs: 1000.0
  hours: 48.0
  # Hours of the day, by this machine's clock, at which questions are answered, such as ["18:00-24:00", "00:00-07:00"].
  # At all others the site is away.
  times: ["00:00-24:00"]

statistics:
  # What may be counted: label_counts (training pictures by class), group_counts (by group and class), test_counts
  # (right and wrong answers on test pictures, by class and group), feature_sums (for steps after training), people_sums
  # (sums over the people on test pictures, from which an audit knows how sure its figures are), site_statistics
  # (tables of training pictures by class and group, before training).
  allowed: [label_counts, group_counts, test_counts, site_statistics]
  # The fewest pictures of this site that each of these may be over: training pictures, for test_counts and people_sums
  # test pictures; for site_statistics the fewest of one class in one group that may be counted by themselves.
  minimum_counts: {label_counts: 10, group_counts: 10, test_counts: 5, people_sums: 5, feature_sums: 10,
    site_statistics: 10}
  # Groups with fewer test pictures than this are counted as undisclosed.
  smallest_group: 10
  # Whether figures of this site alone may be shown to the coordinator.
  by_site: false

coordinator:
  # Refuse plans that the coordinator of the study has not signed with the key whose fingerprint you compared.
  signed: true
  # Fingerprints of the coordinators whose study this site may join, each between quotation marks, as fedfer server
  # sites prints them. With [] it is whoever's fingerprint is compared at fedfer site join.
  keys: []
"""
"""The policy that ``fedfer site init`` writes; the values in it are the safe ones."""


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
    smallest_group: int
    by_site: bool

    def __post_init__(self) -> None:
        known, where = set(get_args(Statistic)), "statistics.minimum_counts"
        for name in sorted(known ^ set(self.minimum_counts)):
            what = "a value is missing" if name in known else "this is no statistic"
            require(False, what, f"{where}.{name}", f"Give a number for each of {', '.join(sorted(known))}.")
        for name, fewest in self.minimum_counts.items():
            require(fewest >= 0, f"at least {fewest} pictures", f"{where}.{name}", "Give 0 or more.")
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
        for refusal in policy.refusals(plan, pictures=480, tested=120):
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

    def refusals(self, plan: Plan, pictures: int, tested: int) -> tuple[Refusal, ...]:
        """Return the rules that refuse a plan, in the order of the file.

        Whether the ledger has room for it is the ledger's to say; who signed it and the hours of work are looked at
        with every question (:mod:`client.conditions`).

        Parameters
        ----------
        pictures, tested : the site's training pictures and its test pictures.
        """
        found = (
            *_of_privacy(self.privacy, plan),
            *_of_aggregation(self.aggregation, plan),
            *_of_training(self.training, plan, pictures),
            *_of_statistics(self.statistics, plan, pictures, tested),
        )
        return tuple(Refusal(*each) for each in found)

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
    if passes(plan, pictures) > rules.epochs:
        what = f"the run would pass over the site's pictures more than {rules.epochs:g} times"
        yield "training.epochs", what, "Plan fewer rounds, or less local work."


def passes(plan: Plan, pictures: int) -> float:
    """Return how often a plan passes over a site's training pictures, at most, over all its rounds."""
    work = plan.local
    share = work.rate or work.batch / max(1, pictures)
    each = work.amount if work.unit == "epochs" else work.amount * share
    views = plan.privacy.views if plan.privacy else 1
    return each * views * plan.server.rounds


def _of_statistics(rules: StatisticsRules, plan: Plan, pictures: int, tested: int) -> Found:
    for name, asked in asked_statistics(plan).items():
        fewest = rules.minimum_counts[name]
        if name not in rules.allowed:
            yield "statistics.allowed", f"the plan asks for {asked}", f"Plan without them, or allow {name}."
        elif name == "site_statistics":
            assert plan.statistics is not None
            if plan.statistics.smallest < fewest:
                what = f"the plan shows counts of {plan.statistics.smallest} pictures, and {fewest} are the fewest"
                yield "statistics.minimum_counts", what, f"Plan statistics.smallest={fewest}."
        elif (tested if name in ("test_counts", "people_sums") else pictures) < fewest:
            what = f"{asked}, and they may be over {fewest} pictures or more, which the site has not"
            yield "statistics.minimum_counts", what, f"Leave the site out, or plan without {name}."
    if plan.aggregation == "plain" and not rules.by_site:
        what = "plain aggregation shows the coordinator how the model does at this site alone"
        yield "statistics.by_site", what, "Plan aggregation=secure."
    blind = [each.name for each in plan.groups if UNDISCLOSED not in each.values]
    if blind and rules.smallest_group > 1:
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
