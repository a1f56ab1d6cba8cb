"""What a table of samples holds, and what is wrong with it, before anything is trained on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_models.counts import Counts
from fer_models.labels import UNDISCLOSED
from fer_models.parity import SMALLEST, WEAK, parity
from fer_models.samples import PERSON, SPLITS, SUBJECTS, Samples
from fer_models.splits import copies

EXAMPLES = 3
"""Examples kept of each kind of finding."""

TOO_FEW = f"with fewer than {SMALLEST} none is compared"

Table = Mapping[str, Mapping[str, int]]
"""Name -> split -> rows."""


@dataclass(frozen=True)
class Overlap:
    """How often something occurs that should not, with a few examples.

    Attributes
    ----------
    count : occurrences.
    examples : up to :data:`EXAMPLES` of them, each the sources of its rows or the name of a person.
    """

    count: int
    examples: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Finding:
    """One sentence to act on; ``severity`` is ``error`` where results would be wrong, else ``warning``."""

    severity: str
    text: str


@dataclass(frozen=True)
class LabelParity:
    """Parity of the labels themselves between the groups of one attribute.

    The figures are the ``labels`` of :func:`fer_models.parity.parity`, so small groups and undisclosed rows
    are shown and not compared, and a figure is None with fewer than two groups to compare.

    Attributes
    ----------
    rows : group -> its rows.
    rates : group -> class -> share of the group's rows with that label (its selection rate); None where the
        group is too small to show.
    difference, ratio : class -> demographic parity difference and ratio.
    difference_interval, ratio_interval : class -> 95 % interval.
    not_compared : groups that are shown only.
    """

    rows: Mapping[str, int]
    rates: Mapping[str, Mapping[str, float | None]]
    difference: Mapping[str, float | None]
    difference_interval: Mapping[str, list[float] | None]
    ratio: Mapping[str, float | None]
    ratio_interval: Mapping[str, list[float] | None]
    not_compared: tuple[str, ...]


@dataclass(frozen=True)
class Check:
    """Everything that :func:`check` found.

    Attributes
    ----------
    name, rows, size, channels : the set's name, its pictures, their height in pixels and their channels.
    classes : class -> split -> rows.
    groups : attribute -> group -> split -> rows.
    copies_within : split -> rows that repeat an earlier picture of that split.
    copies_across : ``train and test`` -> different pictures that lie in both.
    copies_differing : different pictures that occur with more than one label.
    people : how many different people, or what else ``subject_is`` says; None where subjects are unknown.
    people_across : ``train and test`` -> people, or these, with rows in both.
    label_parity : attribute -> parity of the labels.
    skipped : reason -> rows or files left out by the reader or a split.
    findings : errors first.
    subject_is : of :data:`fer_models.samples.SUBJECTS`.
    notes : what to know of its columns.
    """

    name: str
    rows: int
    size: int
    channels: int
    classes: Table
    groups: Mapping[str, Table]
    copies_within: Mapping[str, Overlap]
    copies_across: Mapping[str, Overlap]
    copies_differing: Overlap
    people: int | None
    people_across: Mapping[str, Overlap]
    label_parity: Mapping[str, LabelParity]
    skipped: Mapping[str, int]
    findings: tuple[Finding, ...] = field(default=())
    subject_is: str = PERSON
    notes: tuple[str, ...] = ()

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits with rows, in the usual order."""
        return tuple(split for split in SPLITS if any(row[split] for row in self.classes.values()))

    def to_json(self) -> dict[str, Any]:
        """Return dictionaries, tuples, lists, strings and finite numbers, ready for ``json.dumps``."""
        return asdict(self)


def check(samples: Samples) -> Check:
    """Count classes, groups, copies and people by split, and say what is wrong.

    Reads every picture once, for the copies.
    """
    same = copies(samples)
    names = np.array(samples.labels, np.str_)[samples.label]
    found = Check(
        name=samples.name,
        rows=len(samples),
        size=samples.size,
        channels=samples.channels,
        classes=_by_split(names, samples.split, samples.labels),
        groups={k: _by_split(v, samples.split, np.unique(v).tolist()) for k, v in samples.groups.items()},
        copies_within=_within(samples, same),
        copies_across=_across(samples, same, samples.source),
        copies_differing=_differing(samples, same),
        people=None if samples.subject is None else len(np.unique(samples.subject)),
        people_across={} if samples.subject is None else _across(samples, samples.subject, samples.subject),
        label_parity={attribute: _label_parity(samples, attribute) for attribute in samples.groups},
        skipped=dict(samples.skipped),
        subject_is=samples.subject_is,
        notes=samples.notes,
    )
    return Check(**{**vars(found), "findings": findings(found)})


def _by_split(column: NDArray[np.str_], split: NDArray[np.str_], values: Sequence[str]) -> Table:
    return {
        value: {name: int(((column == value) & (split == name)).sum()) for name in SPLITS} for value in values
    }


