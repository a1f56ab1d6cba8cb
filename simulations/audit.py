"""Judge a saved model on the test part of a data set, from counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from client.evaluation import evaluate
from fer_models.checkpoints import load_model
from fer_models.errors import DataError
from fer_models.metrics import summarise
from fer_models.samples import Samples
from simulations.display import shown
from simulations.federated import choose_device
from simulations.prepare import audited, load, split
from simulations.settings import Settings


def audit_model(path: Path, settings: Settings) -> dict[str, Any]:
    """Return every figure of a model on the test rows that the settings name.

    Parameters
    ----------
    path : a run folder or its ``model`` folder.

    Raises
    ------
    DataError : the model and the data set do not share their classes or their pictures' form.
    """
    folder = path / "model" if (path / "model").is_dir() else path
    module, spec, labels = load_model(folder)
    samples = split(load(settings.data, settings.seed), settings.data, settings.seed)
    _require_same(samples, labels, (spec.size, spec.channels))
    device = torch.device(choose_device(settings.engine.device))
    attributes = {each.name: each.values for each in audited(samples, list(settings.data.groups))}
    rows = samples.rows("test")
    return summarise(evaluate(module.to(device), samples, rows, attributes, device=device, prove=True))


def _require_same(samples: Samples, labels: tuple[str, ...], form: tuple[int, int]) -> None:
    if samples.labels != labels:
        raise DataError(
            f"the model tells {', '.join(labels)}; the data set {', '.join(samples.labels)}",
            where=samples.name,
            cure="Give data with the model's classes in the same order.",
        )
    if (samples.size, samples.channels) != form:
        raise DataError(
            f"the model takes pictures of {form[0]} pixels and {form[1]} channels",
            where=samples.name,
            cure=f"Set data.size={form[0]} data.channels={form[1]}.",
        )


def show(figures: dict[str, Any], console: Console) -> None:
    """Print the figures as tables."""
    table = Table("figure", "value", "95 % interval", title="Audit", title_justify="left")
    for key in ("accuracy", "balanced_accuracy", "worst_recall", "minority_recall"):
        table.add_row(key.replace("_", " "), shown(figures[key]), _interval(figures.get(f"{key}_interval")))
    console.print(table)
    recalls = Table("class", "pictures", "recall", "95 % interval")
    for name, value in figures["recall"].items():
        interval = figures["recall_interval"].get(name)
        recalls.add_row(name, str(figures["support"][name]), shown(value), _interval(interval))
    console.print(recalls)
    for attribute, parity in figures["parity"].items():
        gaps = Table(attribute, "value", "95 % interval")
        for key in ("demographic_parity_difference", "equalized_odds_difference", "accuracy_gap"):
            gaps.add_row(
                key.replace("_", " "), shown(parity.get(key)), _interval(parity.get(f"{key}_interval"))
            )
        console.print(gaps)


def _interval(limits: Any) -> str:
    if not limits or any(not np.isfinite(each) for each in limits):
        return "–"
    return f"{limits[0]:.3f} to {limits[1]:.3f}"
