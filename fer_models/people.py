"""What the intervals over people need to know of the people behind counts: sums over persons that add up over sites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fer_models.counts import Counts
from fer_models.effects import OVERALL, PersonCounts, Sums
from fer_models.errors import DataError

CURE = "Run the same version of FedFER everywhere."


@dataclass(frozen=True, eq=False)
class People:
    """Sums over the persons that some rows show, of all rows and of every group of every attribute.

    They are whole numbers and merge by addition, as :class:`fer_models.counts.Counts` do. A person whom two parts
    know counts as two: where that happens, intervals are somewhat narrow.

    Attributes
    ----------
    tables : :data:`fer_models.effects.OVERALL` and every attribute, in the order of the counts -> its sums.
    """

    tables: Mapping[str, Sums]

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
        predicted: NDArray[np.int64],
        labels: Sequence[str],
        groups_columns: Mapping[str, NDArray[np.str_]],
        group_values: Mapping[str, Sequence[str]],
    ) -> People:
        """Add up over the persons of some rows.

        Parameters
        ----------
        person : (N,), who is on each row.
        true, predicted, labels, groups_columns, group_values : as for :meth:`fer_models.counts.Counts.of`, which
            refuses what does not fit.
        """
        who = np.unique(person, return_inverse=True)[1]
        codes = {OVERALL: np.zeros(len(who), np.int64)}
        for name, values in group_values.items():
            place = {value: code for code, value in enumerate(values)}
            codes[name] = np.array([place[value] for value in groups_columns[name].tolist()], np.int64)
        found = {}
        for name, group in codes.items():
            own = len(group_values.get(name, (OVERALL,)))
            persons = PersonCounts(own, len(labels))
            persons.add(who, group, true.astype(np.int64), predicted)
            every = np.arange(len(labels))
            found[name] = persons.sums(list(range(own)), every, overall=name == OVERALL)
        return cls(found)

    def __add__(self, other: People) -> People:
        pairs = {name: (own, other.tables[name]) for name, own in self.tables.items()}
        return People({n: Sums(a.moments + b.moments, a.joint + b.joint) for n, (a, b) in pairs.items()})

    def to_vector(self) -> NDArray[np.int64]:
        """Return all sums as one int64 array (:func:`people_size`,); of what is symmetric, one half."""
        parts = []
        for own in self.tables.values():
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
        found, start = cls.zero(labels, groups), 0
        if vector.shape != (people_size(labels, groups),) or (vector.size and vector.min() < 0):
            raise DataError("these are no sums over people", where="people", cure=CURE)
        for own in found.tables.values():
            stop = start + own.moments.size
            own.moments[:] = vector[start:stop].reshape(own.moments.shape)
            start, upper = stop, np.triu_indices(own.joint.shape[-1])
            for each in own.joint:
                stop = start + len(upper[0])
                each[upper] = vector[start:stop]
                each.T[upper] = vector[start:stop]
                start = stop
        return found

    def behind(self, counts: Counts) -> Counts:
        """Return counts that know of the people behind them, so that all that is made of them is over people.

        Where every person has one row, rows are independent and the counts stay as they are.
        """
        if self.tables[OVERALL].moments[0, 0, 0] == counts.rows:
            return counts
        tables = {OVERALL: counts.overall[None], **counts.by_group}
        return replace(counts, effects={name: own.effect(tables[name]) for name, own in self.tables.items()})


def people_size(labels: Sequence[str], groups: Mapping[str, Sequence[str]]) -> int:
    """Return the length of :meth:`People.to_vector`."""
    return len(People.zero(labels, groups).to_vector())
