"""Judge a saved model on the test part of a data set, from counts; and show what any audit found."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from client.evaluation import predict
from fer_models.bias import bias
from fer_models.checkpoints import load_model
from fer_models.counts import Counts
from fer_models.errors import DataError
from fer_models.findings import against_reference, doubted, findings, reference_of
from fer_models.metrics import summarise
from fer_models.parity import WEAK
from fer_models.samples import PERSON, SUBJECTS, Samples
from fer_models.zoo import ModelSpec
from server.run_folder import write_text
from simulations.audit_origin import model_folder
from simulations.crossing import with_crossed
from simulations.display import shown
from simulations.federated import choose_device
from simulations.prepare import audited, load, split
from simulations.settings import Settings
from simulations.subjects import count_people

VERSION = 1
"""Of the form of an audit's file."""


def audit_model(path: Path, settings: Settings) -> dict[str, Any]:
    """Return every figure of :func:`judge_model`."""
    return summarise(judge_model(path, settings).counts())


@dataclass(frozen=True, eq=False)
class Judged:
    """A model, and what it says of the test rows of a data set.

    Attributes
    ----------
    module : the net, on ``device``.
    spec : what net it is.
    samples : the data set.
    rows, predicted : the test rows (n,), and the classes (n,) that the model calls them.
    attributes : by which rows are counted -> their groups.
    """

    module: torch.nn.Module
    spec: ModelSpec
    device: torch.device
    samples: Samples
    rows: NDArray[np.intp]
    predicted: NDArray[np.int64]
    attributes: Mapping[str, tuple[str, ...]]

    def counts(self) -> Counts:
        """Return the rows counted by group, true and predicted class, with the people behind them where known."""
        return count_people(self.samples, self.rows, self.predicted, self.attributes)


def judge_model(path: Path, settings: Settings) -> Judged:
    """Let a model judge the test rows that the settings name.

    Parameters
    ----------
    path : a run folder or its ``model`` folder.

    Raises
    ------
    DataError : the model and the data set do not share their classes or their pictures' form.
    """
    module, spec, labels = load_model(model_folder(path))
    samples = split(load(settings.data, settings.seed), settings.data, settings.seed)
    require_same(samples, labels, (spec.size, spec.channels))
    samples = with_crossed(samples, settings.data.groups)
    device = torch.device(choose_device(settings.engine.device))
    attributes = {each.name: each.values for each in audited(samples, list(settings.data.groups))}
    rows = samples.rows("test")
    predicted = predict(module.to(device), samples, rows, device=device, prove=True)
    return Judged(module, spec, device, samples, rows, predicted, attributes)


def record(
    source: Mapping[str, Any],
    counts: Counts,
    people: Mapping[str, Mapping[str, int]] | None = None,
    references: Mapping[str, str] | None = None,
    over: str = SUBJECTS[PERSON],
    doubt: str = "",
) -> dict[str, Any]:
    """Return an audit as its file holds it; ``docs/audit.md`` explains every key.

    Parameters
    ----------
    source : what was judged.
    people : attribute -> group -> persons, where rows name them.
    references : attribute -> the group that others are held against; by default the largest that disclosed.
    over : what intervals are over where several rows show the same: people, or what else the data name.
    doubt : why intervals are too narrow, where they are known to be; no difference is called sure then.
    """
    persons = {name: dict(groups) for name, groups in (people or {}).items()}
    differences = findings(counts, persons)
    return {
        "version": VERSION,
        "source": dict(source),
        "counts": counts.to_json(),
        "people": persons,
        "figures": summarise(counts),
        "findings": doubted(differences) if doubt else differences,
        "disparities": _disparities(counts, references or {}),
        "bias": bias(counts),
        **({"intervals": _intervals(counts, over)} if counts.effects else {}),
        **({"doubt": doubt} if doubt else {}),
    }


def _intervals(counts: Counts, over: str) -> dict[str, Any]:
    """Return what intervals would be if the rows of a person were independent, to be held beside those over people."""
    alone = summarise(Counts(counts.labels, {}, counts.overall), fairlearn=False)
    return {
        "over": over,
        "row_wise": {key: limits for key, limits in alone.items() if key.endswith("_interval")},
    }


