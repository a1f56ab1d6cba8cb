"""Decoded pictures that are kept: the second time a data set is read, nothing is decoded.

A store is a folder with ``pictures.npy``, which is memory-mapped, the columns of its samples as .npy files, and
``store.json``, which says what it was made from. It is owner-only, holds no pickle, and is made anew where the data
set's files, the options of the reader or the readers themselves have changed. While it is made it lies in a folder
``NAME.part`` with a journal, so that a process that was killed goes on where it stopped.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray

from fer_models.errors import DataError, FedferError, RunFolderError
from fer_models.fingerprint import Fingerprint
from fer_models.samples import Samples

VERSION = 1
"""Of the format of a store."""

READ_WITH = ("labels.py", "samples.py", "skin_tone.py")
"""Modules beside the readers that decide what is in a store."""

OPENCV = "opencv-python-headless"
"""The package that decodes videos; its version is looked up, as importing it takes long."""

MARK_SECONDS = 2.0
"""Seconds between two entries of the journal: what a killed process loses at most."""

_FACTS, _KEY, _JOURNAL, _PICTURES = "store.json", "key.json", "journal.json", "pictures.npy"
_CURE = "Free disk space, set data.cache to a folder on a larger disk, or data.cache=none."


@dataclass(frozen=True)
class Cache:
    """Where stores are kept, and which data sets are worth one.

    Attributes
    ----------
    folder : of all stores.
    from_files, from_bytes : a data set with fewer files and fewer bytes on disk is read anew every time: that is as
        quick, and leaves no second copy of anybody's face.
    tell : called with a sentence for the user.
    """

    folder: Path
    from_files: int = 1000
    from_bytes: int = 64 << 20
    tell: Callable[[str], None] = field(default=lambda _: None, compare=False)

    def worth(self, found: Fingerprint) -> bool:
        """Whether a data set that looks like that gets a store."""
        return found.files >= self.from_files or found.size >= self.from_bytes


@dataclass
class Building:
    """A store that is being made, which a reader decodes into.

    Attributes
    ----------
    folder : it lies in.
    failed : index of a picture -> why it was left out.
    """

    folder: Path
    failed: dict[int, str] = field(default_factory=dict)
    _pictures: NDArray[np.uint8] | None = None
    _facts: dict[str, Any] = field(default_factory=dict)
    _marked: float = 0.0

    def begin(self, sources: str, shape: tuple[int, ...]) -> tuple[NDArray[np.uint8], int]:
        """Return the store of that shape, and how many of the sources are done already.

        Parameters
        ----------
        sources : digest of what is decoded in which order; a journal of other sources is thrown away.

        Raises
        ------
        RunFolderError : the disk cannot hold it.
        """
        path = self.folder / _PICTURES
        facts = {"sources": sources, "shape": list(shape)}
        done = self._resume(facts)
        with _writing(path):
            if not done:
                _make(path, shape)
            pictures: NDArray[np.uint8] = np.load(path, mmap_mode="r+", allow_pickle=False)
        self._pictures, self._facts, self._marked = pictures, facts, time.monotonic()
        return pictures, done

    def _resume(self, facts: dict[str, Any]) -> int:
        """How many sources a former process has done, by its journal; 0 where that is of no use."""
        try:
            found = json.loads((self.folder / _JOURNAL).read_text())
            rest = {key: found.pop(key) for key in ("done", "failed")}
            made = np.load(self.folder / _PICTURES, mmap_mode="r", allow_pickle=False)
            if found != facts or made.shape != tuple(facts["shape"]):
                return 0
            done, failed = int(rest["done"]), {int(index): str(why) for index, why in rest["failed"].items()}
            if not all(0 <= index < done <= len(made) for index in failed or [0]):
                return 0
            self.failed = failed
            return done
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return 0

    def mark(self, done: int, *, now: bool = False) -> None:
        """Write down how many sources are done, if the last time was :data:`MARK_SECONDS` ago, or ``now``."""
        if self._pictures is None or (not now and time.monotonic() - self._marked < MARK_SECONDS):
            return
        with _writing(self.folder):
            self._pictures.flush()  # type: ignore[attr-defined]
            write_json(self.folder / _JOURNAL, {**self._facts, "done": done, "failed": self.failed})
        self._marked = time.monotonic()

    def end(self, kept: int) -> NDArray[np.uint8]:
        """Cut the store to the pictures that could be read, and return it."""
        assert self._pictures is not None
        shape = (kept, *self._pictures.shape[1:])
        with _writing(self.folder):
            self._pictures.flush()  # type: ignore[attr-defined]
            if kept < len(self._pictures):
                _cut(self.folder / _PICTURES, shape)
        pictures: NDArray[np.uint8] = np.load(self.folder / _PICTURES, mmap_mode="r", allow_pickle=False)
        self._pictures = pictures
        return pictures

    def keep(self, samples: Samples, key: Mapping[str, Any]) -> None:
        """Write everything but the pictures that lie here already, and last what all this was made from."""
        samples.save(self.folder, pictures=samples.pictures is not self._pictures)
        for name in (_JOURNAL, _KEY):
            (self.folder / name).unlink(missing_ok=True)
        files = {}
        for path in sorted(self.folder.iterdir()):
            path.chmod(0o600)
            files[path.name] = [path.stat().st_size, _checksum(path)]
        write_json(self.folder / _FACTS, {**key, "files": files})


def stored(
    cache: Cache,
    name: str,
    about: Mapping[str, Any],
    found: Fingerprint,
    read: Callable[[Building], Samples],
) -> Samples:
    """Return the samples of a store, which is made first where there is none that still holds.

    Another process that makes the same store is waited for.

    Parameters
    ----------
    name : begins the name of the store's folder.
    about : what decides which store it is: reader, folder, options; plain JSON.
    found : what the data set's files look like now.
    read : decodes into what it is given, or ignores it.

    Raises
    ------
    RunFolderError : the folder cannot be written, belongs to another user, or its disk is full.
    """
    label = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:24]
    folder = cache.folder / f"{name}-{label}"
    key = {"version": VERSION, "readers": code_digest(), "about": dict(about), "digest": found.digest}
    with _writing(cache.folder):
        cache.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _locked(cache.folder / f".{folder.name}.lock", lambda: cache.tell("waiting for another process")):
        return _opened(folder, key, cache.tell) or _made(folder, key, read, cache.tell)


def _made(
    folder: Path,
    key: Mapping[str, Any],
    read: Callable[[Building], Samples],
    tell: Callable[[str], None],
) -> Samples:
    part, old = folder.with_name(f"{folder.name}.part"), folder.with_name(f"{folder.name}.old")
    with _writing(part):
        if _facts_of(part / _KEY) != key:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(mode=0o700)
            write_json(part / _KEY, key)
        _require_own(part)
    building = Building(part)
    try:
        samples = read(building)
        with _writing(part):
            building.keep(samples, key)
    except FedferError:
        shutil.rmtree(part, ignore_errors=True)  # whatever cures it changes the files or the options
        raise
    with _writing(folder):
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)  # who has it open keeps it until the end
        part.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    tell(f"decoded pictures are kept in {folder}; delete it when you delete the data set")
    return Samples.load(folder)


def _opened(folder: Path, key: Mapping[str, Any], tell: Callable[[str], None]) -> Samples | None:
    """Return what a store holds; None where there is none, or one that does not hold any more."""
    if not folder.is_dir():
        return None
    _require_own(folder)
    facts = _facts_of(folder / _FACTS)
    files = facts.pop("files", None)
    if facts != key:
        tell("the files of the data set, or the readers, have changed: reading it anew")
        return None
    try:
        if all(_is_whole(folder / name, *told) for name, told in files.items()):
            return Samples.load(folder)
    except (OSError, ValueError, TypeError, AttributeError, KeyError, DataError):
        pass
    tell(f"the store {folder} is damaged: reading the data set anew")
    return None


def _is_whole(path: Path, size: int, checksum: int) -> bool:
    """Whether a file is as it was written. Of the pictures the size alone is looked at: they may be many gigabytes."""
    return path.stat().st_size == size and _checksum(path) == checksum


def _checksum(path: Path) -> int:
    return 0 if path.name == _PICTURES else zlib.crc32(path.read_bytes())


def _facts_of(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_json(path: Path, facts: Mapping[str, Any]) -> None:
    """Write a file of owner-only JSON whole or not at all."""
    part = path.with_suffix(".new")
    part.write_text(json.dumps(facts))
    part.chmod(0o600)
    part.replace(path)


def _make(path: Path, shape: tuple[int, ...]) -> None:
    """Make an .npy file of zeros; a full disk shows here, not as a bus error at a later write."""
    handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "r+b") as file:
        np.lib.format.write_array_header_1_0(file, _header(shape))
        file.flush()
        if size := int(np.prod(shape)):
            os.posix_fallocate(file.fileno(), file.tell(), size)


def _cut(path: Path, shape: tuple[int, ...]) -> None:
    """Make an .npy file shorter; numpy leaves room in a header for the largest number of rows."""
    with path.open("r+b") as file:
        np.lib.format.write_array_header_1_0(file, _header(shape))
        file.truncate(file.tell() + int(np.prod(shape)))


def _header(shape: tuple[int, ...]) -> dict[str, Any]:
    return {"descr": "|u1", "fortran_order": False, "shape": shape}


def _require_own(folder: Path) -> None:
    """Refuse a store that somebody else could have written or can read.

    Raises
    ------
    RunFolderError : it belongs to another user, or its rights are open.
    """
    facts = folder.stat()
    if facts.st_uid != os.geteuid() or facts.st_mode & 0o077:
        cure = "Delete it, or set data.cache to a folder of your own."
        raise RunFolderError("the store of pictures is open to others", where=str(folder), cure=cure)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = f"cannot keep the pictures: {error.strerror or error}"
        raise RunFolderError(what, where=str(path), cure=_CURE) from error


@contextmanager
def _locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    with _writing(path):
        handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@cache
def code_digest() -> str:
    """Return a digest of the readers' source and of the decoders' versions: a store of other ones is read anew."""
    here = Path(__file__).parent
    files = sorted([*(here / "readers").glob("*.py"), *(here / name for name in READ_WITH)])
    videos = next((each.version for each in distributions(name=OPENCV)), "")
    seal = hashlib.sha256(f"{PIL.__version__} {np.__version__} {videos}".encode())
    for path in files:
        seal.update(path.read_bytes())
    return seal.hexdigest()
