"""A trained model on disk: ``model.safetensors``, ``config.json`` and ``README.md`` (the card) in one folder.

The configuration is written last and holds the digest of the weights, so a folder that a crash left half
written, or whose files come from two models, is never taken for a model.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from fer_models.card import model_card
from fer_models.errors import ModelError, RunFolderError
from fer_models.transforms import NORMALISATION
from fer_models.weights import HEADER_BYTES, copy_state, load_weights, read_tensors, state_bytes
from fer_models.zoo import ModelSpec, build, parameter_count

__all__ = ["CARD", "CONFIG", "WEIGHTS", "load_model", "load_weights", "save_model"]

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
"""The three files of a model folder."""

FORMAT = "fedfer-model-1"
"""Value of ``format`` in the configuration; a change of the layout changes it."""

_KEYS = frozenset({"format", "spec", "labels", "normalisation", "size", "parameters", "sha256"})


def save_model(
    folder: Path, module: nn.Module, spec: ModelSpec, *, labels: Sequence[str], facts: Mapping[str, Any]
) -> None:
    """Write ``module`` to ``folder``, which is made if need be; an earlier model there is replaced.

    All files are written under temporary names before the first one is put in place, so a full disk leaves
    the earlier model as it was.

    Parameters
    ----------
    labels : names of the classes, in the order of the logits.
    facts : what the card tells (:func:`fer_models.card.model_card`).

    Raises
    ------
    ModelError : the labels do not fit the specification.
    RunFolderError : the folder cannot be written.
    """
    _require_labels(labels, spec, str(folder))
    state = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in module.state_dict().items()
    }
    weights = save(state, metadata={"format": "pt"})
    count = parameter_count(module)
    config = {
        "format": FORMAT,
        "spec": spec.to_dict(),
        "labels": list(labels),
        "normalisation": NORMALISATION,
        "size": spec.size,
        "parameters": count,
        "sha256": hashlib.sha256(weights).hexdigest(),
    }
    card = model_card(spec, labels, facts, count)
    _write_all(
        folder,
        {WEIGHTS: weights, CARD: card.encode(), CONFIG: (json.dumps(config, indent=2) + "\n").encode()},
    )


def _write_all(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write ``files``, the last one last, each by a rename."""
    parts = {folder / name: folder / f".{name}.part" for name in files}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for part, content in zip(parts.values(), files.values(), strict=True):
            with part.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for path, part in parts.items():
            part.replace(path)
    except OSError as error:
        for part in parts.values():
            _remove(part)
        raise RunFolderError(
            f"cannot write the model: {error.strerror}",
            where=str(folder),
            cure="Free disk space or choose another folder.",
        ) from error


def _remove(part: Path) -> None:
    try:
        part.unlink(missing_ok=True)
    except OSError:
        return  # the folder itself may be what is wrong; the error that led here says so


def load_model(folder: Path) -> tuple[nn.Module, ModelSpec, tuple[str, ...]]:
    """Return the net in evaluation mode, its specification and its labels.

    Raises
    ------
    ModelError : a file is missing, foreign or damaged, or the weights do not fit the specification.
    """
    config = _read_config(folder / CONFIG)
    spec = ModelSpec.from_dict(config["spec"], where=str(folder / CONFIG))
    labels = config["labels"]
    _require_labels(labels, spec, str(folder / CONFIG))
    module = build(spec, 0)
    path = folder / WEIGHTS
    state = read_tensors(path, limit=state_bytes(module) + HEADER_BYTES)
    if hashlib.sha256(path.read_bytes()).hexdigest() != config["sha256"]:
        raise ModelError(
            "the weights are not those that the configuration was written with",
            where=str(path),
            cure="Copy the model folder again, or save the model again.",
        )
    copy_state(module, state, where=str(path))
    return module.eval(), spec, tuple(labels)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > HEADER_BYTES:
            raise ValueError("too large")
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            "this folder holds no complete model",
            where=str(path),
            cure="Give the folder model/ of a finished run.",
        ) from error
    if not isinstance(config, dict) or set(config) != _KEYS or config["format"] != FORMAT:
        raise ModelError(
            f"the configuration is not of the format {FORMAT}",
            where=str(path),
            cure="Save the model with this version of FedFER.",
        )
    if config["normalisation"] != NORMALISATION:
        raise ModelError(
            "the model expects another normalisation of its pictures",
            where=str(path),
            cure=f"Use a model trained with {NORMALISATION}.",
        )
    return config


def _require_labels(labels: Any, spec: ModelSpec, where: str) -> None:
    named = isinstance(labels, list | tuple) and all(isinstance(name, str) and name for name in labels)
    if not named or len(set(labels)) != len(labels) or len(labels) != spec.classes:
        raise ModelError(
            f"the labels do not name the model's {spec.classes} classes",
            where=where,
            cure=f"Give {spec.classes} different names.",
        )