def _disparities(counts: Counts, references: Mapping[str, str]) -> dict[str, Any]:
    """Return how groups differ from their reference, of the attributes where two can be compared."""
    named = {name: references.get(name) or reference_of(counts, name) for name in counts.groups}
    found = {name: against_reference(counts, name, group) for name, group in named.items() if group}
    return {name: facts for name, facts in found.items() if facts}


def text_of(found: Mapping[str, Any]) -> str:
    """Return an audit as JSON; numbers that are not finite are an error."""
    return json.dumps(found, indent=1, allow_nan=False) + "\n"


def write(found: Mapping[str, Any], file: Path | None) -> None:
    """Write an audit to a file, if one is wanted."""
    if file is not None:
        write_text(file, text_of(found))


def require_same(samples: Samples, labels: tuple[str, ...], form: tuple[int, int]) -> None:
    """Refuse a model whose classes, or whose pictures' size and channels, are not those of the samples.

    Raises
    ------
    DataError : they are not.
    """
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


def show(found: dict[str, Any], console: Console) -> None:
    """Print what :func:`record` holds as tables."""
    figures = found["figures"]
    table = Table("figure", "value", "95 % interval", title="Audit", title_justify="left")
    for key in ("accuracy", "balanced_accuracy", "worst_recall", "minority_recall"):
        table.add_row(key.replace("_", " "), shown(figures[key]), _interval(figures.get(f"{key}_interval")))
    console.print(table)
    if "intervals" in found:
        over = found["intervals"]["over"]
        console.print(f"Intervals are over {over}: rows that show the same are not independent.")
    if "doubt" in found:
        console.print(found["doubt"], highlight=False, markup=False)
    recalls = Table("class", "pictures", "recall", "95 % interval")
    for name, value in figures["recall"].items():
        interval = figures["recall_interval"].get(name)
        recalls.add_row(name, str(figures["support"][name]), shown(value), _interval(interval))
    console.print(recalls)
    for attribute, parity in figures["parity"].items():
        console.print(_groups(attribute, parity["groups"], found["people"].get(attribute, {})))
        errors = found["source"].get("calibration_error", {}).get(attribute)
        if errors:
            console.print(_calibration(attribute, errors))
        gaps = Table(attribute, "value", "95 % interval")
        for key in ("demographic_parity_difference", "equalized_odds_difference", "accuracy_gap"):
            gaps.add_row(
                key.replace("_", " "), shown(parity.get(key)), _interval(parity.get(f"{key}_interval"))
            )
        console.print(gaps)


def _calibration(attribute: str, errors: Mapping[str, float | None]) -> Table:
    table = Table(attribute, "expected calibration error")
    for name, error in errors.items():
        table.add_row(name, shown(error))
    return table


def _groups(attribute: str, groups: dict[str, Any], people: Mapping[str, int]) -> Table:
    """One row a group: how many, how often it is told right, its worst class, and what to mind."""
    persons = ["people"] if people else []
    table = Table(attribute, "pictures", *persons, "accuracy", "95 % interval", "worst recall", "mind")
    for name, group in groups.items():
        recalls = {label: rate for label, rate in group["recall"].items() if rate is not None}
        worst = min(recalls, key=recalls.__getitem__, default=None)
        scarce = people.get(name, WEAK) < WEAK
        few = "too few to show" if group["suppressed"] else "few" if group["weak"] else "few people" * scarce
        table.add_row(
            name,
            str(group["n"]),
            *([str(people[name])] if people else []),
            shown(group["accuracy"]),
            _interval(group["accuracy_interval"]),
            "–" if worst is None else f"{recalls[worst]:.3f} {worst}",
            few if group["compared"] or few else "not compared",
        )
    return table


def _interval(limits: Any) -> str:
    if not limits or any(not np.isfinite(each) for each in limits):
        return "–"
    return f"{limits[0]:.3f} to {limits[1]:.3f}"
