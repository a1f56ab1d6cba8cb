"""Class-folder trees: one folder a class, with or without a folder a split above them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fer_models.errors import ConfigError, DataError
from fer_models.labels import EXPRESSIONS, canonical, in_order
from fer_models.readers.pictures import APPLEDOUBLE, SUFFIXES, PictureOptions, decode_all
from fer_models.readers.tables import Progress, existing
from fer_models.samples import MAPPED_ABOVE, Samples, is_split, split_name

OTHER_FILE = "file that is no picture"

_TREE = "Build ROOT/CLASS/PICTURE or ROOT/{train,validation,test}/CLASS/PICTURE."


@dataclass
class _Found:
    """Picture files with the class and the split their folders name."""

    paths: list[Path] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)


def read_classfolders(
    root: Path | str,
    *,
    size: int = 48,
    channels: int = 1,
    labels: Sequence[str] | None = None,
    unreadable: str = "error",
    mapped_above: int = MAPPED_ABOVE,
    progress: Progress | None = None,
) -> Samples:
    """Read ``{train,validation,test}/CLASS/PICTURE``, or ``CLASS/PICTURE`` with every row in train.

    Parameters
    ----------
    root : the folder of the tree; folder names are read through the word tables of classes and splits.
    labels : canonical names of the classes in the wanted order; the classes found when None.
    size, channels, unreadable, mapped_above, progress :
        see :class:`fer_models.readers.pictures.PictureOptions`.

    Raises
    ------
    DataError : a folder name is neither class nor split, a class folder holds folders, or a picture cannot
        be read.
    """
    options = PictureOptions(size, channels, unreadable, mapped_above, progress)
    folder = existing(root, cure=_TREE)
    found = _Found()
    for split, classes in _splits(folder):
        for path in classes:
            _collect(path, split, found)
    if not found.paths:
        raise DataError("no picture in the class folders", where=str(folder), cure=_TREE)
    wanted = class_names(found.names, labels, where=str(folder))
    store, kept, skipped = decode_all(found.paths, options)
    return Samples(
        pictures=store,
        label=np.array([wanted.index(found.names[row]) for row in kept], np.int16),
        labels=wanted,
        source=np.array([found.paths[row].relative_to(folder).as_posix() for row in kept], np.str_),
        split=np.array([found.splits[row] for row in kept], np.str_),
        skipped=dict(found.skipped) | skipped,
        name=folder.resolve().name,
    )


def class_names(found: Sequence[str], wanted: Sequence[str] | None, *, where: str) -> tuple[str, ...]:
    """Return the class names of a set: those found, in canonical order, or those wanted, as they stand.

    Sites that train one model must agree on the classes even when one of them has no picture of a class;
    they name the wanted classes.

    Raises
    ------
    ConfigError : a wanted class has no canonical name, or is named twice.
    DataError : a picture shows a class that is not wanted.
    """
    if wanted is None:
        return in_order(found)
    names = tuple(wanted)
    strange = [name for name in names if name not in EXPRESSIONS]
    if strange or len(set(names)) != len(names):
        cure = f"Name each once: {', '.join(EXPRESSIONS)}."
        raise ConfigError(f"labels are {', '.join(names)}", where="labels", cure=cure)
    outside = [name for name in in_order(found) if name not in names]
    if outside:
        cure = f"Add {outside[0]} to labels, or remove its pictures."
        raise DataError(f"pictures of {outside[0]}, which labels leaves out", where=where, cure=cure)
    return names


def _folders(folder: Path) -> list[Path]:
    """Folders in order, without hidden ones and what macOS packs beside them."""
    if not folder.is_dir():
        raise DataError("this is no folder", where=str(folder), cure=_TREE)
    names = (path for path in folder.iterdir() if path.is_dir())
    return sorted(path for path in names if not path.name.startswith((".", "__")))


def _splits(root: Path) -> list[tuple[str, list[Path]]]:
    """Split name and class folders of each split."""
    folders = _folders(root)
    if not any(is_split(path.name) for path in folders):
        return [("train", folders)]
    return [(split_name(path.name, where=str(path)), _folders(path)) for path in folders]


def _collect(folder: Path, split: str, found: _Found) -> None:
    name = canonical(folder.name, where=str(folder))
    for path in sorted(folder.iterdir()):
        if path.name.startswith("._"):
            found.skipped[APPLEDOUBLE] += 1
        elif path.is_dir():
            raise DataError("a folder inside a class folder", where=str(path), cure=_TREE)
        elif path.suffix.lower() not in SUFFIXES:
            found.skipped[OTHER_FILE] += 1
        else:
            found.paths.append(path)
            found.names.append(name)
            found.splits.append(split)
