"""Row by row: what saved models, or files of predictions, say of the same pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from client.evaluation import predict
from fer_models.checkpoints import load_model
from fer_models.errors import ConfigError
from fer_models.paired import Judged
from fer_models.readers.joined import read_joined
from fer_models.samples import Samples
from simulations.audit import require_same
from simulations.audit_origin import model_folder
from simulations.compose import composed
from simulations.crossing import with_crossed
from simulations.federated import choose_device
from simulations.prediction_audit import parsed
from simulations.prepare import audited, load, split
from simulations.privacy_audit.finished import settings_of_run
from simulations.settings import Settings
from simulations.versus.asked import Asked


def predictions(wanted: Asked) -> Judged:
    """Return what files say of rows that are joined by the column that ``id=COL`` names.

    Raises
    ------
    ConfigError : no such column is named, or an unknown word.
    DataError : see :func:`fer_models.readers.joined.read_joined`.
    """
    _, layout = parsed([f"predictions={wanted.paths[0]}", *wanted.words])
    if not layout.id:
        raise ConfigError(
            "rows are joined by an id, and no column is named",
            where="id",
            cure="Write id=COL: a column with a name for each row, the same in all files.",
        )
    return read_joined(wanted.paths, layout)


def models(wanted: Asked) -> Judged:
    """Return what models say of the test part of one data set.

    The words name it as for ``audit model=RUN``. Without ``data=`` it is that of the runs, which have to share it.

    Raises
    ------
    ConfigError : the runs were judged on different pictures, or a wrong word.
    DataError : a model and the data do not share their classes or their pictures' form.
    """
    settings = _settings(wanted)
    samples = split(load(settings.data, settings.seed), settings.data, settings.seed)
    samples = with_crossed(samples, settings.data.groups)
    rows = samples.rows("test")
    said = tuple(_answers(path, samples, settings) for path in wanted.paths)
    values = {each.name: each.values for each in audited(samples, list(settings.data.groups))}
    groups = {name: _codes(samples.groups[name][rows], known) for name, known in values.items()}
    person = None if samples.subject is None else np.unique(samples.subject[rows], return_inverse=True)[1]
    return Judged(samples.label[rows].astype(np.int64), said, samples.labels, groups, values, person)


def _settings(wanted: Asked) -> Settings:
    words = list(wanted.words)
    if any(word.startswith("data=") for word in words):
        return composed(words)[0]
    found = [settings_of_run(path, words) for path in wanted.paths]
    for path, other in zip(wanted.paths[1:], found[1:], strict=True):
        if (replace(other.data, groups=[]), other.seed) != (replace(found[0].data, groups=[]), found[0].seed):
            raise ConfigError(
                f"the runs {wanted.paths[0]} and {path} were judged on different pictures",
                where="compare",
                cure="Say on which data: data=NAME data.root=DIR; or give folders of runs with the same seeds.",
            )
    return found[0]


def _answers(path: Path, samples: Samples, settings: Settings) -> np.ndarray:
    module, spec, labels = load_model(model_folder(path))
    require_same(samples, labels, (spec.size, spec.channels))
    device = torch.device(choose_device(settings.engine.device))
    return predict(module.to(device), samples, samples.rows("test"), device=device, prove=True)


def _codes(column: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    places = {name: place for place, name in enumerate(names)}
    return np.array([places[name] for name in column.tolist()], np.int64)
