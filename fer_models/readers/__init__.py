"""Readers of facial expression data sets: files on disk in, one :class:`fer_models.samples.Samples` out."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fer_models.errors import ConfigError, DataError
from fer_models.fingerprint import fingerprint
from fer_models.plugins import added, load
from fer_models.readers.affectnet import read_affectnet
from fer_models.readers.ckplus import read_ckplus
from fer_models.readers.classfolders import read_classfolders
from fer_models.readers.clips import read_dfew, read_ferv39k, read_mafw
from fer_models.readers.demographic import read_fairface, read_utkface
from fer_models.readers.fer2013 import holds_csv, read_fer2013
from fer_models.readers.imagefolder import read_imagefolder
from fer_models.readers.jaffe import read_jaffe
from fer_models.readers.london import read_london
from fer_models.readers.many import read_many
from fer_models.readers.posed import read_faces_mpi, read_kdef, read_mug, read_nimstim, read_rafd
from fer_models.readers.rafdb import read_rafdb
from fer_models.readers.sequences import read_cremad, read_oulucasia
from fer_models.readers.tables import Progress, existing
from fer_models.readers.wild import read_caers, read_expw, read_ferg, read_sfew
from fer_models.samples import Samples
from fer_models.stores import Building, Cache, stored

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


_CALLERS = ("progress", "building", "cache")
"""Arguments of readers that the caller gives, and no user."""


def names() -> tuple[str, ...]:
    """Return the names of all readers, those that other packages add (:mod:`fer_models.plugins`) last."""
    return *READERS, *(name for name in added("readers") if name not in READERS)


def options_of(name: str) -> tuple[str, ...]:
    """Return the names of a reader's options."""
    return tuple(option for option in _arguments(name) if option not in _CALLERS)


def read(
    name: str,
    root: Path | str,
    *,
    cache: Cache | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Samples:
    """Read the data set in ``root`` with the reader called ``name``.

    Example::

        samples = read("fer2013", Path("data/fer2013"), rule="majority")

    Parameters
    ----------
    cache : where decoded pictures are kept for the next time; None keeps nothing, nor is anything kept of a reader
        that another package adds.
    progress : called now and then with the rows read and the rows to read.

    Raises
    ------
    DataError : there is no such reader or no such folder, or the reader cannot read what lies there.
    ConfigError : the reader has no such option.
    RunFolderError : the cache cannot be written.
    """
    reader = _reader(name)
    known = options_of(name)
    for option in options:
        if option not in known:
            cure = f"Use {', '.join(known)}."
            raise ConfigError(f"reader {name} has no option {option!r}", where=f"data.{option}", cure=cure)
    folder = existing(root, cure="Set data.root to the folder of the data set.")
    given = {"progress": progress} if "progress" in _arguments(name) else {}
    if name == "many":  # each of whose sets has a store of its own
        return reader(folder, **options, **given, cache=cache)
    if cache is None or name not in READERS:  # code of other packages may change with nobody to tell a store
        return reader(folder, **options, **given)
    return _kept(name, reader, folder, options, given, cache)


def _kept(
    name: str,
    reader: Callable[..., Samples],
    root: Path,
    options: Mapping[str, Any],
    given: Mapping[str, Any],
    cache: Cache,
) -> Samples:
    """Read through a store, if the files are many enough to be worth one."""
    deep = not (name == "fer2013" and holds_csv(root))  # whose csv file has no folders beside it to look at
    named = [
        Path(value).expanduser() for value in options.values() if isinstance(value, str | Path) and value
    ]
    # What a reader finds beside a single file, such as the votes of FER+, counts as well.
    found = fingerprint(
        [root if root.is_dir() else root.parent, *(p for p in named if p.exists())], deep=deep
    )
    if not cache.worth(found):
        return reader(root, **options, **given)
    about = {
        "reader": name,
        "root": str(root.resolve()),
        "options": json.loads(json.dumps(options, default=str)),
    }

    def into(building: Building) -> Samples:
        place = {"building": building} if "building" in _arguments(name) else {}
        return reader(root, **options, **given, **place)

    return stored(cache, name, about, found, into)


def _arguments(name: str) -> tuple[str, ...]:
    return tuple(inspect.signature(_reader(name)).parameters)[1:]


def _reader(name: str) -> Callable[..., Samples]:
    if name in READERS:
        return READERS[name]
    if name not in added("readers"):
        raise DataError(f"unknown reader {name!r}", where="data", cure=f"Use one of {', '.join(names())}.")
    return load("readers", name)
