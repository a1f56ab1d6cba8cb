"""What a user can set: the structured configuration that Hydra composes, and its way to a plan.

Each group (``data``, ``partition``, ``model``, ``local``, ``server``, ``privacy``, ``aggregation``, ``fairness``,
``pretrain``, ``engine``, ``baseline``) is a dataclass here and a choice of YAML files in ``conf/``. Hydra refuses
unknown keys and wrong types; what is left is checked where it is used.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING


@dataclass
class DataSettings:
    """Which pictures.

    ``reader`` is faces or a name of :data:`fer_models.readers.READERS`; ``root`` the folder the pictures lie in;
    ``split`` is "official" (the data set's own test part), "holdout" (a share ``test`` of the training rows, whole
    people, no copies across) or "auto" (official where it exists). ``options`` go to the reader, see docs/data.md,
    docs/datasets.md and docs/faces.md. ``groups`` names the audited attributes, all when empty; [none] audits none.
    ``publish``: the pictures' owner allows that means of ten or more of them are shown. ``cache``: where decoded
    pictures are kept, see :func:`simulations.reading.cache_of`. ``copies``: which pixel-identical pictures are left
    out, one of :data:`fer_models.splits.COPIES`.
    """

    reader: str = MISSING
    root: str = ""
    size: int = 48
    channels: int = 1
    split: str = "auto"
    test: float = 0.2
    groups: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    publish: bool = False
    cache: str = "auto"
    copies: str = "leaked"

    def facts(self) -> dict[str, Any]:
        """Return what decides which pictures a run has; settings that came later only where they are not as before."""
        silent = {"publish", "cache", *(["copies"] if self.copies == "leaked" else [])}
        return {key: value for key, value in asdict(self).items() if key not in silent}


@dataclass
class PartitionSettings:
    """Who holds what; see :class:`simulations.partition.PartitionSpec`."""

    kind: str = "label"
    sites: int = 10
    alpha: float = 0.5
    attribute: str = ""
    purity: float = 1.0
    minimum: int = 10
    mixed: int = 0


@dataclass
class ModelSettings:
    """Which net: a name of ``fedfer models`` or ``timm:<name>``; norm is gn, ws, bn or none; attention a block on its
    maps (:mod:`fer_models.blocks`), empty for none."""

    name: str = "fer_small"
    norm: str = "gn"
    dropout: float = 0.2
    attention: str = ""


@dataclass
class LocalSettings:
    """What a site does in a round; see :class:`client.plan.LocalWork`."""

    unit: str = "steps"
    amount: int = 4
    rate: float = 0.0
    batch: int = 32
    optimizer: str = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.0
    weight_decay: float = 0.0
    gradient_clip: float = 2.0
    proximal: float = 0.0
    augment: bool = True
    scope: str = "all"
    targets: str = "votes"
    smoothing: float = 0.0
    loss: str = "cross_entropy"
    tau: float = 1.0
    focusing: float = 2.0
    prior: list[float] = field(default_factory=list)
    strength: float = 0.0
    similar: list[Any] = field(default_factory=list)
    erase: float = 0.0
    light: float = 0.0
    sampling: str = "rows"
    scaffold: bool = False


@dataclass
class ServerSettings:
    """What the coordinator does; see :class:`client.plan.ServerWork`. ``weighting`` auto is size without privacy, and
    uniform with it or with a ``rule`` other than mean."""

    rounds: int = 50
    participation: float = 1.0
    weighting: str = "auto"
    optimizer: str = "average"
    learning_rate: float = 1.0
    momentum: float = 0.0
    beta2: float = 0.99
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    schedule: str = "constant"
    ema: float = 0.0
    evaluate_every: int = 1
    people: bool = False
    adjustment: float = 0.0
    rule: str = "mean"
    malicious: int = 0


@dataclass
class PrivacySettings:
    """Differential privacy: give ``target_epsilon`` or ``noise_multiplier``.

    ``noise`` "site" makes each site's update private by itself, "distributed" only the sum of a round, of which up to
    ``colluders`` sites may give their noise away; ``resolution`` null takes the finest grid that fits.
    """

    enabled: bool = False
    target_epsilon: float | None = None
    noise_multiplier: float | None = None
    delta: float | None = None
    clip: float = 1.0
    nominal_units: int | None = None
    unit: str = "record"
    views: int = 1
    allow_slow: bool = False
    noise: str = "site"
    colluders: int = 0
    resolution: int | None = None
    counts_epsilon: float | None = None
    audit_epsilon: float | None = None
    allow_useless: bool = False
    site_epsilon_limit: float | None = None


@dataclass
class AggregationSettings:
    """What the coordinator learns of a round; see :class:`client.secagg.terms.Secure`.

    ``kind`` is secure, plain, or auto. Null takes for ``threshold`` the least that the profile allows, for ``minimum``
    three sites besides the colluders or in a sparse graph half of all and one more, for ``colluders`` those of
    distributed noise, and for ``largest_weight`` the pictures of the largest site. ``transcripts`` keeps every session
    for an auditor.
    """

    kind: str = "auto"
    profile: str = "malicious"
    colluders: int | None = None
    threshold: int | None = None
    minimum: int | None = None
    clip: float = 16.0
    largest_weight: int | None = None
    degree: int = 0
    transcripts: bool = False


@dataclass
class FairnessSettings:
    """How training is made fair; see :class:`client.fairness.Fairness`.

    ``method`` is the name that reports call it by. ``attribute`` says whose groups: a column, or several with * between
    them for their intersections; empty takes the one that there is. ``opt_out`` is the share of the simulated sites
    that tell nobody's group. ``sites`` is a rule by which sites are weighed, with its ``q``, ``mixture_step`` or
    ``beta``; see :class:`client.by_site.BySite`. ``erase``: take the groups' mean features out of the finished net;
    ``clusters``: give so many clusters of features biases of their own; both from sums that cost ``moments_epsilon``
    (:mod:`client.finish`).
    """

    method: str = "none"
    attribute: str = ""
    adversary: str = "none"
    critic_loss: str = "cross_entropy"
    conditional: bool = False
    hidden: int = 0
    strength: float = 1.0
    ramp: float = 10.0
    noise_ratio: float = 3.0
    weighting: str = "none"
    by: str = "group"
    step: float = 0.3
    tolerance: float | None = None
    tolerance_on: str = "recall"
    opt_out: float = 0.0
    sites: str = "none"
    q: float = 1.0
    mixture_step: float = 0.01
    beta: float = 0.01
    erase: bool = False
    clusters: int = 0
    moments_epsilon: float | None = None


@dataclass
class StatisticsSettings:
    """What the sites count before training; see :class:`client.statistics.Statistics`.

    ``by`` names attributes of the groups, all when empty; [none] counts classes alone. ``epsilon`` is what a site pays,
    under privacy alone.
    """

    enabled: bool = False
    by: list[str] = field(default_factory=list)
    smallest: int = 10
    epsilon: float | None = None


@dataclass
class PretrainSettings:
    """Weights to start from, see :class:`simulations.pretraining.Pretraining`: drawn faces, or a local file."""

    faces: int = 0
    epochs: float = 10.0
    batch: int = 128
    learning_rate: float = 5e-3
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    weights: str = ""


@dataclass
class DistillSettings:
    """What is learned from besides labels, see :class:`simulations.distilling.Distilling`."""

    teacher: str = ""
    weight: float = 0.5
    temperature: float = 2.0


@dataclass
class EngineSettings:
    """Where sites run: ``local`` (this machine's processes; ``workers`` 0 takes all cores) or ``ray``; with an
    ``address`` on the machines of the Ray cluster there, see docs/cluster.md.

    ``together`` sites are trained in one pass, which pays for nets of some 10 thousand parameters. ``dropout`` is the
    share of the messages of secure aggregation that get lost.
    """

    name: str = "local"
    address: str = ""
    workers: int = 0
    together: int = 1
    device: str = "auto"
    dropout: float = 0.0


@dataclass
class BaselineSettings:
    """How pooled and local-only models train; ``epochs`` null gives them as many visits as the federated run.
    ``classical`` names systems of :mod:`simulations.classical` that are trained on the same split."""

    epochs: float | None = None
    batch: int = 128
    learning_rate: float = 5e-3
    weight_decay: float = 0.05
    gradient_clip: float = 5.0
    ema: float = 0.998
    evaluations: int = 5
    systems: list[str] = field(default_factory=lambda: ["pooled", "local_only"])
    classical: list[str] = field(default_factory=list)


@dataclass
class CompareSettings:
    """What else runs when the run is private: the same federation ``without_privacy``, and ``pooled_private``, the
    same training on everybody's pictures in one place at the same epsilon. And when it is fair: the same federation
    ``without_fairness``. ``probes``: whether fresh classifiers try to tell the audited groups from the features of
    every net."""

    without_privacy: bool = True
    pooled_private: bool = True
    without_fairness: bool = True
    probes: bool = True


@dataclass
class TrackingSettings:
    """Where figures go besides the run folder: ``mlflow`` is the folder of an MLflow database, ``wandb`` that of
    offline runs of Weights & Biases, empty for none."""

    mlflow: str = ""
    wandb: str = ""


@dataclass
class PrivacyAuditSettings:
    """How ``audit-privacy`` looks for leaks: canaries in training, and ``trials`` of one round; see
    :mod:`simulations.privacy_audit`."""

    canaries: int = 1000
    pictures: str = "patches"
    trials: int = 500
    confidence: float = 0.95
    retrain: bool = False


@dataclass
class Settings:
    """A whole run; ``tolerance`` is a file of limits that its federated system has to keep, see docs/audit.md."""

    name: str = "run"
    seed: int = 0
    tolerance: str = ""
    data: DataSettings = field(default_factory=DataSettings)
    partition: PartitionSettings = field(default_factory=PartitionSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    local: LocalSettings = field(default_factory=LocalSettings)
    server: ServerSettings = field(default_factory=ServerSettings)
    privacy: PrivacySettings = field(default_factory=PrivacySettings)
    aggregation: AggregationSettings = field(default_factory=AggregationSettings)
    fairness: FairnessSettings = field(default_factory=FairnessSettings)
    statistics: StatisticsSettings = field(default_factory=StatisticsSettings)
    pretrain: PretrainSettings = field(default_factory=PretrainSettings)
    distill: DistillSettings = field(default_factory=DistillSettings)
    engine: EngineSettings = field(default_factory=EngineSettings)
    baseline: BaselineSettings = field(default_factory=BaselineSettings)
    compare: CompareSettings = field(default_factory=CompareSettings)
    tracking: TrackingSettings = field(default_factory=TrackingSettings)
    privacy_audit: PrivacyAuditSettings = field(default_factory=PrivacyAuditSettings)


def register() -> None:
    """Make the dataclasses known to Hydra as schemas of the YAML files."""
    store = ConfigStore.instance()
    store.store(name="settings_schema", node=Settings)
    groups = {
        "data": DataSettings,
        "partition": PartitionSettings,
        "model": ModelSettings,
        "local": LocalSettings,
        "server": ServerSettings,
        "privacy": PrivacySettings,
        "aggregation": AggregationSettings,
        "pretrain": PretrainSettings,
        "engine": EngineSettings,
        "baseline": BaselineSettings,
    }
    for group, schema in groups.items():
        store.store(group=group, name=f"{group}_schema", node=schema)
