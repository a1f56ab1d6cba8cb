"""The folder of an exported model: the graph, ``config.json`` and ``README.md`` (the card).

The configuration is written last and holds the digest of every file of the graph, so that a folder that a crash left
half written is never taken for a model. There is no pickle: ONNX is a protocol buffer, OpenVINO's XML and raw numbers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fer_models.checkpoints import CARD, CONFIG
from fer_models.edge.runtime import Run, openvino_session, session
from fer_models.errors import ModelError
from fer_models.transforms import NORMALISATION

FORMAT = "fedfer-edge-1"
"""Value of ``format`` in the configuration."""

FILES: Mapping[str, tuple[str, ...]] = {
    "onnx": ("model.onnx",),
    "int8": ("model.int8.onnx",),
    "openvino": ("model.xml", "model.bin"),
}
"""Kind of graph -> its files, the one that is opened first."""

LARGEST = 1 << 30
"""Bytes that a file of a graph may have."""

_KEYS = frozenset(
    ("format", "kind", "files", "labels", "channels", "size", "normalisation", "parameters", "made", "source")
)


@dataclass(frozen=True)
class EdgeConfig:
    """What an exported model is.

    Attributes
    ----------
    kind : a key of :data:`FILES`.
    labels : names of the classes, in the order of the logits.
    channels, size : of the pictures that it takes.
    parameters : numbers that the net had when it was exported.
    made : how it was made: pruning, pictures of calibration, differences found.
    source : the net that it was made of: its specification and the SHA-256 of its weights.
    """

    kind: str
    labels: tuple[str, ...]
    channels: int
    size: int
    parameters: int
    made: Mapping[str, Any]
    source: Mapping[str, Any]

    def to_json(self, digests: Mapping[str, str]) -> dict[str, Any]:
        """Return the configuration as its file holds it."""
        return {
            "format": FORMAT,
            "kind": self.kind,
            "files": dict(digests),
            "labels": list(self.labels),
            "channels": self.channels,
            "size": self.size,
            "normalisation": NORMALISATION,
            "parameters": self.parameters,
            "made": dict(self.made),
            "source": dict(self.source),
        }


def is_exported(folder: Path) -> bool:
    """Whether a folder holds an exported model, whole or damaged, and not a net with its weights."""
    return any((folder / names[0]).is_file() for names in FILES.values())


def read_config(folder: Path) -> tuple[EdgeConfig, dict[str, str]]:
    """Return what an exported model is, and the digests of its files.

    Raises
    ------
    ModelError : there is none, or it is damaged or of another version.
    """
    path = folder / CONFIG
    try:
        if path.stat().st_size > 1 << 20:
            raise ValueError("too large")
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _refusal("this folder holds no exported model", path) from error
    if not isinstance(found, dict) or set(found) != _KEYS or found["format"] != FORMAT:
        raise _refusal(f"the configuration is not of the format {FORMAT}", path)
    if found["normalisation"] != NORMALISATION:
        raise _refusal("the model expects another normalisation of its pictures", path)
    labels, kind, digests = found["labels"], found["kind"], found["files"]
    if kind not in FILES or not isinstance(digests, dict) or sorted(digests) != sorted(FILES[kind]):
        raise _refusal(f"unknown kind of graph {str(kind)[:40]!r}, or files that are not of it", path)
    if not _are_labels(labels) or found["channels"] not in (1, 3) or not _is_size(found["size"]):
        raise _refusal("labels, channels or size are not a model's", path)
    kept = {key: found[key] for key in ("kind", "channels", "size", "parameters", "made", "source")}
    return EdgeConfig(labels=tuple(labels), **kept), digests


def _is_size(size: Any) -> bool:
    return isinstance(size, int) and 8 <= size <= 1024


def _are_labels(labels: Any) -> bool:
    named = isinstance(labels, list) and all(isinstance(name, str) and name for name in labels)
    return named and len(set(labels)) == len(labels) >= 2


def load_exported(folder: Path, threads: int = 1, batch: int | None = None) -> tuple[Run, EdgeConfig]:
    """Return an exported model, ready to run, and what it is.

    Parameters
    ----------
    batch : pictures of every call, where it is always the same; only OpenVINO gains from it.

    Raises
    ------
    ModelError : a file is missing, damaged or foreign, or gives another number of classes than it has labels.
    EngineError : the model needs OpenVINO, and it is not installed.
    """
    config, digests = read_config(folder)
    for name, digest in digests.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size > LARGEST:
            raise _refusal(f"{name} is missing or too large", path)
        if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise _refusal("the file is not the one that the configuration was written with", path)
    first = folder / FILES[config.kind][0]
    run = (
        openvino_session(first, threads, batch)
        if config.kind == "openvino"
        else session(first.read_bytes(), threads)
    )
    _require_form(run, config, first, batch or 1)
    return run, config


def _require_form(run: Run, config: EdgeConfig, path: Path, batch: int) -> None:
    import numpy as np

    try:
        logits = run(np.zeros((batch, config.channels, config.size, config.size), np.float32))
    except Exception as error:  # a graph of another form: each engine has errors of its own
        what = f"the graph takes no pictures of {config.size} pixels and {config.channels} channels"
        raise _refusal(what, path) from error
    if logits.shape != (batch, len(config.labels)):
        what = f"the graph gives {logits.shape[-1]} logits and the configuration names {len(config.labels)} labels"
        raise _refusal(what, path)


def digests_of(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Return file -> its SHA-256, in hexadecimal."""
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def _refusal(what: str, path: Path) -> ModelError:
    cure = (
        f"Give the folder that fedfer export wrote, with {CONFIG}, {CARD} and the graph; or export it again."
    )
    return ModelError(what, where=str(path), cure=cure)
