"""Pictures that ranges of activations are observed on."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_models.errors import DataError, PrivacyError
from fer_models.readers.pictures import SUFFIXES, decode
from fer_models.samples import Samples
from simulations.exporting.asked import Export
from simulations.faces import FacesConfig, draw


@dataclass(frozen=True, eq=False)
class Shown:
    """Pictures, uint8 (N, H, W) or (N, H, W, 3), and what they are, in words."""

    pictures: NDArray[np.uint8]
    what: str


def shown(how: Export, samples: Samples, size: int, channels: int, *, private: bool) -> Shown:
    """Return the pictures that the options name, never more than ``how.count``.

    Parameters
    ----------
    samples : the data that the model is judged on; ``train`` takes its training part, never its test part.
    private : the model was trained with differential privacy.

    Raises
    ------
    PrivacyError : a model with a guarantee would be made with private pictures.
    DataError : no picture can be read.
    """
    source = ("faces" if private else "train") if how.pictures == "auto" else how.pictures
    if source == "train":
        if private:
            raise PrivacyError(
                "the model was trained with differential privacy, and its guarantee does not hold for what is "
                "made with its training pictures",
                where="pictures",
                cure="Use pictures=faces, or a folder of pictures that may be known.",
            )
        rows = samples.rows("train")
        rows = (
            rows[np.linspace(0, len(rows) - 1, min(how.count, len(rows))).astype(int)] if len(rows) else rows
        )
        if len(rows):
            what = f"{len(rows)} pictures of the training part of {samples.name}"
            return Shown(samples.pictures[rows], what)
        source = "faces"
    if source == "faces":
        drawn = draw(FacesConfig(count=how.count, size=max(size, 32), channels=channels), how.seed)
        return Shown(_resized(drawn.pictures, size), f"{how.count} drawn faces, of seed {how.seed}")
    return _of_folder(Path(source).expanduser(), how.count, size, channels)


def _resized(pictures: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    if pictures.shape[1] == size:
        return pictures
    from PIL import Image

    return np.stack([np.asarray(Image.fromarray(each).resize((size, size))) for each in pictures])


def _of_folder(folder: Path, most: int, size: int, channels: int) -> Shown:
    if not folder.is_dir():
        cure = "Use pictures=faces, pictures=train, or an existing folder."
        raise DataError("no such folder of pictures", where=str(folder), cure=cure)
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if len(files) > most:  # evenly spaced: the first ones may all lie in the folder of one class
        files = [files[place] for place in np.linspace(0, len(files) - 1, most).astype(int)]
    found = []
    for path in files:
        with contextlib.suppress(DataError):
            found.append(decode(path, size, channels))
    if not found:
        raise DataError(
            "no picture can be read", where=str(folder), cure="Give a folder of pictures of faces."
        )
    left = f", {len(files) - len(found)} unreadable" if len(found) < len(files) else ""
    return Shown(np.stack(found), f"{len(found)} pictures of a folder that was given{left}")
