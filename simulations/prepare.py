"""From settings to the three things a run needs: samples with a split, a partition into sites, and a plan."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from client.accounting import epsilon_of
from client.limits import Limit, cost_beside, first_round_over, over_limit, with_rounds
from client.methods.registry import method_of
from client.nets import net_of
from client.outlook import Outlook, outlook
from client.plan import Attribute, LocalWork, Plan, ServerWork, Statistics
from client.strict import nearest, parse, require
from client.training import batch_size, people_of
from client.workbench import Workbench
from fer_models.embedding import last_layer
from fer_models.errors import ConfigError, DataError, PrivacyError, RunFolderError
from fer_models.readers import names, options_of, read
from fer_models.samples import Samples
from fer_models.scope import logit_bias
from fer_models.splits import divided, leaks, takes_official, units
from fer_models.zoo import ModelSpec, parameter_count
from server.drawing import cohort
from server.robust import require_enough
from simulations.baselines import CentralWork
from simulations.distilling import Distilling, distilled
from simulations.faces import FacesConfig, draw
from simulations.fairness import (
    by_site_of,
    fairness_of,
    finish_of,
    is_finished,
    notes_of,
    opting_out,
    with_intersections,
)
from simulations.partition import Partition, PartitionSpec, partition
from simulations.pretraining import Pretraining, identity
from simulations.private_terms import privacy_of, with_noise
from simulations.reading import Shown, cache_of, say
from simulations.secure import largest_weight, terms_of
from simulations.settings import DataSettings, Settings, StatisticsSettings

SAME_PEOPLE = (
    "drawn faces of one seed show the same people, so the start is learned from those of this run, its test part among "
    "them: give pretrain.seed another number than seed"
)
"""What to say of a run on drawn faces that starts from drawn faces with its own seed."""


@dataclass(frozen=True)
class Prepared:
    """A run, ready to start.

    Attributes
    ----------
    samples : every row has a split.
    partition : every row has a site.
    plan : what the sites are asked for.
    central : how the baselines train.
    pretraining : what the run starts from.
    warnings : what to tell the user before a private run starts, a sentence each.
    held_out : the test part was drawn from the training rows, and is not the data set's own.
    taught : a sentence on the teachers that the targets are mixed with; empty without.
    """

    samples: Samples
    partition: Partition
    plan: Plan
    central: CentralWork
    pretraining: Pretraining = field(default_factory=Pretraining)
    warnings: tuple[str, ...] = ()
    held_out: bool = True
    taught: str = ""


def load(data: DataSettings, seed: int) -> Samples:
    """Read or draw the samples as they are, without a split of our own.

    Raises
    ------
    ConfigError, DataError : with the key or the file.
    """
    if data.reader == "faces":
        facts = {"size": data.size, "channels": data.channels, **data.options}
        return draw(parse(FacesConfig, facts, "data.options"), seed)
    if data.reader not in names():
        known = ", ".join(["faces", *names()])
        raise ConfigError(f"unknown reader {data.reader!r}", where="data.reader", cure=f"Use one of {known}.")
    if not data.root:
        raise ConfigError(
            "the folder of the pictures is missing", where="data.root", cure="Give data.root=FOLDER."
        )
    known = options_of(data.reader)
    for name in data.options:
        if name not in known:
            raise ConfigError(f"unknown key {name!r}", where="data.options", cure=nearest(name, known))
    sizes = {"size": data.size, "channels": data.channels}
    sizes = {key: value for key, value in sizes.items() if key in known}
    with Shown(data.reader) as shown:
        options = {**sizes, **data.options, "progress": shown}
        try:
            cache = cache_of(data.cache, shown.say)
            return read(data.reader, Path(data.root).expanduser(), cache=cache, **options)
        except RunFolderError as error:
            if data.cache != "auto":
                raise
            shown.say(f"warning: {error} Reading without a store.")
            return read(data.reader, Path(data.root).expanduser(), **options)


def split(samples: Samples, data: DataSettings, seed: int) -> Samples:
    """Give every row its split, see :func:`fer_models.splits.divided`, and say what lies on both sides of it."""
    found = divided(samples, data.split, data.test, seed, copies_out=data.copies)
    for text in leaks(found, pictures=data.copies == "keep"):
        say(f"warning: {text}")
    for text in found.notes:
        say(f"note: {text}")
    return found


def audited(samples: Samples, wanted: list[str]) -> tuple[Attribute, ...]:
    """Return the attributes to audit, with the values that occur: all of them, or those wanted; ["none"] none.

    Raises
    ------
    ConfigError : an attribute that the samples do not have.
    """
    if wanted == ["none"]:
        return ()
    for name in wanted:
        if name not in samples.groups:
            known = ", ".join(samples.groups) or "none; this data set has no groups"
            raise ConfigError(f"unknown attribute {name!r}", where="data.groups", cure=f"Known: {known}.")
    names = wanted or list(samples.groups)
    return tuple(Attribute(name, tuple(np.unique(samples.groups[name]).tolist())) for name in names)


def prepare(settings: Settings) -> Prepared:
    """Read, split, divide into sites, and compile the plan."""
    loaded = with_intersections(load(settings.data, settings.seed), settings.fairness)
    held_out = not takes_official(loaded, settings.data.split)
    samples = split(loaded, settings.data, settings.seed)
    _require_classes(samples)
    samples, taught = _taught(settings, samples)
    spec = parse(PartitionSpec, dataclasses.asdict(settings.partition), "partition")
    division = partition(samples, spec, seed=settings.seed, units=units(samples))
    plan = compile_plan(settings, samples, division)
    pretraining = parse(Pretraining, dataclasses.asdict(settings.pretrain), "pretrain")
    if pretraining.wanted:
        identity(pretraining)  # a file of weights that is missing shows before a run folder is made
    warnings = _warnings(settings, plan, samples, division) if plan.privacy else ()
    if plan.fairness is not None:
        warnings = (*warnings, *notes_of(plan.fairness, plan.disclosed, samples))
    if plan.server.by_site is not None:
        rule = method_of(plan.server.by_site.rule)
        warnings = (*warnings, f"aggregation is plain: {rule.name} shows the coordinator {rule.reveals}")
    if pretraining.faces and settings.data.reader == "faces" and pretraining.seed == settings.seed:
        warnings = (*warnings, SAME_PEOPLE)
    central = central_work(settings, samples, division, plan)
    return Prepared(samples, division, plan, central, pretraining, warnings, held_out, taught)


def _taught(settings: Settings, samples: Samples) -> tuple[Samples, str]:
    """Return samples with the teachers' answers in their targets, and what to say of it; as they are without any."""
    if not settings.distill.teacher:
        return samples, ""
    require(
        settings.local.targets == "votes",
        "labels alone leave no place for a teacher's answers",
        "local.targets",
        "Use local.targets=votes, or leave distill.teacher empty.",
    )
    work = parse(Distilling, dataclasses.asdict(settings.distill), "distill")
    return distilled(samples, work, private=settings.privacy.enabled)