def _within(samples: Samples, same: NDArray[np.intp]) -> dict[str, Overlap]:
    result = {}
    for split in SPLITS:
        rows = samples.rows(split)
        keys, times = np.unique(same[rows], return_counts=True)
        repeated = keys[times > 1]
        shown = tuple(_sources(samples, rows[same[rows] == key]) for key in repeated[:EXAMPLES])
        result[split] = Overlap(int((times - 1).sum()), shown)
    return result


def _across(samples: Samples, key: NDArray[Any], shown: NDArray[np.str_]) -> dict[str, Overlap]:
    """Count values of ``key`` that occur in two splits; ``shown`` of the first row in each is an example."""
    result = {}
    for one, other in combinations(SPLITS, 2):
        here, there = samples.rows(one), samples.rows(other)
        both, first, second = np.intersect1d(key[here], key[there], return_indices=True)
        pairs = zip(shown[here[first[:EXAMPLES]]], shown[there[second[:EXAMPLES]]], strict=True)
        examples = tuple(tuple(dict.fromkeys((str(a), str(b)))) for a, b in pairs)
        result[f"{one} and {other}"] = Overlap(len(both), examples)
    return result


def _differing(samples: Samples, same: NDArray[np.intp]) -> Overlap:
    keys = np.unique(same[samples.label != samples.label[same]])
    shown = tuple(_sources(samples, np.flatnonzero(same == key)) for key in keys[:EXAMPLES])
    return Overlap(len(keys), shown)


def _sources(samples: Samples, rows: NDArray[np.intp]) -> tuple[str, ...]:
    return tuple(str(source) for source in samples.source[rows[:EXAMPLES]])


def _label_parity(samples: Samples, attribute: str) -> LabelParity:
    column = samples.groups[attribute]
    counts = Counts.of(samples.label, samples.label, samples.labels, {attribute: column})
    figures = parity(counts, attribute)
    per_class, groups = figures["labels"]["per_class"], figures["groups"]

    def figure(key: str) -> dict[str, Any]:
        return {name: values[key] for name, values in per_class.items()}

    return LabelParity(
        rows={value: row["n"] for value, row in groups.items()},
        rates={value: row["label_rate"] for value, row in groups.items()},
        difference=figure("demographic_parity_difference"),
        difference_interval=figure("demographic_parity_difference_interval"),
        ratio=figure("demographic_parity_ratio"),
        ratio_interval=figure("demographic_parity_ratio_interval"),
        not_compared=tuple(value for value, row in groups.items() if not row["compared"]),
    )


def findings(found: Check) -> tuple[Finding, ...]:
    """Return what a check found as sentences, errors first."""
    errors = [
        f"pictures in both {pair}: {_told(overlap)}"
        for pair, overlap in found.copies_across.items()
        if overlap.count
    ]
    errors += [
        f"{SUBJECTS[found.subject_is]} in both {pair}: {_told(overlap)}"
        for pair, overlap in found.people_across.items()
        if overlap.count
    ]
    warnings = [*_copy_warnings(found), *_few(found), *_unequal_labels(found)]
    if found.people is None or found.subject_is != PERSON:
        warnings.append("people are unknown: one person may lie in several splits and sites")
    return (*(Finding("error", text) for text in errors), *(Finding("warning", text) for text in warnings))


def _told(overlap: Overlap) -> str:
    return f"{overlap.count}, such as {' and '.join(overlap.examples[0])}"


def _copy_warnings(found: Check) -> list[str]:
    texts = [
        f"repeated pictures within {split}: {_told(overlap)}"
        for split, overlap in found.copies_within.items()
        if overlap.count
    ]
    differing = found.copies_differing
    if differing.count:
        texts.append(f"pictures with several labels: {_told(differing)}")
    return texts


def _few(found: Check) -> list[str]:
    """Name classes nobody has, splits too small to judge a class, and groups too small to compare."""
    absent = [name for name, row in found.classes.items() if not sum(row.values())]
    texts = [f"no picture shows {', '.join(absent)}"] if absent else []
    for split in found.splits:
        few = _below({name: row[split] for name, row in found.classes.items() if name not in absent})
        if few:
            cost = "few to learn from" if split == "train" else "wide intervals"
            texts.append(f"{split} has fewer than {WEAK} pictures of {few}: {cost}")
    for attribute, table in found.groups.items():
        few = _below({value: sum(row.values()) for value, row in table.items() if value != UNDISCLOSED})
        if few:
            texts.append(f"groups of {attribute} with fewer than {WEAK} pictures: {few}; {TOO_FEW}")
    return texts


def _below(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({n})" for name, n in sizes.items() if n < WEAK)


def _unequal_labels(found: Check) -> list[str]:
    """Name the classes whose label rates differ between groups beyond chance, by attribute."""
    texts = []
    for attribute, figures in found.label_parity.items():
        limits = {name: pair[0] for name, pair in figures.difference_interval.items() if pair}
        unequal = [f"{name} by {figures.difference[name]:.3f}" for name, low in limits.items() if low > 0]
        if unequal:
            texts.append(f"labels differ between groups of {attribute}: {', '.join(unequal)}")
    return texts
