"""What a reader knows of its pictures before one is decoded, and the step from there to samples.

A data set with pictures on disk needs one function that lists them: path, class, split, person, groups. All else
that readers share lies here: decoding, the order of the classes, and what is left out and counted.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_models.errors import ConfigError, DataError
from fer_models.labels import UNDISCLOSED, VOCABULARY, in_order
from fer_models.readers.pictures import APPLEDOUBLE, SUFFIXES, Box, PictureOptions, decode_all
from fer_models.readers.tables import Progress, text_of
from fer_models.samples import MAPPED_ABOVE, PERSON, Samples
from fer_models.stores import Building

OTHER_FILE = "file that is no picture"
OTHER_NAME = "file whose name is not the owner's"


@dataclass
class Listing:
    """The pictures of a data set, one entry a picture in every column.

    Attributes
    ----------
    name : of the data set, for reports.
    root : folder that sources are told relative to.
    paths : of the picture files.
    names : of the classes, of :data:`fer_models.labels.VOCABULARY`.
    splits : of :data:`fer_models.samples.SPLITS`.
    subjects : the people, or what else keeps rows together, as ``subject_is`` says; empty where unknown.
    groups : attribute -> its values, :data:`fer_models.labels.UNDISCLOSED` where nothing is told.
    boxes : the face in the picture; None takes the central square.
    marks : what tells one row of a picture from another, such as the number of a face.
    moments : share of a video that has passed, above 0 and below 1, where the file is one; None for a picture.
    votes : class -> votes or ratings; None where there are none, and the class is all that is known.
    skipped : reason -> rows or files left out.
    notes : what to know of its columns, a sentence each.
    subject_is : what a subject is, of :data:`fer_models.samples.SUBJECTS`.
    """

    name: str
    root: Path
    paths: list[Path] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    subjects: list[str] = field(default_factory=list)
    groups: dict[str, list[str]] = field(default_factory=dict)
    boxes: list[Box | None] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)
    moments: list[float | None] = field(default_factory=list)
    votes: list[Mapping[str, float] | None] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    subject_is: str = PERSON
    notes: tuple[str, ...] = ()

    def add(
        self,
        path: Path,
        name: str,
        *,
        split: str = "train",
        subject: str = "",
        groups: Mapping[str, str] | None = None,
        box: Box | None = None,
        mark: str = "",
        moment: float | None = None,
        votes: Mapping[str, float] | None = None,
    ) -> None:
        """Append one picture; a group column that earlier or later pictures lack is undisclosed there."""
        for column, value in (groups or {}).items():
            before = self.groups.setdefault(column, [])
            before += [UNDISCLOSED] * (len(self.paths) - len(before))
            before.append(value)
        self.paths.append(path)
        self.names.append(name)
        self.splits.append(split)
        self.subjects.append(subject)
        self.boxes.append(box)
        self.marks.append(mark)
        self.moments.append(moment)
        self.votes.append(votes)

    def skip(self, reason: str, count: int = 1) -> None:
        """Count rows or files that are left out."""
        if count:
            self.skipped[reason] += count

    def pictures_in(self, paths: Iterable[Path]) -> list[Path]:
        """Return the picture files among ``paths``, in order; the other files are counted, folders are not."""
        found = []
        for path in sorted(paths):
            if path.name.startswith("._"):
                self.skip(APPLEDOUBLE)
            elif path.suffix.lower() in SUFFIXES:
                found.append(path)
            elif path.is_file():
                self.skip(OTHER_FILE)
        return found

    def sources(self) -> list[str]:
        """Return where each row came from, relative to the root."""
        marked = zip(self.paths, self.marks, strict=True)
        return [path.relative_to(self.root).as_posix() + mark for path, mark in marked]


def coded(table: Mapping[str, str], code: str, what: str, *, where: str) -> str:
    """Return what a data set's code stands for.

    Raises
    ------
    DataError : the code is in no table; an unknown code is an error, never a skipped row.
    """
    if code not in table:
        raise DataError(
            f"unknown {what} {code!r}",
            where=where,
            cure=f"It must be one of {', '.join(table)}: get the file again from the data set's owner.",
        )
    return table[code]


def require_choice(option: str, value: object, known: Iterable[object]) -> None:
    """Refuse a value of an option that is none of those known.

    Raises
    ------
    ConfigError : with the option and the values that there are.
    """
    if value not in (values := tuple(known)):
        raise ConfigError(
            f"{option} is {value!r}", where=option, cure=f"Use one of {', '.join(map(str, values))}."
        )


def require_frames(option: str, count: int) -> None:
    """Refuse an option that takes less than one frame of a sequence.

    Raises
    ------
    ConfigError : with the option.
    """
    if count < 1:
        raise ConfigError(f"{option} is {count}", where=option, cure="Take 1 frame or more.")


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
    strange = [name for name in names if name not in VOCABULARY]
    if strange or len(set(names)) != len(names):
        cure = f"Name each once: {', '.join(VOCABULARY)}."
        raise ConfigError(f"labels are {', '.join(names)}", where="labels", cure=cure)
    outside = [name for name in in_order(found) if name not in names]
    if outside:
        cure = f"Add {outside[0]} to labels, or set leave_out=[{outside[0]}]."
        raise DataError(f"pictures of {outside[0]}, which labels leaves out", where=where, cure=cure)
    return names


def samples_of(
    listing: Listing,
    *,
    size: int = 48,
    channels: int = 1,
    labels: Sequence[str] | None = None,
    leave_out: Sequence[str] = (),
    skip_list: Path | str | None = None,
    unreadable: str = "error",
    mapped_above: int = MAPPED_ABOVE,
    progress: Progress | None = None,
    building: Building | None = None,
) -> Samples:
    """Decode what a reader listed.

    Parameters
    ----------
    labels : canonical names of the classes in the wanted order; the classes found when None.
    leave_out : classes whose pictures are left out and counted.
    skip_list : a text file with the sources of pictures to leave out, a line each, such as those without a face.
    size, channels, unreadable, mapped_above, progress, building :
        see :class:`fer_models.readers.pictures.PictureOptions`.

    Raises
    ------
    DataError : nothing is left to read, or a picture cannot be read.
    ConfigError : a wanted class has no canonical name.
    """
    options = PictureOptions(size, channels, unreadable, mapped_above, progress, building)
    rows = _wanted_rows(listing, leave_out, skip_list)
    found = [listing.names[row] for row in rows]
    wanted = class_names(found, labels, where=str(listing.root))
    store, kept, skipped = decode_all(
        [listing.paths[row] for row in rows],
        options,
        [listing.boxes[row] for row in rows],
        [listing.moments[row] for row in rows],
    )
    rows = rows[kept]
    return Samples(
        pictures=store,
        label=np.array([wanted.index(listing.names[row]) for row in rows], np.int16),
        labels=wanted,
        source=np.array(listing.sources(), np.str_)[rows],
        split=np.array(listing.splits, np.str_)[rows],
        votes=_votes(listing, rows, wanted),
        subject=_subjects(listing, rows),
        groups={name: _column(values, listing)[rows] for name, values in listing.groups.items()},
        skipped=dict(listing.skipped + Counter(skipped)),
        name=listing.name,
        subject_is=listing.subject_is,
        notes=listing.notes,
    )


def _wanted_rows(
    listing: Listing, leave_out: Sequence[str], skip_list: Path | str | None
) -> NDArray[np.intp]:
    """Rows of the classes and sources that are not left out; the others are counted in the listing."""
    strange = [name for name in leave_out if name not in VOCABULARY]
    if strange:
        cure = f"Name classes: {', '.join(VOCABULARY)}."
        raise ConfigError(f"unknown class {strange[0]!r}", where="leave_out", cure=cure)
    for name in leave_out:
        listing.skip(f"class left out on request: {name}", listing.names.count(name))
    unwanted = _on_list(listing, skip_list)
    kept = np.array([name not in leave_out for name in listing.names], bool)
    rows = np.flatnonzero(kept & ~unwanted)
    if not len(rows):
        told = "; ".join(f"{count} times: {reason}" for reason, count in listing.skipped.items())
        raise DataError(
            f"no picture of {listing.name} is left to read{f' ({told})' if told else ''}",
            where=str(listing.root),
            cure="Set data.root to the folder as its owner ships it, see docs/data.md.",
        )
    return rows


def _on_list(listing: Listing, skip_list: Path | str | None) -> NDArray[np.bool_]:
    """Which rows a user's list names."""
    if skip_list is None:
        return np.zeros(len(listing.paths), bool)
    path = Path(skip_list).expanduser()
    sources = {source: index for index, source in enumerate(listing.sources())}
    named = np.zeros(len(sources), bool)
    for number, line in enumerate(text_of(path).splitlines(), 1):
        if line.strip() and line.strip() not in sources:
            cure = f"Write sources as data check shows them, such as {next(iter(sources), 'images/1.png')}."
            raise DataError(f"no picture {line.strip()!r}", where=f"{path}:{number}", cure=cure)
        if line.strip():
            named[sources[line.strip()]] = True
    listing.skip("on your skip list", int(named.sum()))
    return named