def outlook_of(plan: Plan, sites: int) -> Outlook:
    """Return what the public numbers of a private plan say of a run over some sites."""
    net = net_of(plan)
    taking_part = len(cohort(plan.seed, 1, range(sites), plan.server.participation))
    return outlook(plan, parameter_count(net), taking_part * plan.server.rounds * plan.local.amount)


def _warnings(settings: Settings, plan: Plan, samples: Samples, division: Partition) -> tuple[str, ...]:
    """Return what to say before a private run starts.

    Raises
    ------
    PrivacyError : noise is all there would be, no site has as many units as a batch is taken to hold, or delta is too
        large for the largest site.
    """
    found = outlook_of(plan, division.sites)
    if not settings.privacy.allow_useless:
        found.require_useful(settings.privacy.target_epsilon)
    sizes = _units_of(plan, samples, division)
    if max(sizes) < found.batch:
        raise PrivacyError(
            f"no site holds more than {max(sizes)} units, and a batch is taken to hold {found.batch:g}",
            where="privacy.nominal_units",
            cure="Give about as many as a site has, or null; the noisy sum is divided by local.rate times that.",
        )
    assert plan.privacy is not None
    if plan.privacy.delta * max(sizes) >= 1:
        raise PrivacyError(
            f"delta {plan.privacy.delta:g} is not below 1 / {max(sizes)} units, which the largest site holds",
            where="privacy.delta",
            cure=f"Give {0.1 / max(sizes):.0e} or less; such a delta allows publishing a unit at random.",
        )
    said = [found.warning, accountant_note(plan, division.sites)]
    small = sum(size * plan.local.rate < 1 for size in sizes)
    if small and found.batch >= 1:
        units = "people" if plan.privacy.unit == "subject" else "pictures"
        said.append(
            f"{small} of {division.sites} sites hold fewer than {1 / plan.local.rate:g} {units}, so that most of "
            "their batches are empty: raise local.rate or partition.minimum"
        )
    if plan.fairness is not None and plan.fairness.by_errors:
        said.append(
            "weights after the clip make the signal smaller and leave the noise: under privacy "
            "fairness=critic_private, which has none, measured better (docs/fairness.md)"
        )
    return tuple(each for each in said if each)


