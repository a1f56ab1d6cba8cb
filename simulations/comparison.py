"""The main job: run the systems that were asked for on one split, and leave a run folder with figures and a page."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf

from client.audit_counts import is_noisy
from client.plan import Plan
from client.trust import POOLED
from fer_models.checkpoints import save_model
from fer_models.erasure import Eraser
from fer_models.errors import ConfigError
from fer_models.flat import FlatModel
from fer_models.samples import people_by_group
from fer_models.zoo import build
from server.figures import judged
from server.report import write_report
from server.results import Result
from server.run_folder import RunFolder, reading
from simulations.alone import alone_summary, read_alone
from simulations.baseline_job import BaselineJob, read_baseline
from simulations.classical import NAMES as CLASSICAL
from simulations.classical import NOTE, ClassicalJob
from simulations.distilling import teachers
from simulations.fairness import notes_of, opting_out
from simulations.federated import (
    Sites,
    choose_device,
    counts_by_site,
    require_engine,
)
from simulations.jobs import Progress, run_jobs
from simulations.on_ray import runner
from simulations.partition import Partition, values_of
from simulations.pooled_private import SYSTEM, one_site, pooled_private, without_fairness
from simulations.prepare import compile_plan, prepare, site_limit
from simulations.pretraining import identity, start_of
from simulations.probing import Prober
from simulations.secure import largest_weight, without_privacy
from simulations.settings import FairnessSettings, Settings
from simulations.subjects import alike, doubt, knowing_people, several
from simulations.summaries import Summary, cost, federated_summary
from simulations.tracking import opened, require_tracking


class Comparison:
    """Runs systems and writes what they found.

    Parameters
    ----------
    settings : the whole configuration.
    path : the run folder.
    systems : of "pooled", "local_only", "federated_without_privacy", "pooled_private",
        "federated_without_fairness", "federated", in the order of the page.
    observer : told of every record; for the live table.
    """

    def __init__(
        self, settings: Settings, path: Path, systems: list[str], observer: Callable[..., None]
    ) -> None:
        self.settings, self.systems = settings, systems
        self._path = path
        engine = settings.engine
        require_engine(engine.name, engine.workers, engine.together, engine.dropout, engine.address)
        require_tracking(settings.tracking)
        self.device = choose_device(settings.engine.device)
        self.workers = settings.engine.workers or os.cpu_count() or 1
        self._observer = observer
        self._summary: dict[str, Summary] = {}

    def prepare(self) -> None:
        """Read the pictures and make the plan; a mistake in the settings shows here, before anything is written."""
        self.prepared = prepare(self.settings)
        if self.settings.engine.dropout and self.prepared.plan.aggregation == "plain":
            raise ConfigError(
                "plain aggregation bears no site that drops out",
                where="engine.dropout",
                cure="Use aggregation=secure with three sites or more, or engine.dropout=0.",
            )
        if self.settings.engine.name == "ray" and self.prepared.plan.local.scaffold:
            raise ConfigError(
                "what sites keep of SCAFFOLD does not travel between Ray's processes",
                where="local.scaffold",
                cure="Use engine=local.",
            )

    def run(self) -> Path:
        """Run everything that is missing in a prepared comparison, and return the run folder."""
        self.folder = RunFolder(self._path)
        config = OmegaConf.to_yaml(OmegaConf.structured(self.settings))
        self.folder.open(self._identity(), config)
        if self.folder.complete:
            return self.folder.path
        self._write_partition()
        self._forget_unsaved()
        self._trackers = opened(self.folder, self.settings, self.systems)
        try:
            prepared = self.prepared
            self._start = start_of(
                prepared.pretraining, prepared.plan, self.folder, self._observer, self.device
            )
            self._run_baselines()
            self._run_federations()
            self._finish()
        finally:
            self._trackers.close()
        return self.folder.path

    def _identity(self) -> dict[str, Any]:
        facts = {
            "systems": self.systems,
            "plan": dataclasses.asdict(self.prepared.plan),
            "seed": self.settings.seed,
        }
        facts |= {"data": self.settings.data.facts(), "hash": self.prepared.plan.digest}
        facts["partition"] = dataclasses.asdict(self.settings.partition)
        if self.settings.engine.together > 1:  # other than the engine and its workers, this changes the bits
            facts["together"] = self.settings.engine.together
        if self.settings.engine.dropout:
            facts["dropout"] = self.settings.engine.dropout
        if self.prepared.plan.fairness is not None:
            facts["fairness"] = dataclasses.asdict(self.settings.fairness)
        if self.prepared.pretraining.wanted:
            facts["pretrain"] = identity(self.prepared.pretraining)
        if self.prepared.taught:
            facts["distill"] = teachers(self.settings.distill)
        return facts | {"central": dataclasses.asdict(self.prepared.central)}

    def _forget_unsaved(self) -> None:
        """Drop the lines of metrics that belong to work after the last checkpoints, which is done again."""
        for system in self.systems:
            if self.folder.read_json(f"baselines/{system}.json") is not None:
                continue
            found = self.folder.load_checkpoint(f"checkpoint-{system}")
            with reading(self.folder.path / f"checkpoint-{system}.safetensors", "Delete it to start again."):
                last = float(found[1]["round"]) if found else 0
            self.folder.forget_after(system, last)

    def _write_partition(self) -> None:
        samples, division = self.prepared.samples, self.prepared.partition
        by = {
            name: {"values": values_of(samples, name)[0], "table": division.table(samples, by=name).tolist()}
            for name in ("label", *self.prepared.plan.attributes)
        }
        self.folder.write_json("partition.json", {"sites": self._sites(None).names, "by": by})

    def _observe(self, record: dict[str, Any]) -> None:
        if "accuracy" in record:
            self._trackers.write(record)
        self._observer(record)

    def _sites(self, ledgers: Path | None, division: Partition | None = None) -> Sites:
        prepared = self.prepared
        division = division or prepared.partition
        # The yardstick, all pictures in one place, is nobody's site and sets itself no limit.
        limit = site_limit(self.settings, prepared.plan) if division is prepared.partition else None
        return Sites(
            prepared.samples,
            division,
            self.settings.seed,
            ledgers,
            self.device,
            limit,
            dropout=self.settings.engine.dropout,
            opted_out=opting_out(self.settings.fairness, division.sites, self.settings.seed),
        )

    # Baselines

    def _run_baselines(self) -> None:
        names: list[tuple[str, int | None]] = [("pooled", None)] if "pooled" in self.systems else []
        if "local_only" in self.systems:
            names += [(f"local_only-{name}", site) for site, name in enumerate(self._sites(None).names)]
        jobs: list[Callable[[Progress], None]] = [
            BaselineJob(self.prepared, self.folder.path, name, site, self.device) for name, site in names
        ]
        by_hand = [name for name in self.systems if name in CLASSICAL]
        jobs += [ClassicalJob(self.prepared, self.folder.path, name) for name in by_hand]
        run_jobs(jobs, 1 if self.device == "cuda" else self.workers, self._observe)
        if "pooled" in self.systems:
            self._summary["pooled"] = self._pooled()
        if "local_only" in self.systems:
            found = [read_alone(self.folder, name) for name in self._sites(None).names]
            self._summary["local_only"] = alone_summary(self.prepared, found)
        for name in by_hand:
            facts, (counts,) = read_baseline(self.folder, name, "all")
            self._summary[name] = {
                **judged(counts),
                **doubt(counts, self.prepared.samples),
                **cost(facts["cpu_seconds"], facts["visits"]),
                "note": NOTE,
            }

    @functools.cached_property
    def _prober(self) -> Prober:
        return Prober(self.prepared.samples, self.device, self.settings.seed)

    def _probed(self, plan: Plan, vector: torch.Tensor, eraser: Eraser | None = None) -> Summary:
        """Return what probes find in the features of a net with weights (P + Q,), under its key of the summary."""
        return {"probes": self._prober(plan, vector, eraser)} if self.settings.compare.probes else {}

    def _pooled(self) -> Summary:
        facts, (counts,) = read_baseline(self.folder, "pooled", "all")
        kept, samples = self.folder.load_checkpoint("baselines/pooled"), self.prepared.samples
        if kept:
            vector = kept[0]["vector"]
            counts = replace(
                counts, people=knowing_people(counts, self.prepared.plan, vector, samples, self.device)
            )
        return {
            **judged(counts),
            **doubt(counts, samples),
            **cost(facts["cpu_seconds"], facts["visits"]),
            **(self._probed(self.prepared.plan, kept[0]["vector"]) if kept else {}),
            "note": "one model on everybody's training pictures, without privacy",
        }

    # Federations

    def _run_federations(self) -> None:
        plan = self.prepared.plan
        if "federated_without_privacy" in self.systems and plan.privacy is not None:
            heaviest = largest_weight(self.prepared.samples, self.prepared.partition)
            self._federate("federated_without_privacy", without_privacy(plan, heaviest))
        if SYSTEM in self.systems and plan.privacy is not None:
            everybody = one_site(self.prepared.samples)
            self._federate(SYSTEM, pooled_private(plan, self.prepared.partition.sites), everybody)
        if "federated_without_fairness" in self.systems and (plan.fairness or plan.finish):
            self._federate("federated_without_fairness", self._unfair(plan))
        if "federated" in self.systems:
            self._federate("federated", plan)

    def _unfair(self, plan: Plan) -> Plan:
        """Return the plan without its fairness, with the noise that keeps the same epsilon where that is the target."""
        if plan.privacy is None or plan.privacy.target_epsilon is None:
            return without_fairness(plan)
        settings = replace(self.settings, fairness=FairnessSettings())
        if without_fairness(plan).privacy != plan.privacy:
            settings = replace(settings, privacy=replace(settings.privacy, counts_epsilon=None))
        return compile_plan(settings, self.prepared.samples, self.prepared.partition)

    def _federate(self, system: str, plan: Plan, division: Partition | None = None) -> None:
        ledgers = self.folder.path / ("ledger" if system == "federated" else f"baselines/ledger-{system}")
        sites = self._sites(ledgers if plan.privacy else None, division)
        if plan.local.scaffold:
            sites = replace(sites, variates=self.folder.path / "variates")
        run, engine = runner(self.settings.engine), self.settings.engine
        together = 1 if plan.privacy or plan.fairness else engine.together
        initial = self._start.vector if self._start else None
        kept = self.settings.aggregation.transcripts and system == "federated" and plan.secure is not None
        workers = engine.workers if engine.address else self.workers  # of a cluster 0 are all
        work = (plan, sites, self.folder, system, workers, self._observe, together, initial)
        result = run(*work, transcripts=kept)
        if plan.privacy is not None:
            sites.verify_ledgers(plan.privacy.delta)
        repeated = several(sites.samples)
        by_site = is_noisy(plan) or (
            plan.secure is None and not repeated
        )  # with noise nothing is told of a site
        own = result.counts if by_site else counts_by_site(sites, plan, result.vector, people=repeated)
        told = self._start.told if self._start else None
        if not (plan.server.people or is_noisy(plan)):
            everybody = result.overall, plan, result.vector, sites.told
            result = replace(result, people=knowing_people(*everybody, self.device))
        summary = federated_summary(plan, result, own, sites.samples, sites.partition, told)
        summary |= self._probed(plan, result.vector, result.eraser)
        if plan.fairness is not None and result.steering is not None:
            summary["fairness"] = {
                "method": self.settings.fairness.method,
                **dataclasses.asdict(plan.fairness),
                **result.steering,
                "opted_out": len(sites.opted_out),
                "notes": notes_of(plan.fairness, plan.disclosed, sites.samples),
            }
        if result.finish is not None:
            summary["finish"] = result.finish
        self._summary[system] = summary
        if system == SYSTEM:
            place = {"note": "one model on everybody's pictures in one place, with privacy", "trust": POOLED}
            apart = ("sites", "per_site", "noise", "aggregation", "learned", "rule")
            found = {key: value for key, value in summary.items() if key not in apart}
            self._summary[system] = {**found, **place, "noise": "pooled", "bytes_up": 0, "bytes_down": 0}
        if system == "federated":
            self._save_model(plan, result)

    def _save_model(self, plan: Plan, result: Result) -> None:
        flat = FlatModel(build(plan.model, plan.seed))
        flat.load_(result.vector)
        summary = self._summary["federated"]
        whom = "one person with all pictures" if summary["unit"] == "subject" else "one picture"
        facts = {
            "data": self.prepared.samples.name,
            "figures": {key: summary[key] for key in ("accuracy", "balanced_accuracy", "worst_recall")},
            "privacy": f"epsilon {summary['epsilon']:.2f}, delta {summary['delta']:g}, for {whom}; a simulation, "
            "whose noise follows from its seed: it tells the price of privacy and protects nobody. "
            f"{summary['trust']}"
            if plan.privacy
            else "none",
        }
        training: dict[str, Any] = {}
        if self._start:
            training = {"start": self._start.told, **self._start.facts}
        if self.prepared.taught:
            training["teacher"] = self.prepared.taught
        if plan.server.adjustment > 0:
            shares = ", ".join(f"{name} {share:.3f}" for name, share in result.prior.items())
            training["logit adjustment"] = (
                f"the logits hold - {plan.server.adjustment:g} log share, of the shares {shares}"
            )
        if training:
            facts["training"] = training
        facts["what the coordinator learned"] = summary["learned"]
        save_model(self.folder.path / "model", flat.module, plan.model, labels=plan.labels, facts=facts)

    # The end

    def _finish(self) -> None:
        samples, plan = self.prepared.samples, self.prepared.plan
        data = {
            "name": samples.name,
            "train": len(samples.rows("train")),
            "test": len(samples.rows("test")),
            "classes": len(samples.labels),
            "sites": self.prepared.partition.sites,
            "subjects": None if samples.people is None else len(np.unique(samples.people)),
        }
        order = [name for name in self.systems if name in self._summary]
        summary = {"name": self.settings.name, "data": data, "plan_hash": plan.digest, "order": order}
        summary["start"] = self._start.facts if self._start else None
        if not is_noisy(plan):
            told = self._sites(None).told
            summary["people"] = people_by_group(told, told.rows("test"), plan.attributes)
            summary["alike"] = alike(told, self.prepared.partition)
        self.folder.write_json("summary.json", {**summary, "systems": self._summary})
        write_report(self.folder.path)
        self._trackers.finish(self._summary)
        self.folder.finish()
