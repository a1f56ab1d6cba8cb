"""Counts of group x true x predicted, the only thing that an evaluation sends.

Every figure of :mod:`fer_models.metrics` is a function of these counts, and counts of two sites merge by
addition, so a secure sum of counts gives the same figures as all rows in one place::

    >>> here = Counts.of([0, 1], [0, 0], ("neutral", "happiness"))
    >>> there = Counts.of([1], [1], ("neutral", "happiness"))
    >>> (here + there).overall.tolist()
    [[1, 0], [1, 1]]

``Counts.zero`` is neutral and ``+`` is associative and commutative: a commutative monoid.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fer_models.effects import OVERALL, Effect
from fer_models.errors import DataError
from fer_models.people import People

LARGEST = 1 << 53
"""Counts stay at or below this, so that they are exact as float64 and in JSON."""


@dataclass(frozen=True, eq=False)
class Counts:
    """Rows counted by true and predicted class, overall and within the groups of each attribute.

    Attributes
    ----------
    labels : names of the C classes, in the order of the model's outputs.
    groups : attribute -> the names of its G groups, with ``undisclosed`` among them where a row may not
        disclose; empty when there are no attributes.
    overall : int64 (C, C), indexed [true, predicted].
    by_group : attribute -> int64 (G, C, C), indexed [group, true, predicted]; sums to ``overall``.
    people : sums over the persons on the rows, from which intervals over people come; None where nobody is named, and
        rows are taken as independent.

    Raises
    ------
    DataError : a shape, dtype or sum that does not fit, or a count below 0 or above :data:`LARGEST`.
    """

    labels: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]]
    overall: NDArray[np.int64]
    by_group: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    people: People | None = None

    def __post_init__(self) -> None:
        classes = len(self.labels)
        _check(self.overall, (classes, classes), "overall")
        if list(self.groups) != list(self.by_group):
            raise _error("the attributes of names and counts differ", ", ".join(self.groups))
        for attribute, values in self.groups.items():
            _check(self.by_group[attribute], (len(values), classes, classes), attribute)
            if len(set(values)) != len(values):
                raise _error("a group is named twice", attribute)
            if not np.array_equal(self.by_group[attribute].sum(0), self.overall):
                raise _error("the groups do not add up to all rows", attribute)

    @classmethod
    def zero(cls, labels: Sequence[str], groups: Mapping[str, Sequence[str]] | None = None) -> Counts:
        """Return the neutral element: no rows."""
        names = _names(groups)
        classes = len(labels)
        empty = {attribute: np.zeros((len(v), classes, classes), np.int64) for attribute, v in names.items()}
        return cls(tuple(labels), names, np.zeros((classes, classes), np.int64), empty)

    @classmethod
    def of(
        cls,
        true: ArrayLike,
        predicted: ArrayLike,
        labels: Sequence[str],
        groups_columns: Mapping[str, ArrayLike] | None = None,
        group_values: Mapping[str, Sequence[str]] | None = None,
    ) -> Counts:
        """Count rows.

        Parameters
        ----------
        true, predicted : integers (N,), indices into ``labels``.
        labels : names of the classes.
        groups_columns : attribute -> str (N,), the group of each row.
        group_values : attribute -> the names of all groups, equal at all sites; by default those of the
            columns, sorted.

        Raises
        ------
        DataError : columns of different lengths, an index outside the labels, a group without a name.
        """
        rows = len(np.asarray(true))
        return cls.of_parts([rows], true, predicted, labels, groups_columns, group_values)[0]

    @classmethod
    def of_parts(
        cls,
        sizes: Sequence[int],
        true: ArrayLike,
        predicted: ArrayLike,
        labels: Sequence[str],
        groups_columns: Mapping[str, ArrayLike] | None = None,
        group_values: Mapping[str, Sequence[str]] | None = None,
    ) -> list[Counts]:
        """Count rows that stand one part after the other, each part by itself; otherwise as :meth:`of`.

        Parameters
        ----------
        sizes : rows of each part; they sum to N.
        """
        columns = {name: np.asarray(column) for name, column in (groups_columns or {}).items()}
        if group_values is None:
            group_values = {name: np.unique(column).tolist() for name, column in columns.items()}
        names, classes = _names(group_values), len(labels)
        truth, guess = _index(true, classes, "true"), _index(predicted, classes, "predicted")
        if len({len(column) for column in (truth, guess, *columns.values())} | {sum(sizes)}) > 1:
            raise _error("columns have different lengths", "true, predicted, groups")
        if set(columns) != set(names):
            raise _error("the attributes of columns and group names differ", ", ".join(names))
        parts, cell = len(sizes), truth * classes + guess
        part = np.repeat(np.arange(parts), sizes)
        overall = _tally(part * classes**2 + cell, (parts, classes, classes))
        by_group = {}
        for name, values in names.items():
            group = part * len(values) + _code(columns[name], values, name)
            by_group[name] = _tally(group * classes**2 + cell, (parts, len(values), classes, classes))
        each = [{name: table[i] for name, table in by_group.items()} for i in range(parts)]
        return [cls(tuple(labels), names, overall[i], each[i]) for i in range(parts)]

    def effect(self, attribute: str = OVERALL) -> Effect:
        """Return the effect of persons on the rates of an attribute's groups, none where rows are independent."""
        return self.effects.get(attribute, Effect())

    @functools.cached_property
    def effects(self) -> Mapping[str, Effect]:
        """How much less rows say because persons have several, by attribute and of all; empty where they do not."""
        tables = {OVERALL: self.overall[None], **self.by_group}
        return {} if self.people is None else self.people.effects(tables)

    @property
    def rows(self) -> int:
        """How many rows were counted."""
        return int(self.overall.sum())

    def __add__(self, other: Counts) -> Counts:
        if self.labels != other.labels or dict(self.groups) != dict(other.groups):
            raise _error("counts of different labels or groups cannot be added", ", ".join(self.labels))
        by_group = {name: self.by_group[name] + other.by_group[name] for name in self.groups}
        both = None if self.people is None or other.people is None else self.people + other.people
        return Counts(self.labels, self.groups, self.overall + other.overall, by_group, both)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Counts):
            return NotImplemented
        names = (self.labels, list(self.groups.items())) == (other.labels, list(other.groups.items()))
        return names and np.array_equal(self.to_vector(), other.to_vector())

    __hash__ = None  # type: ignore[assignment]

    def to_vector(self) -> NDArray[np.int64]:
        """Return all counts as one int64 array: overall, then attribute by attribute, in C order; without people."""
        return np.concatenate([self.overall.ravel(), *(table.ravel() for table in self.by_group.values())])

    @classmethod
    def from_vector(
        cls, vector: ArrayLike, labels: Sequence[str], groups: Mapping[str, Sequence[str]] | None = None
    ) -> Counts:
        """Rebuild counts from :meth:`to_vector`, or from a sum of such vectors.

        Raises
        ------
        DataError : another length, no integers, a negative count, groups that do not add up.
        """
        flat, names, classes = np.asarray(vector), _names(groups), len(labels)
        squares = 1 + sum(len(values) for values in names.values())
        if flat.dtype.kind not in "iu" or flat.shape != (squares * classes**2,):
            expected = squares * classes**2
            raise _error(f"expected {expected} integers, found {flat.dtype} of shape {flat.shape}", "counts")
        if flat.dtype.kind == "u" and flat.size and int(flat.max()) > LARGEST:
            raise _error(f"a count is above {LARGEST}", "counts")
        tables = flat.astype(np.int64).reshape(squares, classes, classes)
        by_group, start = {}, 1
        for name, values in names.items():
            by_group[name] = tables[start : start + len(values)]
            start += len(values)
        return cls(tuple(labels), names, tables[0], by_group)

    @classmethod
    def told(
        cls,
        vector: ArrayLike,
        people: NDArray[np.int64] | None,
        labels: Sequence[str],
        groups: Mapping[str, Sequence[str]],
    ) -> Counts:
        """Rebuild counts from :meth:`to_vector` and, where they are told, from the vector of the people behind them."""
        found = cls.from_vector(vector, labels, groups)
        return found if people is None else replace(found, people=People.from_vector(people, labels, groups))

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and strings for ``json.dumps``."""
        groups = {name: list(values) for name, values in self.groups.items()}
        people = {} if self.people is None else {"people": self.people.to_vector().tolist()}
        return {"labels": list(self.labels), "groups": groups, "counts": self.to_vector().tolist(), **people}

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Counts:
        """Rebuild counts from :meth:`to_json`, strictly.

        Raises
        ------
        DataError : missing keys, wrong types, or whatever :meth:`from_vector` refuses.
        """
        try:
            labels, groups, counts = facts["labels"], facts["groups"], facts["counts"]
            people = facts.get("people", [])
            words = [*labels, *groups, *(value for values in groups.values() for value in values)]
            plain = all(isinstance(word, str) for word in words) and all(
                type(n) is int for n in (*counts, *people)
            )
            vector, sums = (np.array(each, np.int64) if plain else None for each in (counts, people))
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise _error("these are no saved counts", "counts") from error
        if vector is None or sums is None:
            raise _error("names must be strings and counts integers", "counts")
        return cls.told(vector, sums if len(sums) else None, labels, groups)

    def label_counts(self) -> Counts:
        """Return the counts of a model that is always right: the parity of the labels themselves."""
        tables = {name: _on_diagonal(table.sum(-1)) for name, table in self.by_group.items()}
        return Counts(self.labels, self.groups, _on_diagonal(self.overall.sum(-1)), tables)


def vector_size(labels: Sequence[str], groups: Mapping[str, Sequence[str]]) -> int:
    """Return the length of :meth:`Counts.to_vector`."""
    return len(labels) ** 2 * (1 + sum(len(values) for values in groups.values()))


def _names(groups: Mapping[str, Sequence[str]] | None) -> dict[str, tuple[str, ...]]:
    return {attribute: tuple(values) for attribute, values in (groups or {}).items()}


def _on_diagonal(support: NDArray[np.int64]) -> NDArray[np.int64]:
    return support[..., None] * np.eye(support.shape[-1], dtype=np.int64)


def _tally(cell: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.int64]:
    return np.bincount(cell, minlength=int(np.prod(shape))).reshape(shape).astype(np.int64)


def _index(column: ArrayLike, classes: int, name: str) -> NDArray[np.int64]:
    index = np.asarray(column)
    if index.ndim != 1 or (index.size and index.dtype.kind not in "iu"):
        raise _error(f"expected a row of integers, found {index.dtype} of shape {index.shape}", name)
    if index.size and (int(index.min()) < 0 or int(index.max()) >= classes):
        raise _error(f"an index lies outside the {classes} labels", name)
    return index.astype(np.int64)


def _code(column: NDArray[Any], values: tuple[str, ...], attribute: str) -> NDArray[np.int64]:
    order = {value: code for code, value in enumerate(values)}
    found, inverse = np.unique(column, return_inverse=True)
    unknown = [str(value) for value in found.tolist() if value not in order]
    if unknown:
        raise _error(f"group {unknown[0]!r} is none of {', '.join(values)}", attribute)
    return np.array([order[value] for value in found.tolist()], np.int64)[inverse]


def _check(table: NDArray[np.int64], shape: tuple[int, ...], where: str) -> None:
    if table.dtype != np.int64 or table.shape != shape:
        raise _error(f"expected int64 counts of shape {shape}, found {table.dtype} {table.shape}", where)
    if table.size and (int(table.min()) < 0 or int(table.max()) > LARGEST):
        raise _error(f"a count lies outside 0 to {LARGEST}", where)


def _error(what: str, where: str) -> DataError:
    return DataError(what, where=where, cure="Count all sites with the same labels and groups.")