def _units_of(plan: Plan, samples: Samples, division: Partition) -> list[int]:
    """Return how many pictures each site trains on, or people where they are the unit of privacy."""
    rows = [division.rows(site, samples, "train") for site in range(division.sites)]
    if plan.privacy is None or plan.privacy.unit == "record":
        return [len(own) for own in rows]
    return [len(people_of(samples, own)) for own in rows]


def accountant_note(plan: Plan, sites: int) -> str:
    """Return why the epsilon of a whole run is not a tight accountant's, empty where it is or without privacy."""
    if plan.privacy is None:
        return ""
    rounds = most_rounds(plan.server, sites, plan.seed)
    found = epsilon_of(with_rounds(cost_beside(plan), plan, rounds), plan.privacy.delta)
    return f"epsilon {found.value:.4g} is larger than it would have to be. {found.note}" if found.note else ""


def _require_classes(samples: Samples) -> None:
    if len(samples.labels) < 2:
        raise DataError(
            f"all pictures show {', '.join(samples.labels) or 'nothing'}",
            where=samples.name,
            cure="Give pictures of two classes or more.",
        )
    present = np.bincount(samples.label[samples.rows("train")], minlength=len(samples.labels))
    missing = [name for name, count in zip(samples.labels, present, strict=True) if not count]
    if missing:
        raise DataError(
            f"no training picture shows {', '.join(missing)}",
            where=samples.name,
            cure="Give pictures of every class, or leave the class out of the labels.",
        )


def compile_plan(settings: Settings, samples: Samples, division: Partition) -> Plan:
    """Compile settings to a plan; ``auto`` and targets become numbers."""
    local = parse(LocalWork, dataclasses.asdict(settings.local), "local")
    server_facts = dataclasses.asdict(settings.server)
    if server_facts["weighting"] == "auto":
        alike = settings.privacy.enabled or settings.server.rule != "mean"
        server_facts["weighting"] = "uniform" if alike else "size"
    groups = audited(samples, list(settings.data.groups))
    if opting_out(settings.fairness, division.sites, settings.seed):
        groups = tuple(each.open for each in groups)
    server_facts["by_site"] = by_site_of(settings.fairness, groups, samples)
    server = parse(ServerWork, server_facts, "server")
    size = len(cohort(settings.seed, 1, range(division.sites), server.participation))
    require_enough(server, size)
    heaviest = largest_weight(samples, division)
    secure = terms_of(settings, size, division.sites, heaviest, server.weighting)
    fewest = size if secure is None else secure.fewest
    privacy = privacy_of(settings.privacy, samples, division, size, fewest)
    model = {
        **dataclasses.asdict(settings.model),
        "classes": len(samples.labels),
        "channels": samples.channels,
        "size": samples.size,
        "clusters": settings.fairness.clusters,
    }
    plan = Plan(
        labels=samples.labels,
        model=parse(ModelSpec, model, "model"),
        local=local,
        server=server,
        privacy=privacy,
        groups=groups,
        aggregation="plain" if secure is None else "secure",
        secure=secure,
        fairness=fairness_of(settings.fairness, groups, samples),
        statistics=statistics_of(settings.statistics, groups),
        seed=settings.seed,
    )
    # Builds and tries the net as sites do; here a refusal costs no run folder.
    bench = Workbench(plan, torch.device("cpu"))
    if server.adjustment > 0:
        logit_bias(bench.flat.module, plan.model)
    features = last_layer(bench.flat.module, plan.model).in_features if is_finished(settings.fairness) else 0
    plan = replace(plan, finish=finish_of(settings.fairness, plan, groups, samples, features))
    if privacy is not None:
        steps = plan.local.amount * most_rounds(plan.server, division.sites, plan.seed)
        numbers = len(bench.flat.learning) + plan.tally_size
        plan = replace(plan, privacy=with_noise(settings.privacy, plan, numbers, steps))
        _require_below_limit(plan, site_limit(settings, plan), division.sites)
    run = hashlib.sha256(b"fedfer run|" + plan.text.encode()).hexdigest()[:16]
    return replace(plan, run=run)


