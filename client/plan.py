"""The training plan: all that a coordinator may ask of a site.

A plan is plain data. It is parsed strictly, has one canonical text and one hash, and travels with every
message, so that a site can read what it is asked for and a run folder can tell whose it is.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import re
from dataclasses import dataclass
from typing import Literal

from client.audit_counts import require_countable
from client.by_site import require_by_site
from client.fairness import Fairness, disclosed, require_fair
from client.finish import Finish, require_finish
from client.privacy import Privacy
from client.scaffold import require_scaffold
from client.secagg.terms import Secure
from client.statistics import Statistics, require_statistics
from client.strict import parse, require
from client.work import LATER, LocalWork, ServerWork
from fer_models.errors import ConfigError, PrivacyError
from fer_models.labels import UNDISCLOSED
from fer_models.zoo import ModelSpec

__all__ = [
    "Attribute",
    "Fairness",
    "Finish",
    "LocalWork",
    "Plan",
    "Privacy",
    "Secure",
    "ServerWork",
    "Statistics",
    "read_plan",
]

LONGEST = 1 << 20
"""Characters of a plan's text; a plan has some hundreds."""


@dataclass(frozen=True)
class Plan:
    """A whole run, as a site sees it.

    Attributes
    ----------
    labels : canonical class names, in the order of the model's outputs.
    groups : attribute -> its values, in the order of the counts that an evaluation returns.
    model, local, server : what is trained, what a site does, what the coordinator does.
    privacy : None trains without differential privacy.
    aggregation : "secure" lets the coordinator learn sums over sites alone, "plain" what each site sends.
    secure : the terms of secure aggregation, None with "plain".
    fairness : how training is made fair, None for not at all.
    finish : what is done with the finished net, None for nothing.
    statistics : tables of training pictures that sites count before the first round, None for none.
    seed : seed of the initial weights and of the sampling of sites.
    run : which run this is, so that two runs of one plan are two in a ledger; random in deployment. In a simulation
        it follows from the rest of the plan, so that the bits repeat.
    """

    labels: tuple[str, ...]
    model: ModelSpec
    local: LocalWork
    server: ServerWork
    privacy: Privacy | None = None
    groups: tuple[Attribute, ...] = ()
    aggregation: Literal["secure", "plain"] = "plain"
    secure: Secure | None = None
    fairness: Fairness | None = None
    finish: Finish | None = None
    statistics: Statistics | None = None
    seed: int = 0
    run: str = ""
    version: int = 1

    def __post_init__(self) -> None:
        require(self.version == 1, f"plan version {self.version} is unknown", "version", "Use version 1.")
        require(len(self.labels) >= 2, "fewer than two classes", "labels", "Give the labels of the data set.")
        require(
            self.model.classes == len(self.labels),
            f"the model has {self.model.classes} outputs for {len(self.labels)} labels",
            "model.classes",
            "Make them equal.",
        )
        named = re.fullmatch(r"[0-9A-Za-z_-]{0,64}", self.run) is not None
        require(named, "the run's name is no word", "run", "Give up to 64 letters and digits.")
        self._require_prior()
        self._require_loss()
        self._require_secure()
        if self.fairness is not None:
            require_fair(self)
        if self.server.by_site is not None:
            require_by_site(self)
        if self.finish is not None:
            require_finish(self)
        if self.statistics is not None:
            require_statistics(self)
        if self.local.scaffold:
            require_scaffold(self)
        if self.privacy is not None:
            self._require_private(self.privacy)

    def _require_prior(self) -> None:
        given, adjusted = self.local.prior, self.local.needs_prior
        require(
            len(given) in (0, len(self.labels)),
            f"{len(given)} shares for {len(self.labels)} classes",
            "local.prior",
            f"Give one share for each of {', '.join(self.labels)}.",
        )
        require(
            self.uses_prior or not given,
            "shares of classes that nothing uses",
            "local.prior",
            "Set local.loss=logit_adjusted or server.adjustment=1.0, or leave the prior out.",
        )
        require(
            not (adjusted and self.server.adjustment > 0),
            f"the loss {self.local.loss} has adjusted the logits already",
            "server.adjustment",
            "Use one of local.loss and server.adjustment.",
        )

    def _require_loss(self) -> None:
        work, classes = self.local, len(self.labels)
        require(
            all(len(row) == classes for row in work.similar) and len(work.similar) in (0, classes),
            f"distributions that are not {classes} of {classes} shares",
            "local.similar",
            f"Give a row for each of {', '.join(self.labels)}.",
        )
        require(
            work.of_logits or (self.fairness is None and self.finish is None),
            f"fair training weighs losses of logits, and {work.loss} is another",
            "local.loss",
            "Use fairness=none, or a loss of logits such as cross_entropy.",
        )

    def _require_secure(self) -> None:
        secure, privacy = self.secure, self.privacy
        require(
            (self.aggregation == "secure") == (secure is not None),
            "secure aggregation without terms"
            if secure is None
            else "terms that plain aggregation has no use for",
            "secure",
            "Give the terms with aggregation secure, and null with plain.",
        )
        if secure is None:
            return
        require(
            self.server.rule == "mean",
            f"{self.server.rule} compares single updates, and under secure aggregation the coordinator sees none",
            "server.rule",
            "Use server.rule=mean; or aggregation=plain, where the coordinator sees what each site sends.",
        )
        require(
            self.server.weighting == "size" or secure.largest_weight == 1,
            f"weights of up to {secure.largest_weight} where all sites weigh alike",
            "aggregation.largest_weight",
            "Give 1, or use server.weighting=size.",
        )
        if privacy is not None and privacy.noise == "distributed":
            require(
                (privacy.threshold, privacy.colluders) == (secure.fewest, secure.colluders),
                f"noise for {privacy.threshold} sites with {privacy.colluders} colluders, where sums are over "
                f"{secure.fewest} or more with {secure.colluders}",
                "privacy.threshold",
                "Divide the noise among the fewest sites of a sum, less the colluders.",
            )

    def evaluates_after(self, round_number: int) -> bool:
        """Whether the weights of a round are evaluated; those of the last one always are."""
        return round_number == self.server.rounds or round_number % self.server.evaluate_every == 0

    def judges_in(self, round_number: int) -> bool:
        """Whether sites evaluate the weights of the round before when a round begins: where all take part in it."""
        return round_number > 1 and self.server.participation >= 1 and self.evaluates_after(round_number - 1)

    @property
    def most_sites(self) -> int:
        """The most sites that one sum of distributed noise can be over."""
        if self.secure is not None:
            return self.secure.sites
        return 1 if self.privacy is None else self.privacy.threshold

    @property
    def expected_visits(self) -> int:
        """Training pictures that a site sees in a round of a private plan, as its public constants make one expect."""
        if self.privacy is None:
            return 0
        return round(self.local.amount * self.local.rate * self.privacy.nominal_units)

    @property
    def uses_prior(self) -> bool:
        """Whether the shares of the classes have to be known."""
        return self.local.needs_prior or self.server.adjustment > 0

    @property
    def counts_labels(self) -> bool:
        """Whether the sites are asked for their label counts before the first round."""
        return self.fairness is not None or (self.uses_prior and not self.local.prior)

    @property
    def disclosed(self) -> tuple[str, ...]:
        """The groups that fair training tells apart; none where it has no say."""
        return () if self.fairness is None else disclosed(self.fairness.attribute, self.attributes)

    @property
    def counted(self) -> tuple[int, int]:
        """Rows and columns of the label counts: groups, the undisclosed last, or one row for all; and classes."""
        return (len(self.disclosed) + 1 if self.fairness else 1), len(self.labels)

    @property
    def tally_size(self) -> int:
        """K, numbers of the tally that travels with an update: by group, class, and right or what was predicted."""
        if self.fairness is None or not self.fairness.tallies:
            return 0
        return math.prod(self.counted) * self.answers

    def numbers(self, learning: int) -> int:
        """Return how many numbers of an update travel of a net of which T learn: T + K, with SCAFFOLD T + T."""
        return 2 * learning if self.local.scaffold else learning + self.tally_size

    @property
    def answers(self) -> int:
        """Kinds of answers that the tally tells apart: wrong and right, or each class."""
        parity = self.fairness is not None and self.fairness.tolerance_on == "parity"
        return len(self.labels) if parity else 2

    @property
    def stretch(self) -> float:
        """How far one unit moves all that a private step releases, in units of the clip."""
        return 1.0 if self.fairness is None else self.fairness.stretch

    def _require_private(self, privacy: Privacy) -> None:
        if self.local.rate <= 0:
            raise PrivacyError(
                "a fixed batch size is no Poisson sampling",
                where="local.rate",
                cure="Give a public sampling rate such as local.rate=0.05.",
            )
        if self.local.sampling != "rows":
            raise PrivacyError(
                "sampling by class is no Poisson sampling, and follows from how many rows of a class there are",
                where="local.sampling",
                cure="Use local.sampling=rows; local.loss=class_balanced with a prior weighs classes instead.",
            )
        if self.local.unit != "steps":
            raise PrivacyError(
                "the number of epochs tells the size of a site",
                where="local.unit",
                cure="Count local work in steps: local.unit=steps.",
            )
        if self.server.weighting == "size":
            raise PrivacyError(
                "weights by size would release how many records a site holds",
                where="server.weighting",
                cure="Use server.weighting=uniform; batches follow the site's size by themselves.",
            )
        if privacy.views > 1 and not self.local.augment:
            raise PrivacyError(
                f"{privacy.views} views of a picture are all the same without augmentation",
                where="privacy.views",
                cure="Set local.augment=true, or privacy.views=1.",
            )
        self._require_counts(privacy)
        require_countable(self)
        together = self.most_sites if privacy.noise == "distributed" else 1
        units = privacy.nominal_units * together
        if privacy.delta * units >= 1:
            raise PrivacyError(
                f"delta {privacy.delta:g} is not below 1 / {units} units",
                where="privacy.delta",
                cure=f"Give {0.1 / units:.0e} or less.",
            )
        if privacy.noise == "distributed":
            self._require_one_step()

    def _require_counts(self, privacy: Privacy) -> None:
        """Refuse exact label counts, and noisy ones that nothing uses."""
        if self.counts_labels and privacy.counts_epsilon is None:
            raise PrivacyError(
                f"the {'shares of groups and' if self.fairness else 'shares of the'} classes from the sites' exact "
                "label counts would release those counts",
                where="fairness"
                if self.fairness
                else "local.loss"
                if self.local.needs_prior
                else "server.adjustment",
                cure="Give public shares in local.prior, or let the sites add noise: privacy.counts_epsilon=0.5.",
            )
        if privacy.counts_epsilon is not None and not self.counts_labels:
            raise PrivacyError(
                "label counts would cost epsilon, and nothing uses them",
                where="privacy.counts_epsilon",
                cure="Set local.loss=logit_adjusted or server.adjustment=1.0 without a prior, or null.",
            )

    def _require_one_step(self) -> None:
        """Refuse work that a sum of gradients cannot do."""
        if self.server.rule != "mean":
            raise PrivacyError(
                f"only the sum of all shares is private, and {self.server.rule} is made of single ones",
                where="server.rule",
                cure="Use server.rule=mean, or privacy.noise=site, whose updates are private by themselves.",
            )
        if self.local.amount != 1:
            raise PrivacyError(
                f"distributed noise protects one step a round, not {self.local.amount}",
                where="local.amount",
                cure="Use local.amount=1, or privacy.noise=site.",
            )
        require(
            not self.local.has_penalty,
            f"sites that send sums of gradients take no step of their own, to which {self.local.loss} could be added",
            "local.loss",
            "Use privacy.noise=site, or another loss.",
        )
        for key, plain in (("optimizer", "sgd"), ("weight_decay", 0.0), ("proximal", 0.0)):
            require(
                getattr(self.local, key) == plain,
                f"sites that send sums of gradients take no step of their own, so {key} would have no effect",
                f"local.{key}",
                f"Use local.{key}={plain}.",
            )

    @property
    def attributes(self) -> dict[str, tuple[str, ...]]:
        """Attribute name -> values."""
        return {attribute.name: attribute.values for attribute in self.groups}

    @functools.cached_property
    def text(self) -> str:
        """The canonical text: JSON with sorted keys and no spaces."""
        given = dataclasses.asdict(self)
        for name in (
            "fairness",
            "finish",
            "statistics",
        ):  # a plan without them is what it was before there was any
            if getattr(self, name) is None:
                del given[name]
        if self.server.by_site is None:
            del given["server"]["by_site"]
        if not self.server.people:
            del given["server"]["people"]
        if self.privacy is not None and self.privacy.audit_epsilon is None:
            del given["privacy"]["audit_epsilon"]
        for name, default in LATER.items():
            if getattr(self.local, name) == default:
                del given["local"][name]
        given["model"] = self.model.to_dict()
        return json.dumps(given, sort_keys=True, separators=(",", ":"))

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical text, in hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True)
class Attribute:
    """A group attribute and its values, "undisclosed" among them where it occurs."""

    name: str
    values: tuple[str, ...]

    @property
    def open(self) -> Attribute:
        """The attribute with a place for those who do not disclose."""
        return self if UNDISCLOSED in self.values else Attribute(self.name, (*self.values, UNDISCLOSED))


@functools.lru_cache(maxsize=8)
def read_plan(text: str) -> Plan:
    """Parse a plan from its text.

    Raises
    ------
    ConfigError, ModelError, PrivacyError : with the path of the field.
    """
    require(len(text) <= LONGEST, f"{len(text)} characters are no plan", "plan", f"Send {LONGEST} at most.")
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError("the plan is no JSON", where="plan", cure="Send the text of a Plan.") from error
    return parse(Plan, given, "plan")
