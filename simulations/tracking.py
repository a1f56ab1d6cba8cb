"""Where a run's figures go besides its folder: TensorBoard always, MLflow where ``tracking.mlflow`` names a folder.

What is tracked are figures of systems, settings, and the command that makes the run again; no picture, no label, no
figure of one site. Nothing is sent anywhere: MLflow's database and files lie in that folder.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from omegaconf import OmegaConf

from fer_models.errors import ConfigError, EngineError, RunFolderError
from server.events import Events, scalars
from server.run_folder import RunFolder
from simulations.compose import CONF, composed
from simulations.settings import Settings, TrackingSettings

EXPERIMENT = "fedfer"
KEPT = ("config.yaml", "plan.json", "summary.json", "report.html")
"""Files of the run folder that MLflow keeps a copy of."""

QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
"""MLflow tells nobody of its use."""

LONGEST_PARAMETER = 6000
"""Characters of a parameter's value that MLflow takes."""

PLAIN = re.compile(r"[a-z][a-z0-9_]*")
"""What stands on the command line without quotes."""

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
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            what = f"cannot make the folder of MLflow: {error.strerror}"
            raise RunFolderError(what, where=str(place), cure="Give tracking.mlflow another one.") from error
        place = place.resolve()
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
        found.append(Mlflow(Path(settings.tracking.mlflow).expanduser(), folder, settings, systems))
    return Trackers(found)


def require_tracking(tracking: TrackingSettings) -> None:
    """Refuse what cannot be tracked, before anything runs.

    Raises
    ------
    ConfigError : an address in place of a folder.
    EngineError : the extra is not installed.
    """
    if "://" in tracking.mlflow:
        cure = "Give a folder of this machine: figures are not sent anywhere."
        raise ConfigError("MLflow's place is a folder", where="tracking.mlflow", cure=cure)
    if tracking.mlflow and importlib.util.find_spec("mlflow") is None:
        cure = "Install it with: pip install 'fedfer[mlflow]'."
        raise EngineError("tracking.mlflow needs MLflow", where="tracking.mlflow", cure=cure)


# What is kept


def final(figures: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the single numbers of a system's summary, intervals as ``KEY_low`` and ``KEY_high``."""
    for name, value in figures.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            yield name, value
        elif name.endswith("_interval") and isinstance(value, Sequence) and None not in value:
            yield f"{name.removesuffix('_interval')}_low", value[0]
            yield f"{name.removesuffix('_interval')}_high", value[1]


def plain(settings: Settings) -> dict[str, Any]:
    """Return settings as dictionaries, lists and values."""
    found = OmegaConf.to_container(OmegaConf.structured(settings))
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every setting with its dotted name; what a user puts into one of the options may itself be a mapping."""
    for name, value in tree.items():
        if isinstance(value, Mapping) and not prefix.endswith("options."):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def words(settings: Settings) -> list[str]:
    """Return the words of the command line that compose to these settings, without an experiment."""
    reader = settings.data.reader
    choice = [f"data={reader}"] if reader != "faces" and (CONF / "data" / f"{reader}.yaml").exists() else []
    usual = dict(leaves(plain(composed(choice)[0])))
    changed = [
        (name, value) for name, value in leaves(plain(settings)) if name not in usual or value != usual[name]
    ]
    return [*choice, *(f"{name}={written(value)}" for name, value in changed)]


def command(settings: Settings, systems: Sequence[str]) -> str:
    """Return the line that makes a run of these systems again."""
    verb = "compare"
    if list(systems) == ["federated"]:
        verb = "simulate"
    elif set(systems) <= {"pooled", "local_only"}:
        verb = "baseline"
    return shlex.join(["fedfer", verb, *words(settings)])


def written(value: Any) -> str:
    """Return a value as the command line takes it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        keys = [re.sub(r"([^\w-])", r"\\\1", str(key)) for key in value]
        return (
            "{"
            + ",".join(f"{key}:{written(each)}" for key, each in zip(keys, value.values(), strict=True))
            + "}"
        )
    if isinstance(value, Iterable) and not isinstance(value, str):
        return "[" + ",".join(map(written, value)) + "]"
    if isinstance(value, str) and PLAIN.fullmatch(value) and value not in ("null", "true", "false"):
        return value
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return repr(value)
