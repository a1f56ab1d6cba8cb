"""What an audit rests on, so that readers can ask for the same again: words, limits, digests of what was judged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fer_models.checkpoints import CONFIG, WEIGHTS
from fer_models.zoo import ModelSpec
from server.run_folder import reading


def config_of(words: Sequence[str], tolerance: Path | None) -> dict[str, Any]:
    """Return the words that an audit was asked for with, and the text of its tolerance file if there was one."""
    own = {"words": [word for word in words if not word.startswith("hydra.")]}
    return own if tolerance is None else {**own, "tolerance": tolerance.read_text(encoding="utf-8")}


def judged_file(source: Mapping[str, Any]) -> dict[str, Any]:
    """Return the SHA-256 of the file that was judged, of a model's weights or of predictions; and what net it is.

    Raises
    ------
    RunFolderError : the model's configuration is damaged.
    """
    if "predictions" in source:
        return {"predictions_sha256": sha256_of(Path(source["predictions"]))}
    if source.get("system", "federated") != "federated":  # a run keeps one model, the federated one
        return {}
    weights = model_folder(Path(source.get("model") or source["run"])) / WEIGHTS
    config = weights.with_name(CONFIG)
    if not (weights.is_file() and config.is_file()):
        return {}
    with reading(config, "Run it again, in an empty folder."):
        facts = json.loads(config.read_text(encoding="utf-8"))
        net = {**ModelSpec.from_dict(facts["spec"]).to_dict(), "parameters": int(facts["parameters"])}
    return {"model_sha256": sha256_of(weights), "net": net}


def model_folder(path: Path) -> Path:
    """Return the folder of a model: of a run the one named ``model``, else the folder itself."""
    return path / "model" if (path / "model").is_dir() else path


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
