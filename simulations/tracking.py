"""Where a run's figures go besides its folder: TensorBoard always, others where a setting names a folder for them.

What is tracked are figures of systems, settings, and the command that makes the run again; no picture, no label, no
figure of one site. Nothing is sent anywhere: MLflow's database and files, and the records of Weights & Biases, lie in
those folders.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from fer_models.errors import ConfigError, EngineError, RunFolderError
from server.events import Events, scalars
from server.run_folder import RunFolder
from simulations.offline_runs import OfflineRun
from simulations.retelling import KEPT, command, final, leaves, plain
from simulations.settings import Settings, TrackingSettings

EXPERIMENT = "fedfer"

QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
"""MLflow tells nobody of its use."""

NAMES = {"mlflow": "MLflow", "wandb": "Weights & Biases"}
"""Setting of ``tracking`` and package -> what it is called."""

LONGEST_PARAMETER = 6000
"""Characters of a parameter's value that MLflow takes."""

Record = Mapping[str, Any]


class Tracker(Protocol):
    """Told of a run while it goes on."""

    def write(self, record: Record) -> None:
        """Take one line of metrics.jsonl."""

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Take what the systems came to, once all files of the run folder but its state are written."""

    def close(self) -> None:
        """End; without :meth:`finish` before, the run was cut off."""


class TensorBoard:
    """The curves, in the run folder's ``events``."""

    def __init__(self, folder: RunFolder) -> None:
        self._events = Events(folder.path / "events", folder.metrics())

    def write(self, record: Record) -> None:
        """Add a point to each curve."""
        self._events.write(record)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Nothing is left to tell."""

    def close(self) -> None:
        """Close the files."""
        self._events.close()


class Mlflow:
    """One run of MLflow for a run folder; begun anew, with all earlier points, when the run is resumed.

    Parameters
    ----------
    place : folder of the database and of the copies of files.
    folder : the run folder.
    settings, systems : what runs.
    """

    def __init__(self, place: Path, folder: RunFolder, settings: Settings, systems: Sequence[str]) -> None:
        os.environ.update({name: os.environ.get(name, value) for name, value in QUIET.items()})
        from mlflow.entities import Metric, Param
        from mlflow.tracking import MlflowClient

        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        self._metric, self._folder, self._done = Metric, folder, False
        self._client = MlflowClient(tracking_uri=f"sqlite:///{place / 'mlflow.db'}")
        found = self._client.get_experiment_by_name(EXPERIMENT)
        where = (place / "files").as_uri()
        number = found.experiment_id if found else self._client.create_experiment(EXPERIMENT, where)
        mine = str(folder.path.resolve())
        quote = '"' if "'" in mine else "'"
        for old in self._client.search_runs([number], f"tags.`fedfer.folder` = {quote}{mine}{quote}"):
            self._client.delete_run(old.info.run_id)
        tags = {"fedfer.folder": mine, "fedfer.command": command(settings, systems)}
        self._run = self._client.create_run(number, run_name=folder.path.name, tags=tags).info.run_id
        parameters = [Param(key, str(value)[:LONGEST_PARAMETER]) for key, value in leaves(plain(settings))]
        for start in range(0, len(parameters), 100):  # the most that are taken at a time
            self._client.log_batch(self._run, params=parameters[start : start + 100])
        for record in folder.metrics():
            self.write(record)

    def write(self, record: Record) -> None:
        """Add a point to each curve, ``SYSTEM/CURVE``."""
        system = record["system"]
        self._log(
            {f"{system}/{name}": value for name, value in scalars(record).items()}, round(record["round"])
        )

    def _log(self, figures: Mapping[str, float], step: int) -> None:
        now = int(1000 * time.time())
        self._client.log_batch(
            self._run, metrics=[self._metric(k, float(v), now, step) for k, v in figures.items()]
        )

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Keep the figures that the systems came to, ``final/SYSTEM/FIGURE`` with ``_low`` and ``_high``, and files."""
        for system, figures in summary.items():
            self._log({f"final/{system}/{name}": value for name, value in final(figures)}, 0)
        for name in KEPT:
            path = self._folder.path / name
            if path.exists():
                self._client.log_artifact(self._run, str(path))
        self._done = True

    def close(self) -> None:
        """Say how the run ended."""
        self._client.set_terminated(self._run, "FINISHED" if self._done else "KILLED")


class Trackers:
    """Several as one."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = trackers

    def write(self, record: Record) -> None:
        """Tell all."""
        for each in self._trackers:
            each.write(record)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Tell all."""
        for each in self._trackers:
            each.finish(summary)

    def close(self) -> None:
        """Tell all."""
        for each in self._trackers:
            each.close()


def opened(folder: RunFolder, settings: Settings, systems: Sequence[str]) -> Trackers:
    """Return what a run's figures go to."""
    found: list[Tracker] = [TensorBoard(folder)]
    if settings.tracking.mlflow:
        place = made("mlflow", settings.tracking.mlflow)
        found.append(Mlflow(place, folder, settings, systems))
    if settings.tracking.wandb:
        place = made("wandb", settings.tracking.wandb)
        found.append(OfflineRun(place, folder, settings, systems))
    return Trackers(found)


def made(key: str, folder: str) -> Path:
    """Return the folder that ``tracking.KEY`` names, made where it is missing.

    Raises
    ------
    RunFolderError : it cannot be made, or not be written to.
    """
    place = Path(folder).expanduser()
    cure = f"Give tracking.{key} another one."
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"cannot make the folder of {NAMES[key]}: {error.strerror}"
        raise RunFolderError(what, where=str(place), cure=cure) from error
    if not os.access(place, os.W_OK | os.X_OK):  # Weights & Biases would take another folder untold
        raise RunFolderError(f"cannot write to the folder of {NAMES[key]}", where=str(place), cure=cure)
    return place.resolve()


def require_tracking(tracking: TrackingSettings) -> None:
    """Refuse what cannot be tracked, before anything runs.

    Raises
    ------
    ConfigError : an address in place of a folder.
    EngineError : the extra is not installed.
    """
    for key, name in NAMES.items():
        folder = getattr(tracking, key)
        if "://" in folder:
            cure = "Give a folder of this machine: figures are not sent anywhere."
            raise ConfigError(f"the place of {name} is a folder", where=f"tracking.{key}", cure=cure)
        if folder and importlib.util.find_spec(key) is None:
            cure = f"Install it with: pip install 'fedfer[{key}]'."
            raise EngineError(f"tracking.{key} needs {name}", where=f"tracking.{key}", cure=cure)
