"""Predictions of any system, one row a picture, counted while they are read.

A csv file with a header: the columns ``true`` and ``predicted``, where known one column ``p_CLASS`` for the
probability of each class, and every other column a group attribute. Nothing is guessed: what does not fit is
an error that names its line and column.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_models.calibration import BINS, binned, calibration_error
from fer_models.counts import Counts
from fer_models.effects import OVERALL, PersonCounts
from fer_models.errors import DataError
from fer_models.labels import ALIASES, EXPRESSIONS, TIE, UNDISCLOSED
from fer_models.people import People
from fer_models.readers.codes import MOST_GROUPS, Codes, JointCodes, group_codes
from fer_models.readers.groups import crossed_parts
from fer_models.readers.tables import Block, blocks, check_header, existing, header_of

PREFIX = "p_"
"""Begins the name of a column of probabilities."""

SUM_TOLERANCE = 0.01
"""How far the probabilities of a row may sum from one: what rounding to three decimals leaves of 20 classes."""

TIES = ("refuse", "predicted", "answer")
"""What may become of a tie: refused; left to the column of predictions; or, in votes, an answer of its own."""

AMONG = ":"
"""Stands between the classes of a vote that is tied."""


@dataclass(frozen=True)
class Layout:
    """Which column is what.

    Attributes
    ----------
    true, predicted : names of the columns.
    groups : columns of group attributes, and ``A*B`` for the groups of A within those of B; None takes every
        column that has no other part.
    ignore : columns that are not read.
    subject : column that names the person of a row, or empty.
    id : column in which no cell may occur twice, or empty.
    labels : the classes as the file writes them, in order; empty takes the canonical expressions.
    words : cell -> class, for words that stand in neither.
    ties : one of :data:`TIES`.
    """

    true: str = "true"
    predicted: str = "predicted"
    groups: tuple[str, ...] | None = None
    ignore: tuple[str, ...] = ()
    subject: str = ""
    id: str = ""
    labels: tuple[str, ...] = ()
    words: Mapping[str, str] = field(default_factory=dict)
    ties: str = "refuse"


@dataclass(frozen=True)
class Predictions:
    """What was counted.

    Attributes
    ----------
    counts : of all rows.
    probabilities : whether the file holds probabilities; they were checked then.
    people : attribute -> group -> how many persons; empty where no column names persons.
    calibration : attribute -> group -> expected calibration error; empty without probabilities.
    """

    counts: Counts
    probabilities: bool
    people: Mapping[str, Mapping[str, int]]
    calibration: Mapping[str, Mapping[str, float | None]]


@dataclass(frozen=True, eq=False)
class Coded:
    """Rows of a block as numbers (N,): classes, attribute -> groups, and persons where they are named."""

    true: NDArray[np.int64]
    predicted: NDArray[np.int64]
    groups: Mapping[str, NDArray[np.int64]]
    person: NDArray[np.int64] | None


def read_predictions(path: Path | str, layout: Layout | None = None) -> Predictions:
    """Count the rows of a csv file, block by block.

    Memory does not grow with the rows, but for 8 bytes a row where ``layout.id`` is given, and with the
    persons where ``layout.subject`` is.

    Raises
    ------
    DataError : a column is missing or has too many groups or one only, a label is no class, probabilities
        do not sum to one, disagree with the predicted class or tie, an id occurs twice, or there are no rows.
    """
    file = existing(path, cure="Give predictions=FILE.csv.")
    tally = Tally(file, header_of(file), layout or Layout())
    for block in blocks(file):
        tally.add(block)
    return tally.result()


class Tally:
    """Counts of what has been read so far."""

    def __init__(self, path: Path, header: list[str], layout: Layout) -> None:
        self.path, self.header, self.layout = path, header, layout
        parts = {name: self._parts(name) for name in layout.groups or ()}
        grouping = [part for own in parts.values() for part in own]
        required = [layout.true, layout.predicted, layout.subject, layout.id, *grouping]
        check_header(header, [name for name in required if name] + list(layout.ignore), where=f"{path}:1")
        self.labels = layout.labels or EXPRESSIONS
        self.chances = self._probability_columns()
        self._add_ties()
        parts = parts or {name: (name,) for name in self._group_columns()}
        self.columns = {name: group_codes(name) for own in parts.values() for name in own}
        self.attributes: dict[str, Codes | JointCodes] = {
            name: self.columns[name] if own == (name,) else JointCodes(name, [self.columns[i] for i in own])
            for name, own in parts.items()
        }
        self.truth = Codes(layout.true, self._label, self.labels)
        self.guess = Codes(layout.predicted, self._answer, self.labels)
        classes = len(self.labels)
        self.overall = np.zeros((classes, classes), np.int64)
        self.tables = {name: np.zeros((MOST_GROUPS, classes, classes), np.int64) for name in self.attributes}
        self.bins = {name: np.zeros((MOST_GROUPS, BINS, 3)) for name in self.attributes if self.chances}
        self.hashes: list[NDArray[np.int64]] = []
        self.persons: dict[str, int] = {}
        self.shared = {
            name: PersonCounts(MOST_GROUPS, classes) for name in (OVERALL, *self.attributes) if layout.subject
        }

    def _parts(self, name: str) -> tuple[str, ...]:
        """Return the columns that an attribute is made of."""
        parts = (name,) if name in self.header else crossed_parts(name)
        if len(set(parts)) < len(parts) or not all(parts):
            cure = "Cross two different columns, such as gender*age."
            raise DataError(f"{name!r} is no cross of columns", where=str(self.path), cure=cure)
        return parts

    def _add_ties(self) -> None:
        """Make a tie an answer, where it is to be one."""
        if self.layout.ties != "answer":
            return
        if self.chances or TIE in self.labels:
            what = "a column of probabilities" if self.chances else f"a class {TIE!r}"
            cure = "Use ties=predicted, or name the columns p_... in ignore=[...]; call a class otherwise."
            raise DataError(f"ties cannot be an answer beside {what}", where=str(self.path), cure=cure)
        self.labels = (*self.labels, TIE)

    def _group_columns(self) -> list[str]:
        own = self.layout
        if own.groups is not None:
            return []
        taken = {own.true, own.predicted, own.subject, own.id, *own.ignore}
        return [name for name in self.header if name not in taken and name not in self.chances.values()]

    def _probability_columns(self) -> dict[int, str]:
        """Return class -> its column; all classes of the vocabulary, or no column at all."""
        skipped = {*self.layout.ignore, *(self.layout.groups or ())}
        found = [name for name in self.header if name.startswith(PREFIX) and name not in skipped]
        columns = {self._label(name[len(PREFIX) :], f"{self.path}:1, column {name}"): name for name in found}
        if found and not self.layout.labels:
            self.labels = tuple(name for name in EXPRESSIONS if name in columns)
        missing = [name for name in self.labels if found and name not in columns]
        if missing or len(columns) < len(found):
            what = f"no column {PREFIX + missing[0]!r}" if missing else "two columns for one class"
            cure = "Give a probability for every class, or name the columns p_... in ignore=[...]."
            raise DataError(what, where=f"{self.path}:1", cure=cure)
        return {code: columns[name] for code, name in enumerate(self.labels)} if found else {}

    def _label(self, cell: str, where: str) -> str:
        """Return the class that a cell names."""
        name = self._named(cell)
        if name in self.labels and (name != TIE or TIE in self.layout.labels):
            return name
        raise DataError(
            f"{cell!r} is no class" if cell else "an empty cell where a class should be",
            where=where,
            cure=f"Use {', '.join(self.labels)}; or name your classes with labels=[A,B], or what a word "
            "stands for with words={WORD: CLASS}.",
        )

    def _named(self, cell: str) -> str:
        told = self.layout.words.get(cell, cell)
        return told if self.layout.labels else ALIASES.get(told.lower(), told)

    def _answer(self, cell: str, where: str) -> str:
        """Return the class that a prediction or a vote names; ``tie`` for several, if such may be."""
        parts = [part.strip() for part in cell.split(AMONG)]
        if len(parts) < 2 or self._named(cell) in self.labels:
            return self._label(cell, where)
        names = {self._label(part, where) for part in parts}
        if self.layout.ties == "answer" and len(names) > 1:
            return TIE
        cure = "Count such a vote as an answer of its own, which is never right, with ties=answer."
        raise DataError(f"{cell!r} names several classes", where=where, cure=cure)

    def add(self, block: Block) -> Coded:
        """Count a block, and return its rows."""
        column = dict(zip(self.header, block.columns, strict=True))
        true = self.truth.encode(column[self.layout.true], block)
        guess = self.guess.encode(column[self.layout.predicted], block)
        classes = len(self.labels)
        cell = true * classes + guess
        self.overall += np.bincount(cell, minlength=classes**2).reshape(classes, classes)
        chance = self._probabilities(column, guess, block) if self.chances else None
        if self.layout.id:
            self.hashes.append(np.fromiter(map(hash, column[self.layout.id]), np.int64, len(cell)))
        person = self._persons(column[self.layout.subject], block) if self.layout.subject else None
        if person is not None:
            self.shared[OVERALL].add(person, np.zeros_like(person), true, guess)
        told = {name: codes.encode(column[name], block) for name, codes in self.columns.items()}
        grouped: dict[str, NDArray[np.int64]] = {}
        for name, codes in self.attributes.items():
            if isinstance(codes, JointCodes):
                group = codes.encode([told[part.column] for part in codes.parts], block)
            else:
                group = told[name]
            grouped[name] = group
            size = self.tables[name].size
            self.tables[name] += np.bincount(group * classes**2 + cell, minlength=size).reshape(
                -1, *[classes] * 2
            )
            if chance is not None:
                self.bins[name] += binned(chance, true == guess, group, MOST_GROUPS)
            if person is not None:
                self.shared[name].add(person, group, true, guess)
        return Coded(true, guess, grouped, person)

    def _persons(self, cells: tuple[str, ...], block: Block) -> NDArray[np.int64]:
        empty = next((index for index, cell in enumerate(cells) if not cell.strip()), None)
        if empty is not None:
            where = f"{block.place(empty)}, column {self.layout.subject}"
            raise DataError("a row without a person", where=where, cure="Name the person of every row.")
        for cell in cells:
            self.persons.setdefault(cell, len(self.persons))
        return np.fromiter(map(self.persons.__getitem__, cells), np.int64, len(cells))

    def _probabilities(
        self, column: Mapping[str, tuple[str, ...]], guess: NDArray[np.int64], block: Block
    ) -> NDArray[np.float64]:
        """Return those of the predicted class (N,); refuse what is none, or does not go with that class."""
        chance = np.stack([_numbers(column[name], name, block) for name in self.chances.values()], 1)
        total, top = chance.sum(1), chance.max(1)
        taken = chance[np.arange(len(guess)), guess]
        rivals = (chance == top[:, None]).sum(1)
        wrong = np.abs(total - 1) > SUM_TOLERANCE
        for bad, explain in (
            (wrong, self._wrong_sum),
            (taken < top, self._not_highest),
            ((rivals > 1) & (self.layout.ties == "refuse"), self._tie),
        ):
            if bad.any():
                row = int(bad.argmax())
                raise explain(chance[row], int(guess[row]), block.place(row))
        return taken

    def _wrong_sum(self, chance: NDArray[np.float64], _: int, where: str) -> DataError:
        first, *_rest, last = self.chances.values()
        return DataError(
            f"probabilities sum to {chance.sum():.4g}",
            where=f"{where}, columns {first} to {last}",
            cure="Give probabilities that sum to one, with three decimals or more, not logits or percent.",
        )

    def _not_highest(self, chance: NDArray[np.float64], guess: int, where: str) -> DataError:
        other = self.chances[int(chance.argmax())]
        return DataError(
            f"{self.labels[guess]} is predicted, and {other} is higher",
            where=f"{where}, column {self.layout.predicted}",
            cure="Check that the columns belong together; where another rule than the highest probability "
            "decides, name the columns p_... in ignore=[...].",
        )

    def _tie(self, chance: NDArray[np.float64], _: int, where: str) -> DataError:
        tied = [self.chances[int(code)] for code in np.flatnonzero(chance == chance.max())]
        return DataError(
            f"{' and '.join(tied)} tie",
            where=where,
            cure=f"Write more decimals, or let the column {self.layout.predicted} decide with ties=predicted.",
        )

    def result(self) -> Predictions:
        """Return the counts, groups in the order of their names and ``undisclosed`` last."""
        if not self.overall.any():
            raise DataError("no rows", where=str(self.path), cure="Give one row a picture.")
        self._require_single_ids()
        labels = self.labels
        if not self.layout.labels and not self.chances:  # the vocabulary is then what occurs, in its order
            labels = tuple(np.array(labels)[self.overall.any(0) | self.overall.any(1)].tolist())
        kept = np.array([self.labels.index(name) for name in labels])
        order = {name: self._sorted_groups(codes) for name, codes in self.attributes.items()}
        groups = {name: tuple(each) for name, each in order.items()}
        tables = {
            name: self.tables[name][list(each.values())][:, kept][:, :, kept] for name, each in order.items()
        }
        counts = Counts(labels, groups, self.overall[np.ix_(kept, kept)], tables, self._sums(order, kept))
        errors = {
            name: {group: calibration_error(self.bins[name][code]) for group, code in each.items()}
            for name, each in order.items()
            if self.chances
        }
        return Predictions(counts, bool(self.chances), self._people(order), errors)

    def _sorted_groups(self, codes: Codes | JointCodes) -> dict[str, int]:
        names = sorted(codes.order, key=lambda name: (name == UNDISCLOSED, name))
        if len(set(names) - {UNDISCLOSED}) < 2:
            only = next((name for name in names if name != UNDISCLOSED), "")
            raise DataError(
                f"one group only, {only!r}" if only else "no group is disclosed",
                where=f"{self.path}, column {codes.column}",
                cure=f"There is nothing to compare: leave the column out with ignore=[{codes.column}].",
            )
        return {name: codes.order[name] for name in names}

    def _people(self, order: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
        if not self.layout.subject:
            return {}
        people = {name: self.shared[name].people() for name in order}
        return {
            name: {group: int(people[name][code]) for group, code in each.items()}
            for name, each in order.items()
        }

    def _sums(self, order: Mapping[str, Mapping[str, int]], kept: NDArray[np.int64]) -> People | None:
        """Return the sums over persons, None where nobody is named."""
        if not self.layout.subject:
            return None
        places = {OVERALL: [0], **{name: list(each.values()) for name, each in order.items()}}
        return People(
            {name: self.shared[name].sums(own, kept, overall=name == OVERALL) for name, own in places.items()}
        )

    def _require_single_ids(self) -> None:
        """Refuse an id that occurs twice; hashes that are equal are looked up in the file."""
        if not self.layout.id:
            return
        hashes, times = np.unique(np.concatenate(self.hashes), return_counts=True)
        suspects, seen = set(hashes[times > 1].tolist()), dict[str, str]()
        at = self.header.index(self.layout.id)
        for block in blocks(self.path) if suspects else ():
            for index, cell in enumerate(block.columns[at]):
                if hash(cell) not in suspects:
                    continue
                where = f"{block.place(index)}, column {self.layout.id}"
                if cell in seen:
                    cure = f"Keep one of the rows; the other is {seen[cell]}."
                    raise DataError(f"{cell.strip()!r} occurs twice", where=where, cure=cure)
                seen[cell] = block.place(index)


def _numbers(cells: tuple[str, ...], column: str, block: Block) -> NDArray[np.float64]:
    """Return probabilities (N,), each from 0 to 1."""
    try:
        found = np.fromiter(map(float, cells), np.float64, len(cells))
    except ValueError:
        found = np.array([_number(cell) for cell in cells])
    good = (found >= 0) & (found <= 1)
    if not good.all():
        row = int((~good).argmax())
        where = f"{block.place(row)}, column {column}"
        raise DataError(f"{cells[row].strip()!r} is no probability", where=where, cure="Write 0 to 1.")
    return found


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")
