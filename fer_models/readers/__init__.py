"""Readers of facial expression data sets: files on disk in, one :class:`fer_models.samples.Samples` out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fer_models.errors import ConfigError, DataError
from fer_models.readers.affectnet import read_affectnet
from fer_models.readers.ckplus import read_ckplus
from fer_models.readers.classfolders import read_classfolders
from fer_models.readers.demographic import read_fairface, read_utkface
from fer_models.readers.fer2013 import read_fer2013
from fer_models.readers.imagefolder import read_imagefolder
from fer_models.readers.jaffe import read_jaffe
from fer_models.readers.london import read_london
from fer_models.readers.many import read_many
from fer_models.readers.posed import read_faces_mpi, read_kdef, read_mug, read_nimstim, read_rafd
from fer_models.readers.rafdb import read_rafdb
from fer_models.readers.sequences import read_cremad, read_dfew, read_ferv39k, read_mafw, read_oulucasia
from fer_models.readers.tables import existing
from fer_models.readers.wild import read_caers, read_expw, read_ferg, read_sfew
from fer_models.samples import Samples

READERS: Mapping[str, Callable[..., Samples]] = {
    "fer2013": read_fer2013,
    "imagefolder": read_imagefolder,
    "classfolders": read_classfolders,
    "affectnet": read_affectnet,
    "caers": read_caers,
    "ckplus": read_ckplus,
    "cremad": read_cremad,
    "dfew": read_dfew,
    "expw": read_expw,
    "faces_mpi": read_faces_mpi,
    "fairface": read_fairface,
    "ferg": read_ferg,
    "ferv39k": read_ferv39k,
    "jaffe": read_jaffe,
    "kdef": read_kdef,
    "london": read_london,
    "mafw": read_mafw,
    "many": read_many,
    "mug": read_mug,
    "nimstim": read_nimstim,
    "oulucasia": read_oulucasia,
    "rafd": read_rafd,
    "rafdb": read_rafdb,
    "sfew": read_sfew,
    "utkface": read_utkface,
}
"""Reader of each name; its keyword arguments are the options of that name."""


def options_of(name: str) -> tuple[str, ...]:
    """Return the names of a reader's options."""
    return tuple(inspect.signature(_reader(name)).parameters)[1:]


def read(name: str, root: Path | str, **options: Any) -> Samples:
    """Read the data set in ``root`` with the reader called ``name``.

    Example::

        samples = read("fer2013", Path("data/fer2013"), rule="majority")

    Raises
    ------
    DataError : there is no such reader or no such folder, or the reader cannot read what lies there.
    ConfigError : the reader has no such option.
    """
    reader = _reader(name)
    known = options_of(name)
    for option in options:
        if option not in known:
            cure = f"Use {', '.join(known)}."
            raise ConfigError(f"reader {name} has no option {option!r}", where=f"data.{option}", cure=cure)
    folder = existing(root, cure="Set data.root to the folder of the data set.")
    return reader(folder, **options)


def _reader(name: str) -> Callable[..., Samples]:
    if name not in READERS:
        raise DataError(f"unknown reader {name!r}", where="data", cure=f"Use one of {', '.join(READERS)}.")
    return READERS[name]
