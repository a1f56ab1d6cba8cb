"""Audits a finished run: membership inference on its own model, and canaries in a second training of its plan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fer_models.checkpoints import load_model
from fer_models.errors import ConfigError, RunFolderError
from server.report import write_report
from server.run_folder import RunFolder
from simulations.compose import CONF, one_line, settings_of
from simulations.prepare import prepare
from simulations.privacy_audit.canary_run import (
    RESULT,
    CanaryRun,
    membership,
    require_claim,
    require_confidence,
)
from simulations.privacy_audit.verdict import judged
from simulations.settings import Settings

CHANGEABLE = ("privacy_audit.", "data.root", "engine.")
"""Settings that may be given beside ``model=RUN``; the others are the run's own."""

Facts = dict[str, Any]


def run_among(words: list[str]) -> tuple[Path | None, list[str]]:
    """Return the run folder that ``model=RUN`` names, and the other words; None where ``model`` names a net or nothing.

    Raises
    ------
    ConfigError : several runs.
    """
    nets = {path.stem for path in (CONF / "model").glob("*.yaml")}
    runs = [
        word
        for word in words
        if word.startswith("model=") and not (word.startswith("model=timm:") or word[6:] in nets)
    ]
    if len(runs) > 1:
        raise ConfigError("several runs", where="model", cure="Audit one at a time: model=RUN.")
    return (Path(runs[0][6:]) if runs else None), [word for word in words if word not in runs]


def settings_of_run(folder: Path, words: list[str]) -> Settings:
    """Return the settings of a run, as its ``config.yaml`` has them, with some words of the command line.

    Raises
    ------
    RunFolderError : there is none, or it cannot be read.
    ConfigError : a word that would make it another run.
    """
    path = folder / "config.yaml"
    try:
        config = OmegaConf.load(path)
    except (OSError, ValueError) as error:
        raise RunFolderError(
            "the folder holds no run", where=str(path), cure="Give the folder of a finished run: model=RUN."
        ) from error
    for word in words:
        key, equals, _ = word.partition("=")
        if not equals or not key.startswith(CHANGEABLE):
            raise ConfigError(
                f"{key} is the run's own",
                where="command line",
                cure="Give privacy_audit.KEY=VALUE, or nothing.",
            )
    with one_line():
        config = OmegaConf.merge(config, OmegaConf.from_dotlist(words))
    assert isinstance(config, DictConfig)
    return settings_of(config)


class FinishedRun:
    """An audit of a run folder.

    Parameters
    ----------
    folder : of a finished run; the audit is written into it.
    words : of the command line beside ``model=``.
    observer : told of every record of a second training.
    """

    def __init__(self, folder: Path, words: list[str], observer: Callable[..., None]) -> None:
        self._folder, self._observer = folder, observer
        self.settings = settings_of_run(folder, words)
        require_confidence(self.settings.privacy_audit.confidence)

    def run(self) -> Facts:
        """Return what the audit found, and show it in the run's report."""
        net, _, _ = load_model(self._folder / "model")
        run, settings = RunFolder(self._folder), self.settings
        federated = ((run.read_json("summary.json") or {}).get("systems") or {}).get("federated") or {}
        prepared = prepare(settings)
        if (run.read_json("plan.json") or {}).get("hash") != prepared.plan.digest:
            raise RunFolderError(
                "the run's settings no longer make the plan that it trained by",
                where=str(self._folder / "plan.json"),
                cure="Audit with the data and the version of FedFER that it was trained with.",
            )
        require_claim(prepared.plan, str(self._folder))
        assert prepared.plan.privacy is not None
        delta, confidence = prepared.plan.privacy.delta, settings.privacy_audit.confidence
        seen = membership(net, prepared.samples, prepared.plan, delta, confidence, settings.seed)
        facts = {
            "method": "membership inference",
            "name": settings.name,
            "delta": delta,
            "unit": prepared.plan.privacy.unit,
            "confidence": confidence,
            "accuracy": federated.get("accuracy"),
            "plan_hash": prepared.plan.digest,
        }
        if settings.privacy_audit.retrain:
            again = CanaryRun(settings, self._folder / "privacy_audit", self._observer)
            again.prepare()
            facts = again.run()
        facts |= {"membership": seen.to_json() if seen else None, "held_out": prepared.held_out}
        facts["claimed_epsilon"] = federated.get("epsilon")
        if (
            "audited_epsilon" not in facts
        ):  # real records alone: a bound where the test part was drawn from them
            counts = seen is not None and prepared.held_out
            facts["audited_epsilon"] = seen.epsilon if seen and counts else None
        facts = judged(facts)
        run.write_json(RESULT, facts)
        write_report(self._folder)
        return facts