def statistics_of(wanted: StatisticsSettings, groups: tuple[Attribute, ...]) -> Statistics | None:
    """Return what the sites count before training, None for nothing."""
    if not wanted.enabled:
        return None
    by = () if wanted.by == ["none"] else tuple(wanted.by) or tuple(each.name for each in groups)
    return Statistics(by, wanted.smallest, wanted.epsilon)


def site_limit(settings: Settings, plan: Plan) -> Limit | None:
    """Return the limit that every simulated site sets itself, None for none."""
    if plan.privacy is None or settings.privacy.site_epsilon_limit is None:
        return None
    return Limit(settings.privacy.site_epsilon_limit, plan.privacy.delta)


def _require_below_limit(plan: Plan, limit: Limit | None, sites: int) -> None:
    """Refuse a plan that would pass the limit of some site, whose rounds the seeded sampler tells."""
    if limit is None:
        return
    server = plan.server
    drawn = [
        set(cohort(plan.seed, r, range(sites), server.participation)) for r in range(1, server.rounds + 1)
    ]
    took_part = {tuple(r for r, chosen in enumerate(drawn, 1) if site in chosen) for site in range(sites)}
    over = [
        found for rounds in took_part if (found := first_round_over(cost_beside(plan), plan, limit, rounds))
    ]
    if over:
        raise over_limit(min(over), plan, limit, "privacy.site_epsilon_limit")


def most_rounds(server: ServerWork, sites: int, seed: int) -> int:
    """Return in how many rounds the busiest site takes part; the sampler is seeded, so this is exact."""
    if server.participation >= 1:
        return server.rounds
    drawn = [cohort(seed, r, range(sites), server.participation) for r in range(1, server.rounds + 1)]
    return int(np.bincount(np.concatenate(drawn), minlength=sites).max())


def expected_epochs(plan: Plan, samples: Samples, division: Partition) -> float:
    """Return how often a federated run sees each training row, on average."""
    work, server = plan.local, plan.server
    share = server.participation * server.rounds * work.amount
    if work.unit == "epochs":
        return share
    train = samples.split == "train"
    sizes = np.bincount(division.site[train], minlength=division.sites)
    return share * sum(batch_size(work, int(n)) for n in sizes if n) / int(train.sum())


def central_work(settings: Settings, samples: Samples, division: Partition, plan: Plan) -> CentralWork:
    """Return how baselines train: with the federated run's visits where no number of epochs is given."""
    facts: Mapping[str, Any] = dataclasses.asdict(settings.baseline)
    kept = {key: value for key, value in facts.items() if key not in ("systems", "classical", "epochs")}
    given = settings.baseline.epochs
    epochs = expected_epochs(plan, samples, division) if given is None else given
    shared = {"augment": plan.local.augment, "targets": plan.local.targets, "smoothing": plan.local.smoothing}
    return parse(CentralWork, {**kept, **shared, "epochs": epochs}, "baseline")
