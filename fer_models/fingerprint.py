"""Whether files on disk are still those that were read: their names, sizes and times of change, as one digest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Fingerprint:
    """What some files and folders look like from outside.

    Attributes
    ----------
    digest : SHA-256 of every file's path, size in bytes and time of change in nanoseconds.
    files, size : how many files, and their bytes together.
    """

    digest: str
    files: int
    size: int


def fingerprint(places: Iterable[Path], *, deep: bool = True) -> Fingerprint:
    """Look at all files of some folders, or at single files, without opening one.

    A file that was changed and given back its old size and time is not noticed.

    Parameters
    ----------
    places : files and folders; what does not exist counts as nothing.
    deep : also look into folders inside.
    """
    seal, files, size = hashlib.sha256(), 0, 0
    for place in places:
        seal.update(f"{place}\n".encode(errors="surrogateescape"))
        for name, facts in _files(place, deep):
            seal.update(
                f"{name}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode(errors="surrogateescape"),
            )
            files, size = files + 1, size + facts.st_size
    return Fingerprint(seal.hexdigest(), files, size)


def _files(place: Path, deep: bool) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the path and the facts of every file, in a fixed order; a folder that links to one above it ends there."""
    if place.is_file():
        yield str(place), place.stat()
        return
    folders, entered = [str(place)] if place.is_dir() else [], {os.path.realpath(place)}
    while folders:
        with os.scandir(folders.pop()) as inside:
            entries = sorted(inside, key=lambda entry: entry.name)
        for entry in entries:
            if not entry.is_dir():
                try:
                    yield entry.path, entry.stat()
                except FileNotFoundError:  # a link to nothing
                    continue
            elif deep:
                real = os.path.realpath(entry.path) if entry.is_symlink() else ""
                if real not in entered:
                    folders.append(entry.path)
                    entered |= {real} - {""}
