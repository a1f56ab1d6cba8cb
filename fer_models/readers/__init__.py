"""Readers of facial expression data sets: files on disk in, one :class:`fer_models.samples.Samples` out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fer_models.errors import ConfigError, DataError
from fer_models.readers.classfolders import read_classfolders
from fer_models.readers.fer2013 import read_fer2013
from fer_models.readers.imagefolder import read_imagefolder
from fer_models.readers.rafdb import read_rafdb
from fer_models.readers.tables import existing
from fer_models.samples import Samples

READERS: Mapping[str, Callable[..., Samples]] = {
    "fer2013": read_fer2013,
    "imagefolder": read_imagefolder,
    "classfolders": read_classfolders,
    "rafdb": read_rafdb,
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
