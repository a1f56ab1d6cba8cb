"""Class-folder trees: one folder a class, with or without a folder a split above them."""

from __future__ import annotations

from pathlib import Path

from fer_models.errors import DataError
from fer_models.labels import canonical
from fer_models.readers.listing import Listing, reading
from fer_models.samples import is_split, split_name

_TREE = "Build ROOT/CLASS/PICTURE or ROOT/{train,validation,test}/CLASS/PICTURE."


def list_classfolders(root: Path) -> Listing:
    """Read ``{train,validation,test}/CLASS/PICTURE``, or ``CLASS/PICTURE`` with every row in train.

    Parameters
    ----------
    root : the folder of the tree; folder names are read through the word tables of classes and splits.

    Raises
    ------
    DataError : a folder name is neither class nor split, a class folder holds folders, or there is no picture.
    """
    found = Listing(root.resolve().name, root)
    for split, classes in _splits(root):
        for folder in classes:
            add_class(folder, split, found)
    if not found.paths:
        raise DataError("no picture in the class folders", where=str(root), cure=_TREE)
    return found


read_classfolders = reading(list_classfolders)


def folders(folder: Path) -> list[Path]:
    """Return the folders in a folder in order, without hidden ones and what macOS packs beside them.

    Raises
    ------
    DataError : it is no folder.
    """
    if not folder.is_dir():
        raise DataError("this is no folder", where=str(folder), cure=_TREE)
    names = (path for path in folder.iterdir() if path.is_dir())
    return sorted(path for path in names if not path.name.startswith((".", "__")))


def _splits(root: Path) -> list[tuple[str, list[Path]]]:
    """Split name and class folders of each split."""
    inner = folders(root)
    if not any(is_split(path.name) for path in inner):
        return [("train", inner)]
    return [(split_name(path.name, where=str(path)), folders(path)) for path in inner]


def add_class(folder: Path, split: str, found: Listing) -> None:
    """Add the pictures of one class folder, whose name is the word of its class.

    Raises
    ------
    DataError : the word is no class, or the folder holds folders.
    """
    name = canonical(folder.name, where=str(folder))
    inner = folders(folder)
    if inner:
        raise DataError("a folder inside a class folder", where=str(inner[0]), cure=_TREE)
    for path in found.pictures_in(folder.iterdir()):
        found.add(path, name, split=split)
