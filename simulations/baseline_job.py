"""The training of one pooled or local-only model as a piece of work of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fer_models.counts import Counts
from server.run_folder import RunFolder, reading
from simulations.baselines import CentralTrainer
from simulations.jobs import Progress
from simulations.prepare import Prepared
from simulations.pretraining import start_of
from simulations.subjects import several


@dataclass(frozen=True)
class BaselineJob:
    """One baseline model to train; picklable, so that any process can take it."""

    prepared: Prepared
    folder: Path
    name: str
    site: int | None
    device: str

    def __call__(self, progress: Progress) -> None:
        """Train it, unless its result lies in the folder already."""
        folder = RunFolder(self.folder)
        if folder.read_json(f"baselines/{self.name}.json") is not None:
            return
        samples, division = self.prepared.samples, self.prepared.partition
        tests = {"all": samples.rows("test")}
        rows = samples.rows("train")
        if self.site is not None:
            tests["own"] = division.rows(self.site, samples, "test")
            rows = division.rows(self.site, samples, "train")
        central = self.prepared.central
        if self.site is not None:
            central = replace(central, evaluations=1)  # the curves show the pooled model only
        start = start_of(
            self.prepared.pretraining, self.prepared.plan, folder, progress
        )  # kept in the folder
        trainer = CentralTrainer(
            self.prepared.plan,
            central,
            samples,
            rows,
            tests,
            name=self.name,
            folder=folder,
            device=self.device,
            initial=start.vector if start else None,
        )

        def tell(record: dict[str, Any]) -> None:
            # Written here and not where it is told of: a kill must not fall between a checkpoint and its line.
            if self.site is None:
                folder.append(record)
            progress(record)

        done = trainer.run(tell)
        folder.drop_checkpoint(f"checkpoint-{self.name}")
        if self.site is None:
            folder.save_checkpoint(f"baselines/{self.name}", {"vector": done.vector}, {})
        facts: dict[str, Any] = {"visits": done.visits, "cpu_seconds": done.cpu_seconds, "train": len(rows)}
        facts["counts"] = {name: counts.to_json() for name, counts in done.counts.items()}
        if self.site is not None and several(samples):  # whose answers on one person's pictures go together
            facts["predicted"] = done.predicted["all"].tolist()
        folder.write_json(f"baselines/{self.name}.json", facts)


def read_baseline(folder: RunFolder, name: str, *judged: str) -> tuple[dict[str, Any], list[Counts]]:
    """Return what a baseline of a run came to, and its counts over these pictures.

    Raises
    ------
    RunFolderError : its file is damaged.
    """
    file = f"baselines/{name}.json"
    with reading(folder.path / file, "Delete it to train that model again."):
        facts = folder.read_json(file)
        kept = {key: value for key, value in facts.items() if key != "counts"}
        return kept, [Counts.from_json(facts["counts"][each]) for each in judged]
