"""One table of pictures and what is known about them.

A :class:`Samples` holds N pictures in one contiguous uint8 array and one column a fact: label, votes,
subject, any number of group attributes, source, split. Small sets live in memory; large ones in a file that
is memory-mapped, so that only the pictures of the current batch are read.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_models.errors import DataError, RunFolderError

SPLITS = ("train", "validation", "test")
"""Values of the split column. Model choice may look at validation, never at test."""

SPLIT_WORDS: Mapping[str, str] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "publictest": "validation",
    "test": "test",
    "testing": "test",
    "privatetest": "test",
}
"""Words that folders and metadata files use for a split, in lower case without blanks, ``-`` and ``_``."""

PERSON = "person"
SUBJECTS: Mapping[str, str] = {
    PERSON: "people",
    "drawn character": "drawn characters",
    "clip": "clips",
    "film": "films",
    "photograph": "photographs",
    "unit": "units",
}
"""What the column of subjects may name, and many of them. All keep rows together in one split; only people are counted
as people. ``unit``: several sets are joined whose subjects are of different kinds."""

UNKNOWN_CLASS = -1.0
"""Target of a class that the data set of a row does not know: losses leave that class out for the row."""

MAPPED_ABOVE = 1 << 30
"""Bytes of pictures above which a picture store is a memory-mapped file."""


def split_name(word: str, *, where: str) -> str:
    """Return the split that a word such as ``Training``, ``val`` or ``public test`` names.

    Raises
    ------
    DataError : the word names no split.
    """
    if not is_split(word):
        raise DataError(f"unknown split {word!r}", where=where, cure=f"Use one of {', '.join(SPLITS)}.")
    return SPLIT_WORDS[_plain(word)]


def is_split(word: str) -> bool:
    """Whether :func:`split_name` knows the word."""
    return _plain(word) in SPLIT_WORDS


def _plain(word: str) -> str:
    return "".join(letter for letter in word.lower() if letter not in " -_\t")


def picture_store(
    count: int, size: int, channels: int, folder: Path | None = None, mapped_above: int = MAPPED_ABOVE
) -> NDArray[np.uint8]:
    """Return a zeroed uint8 store for ``count`` pictures of ``size`` x ``size`` pixels.

    Shape (count, size, size) for one channel, (count, size, size, 3) for colour. Above ``mapped_above``
    bytes the store is a memory-mapped file without a name that outlives its last user, in ``folder`` (the
    system's temporary folder when None); the disk must hold it.
    """
    shape = (count, size, size) if channels == 1 else (count, size, size, channels)
    return _zeros(shape, folder, mapped_above)


def _zeros(shape: tuple[int, ...], folder: Path | None, mapped_above: int) -> NDArray[np.uint8]:
    if int(np.prod(shape)) <= mapped_above:
        return np.zeros(shape, np.uint8)
    try:
        with tempfile.NamedTemporaryFile(prefix="fedfer-pictures-", dir=folder) as file:
            if hasattr(os, "posix_fallocate"):  # a full disk shows here, not as a bus error at a later write
                os.posix_fallocate(file.fileno(), 0, int(np.prod(shape)))
            return np.memmap(file, np.uint8, "w+", shape=shape)
    except OSError as error:
        raise RunFolderError(
            f"no room for {int(np.prod(shape)) >> 20} MiB of pictures: {error.strerror}",
            where=str(folder or tempfile.gettempdir()),
            cure="Free disk space, set TMPDIR to a larger disk, or read the pictures at a smaller size.",
        ) from error


def _gather(pictures: NDArray[np.uint8], rows: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Copy rows, a block at a time, so that rows of a mapped store need no more memory than a block."""
    gathered = _zeros((len(rows), *pictures.shape[1:]), None, MAPPED_ABOVE)
    for start in range(0, len(rows), 4096):
        gathered[start : start + 4096] = pictures[rows[start : start + 4096]]
    return gathered


@dataclass(frozen=True)
class Samples:
    """Pictures and columns, row by row.

    Attributes
    ----------
    pictures : uint8 (N, H, W) gray or (N, H, W, 3) colour, 0 to 255.
    label : int16 (N,), index into ``labels``.
    labels : canonical names of the classes, in order.
    votes : float32 (N, C) or None; annotators' votes a class after the data set's own cleaning rule, each
        row with a sum above 0. Training targets are ``votes / votes.sum(1)``.
    subject : str (N,) or None; the person on the picture, or the clip or film where only that is known, as
        ``subject_is`` says; None when the data set does not know.
    groups : attribute name -> str (N,), with :data:`fer_models.labels.UNDISCLOSED` where nothing is known.
    source : str (N,), where a row came from, such as ``fer2013.csv:17`` or ``images/001_03.jpg``.
    split : str (N,), one of :data:`SPLITS`.
    skipped : reason -> how many rows or files the reader left out.
    name : the data set's name, for reports.
    known : bool (N, C) or None; the classes that a row's data set tells apart, its label among them. None: all.
    subject_is : one of :data:`SUBJECTS`.
    notes : what to know of its columns, a sentence each.
    """

    pictures: NDArray[np.uint8]
    label: NDArray[np.int16]
    labels: tuple[str, ...]
    source: NDArray[np.str_]
    split: NDArray[np.str_]
    votes: NDArray[np.float32] | None = None
    subject: NDArray[np.str_] | None = None
    groups: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)
    name: str = "samples"
    known: NDArray[np.bool_] | None = None
    subject_is: str = PERSON
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.pictures)
        if self.pictures.dtype != np.uint8 or self.pictures.ndim not in (3, 4):
            raise DataError(
                f"pictures are {self.pictures.dtype} with {self.pictures.ndim} dimensions",
                where=self.name,
                cure="Give uint8 pictures of shape (N, H, W) or (N, H, W, 3).",
            )
        columns = {"label": self.label, "source": self.source, "split": self.split, **self.groups}
        columns |= self._optional()
        for column, values in columns.items():
            if len(values) != n:
                raise DataError(
                    f"column {column} has {len(values)} rows for {n} pictures",
                    where=self.name,
                    cure="Give one value a picture.",
                )
        if n and (int(self.label.min()) < 0 or int(self.label.max()) >= len(self.labels)):
            raise DataError(
                "a label index lies outside the label names",
                where=self.name,
                cure=f"Use indices 0 to {len(self.labels) - 1}.",
            )
        if self.known is not None and n and not self.known[np.arange(n), self.label].all():
            raise DataError(
                "a row's own class is not among those that its data set knows",
                where=self.name,
                cure="Mark the class of every row as known.",
            )
        unknown = sorted(set(np.unique(self.split).tolist()) - set(SPLITS))
        if unknown:
            raise DataError(
                f"unknown split {unknown[0]!r}", where=self.name, cure=f"Use one of {', '.join(SPLITS)}."
            )
        if self.subject_is not in SUBJECTS:
            cure = f"Use one of {', '.join(SUBJECTS)}."
            raise DataError(f"unknown kind of subject {self.subject_is!r}", where=self.name, cure=cure)

    def __len__(self) -> int:
        return len(self.pictures)

    def _optional(self) -> dict[str, NDArray]:
        """The columns that not every table has, by name, where there are any."""
        columns = {"votes": self.votes, "subject": self.subject, "known": self.known}
        return {name: column for name, column in columns.items() if column is not None}

    @property
    def people(self) -> NDArray[np.str_] | None:
        """The person of each row; None where the subjects are no people, or unknown."""
        return self.subject if self.subject_is == PERSON else None

    @property
    def size(self) -> int:
        """Height of a picture in pixels."""
        return int(self.pictures.shape[1])

    @property
    def channels(self) -> int:
        """1 for gray, 3 for colour."""
        return 1 if self.pictures.ndim == 3 else int(self.pictures.shape[3])

    def take(self, rows: NDArray[np.integer]) -> Samples:
        """Return the given rows, in the given order; pictures are copied (to a mapped file when large)."""
        return replace(
            self,
            pictures=_gather(self.pictures, rows),
            label=self.label[rows],
            source=self.source[rows],
            split=self.split[rows],
            votes=None if self.votes is None else self.votes[rows],
            subject=None if self.subject is None else self.subject[rows],
            known=None if self.known is None else self.known[rows],
            groups={name: column[rows] for name, column in self.groups.items()},
        )

    def rows(self, split: str) -> NDArray[np.intp]:
        """Return the indices of the rows of one split, ascending."""
        return np.flatnonzero(self.split == split)

    def targets(self, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return label distributions, float32 (len(rows), C): shares of the votes, or one-hot labels.

        Classes that a row's data set does not know hold :data:`UNKNOWN_CLASS`.
        """
        found = np.eye(len(self.labels), dtype=np.float32)[self.label[rows]]
        if self.votes is not None:
            votes = self.votes[rows]
            found = votes / votes.sum(1, keepdims=True)
        return found if self.known is None else np.where(self.known[rows], found, np.float32(UNKNOWN_CLASS))

    def save(self, folder: Path, *, pictures: bool = True) -> None:
        """Write the table to ``folder`` as .npy files and one JSON file; no pickle.

        Parameters
        ----------
        pictures : False where ``pictures.npy`` lies there already.
        """
        folder.mkdir(parents=True, exist_ok=True)
        columns = {"pictures": self.pictures} if pictures else {}
        columns |= {"label": self.label, "source": self.source, "split": self.split, **self._optional()}
        columns |= {f"group-{index}": column for index, column in enumerate(self.groups.values())}
        try:
            for name, column in columns.items():
                np.save(folder / f"{name}.npy", column, allow_pickle=False)
            facts = {
                "labels": self.labels,
                "groups": list(self.groups),
                "skipped": dict(self.skipped),
                "name": self.name,
                "subject_is": self.subject_is,
                "notes": self.notes,
            }
            temporary = folder / "samples.json.part"
            temporary.write_text(json.dumps(facts))
            temporary.replace(folder / "samples.json")
        except OSError as error:
            raise RunFolderError(
                f"cannot write the samples: {error.strerror}",
                where=str(folder),
                cure="Free disk space or choose another folder.",
            ) from error

    @classmethod
    def load(cls, folder: Path) -> Samples:
        """Open a saved table; pictures are memory-mapped, read only."""
        try:
            facts = json.loads((folder / "samples.json").read_text())
            read = {path.stem: path for path in folder.glob("*.npy")}
            column = {
                name: np.load(path, allow_pickle=False) for name, path in read.items() if name != "pictures"
            }
            pictures = np.load(folder / "pictures.npy", mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(
                "this is no folder of saved samples", where=str(folder), cure="Prepare the samples again."
            ) from error
        return cls(
            pictures=pictures,
            label=column["label"],
            labels=tuple(facts["labels"]),
            source=column["source"],
            split=column["split"],
            votes=column.get("votes"),
            subject=column.get("subject"),
            groups={name: column[f"group-{index}"] for index, name in enumerate(facts["groups"])},
            skipped=facts["skipped"],
            name=facts["name"],
            known=column.get("known"),
            subject_is=facts.get("subject_is", PERSON),
            notes=tuple(facts.get("notes", ())),
        )


def people_by_group(
    samples: Samples, rows: NDArray[np.intp], attributes: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, int]]:
    """Return how many persons of each group are on some rows: attribute -> group -> persons.

    Empty where the pictures do not say who is on them, as where their subjects are clips.

    Parameters
    ----------
    attributes : which columns, with the names of their groups.
    """
    if samples.people is None:
        return {}
    person = samples.people[rows]
    column = {name: samples.groups[name][rows] for name in attributes}
    return {
        name: {group: len(np.unique(person[column[name] == group])) for group in groups}
        for name, groups in attributes.items()
    }
