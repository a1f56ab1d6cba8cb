"""Weights to start from that no site's picture paid for: learned from drawn faces, or read from a local file.

Drawn faces show nobody, so what a net learns from them costs no epsilon. Of weights in a file the ledgers cannot know
whose pictures they were learned from.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from client.plan import Plan
from client.strict import parse, require
from fer_models.checkpoints import CONFIG
from fer_models.errors import ConfigError
from fer_models.flat import FlatModel
from fer_models.labels import EXPRESSIONS
from fer_models.metrics import accuracy
from fer_models.scope import layers
from fer_models.weights import load_weights
from fer_models.zoo import build
from server.run_folder import RunFolder, reading
from simulations.baselines import CentralTrainer, CentralWork
from simulations.faces import FacesConfig, draw
from simulations.jobs import Progress

TESTED = 1000
"""Drawn faces of other people that the pretrained net is judged on."""

SYSTEM = "pretrain"
"""Name of pretraining in progress records and of its checkpoint."""


@dataclass(frozen=True)
class Pretraining:
    """What a run starts from.

    Attributes
    ----------
    faces : drawn faces to learn from, 0 for none.
    epochs, batch, learning_rate : of AdamW under a one-cycle schedule.
    seed : of the faces and of the net's first weights; the run's own seed does not matter here.
    options : knobs of the drawn faces (:class:`simulations.faces.FacesConfig`).
    weights : a local safetensors file, in place of drawn faces; empty for none.
    """

    faces: int = 0
    epochs: float = 10.0
    batch: int = 128
    learning_rate: float = 5e-3
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    weights: str = ""

    def __post_init__(self) -> None:
        require(
            self.faces >= 0, f"{self.faces} faces", "pretrain.faces", "Give 0 for none, or some thousands."
        )
        require(self.seed >= 0, f"seed {self.seed} is negative", "pretrain.seed", "Give 0 or more.")
        require(
            not (self.faces and self.weights),
            "drawn faces and a file of weights at once",
            "pretrain",
            "Give one of pretrain=faces and pretrain.weights=FILE.",
        )

    @property
    def wanted(self) -> bool:
        """Whether a run starts from anything but the first weights of its seed."""
        return bool(self.faces or self.weights)

    def work(self) -> CentralWork:
        """Return how the net is trained on drawn faces."""
        given = {"epochs": self.epochs, "batch": self.batch, "learning_rate": self.learning_rate}
        return parse(CentralWork, {**given, "evaluations": 1}, "pretrain")


@dataclass(frozen=True)
class Start:
    """Weights to start from.

    Attributes
    ----------
    vector : float32 (P + Q,).
    told : one sentence for the report, the summary and the card.
    facts : the same in figures.
    """

    vector: torch.Tensor
    told: str
    facts: dict[str, Any]


def identity(work: Pretraining) -> dict[str, Any]:
    """Return what makes two starts the same: the settings, and the digest of a file of weights.

    Raises
    ------
    ConfigError : the file cannot be read.
    """
    facts = {**dataclasses.asdict(work), "options": dict(work.options)}
    return {**facts, "sha256": _digest(Path(work.weights))} if work.weights else facts


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.expanduser().read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(
            f"cannot read the weights: {error.strerror}",
            where="pretrain.weights",
            cure="Give a .safetensors file.",
        ) from error


def start_of(
    work: Pretraining, plan: Plan, folder: RunFolder, progress: Progress, device: str = "cpu"
) -> Start | None:
    """Return the weights that a plan starts from, learned once and kept in the run folder; None for the seed's own.

    Raises
    ------
    ConfigError, ModelError : the faces cannot be drawn, or the file does not fit the net.
    """
    if not work.wanted:
        return None
    drawn = bool(work.faces) and set(plan.labels) <= set(EXPRESSIONS)  # then the run's seed does not matter
    facts = [identity(work), plan.model.to_dict(), plan.labels, None if drawn else plan.seed]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    found = folder.load_checkpoint("pretrained")
    if found is None or found[1].get("digest") != digest:
        made = _from_file(work, plan) if work.weights else _from_faces(work, plan, folder, progress, device)
        told = {"digest": digest, "told": made.told, "facts": made.facts}
        folder.save_checkpoint("pretrained", {"vector": made.vector}, told)
        folder.drop_checkpoint(f"checkpoint-{SYSTEM}")
        return made
    with reading(folder.path / "pretrained.safetensors", "Delete it to start again."):
        return Start(found[0]["vector"], found[1]["told"], found[1]["facts"])


def _from_faces(work: Pretraining, plan: Plan, folder: RunFolder, progress: Progress, device: str) -> Start:
    labels = tuple(name for name in plan.labels if name in EXPRESSIONS)
    if len(labels) < 2:
        raise ConfigError(
            "drawn faces show too few of the classes", where="pretrain", cure="Train without: pretrain=none."
        )
    given = {"size": plan.model.size, "channels": plan.model.channels, "labels": labels, **work.options}
    config = parse(FacesConfig, {**given, "count": work.faces + TESTED}, "pretrain.options")
    drawn = draw(config, work.seed)
    people = drawn.subject
    assert people is not None
    test = np.isin(people, people[work.faces :])  # nobody on both sides
    samples = replace(drawn, split=np.where(test, "test", "train"))
    model = replace(plan.model, classes=len(labels))
    own = replace(plan, labels=labels, model=model, privacy=None, groups=(), seed=work.seed)
    tests = {"all": samples.rows("test")}
    trainer = CentralTrainer(
        own, work.work(), samples, samples.rows("train"), tests, name=SYSTEM, folder=folder, device=device
    )
    done = trainer.run(progress)
    judged = accuracy(done.counts["all"])
    facts = {"faces": work.faces, "epochs": work.epochs, "seed": work.seed, "accuracy_on_drawn_faces": judged}
    told = f"It started from weights that were learned from {work.faces:,} drawn faces, nobody's picture."
    return Start(_fitted(done.vector, own, plan), told, facts)


def _fitted(vector: torch.Tensor, source: Plan, plan: Plan) -> torch.Tensor:
    """Return weights of ``source``'s net as weights of ``plan``'s; classes are matched by name.

    Outputs of classes that the source does not have keep the first weights of the plan's seed.
    """
    if source.labels == plan.labels:
        return vector
    given, target = FlatModel(build(source.model, 0)), FlatModel(build(plan.model, plan.seed))
    given.load_(vector)
    state, old = target.to_state(), given.to_state()
    heads = set(layers(target.module, plan.model)[-1])
    for name, tensor in old.items():
        state[name] = _rows(state[name], tensor, source.labels, plan.labels) if name in heads else tensor
    target.from_state(state)
    return target.full_vector


def _rows(
    own: torch.Tensor, given: torch.Tensor, source: Sequence[str], labels: Sequence[str]
) -> torch.Tensor:
    """Return ``own`` with the rows of the classes that ``given`` knows; a shared part is taken as it is."""
    if len(own) != len(labels) or len(given) != len(source):
        return given
    found = own.clone()
    for row, name in enumerate(labels):
        if name in source:
            found[row] = given[source.index(name)]
    return found


def _from_file(work: Pretraining, plan: Plan) -> Start:
    path = Path(work.weights).expanduser()
    module = build(plan.model, plan.seed)
    fresh = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    load_weights(module, path)
    labels = _labels_beside(path)
    if labels is not None and labels != list(plan.labels):
        own = module.state_dict()
        for name in layers(module, plan.model)[-1]:
            if len(labels) == len(plan.labels):  # otherwise load_weights has left the head as it was
                rows = _rows(fresh[name], own[name].clone(), labels, plan.labels)
                own[name].copy_(rows)
    facts = {"weights": path.name, "sha256": _digest(path)}
    told = (
        f"It started from the weights in {path.name} (SHA-256 {facts['sha256'][:12]}...). If they were learned from "
        "people's pictures, that has cost privacy which no ledger here knows."
    )
    return Start(FlatModel(module).full_vector, told, facts)


def _labels_beside(path: Path) -> list[str] | None:
    """Return the classes of a model that FedFER saved, None where the file stands alone."""
    try:
        found = json.loads((path.parent / CONFIG).read_text())
        labels = found["labels"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return [str(name) for name in labels] if isinstance(labels, list) else None
