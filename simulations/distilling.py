"""Learning from teachers: the training pictures' targets are mixed with what finished models say of them.

A net that learns from a larger one, or from several, gets the target

    (1 - weight) t + weight mean over teachers of softmax(z / temperature)

in place of the label distribution t (Hinton et al. 2015, arXiv:1503.02531, with the teachers' answers to a picture and
its mirror image averaged, and the student's own temperature 1). The answers are made once, before the first round, of
the pictures as they are; a row's target follows from its own picture alone. So any loss on targets, any net and any of
the systems learns from them, and nothing else changes.

A teacher that was trained on people's pictures without differential privacy has their influence in its answers, and a
student that learns from it under privacy would carry that out with an epsilon that does not count it. So such a teacher
is refused there, by what its run says of it. It rests on trust that the run's files are those that the run wrote.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import nn

from client.strict import require
from fer_models.checkpoints import CARD, CONFIG, WEIGHTS, load_model
from fer_models.errors import ConfigError, PrivacyError
from fer_models.samples import Samples
from fer_models.transforms import to_input
from simulations.settings import DistillSettings

BATCH = 256
"""Pictures a forward pass of a teacher."""


@dataclass(frozen=True)
class Distilling:
    """What a run learns from besides labels.

    Attributes
    ----------
    teacher : a run folder, a model's folder, or a folder that holds several runs: an ensemble. Empty for none.
    weight : share of the target that is the teachers'.
    temperature : by which the teachers' logits are divided.
    """

    teacher: str = ""
    weight: float = 0.5
    temperature: float = 2.0

    def __post_init__(self) -> None:
        require(0 < self.weight <= 1, f"weight {self.weight}", "distill.weight", "Give a share above 0.")
        require(
            0 < self.temperature <= 100,
            f"temperature {self.temperature}",
            "distill.temperature",
            "Give 1 to 5.",
        )


@dataclass(frozen=True)
class Origin:
    """What a model says it was trained on.

    Attributes
    ----------
    epsilon : of its differential privacy, as its card states it; None without.
    drawn : it has only seen drawn faces, which are nobody's.
    """

    epsilon: float | None
    drawn: bool

    @property
    def is_harmless(self) -> bool:
        """Whether its answers carry nobody's picture beyond what an epsilon states."""
        return self.drawn or self.epsilon is not None


def models_in(folder: Path) -> list[Path]:
    """Return the model folders that a path names: its own, that of the run, or those of the runs in it.

    Raises
    ------
    ConfigError : there is none.
    """
    if (folder / CONFIG).is_file():
        return [folder]
    if (folder / "model" / CONFIG).is_file():
        return [folder / "model"]
    found = sorted(path.parent for path in folder.glob(f"*/model/{CONFIG}"))
    if not found:
        raise ConfigError(
            "no finished model lies there",
            where=f"distill.teacher={folder}",
            cure="Give a finished run, its folder model, or a folder of finished runs.",
        )
    return found


def origin_of(model: Path) -> Origin:
    """Return what a model's card and its run's configuration say; of a model that stands alone, its card."""
    try:
        card = (model / CARD).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        card = ""
    said = re.search(r"^## Privacy\s+epsilon ([0-9.]+), delta", card, re.MULTILINE)
    return Origin(float(said[1]) if said else None, _is_drawn(model.parent / "config.yaml"))


def _is_drawn(file: Path) -> bool:
    try:
        told: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
        return (
            told["data"]["reader"] == "faces"
            and not told["pretrain"]["weights"]
            and not told.get("distill", {}).get("teacher", "")
        )
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return False


def teachers(work: DistillSettings) -> dict[str, Any]:
    """Return what makes two runs' teachers the same: settings, and digests of weights."""
    paths = models_in(Path(work.teacher).expanduser())
    digests = [hashlib.sha256((path / WEIGHTS).read_bytes()).hexdigest() for path in paths]
    return {"weight": work.weight, "temperature": work.temperature, "teachers": digests}


def distilled(samples: Samples, work: Distilling, *, private: bool) -> tuple[Samples, str]:
    """Return samples whose training targets hold the teachers' answers, and a sentence for card and report.

    Parameters
    ----------
    private : the run is to be differentially private.

    Raises
    ------
    ConfigError : no teacher, one of other classes or pictures, or data sets that do not know every class.
    ModelError : a teacher's files are damaged.
    PrivacyError : ``private``, and a teacher's own training was not.
    """
    paths = models_in(Path(work.teacher).expanduser())
    origins = [origin_of(path) for path in paths]
    if private:
        _require_harmless(paths, origins)
    require(
        samples.known is None,
        "teachers answer with all classes, and some pictures' data sets do not know all",
        "distill.teacher",
        "Train without a teacher, or on data sets of the same classes.",
    )
    rows = samples.rows("train")
    answers = np.zeros((len(rows), len(samples.labels)), np.float32)
    for path in paths:
        answers += _answers(path, samples, rows, work.temperature) / len(paths)
    votes = samples.targets(np.arange(len(samples)))
    votes[rows] = (1 - work.weight) * votes[rows] + work.weight * answers
    return replace(samples, votes=votes), _told(work, origins)


def _require_harmless(paths: Sequence[Path], origins: Sequence[Origin]) -> None:
    for path, origin in zip(paths, origins, strict=True):
        if not origin.is_harmless:
            raise PrivacyError(
                "the teacher was trained without differential privacy, or does not say on what, so its answers may "
                "carry pictures that no epsilon here counts",
                where=f"distill.teacher={path}",
                cure="Take a teacher that was trained with privacy=dp or on drawn faces, or leave the teacher out.",
            )


def _told(work: Distilling, origins: Sequence[Origin]) -> str:
    spent = [origin.epsilon for origin in origins if origin.epsilon is not None]
    many = f"{len(origins)} teachers" if len(origins) > 1 else "a teacher"
    told = f"Of every training target {work.weight:g} is the answer of {many} at temperature {work.temperature:g}."
    if spent:
        told += (
            f" Training cost epsilon {', '.join(f'{each:g}' for each in spent)}, which adds to that of this run where "
            "the pictures are the same people's."
        )
    return told


@torch.inference_mode()
def _answers(path: Path, samples: Samples, rows: NDArray[np.intp], temperature: float) -> NDArray[np.float32]:
    """Return a teacher's probabilities (n, C) in the order of the samples' labels."""
    module, spec, labels = load_model(path)
    own = (samples.channels, samples.size)
    require(
        (spec.channels, spec.size) == own,
        f"the teacher sees {_form(spec.channels, spec.size)}, and these pictures are {_form(*own)}",
        f"distill.teacher={path}",
        "Take a teacher of the same form, or read the pictures in its form.",
    )
    missing = sorted(set(labels) ^ set(samples.labels))
    require(
        not missing,
        f"the teacher's classes are not these: {', '.join(missing)}",
        f"distill.teacher={path}",
        "Take a teacher that was trained for the same classes.",
    )
    order = [labels.index(name) for name in samples.labels]
    parts = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    found = [_softened(module, to_input(samples.pictures[part]), temperature)[:, order] for part in parts]
    return torch.cat(found).numpy()


def _form(channels: int, size: int) -> str:
    return f"{'gray' if channels == 1 else 'colour'} of {size} pixels"


def _softened(module: nn.Module, x: torch.Tensor, temperature: float) -> torch.Tensor:
    return ((module(x) / temperature).softmax(1) + (module(x.flip(3)) / temperature).softmax(1)) / 2
