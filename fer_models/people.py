"""What intervals over people need to know of the people behind counts: sums over persons that add up over sites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fer_models.effects import OVERALL, Effect, PersonCounts, Sums
from fer_models.errors import DataError

Tables = Mapping[str, NDArray[np.int64]]
"""Attribute -> counts (G, C, C), :data:`fer_models.effects.OVERALL` -> those of all rows (1, C, C)."""


@dataclass(frozen=True, eq=False)
class People:
    """Sums over the persons that some rows show, of all rows and of every group of every attribute.

    They are whole numbers and merge by addition, as counts do. A person whom two sites know counts as two: where that
    happens, intervals are somewhat narrow.

    Attributes
    ----------
    sums : :data:`fer_models.effects.OVERALL` and every attribute, in the order of the counts.
    repeats : how many models judged every row, where the counts are the sum over all of them.
    """

    sums: Mapping[str, Sums]
    repeats: int = 1

    @classmethod
    def zero(cls, labels: Sequence[str], groups: Mapping[str, Sequence[str]]) -> People:
        """Return the sums over nobody."""
        sizes = {OVERALL: 1, **{name: len(values) for name, values in groups.items()}}
        return cls({name: Sums.zero(n, len(labels), overall=name == OVERALL) for name, n in sizes.items()})

    @classmethod
    def of(
        cls,
        person: NDArray[np.str_] | NDArray[np.int64],
        true: NDArray[np.integer],
        predicted: NDArray[np.integer],
        classes: int,
        groups_columns: Mapping[str, NDArray[np.str_]],
        group_values: Mapping[str, Sequence[str]],
    ) -> People:
        """Add up over the persons of some rows.

        Parameters
        ----------
        person : (N,), who is on each row.
        true, predicted, groups_columns, group_values : as for :meth:`fer_models.counts.Counts.of`, which refuses what
            does not fit.
        classes : C.
        """
        who = np.unique(person, return_inverse=True)[1]
        codes = {OVERALL: np.zeros(len(who), np.int64)}
        for name, values in group_values.items():
            place = {value: code for code, value in enumerate(values)}
            codes[name] = np.array([place[value] for value in groups_columns[name].tolist()], np.int64)
        found = {}
        for name, group in codes.items():
            sizes = len(group_values.get(name, (OVERALL,)))
            persons = PersonCounts(sizes, classes)
            persons.add(who, group, true.astype(np.int64), predicted.astype(np.int64))
            found[name] = persons.sums(list(range(sizes)), np.arange(classes), overall=name == OVERALL)
        return cls(found)

    def __add__(self, other: People) -> People:
        pairs = {name: (own, other.sums[name]) for name, own in self.sums.items()}
        both = {n: Sums(a.moments + b.moments, a.joint + b.joint) for n, (a, b) in pairs.items()}
        return People(both, self.repeats)

    def effects(self, tables: Tables) -> dict[str, Effect]:
        """Return how much less the rows of tables say, by attribute; nothing where every person has one row."""
        if (
            OVERALL in self.sums
            and self.sums[OVERALL].moments[0, 0, 0] * self.repeats == tables[OVERALL].sum()
        ):
            return {}
        return {name: own.effect(tables[name], self.repeats) for name, own in self.sums.items()}

    def of_groups(self, attribute: str, places: Sequence[int]) -> People:
        """Return the people of some groups of one attribute; of all rows together nothing is known then."""
        own = self.sums[attribute]
        return People({attribute: Sums(own.moments[:, list(places)], own.joint)}, self.repeats)

    def by_group(self, groups: Mapping[str, Sequence[str]]) -> dict[str, dict[str, int]]:
        """Return how many persons each group has: attribute -> group -> persons, in the order of the counts' groups."""
        known = {name: own.moments[0, :, 0].tolist() for name, own in self.sums.items() if name != OVERALL}
        return {name: dict(zip(groups[name], found, strict=True)) for name, found in known.items()}

    @property
    def overall(self) -> People:
        """The people of all rows, by no attribute."""
        return People({OVERALL: self.sums[OVERALL]}, self.repeats)

    def to_vector(self) -> NDArray[np.int64]:
        """Return all sums as one int64 array (:func:`people_size`,); of what is symmetric, one half."""
        parts = []
        for own in self.sums.values():
            upper = np.triu_indices(own.joint.shape[-1])
            parts += [own.moments.ravel(), *(each[upper] for each in own.joint)]
        return np.concatenate(parts)

    @classmethod
    def from_vector(
        cls, vector: NDArray[np.int64], labels: Sequence[str], groups: Mapping[str, Sequence[str]]
    ) -> People:
        """Rebuild sums from :meth:`to_vector`, or from a sum of such vectors.

        Raises
        ------
        DataError : another length, or a number below 0.
        """
        if vector.shape != (people_size(labels, groups),) or (vector.size and int(vector.min()) < 0):
            cure = "Run the same version of FedFER everywhere."
            raise DataError("these are no sums over people", where="people", cure=cure)
        found, start = cls.zero(labels, groups), 0
        for own in found.sums.values():
            stop = start + own.moments.size
            own.moments[:] = vector[start:stop].reshape(own.moments.shape)
            start, upper = stop, np.triu_indices(own.joint.shape[-1])
            for each in own.joint:
                stop = start + len(upper[0])
                each[upper] = each.T[upper] = vector[start:stop]
                start = stop
        return found


def people_size(labels: Sequence[str], groups: Mapping[str, Sequence[str]]) -> int:
    """Return the length of :meth:`People.to_vector`."""
    return len(People.zero(labels, groups).to_vector())
