"""Many short federated runs on pictures that are held in memory: for choosing settings.

A trial leaves one JSON file and nothing else, so a search that was stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.plan import Plan
from client.strict import parse
from fer_models.errors import PrivacyError, TrainingError
from fer_models.metrics import headline
from fer_models.samples import Samples
from server.rounds import Coordinator
from server.run_folder import RunFolder
from simulations.compose import composed
from simulations.federated import Sites, local_grid
from simulations.jobs import Progress, run_jobs
from simulations.partition import Partition
from simulations.prepare import compile_plan, outlook_of
from simulations.pretraining import Pretraining, Start, identity, start_of
from simulations.settings import Settings

Result = dict[str, Any]
"""What a trial came to: the keys of :func:`fer_models.metrics.headline` without parity, ``epsilon`` and
``cpu_seconds``; or ``refused``, why the run could not be or would make no sense."""


@dataclass(frozen=True)
class Trial:
    """One run.

    Attributes
    ----------
    words : the settings, as on the command line.
    samples, partition : everybody's pictures, with splits, and who holds which.
    folder : of the search; the result goes to ``trials/KEY.json`` in it, pretrained weights to ``starts/``.
    """

    words: tuple[str, ...]
    samples: Samples
    partition: Partition
    folder: Path

    @property
    def key(self) -> str:
        """A name of the trial for files."""
        return hashlib.sha256(json.dumps(self.words).encode()).hexdigest()[:20]

    @property
    def start(self) -> tuple[str, ...]:
        """What decides which weights it starts from; empty for those that the seed gives."""
        found = tuple(word for word in self.words if word.startswith(("model=", "pretrain")))
        return found if any(word.startswith("pretrain") for word in found) else ()

    @property
    def result(self) -> Result | None:
        """What the trial came to, None where it has not run."""
        return RunFolder(self.folder).read_json(f"trials/{self.key}.json")

    def __call__(self, progress: Progress) -> None:
        """Run it, unless its result lies in the folder already."""
        if self.result is None:
            try:
                found = self._run(composed(self.words)[0], progress)
            except (PrivacyError, TrainingError) as error:
                found = {"refused": str(error)}
            RunFolder(self.folder).write_json(f"trials/{self.key}.json", {**found, "words": list(self.words)})
        progress({"trial": self.key})

    def _run(self, settings: Settings, progress: Progress) -> Result:
        began = time.process_time()
        settings.server.evaluate_every = settings.server.rounds  # nobody looks on
        plan = compile_plan(settings, self.samples, self.partition)
        if plan.privacy is not None:
            outlook_of(plan, self.partition.sites).require_useful(settings.privacy.target_epsilon)
        start = start_for(settings, plan, self.folder, progress)
        sites = Sites(self.samples, self.partition, settings.seed, None)
        with tempfile.TemporaryDirectory(prefix="fedfer-") as temporary:
            run, initial = RunFolder(Path(temporary)), start.vector if start else None
            with local_grid(sites, 1) as grid:
                found = Coordinator(plan, run, "trial", initial=initial, roster=sites.roster).run(grid)
        figures = {key: value for key, value in headline(found.overall).items() if key != "parity"}
        spent = {
            "epsilon": found.totals.epsilon,
            "cpu_seconds": round(time.process_time() - began, 2),
        }
        return {**figures, **spent}


def start_for(settings: Settings, plan: Plan, folder: Path, progress: Progress) -> Start | None:
    """Return what a plan starts from; weights learned from drawn faces are kept for all trials of a folder."""
    work = parse(Pretraining, vars(settings.pretrain), "pretrain")
    if not work.wanted:
        return None
    facts = [identity(work), plan.model.to_dict(), plan.labels]
    name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]
    return start_of(work, plan, RunFolder(folder / "starts" / name), progress)


@dataclass(frozen=True)
class Starting:
    """Learns the weights that a trial starts from, so that many trials find them."""

    trial: Trial

    def __call__(self, progress: Progress) -> None:
        """Learn them, unless they lie in the folder already."""
        settings, _ = composed(self.trial.words)
        plain = [word for word in self.trial.words if not word.startswith("privacy")]
        plan = compile_plan(composed([*plain, "privacy=none"])[0], self.trial.samples, self.trial.partition)
        start_for(settings, plan, self.trial.folder, progress)


def run_trials(trials: Sequence[Trial], workers: int, told: Callable[[Trial, Result], None]) -> None:
    """Run trials on some processes; those that need pretrained weights wait until one job has learned them."""
    first: dict[tuple[str, ...], Trial] = {}
    for trial in trials:
        if trial.start and trial.result is None:
            first.setdefault(trial.start, trial)
    by_key = {trial.key: trial for trial in trials}

    def progress(record: dict[str, Any]) -> None:
        if "trial" in record:
            done = by_key[record["trial"]]
            told(done, done.result or {})

    ready = [trial for trial in by_key.values() if not trial.start]
    waiting = [trial for trial in by_key.values() if trial.start]
    run_jobs([*map(Starting, first.values()), *ready], workers, progress)
    run_jobs(waiting, workers, progress)