def _votes(listing: Listing, rows: NDArray[np.intp], labels: tuple[str, ...]) -> NDArray[np.float32] | None:
    """Votes for the classes of the table, where some row has any; a row without has one for its class."""
    if not any(listing.votes):
        return None
    told = [listing.votes[row] or {} for row in rows]
    told = [
        votes if any(votes.get(name, 0.0) > 0 for name in labels) else {listing.names[row]: 1.0}
        for row, votes in zip(rows, told, strict=True)
    ]
    return np.array([[votes.get(name, 0.0) for name in labels] for votes in told], np.float32)


def _column(values: list[str], listing: Listing) -> NDArray[np.str_]:
    return np.array(values + [UNDISCLOSED] * (len(listing.paths) - len(values)), np.str_)


def _subjects(listing: Listing, rows: NDArray[np.intp]) -> NDArray[np.str_] | None:
    """The person of each row; a row without one gets its source, so that it is nobody else."""
    if not any(listing.subjects):
        return None
    told = zip(listing.subjects, listing.sources(), strict=True)
    return np.array([person or source for person, source in told], np.str_)[rows]


def reading(lister: Callable[..., Listing]) -> Callable[..., Samples]:
    """Return a reader from a function that lists the pictures below a folder.

    The reader takes the options of the function and those of :func:`samples_of`, and says so in its signature.
    """
    own = list(inspect.signature(lister).parameters.values())
    shared = list(inspect.signature(samples_of).parameters.values())[1:]

    @wraps(lister)
    def read(root: Path | str, **options: Any) -> Samples:
        mine = {each.name: options.pop(each.name) for each in own[1:] if each.name in options}
        return samples_of(lister(Path(root), **mine), **options)

    read.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
    return read
