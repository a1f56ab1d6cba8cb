"""What a plan asks of a site in a round, and of the coordinator with what the sites send."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from client.by_site import BySite
from client.strict import nearest, require
from fer_models.losses import LOSSES, MOST_FOCUSING, NEED_PRIOR
from fer_models.losses import STRENGTH as STRENGTHS
from fer_models.mixing import MIXING
from fer_models.penalties import PENALTIES
from fer_models.plugins import added
from fer_models.scope import Scope
from fer_models.terms import TERMS
from fer_models.transforms import Augmentation

OWN_LOSSES = (*LOSSES, *TERMS, *PENALTIES, *MIXING)
"""What a site may minimise, besides the losses of :mod:`fer_models.plugins`; ``fedfer losses`` tells of each."""

LATER: dict[str, object] = {
    **{"strength": 0.0, "similar": (), "erase": 0.0, "light": 0.0, "sampling": "rows"},
    "scaffold": False,
}
"""Fields that came later, with their defaults: a plan without them is written as it was before there were any."""


@dataclass(frozen=True)
class LocalWork:
    """What a site does with the model in one round.

    Attributes
    ----------
    unit, amount : how much work, in optimizer steps or in epochs over the site's rows.
    rate : share of the site's rows in one batch, so that batches follow the site's size; 0 uses ``batch``.
        Under privacy it is the public Poisson sampling rate.
    batch : rows a batch when ``rate`` is 0.
    optimizer : "sgd" or "adamw", made fresh in every round.
    learning_rate, momentum, weight_decay : of that optimizer.
    gradient_clip : largest 2-norm of a batch gradient, 0 for none; not used under privacy.
    proximal : FedProx's mu (Li et al. 2020): the penalty mu / 2 ||w - w_round||^2; 0 is FedAvg.
    augment : small random affine changes and mirror images of the training pictures.
    scope : which layers learn, "all", "last_quarter" or "head" (:mod:`fer_models.scope`); the others keep the
        weights that the run starts from, and only what learns is sent.
    targets : "votes" trains on the annotators' distribution, "label" on the label alone.
    smoothing : label smoothing, 0 to below 1.
    loss : "cross_entropy"; "focal", which attends to what the net does not know yet (Lin et al. 2017);
        "logit_adjusted", "class_balanced" and "ldam" need the share of every class, which is ``prior`` or comes from
        label counts (:mod:`client.label_counts`); others of :mod:`fer_models.losses`, :mod:`fer_models.terms`,
        :mod:`fer_models.mixing` and :mod:`fer_models.penalties`; or one that a package adds
        (:mod:`fer_models.plugins`).
    tau : strength of "logit_adjusted" (Menon et al. 2021).
    focusing : gamma of "focal"; 0 is cross-entropy.
    prior : public share of every class in the order of the labels, scaled to a sum of 1; empty for none.
    strength : the one number of a loss that has one (``fedfer losses NAME``); 0 takes the loss's own.
    similar : of "pdls", for every class a public distribution over the classes that it is also taken for.
    erase, light : where pictures are augmented, how often a rectangle is erased, and how strong a light from one side
        is; see :class:`fer_models.transforms.Augmentation`.
    sampling : "rows" visits every row equally often, "classes" every class (Shen et al. 2016, ECCV), without privacy.
    scaffold : SCAFFOLD (Karimireddy et al. 2020): control variates take out of each step by how much the site's
        gradient is another than everybody's (:mod:`client.scaffold`).
    """

    unit: Literal["steps", "epochs"] = "steps"
    amount: int = 4
    rate: float = 0.0
    batch: int = 32
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.0
    weight_decay: float = 0.0
    gradient_clip: float = 2.0
    proximal: float = 0.0
    augment: bool = True
    scope: Scope = "all"
    targets: Literal["votes", "label"] = "votes"
    smoothing: float = 0.0
    loss: str = "cross_entropy"
    tau: float = 1.0
    focusing: float = 2.0
    prior: tuple[float, ...] = ()
    strength: float = 0.0
    similar: tuple[tuple[float, ...], ...] = ()
    erase: float = 0.0
    light: float = 0.0
    sampling: Literal["rows", "classes"] = "rows"
    scaffold: bool = False

    def __post_init__(self) -> None:
        require(self.amount >= 1, f"{self.amount} {self.unit} is no work", "local.amount", "Give 1 or more.")
        require(0 <= self.rate <= 1, f"rate {self.rate} is no share", "local.rate", "Give 0 to 1.")
        require(self.batch >= 1, f"batch {self.batch} is empty", "local.batch", "Give 1 or more.")
        require(
            self.learning_rate > 0, "the learning rate is not positive", "local.learning_rate", "Raise it."
        )
        require(0 <= self.momentum < 1, "momentum is not in [0, 1)", "local.momentum", "Give 0 to 0.99.")
        require(0 <= self.smoothing < 1, "smoothing is not in [0, 1)", "local.smoothing", "Give 0 to 0.2.")
        require(0 < self.tau <= 4, "tau is not in (0, 4]", "local.tau", "Give 1.0 or so.")
        require(
            0 <= self.focusing <= MOST_FOCUSING,
            f"focusing {self.focusing} is not in [0, {MOST_FOCUSING:g}]",
            "local.focusing",
            "Give 2.0 or so.",
        )
        require(
            all(0 < share < math.inf for share in self.prior),
            "a class without a share",
            "local.prior",
            "Give every class more than 0, such as 0.001.",
        )
        for name in ("weight_decay", "gradient_clip", "proximal"):
            require(getattr(self, name) >= 0, f"{name} is negative", f"local.{name}", "Give 0 or more.")
        self._require_loss()
        require(
            self.augment or self.erase == self.light == 0,
            "pictures that are not varied are neither erased nor lit",
            "local.erase" if self.erase else "local.light",
            "Set local.augment=true, or both to 0.",
        )
        _ = self.augmentation  # which refuses values out of range

    @property
    def augmentation(self) -> Augmentation:
        """How strongly pictures are varied where they are."""
        return Augmentation(erase=self.erase, light=self.light)

    def _require_loss(self) -> None:
        others = added("losses")
        require(
            self.loss in OWN_LOSSES or self.loss in others,
            f"unknown value {self.loss!r}",
            "local.loss",
            nearest(self.loss, (*OWN_LOSSES, *others)),
        )
        most = 1.0 if self.loss == "pdls" else 100.0
        require(
            0 <= self.strength <= most,
            f"strength {self.strength} is not in [0, {most:g}]",
            "local.strength",
            "Give 0 for the loss's own.",
        )
        require(
            self.strength == 0 or self.loss not in LOSSES or self.loss in STRENGTHS,
            f"the loss {self.loss} has no strength",
            "local.strength",
            "Leave it out, or use another loss.",
        )
        require(
            bool(self.similar) == (self.loss == "pdls"),
            "pdls without distributions" if self.loss == "pdls" else "distributions that only pdls uses",
            "local.similar",
            "Give one public row a class with local.loss=pdls, and none with others.",
        )

    @property
    def has_terms(self) -> bool:
        """Whether the loss looks at features, or has parameters of its own."""
        return self.loss in TERMS

    @property
    def has_penalty(self) -> bool:
        """Whether the loss has a penalty on parameters."""
        return self.loss in PENALTIES

    @property
    def of_logits(self) -> bool:
        """Whether the loss of a picture is a function of its logits and target alone."""
        return self.loss in LOSSES or self.is_added

    @property
    def is_added(self) -> bool:
        """Whether the loss is of another package."""
        return self.loss not in OWN_LOSSES

    def require_known_classes(self) -> None:
        """Refuse a loss that wants to know every class, for pictures whose data sets do not.

        Smoothing and the rows of ``pdls`` move a share of every target to all classes of the net, also to those that a
        row's data set does not know, and what is left would push the known ones down.

        Raises
        ------
        ConfigError : it looks at more than logits and targets, or spreads targets.
        """
        cure = "Use local.loss=cross_entropy with local.smoothing=0, or read the sets with classes=common."
        what = f"{self.loss} needs pictures whose data sets know every class"
        require(self.of_logits, what, "local.loss", cure)
        for spread, name, key in (
            (self.smoothing > 0, "local.smoothing", "local.smoothing"),
            (self.loss == "pdls", "pdls", "local.loss"),
        ):
            what = f"{name} gives a share to classes that some data sets do not know"
            require(not spread, what, key, cure)

    @property
    def needs_prior(self) -> bool:
        """Whether the loss needs the share of every class."""
        return self.loss in NEED_PRIOR

    @property
    def tells_prior(self) -> bool:
        """Whether sites have to be told those shares, because the plan does not name them."""
        return self.needs_prior and not self.prior


@dataclass(frozen=True)
class ServerWork:
    """What the coordinator does with the sum of updates.

    Attributes
    ----------
    rounds : number of rounds.
    participation : share of the sites in a round, drawn by a sampler seeded with (seed, round).
    weighting : "size" weighs a site by its rows, "uniform" all alike.
    optimizer : "average" adds the mean update times ``learning_rate`` (FedAvg, and FedAvgM with
        ``momentum``); "adam", "yogi" and "adagrad" treat it as a gradient (Reddi et al. 2021) with decoupled decay.
    learning_rate, momentum, beta2, epsilon, weight_decay : of the server's optimizer.
    schedule : of the learning rate over the rounds: "constant", "cosine", "onecycle" (Smith 2018).
    ema : decay of the exponential moving average of the weights that is evaluated and kept; 0 for none.
    evaluate_every : rounds between two evaluations; the last round is always evaluated.
    rule : what is made of the updates: their "mean", or what bears ``malicious`` sites (:mod:`server.robust`), which
        needs every update by itself: "median", "trimmed_mean", "krum", "multi_krum", "bulyan".
    malicious : sites of a round that the rule has to bear.
    by_site : weighs sites by how each of them fares (:mod:`client.by_site`); None by ``weighting`` alone.
    people : sites add to the counts of a last evaluation the sums over people that intervals over people need
        (:mod:`fer_models.people`); where not all take part in every round, to those of each evaluation.
    adjustment : tau by which the logits that are evaluated and kept are adjusted for the shares of the classes,
        logits - tau log prior (Menon et al. 2021, eq. 9); 0 leaves them.
    """

    rounds: int = 50
    participation: float = 1.0
    weighting: Literal["size", "uniform"] = "size"
    optimizer: Literal["average", "adam", "yogi", "adagrad"] = "average"
    learning_rate: float = 1.0
    momentum: float = 0.0
    beta2: float = 0.99
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine", "onecycle"] = "constant"
    ema: float = 0.0
    evaluate_every: int = 1
    adjustment: float = 0.0
    rule: Literal["mean", "median", "trimmed_mean", "krum", "multi_krum", "bulyan"] = "mean"
    malicious: int = 0
    by_site: BySite | None = None
    people: bool = False

    def __post_init__(self) -> None:
        require(self.rounds >= 1, "no rounds", "server.rounds", "Give 1 or more.")
        require(
            0 < self.participation <= 1, "participation is not in (0, 1]", "server.participation", "Give 1.0."
        )
        require(
            self.learning_rate > 0, "the learning rate is not positive", "server.learning_rate", "Raise it."
        )
        require(0 <= self.momentum < 1, "momentum is not in [0, 1)", "server.momentum", "Give 0 to 0.99.")
        require(0 <= self.beta2 < 1, "beta2 is not in [0, 1)", "server.beta2", "Give 0.9 to 0.999.")
        require(0 <= self.ema < 1, "ema is not in [0, 1)", "server.ema", "Give 0 to 0.999.")
        require(0 <= self.adjustment <= 4, "tau is not in [0, 4]", "server.adjustment", "Give 0 to 1.5.")
        require(
            self.evaluate_every >= 1, "evaluate_every is below 1", "server.evaluate_every", "Give 1 or more."
        )
        require(
            self.malicious >= 0, f"{self.malicious} malicious sites", "server.malicious", "Give 0 or more."
        )
        require(
            self.rule != "mean" or self.malicious == 0,
            f"a mean bears no malicious site, let alone {self.malicious}",
            "server.rule",
            "Use median, trimmed_mean, krum, multi_krum or bulyan; or server.malicious=0.",
        )
        require(
            self.rule == "mean" or self.weighting == "uniform",
            f"a malicious site would claim the largest weight, so {self.rule} gives all the same",
            "server.weighting",
            "Use server.weighting=uniform.",
        )
