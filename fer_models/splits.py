"""Splits that no person and no pixel-identical picture crosses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fer_models.errors import ConfigError, DataError
from fer_models.samples import SPLITS, SUBJECTS, Samples

WAYS = ("auto", "official", "holdout")
"""Ways to come by a test part: the data set's own, one that is held out, or the own one where there is one."""

BLOCK = 4096
"""Pictures that are looked at together."""

COPIES = ("leaked", "all", "keep")
"""Which pixel-identical pictures are left out: those of a test picture in other splits, and repeated ones within a test
part that is held out; all but one of each; or none."""

Rows = NDArray[np.intp]
Shares = NDArray[np.float64]


def copies(samples: Samples) -> Rows:
    """Return, for each row, the first row with the same pixels; shape (N,).

    One pass over the pictures and one sum a row, so that a mapped store of any size can be searched; rows with equal
    sums are compared pixel by pixel.
    """
    sums = _sums(samples.pictures)
    same = np.arange(len(samples))
    order = np.argsort(sums, kind="stable")
    starts = np.flatnonzero(np.diff(sums[order], prepend=np.uint64(0)) != 0)
    for group in np.split(order, starts):
        seen: list[int] = []
        for row in group.tolist() if len(group) > 1 else ():
            picture = samples.pictures[row]
            twin = next((other for other in seen if np.array_equal(samples.pictures[other], picture)), None)
            if twin is None:
                seen.append(row)
            else:
                same[row] = twin
    return same


def _sums(pictures: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return one number a picture (N,), equal for equal pictures: a sum of its words of eight bytes modulo 2**64, each
    times an odd number of its own.
    """
    length = int(np.prod(pictures.shape[1:]))
    words = -(-length // 8)
    with np.errstate(over="ignore"):
        factors = np.cumprod(np.full(words, 0x9E3779B97F4A7C15, np.uint64))
    sums = np.zeros(len(pictures), np.uint64)
    for start in range(0, len(pictures), BLOCK):
        block = np.zeros((len(pictures[start : start + BLOCK]), 8 * words), np.uint8)
        block[:, :length] = pictures[start : start + BLOCK].reshape(len(block), length)
        sums[start : start + BLOCK] = block.view(np.uint64) @ factors
    return sums


def units(samples: Samples, same: Rows | None = None) -> Rows:
    """Return the unit of each row, shape (N,), numbered 0, 1, ... in the order of their first rows.

    Two rows are of one unit when they show the same person or the same pixels, or when a chain of such rows
    joins them: the connected components of both relations. Whoever splits by unit separates no person and
    no copies.

    Parameters
    ----------
    same : what :func:`copies` returned, where the caller has it.
    """
    n = len(samples)
    same = copies(samples) if same is None else same
    rows, ends, nodes = np.arange(n), same, n
    if samples.subject is not None:
        people, person = np.unique(samples.subject, return_inverse=True)
        rows, ends, nodes = np.tile(rows, 2), np.concatenate([ends, n + person]), n + len(people)
    graph = coo_array((np.ones(len(rows), np.int8), (rows, ends)), shape=(nodes, nodes))
    _, component = connected_components(graph, directed=False)
    _, first, unit = np.unique(component[:n], return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[unit]


def hold_out(
    samples: Samples,
    fraction: float,
    *,
    seed: int,
    source: str = "train",
    target: str = "test",
    drop_copies_in_target: bool = True,
) -> Samples:
    """Move about ``fraction`` of the rows of one split to another, unit by unit.

    Classes keep their shares: units are drawn within the strata of their most common label, each stratum
    until it is as near to ``fraction`` of its rows as whole units allow. Units with rows in both splits
    already move first, so that afterwards no person and no copy lies on both sides; units with rows in a
    third split stay where they are.

    Parameters
    ----------
    fraction : share of the rows of ``source``, above 0 and below 1; where copies are dropped, share of its
        different pictures.
    drop_copies_in_target : keep only the first of identical pictures in ``target``, so that none counts
        twice; the others leave the table and are counted in ``skipped``.
    seed : of the draw; the same seed and samples give the same split.

    Raises
    ------
    ConfigError : the fraction or a split name is impossible.
    DataError : nothing can be moved, or nothing would be left.
    """
    _possible(fraction, source, target)
    same = copies(samples)
    share = np.zeros(len(samples))
    share[samples.rows(source)] = fraction
    if drop_copies_in_target:
        share[_surplus(same, samples.rows(source))] = 0.0
    rng = np.random.default_rng(seed)
    moved = _drawn_rows(samples, units(samples, same), share, rng, (source, target))
    if not moved.any() or not (~moved & (samples.split == source)).any():
        raise DataError(
            f"{fraction:g} of {source} cannot be held out without an empty split",
            where=samples.name,
            cure="Give more pictures or people, or another fraction.",
        )
    held = replace(samples, split=np.where(moved, target, samples.split))
    return _without_copies(held, same, target) if drop_copies_in_target else held


def _possible(fraction: float, source: str, target: str) -> None:
    if not 0 < fraction < 1:
        raise ConfigError(
            f"fraction is {fraction:g}", where="fraction", cure="Use a number above 0 and below 1."
        )
    if source not in SPLITS or target not in SPLITS or source == target:
        cure = f"Use two of {', '.join(SPLITS)}."
        raise ConfigError(f"cannot move rows from {source!r} to {target!r}", where="hold_out", cure=cure)


def _drawn_rows(
    samples: Samples,
    unit: Rows,
    share: NDArray[np.float64],
    rng: np.random.Generator,
    between: tuple[str, str],
) -> NDArray[np.bool_]:
    """Return which rows move, bool (N,); ``share`` is what each row adds to the quota of its stratum."""
    source, target = (samples.split == split for split in between)
    inside, outside = np.bincount(unit, source), np.bincount(unit, ~source)
    forced = (inside > 0) & (np.bincount(unit, target) > 0)
    free = (inside > 0) & (outside == 0)
    size = np.bincount(unit, share > 0)
    stratum = _most_common_label(samples, unit)
    quota = np.bincount(stratum[unit], share, minlength=len(samples.labels))
    quota -= np.bincount(stratum, size * forced, minlength=len(samples.labels))
    chosen = forced.copy()
    left_over = 0.0
    # Rare strata first: what whole units leave over or short goes to the next, larger stratum.
    for label in np.argsort(np.bincount(stratum, size, minlength=len(samples.labels)), kind="stable"):
        order = rng.permutation(np.flatnonzero((stratum == label) & free))
        taken = np.concatenate([[0.0], np.cumsum(size[order])])
        left_over += quota[label]
        count = int(np.abs(taken - left_over).argmin())
        chosen[order[:count]] = True
        left_over -= taken[count]
    return chosen[unit] & source


def _most_common_label(samples: Samples, unit: Rows) -> Rows:
    """Return the most common label of each unit; of equally common ones the first."""
    counts = np.zeros((int(unit.max(initial=-1)) + 1, len(samples.labels)), np.int64)
    np.add.at(counts, (unit, samples.label), 1)
    return counts.argmax(1)


def _surplus(same: Rows, rows: Rows) -> Rows:
    """Return those of ``rows`` that show the same pixels as an earlier one of them."""
    _, first = np.unique(same[rows], return_index=True)
    return np.delete(rows, first)


def _without_copies(samples: Samples, same: Rows, split: str) -> Samples:
    """Keep only the first of identical pictures within one split."""
    surplus = _surplus(same, samples.rows(split))
    rows = np.zeros(len(samples), bool)
    rows[surplus] = True
    return _without(samples, rows, f"pixel-identical copy within {split}")


def divided(samples: Samples, way: str, share: float, seed: int, copies_out: str = "leaked") -> Samples:
    """Give every row its split, without a person or a copy on both sides.

    The official test part stays as it is; training rows that are copies of a test picture are left out.

    Parameters
    ----------
    way : one of :data:`WAYS`.
    share : of the training rows that is held out, where a test part is.
    copies_out : one of :data:`COPIES`.

    Raises
    ------
    ConfigError : an unknown way, or a share that is none.
    DataError : there is no official test part, or no room for one that is held out.
    """
    if copies_out not in COPIES:
        cure = f"Use one of {', '.join(COPIES)}."
        raise ConfigError(f"copies is {copies_out!r}", where="data.copies", cure=cure)
    if not takes_official(samples, way):
        if not 0 < share < 1:
            raise ConfigError(
                f"a test share of {share}", where="data.test", cure="Give a number above 0 and below 1."
            )
        found = hold_out(samples, share, seed=seed, drop_copies_in_target=copies_out != "keep")
        return _each_once(found, copies(found)) if copies_out == "all" else found
    if not len(samples.rows("test")):
        raise DataError("the data set ships no test part", where=samples.name, cure="Use data.split=holdout.")
    if copies_out == "keep":
        return samples
    same = copies(samples)
    if copies_out == "all":
        return _each_once(samples, same)
    leaked = np.isin(same, same[samples.rows("test")]) & (samples.split != "test")
    return _without(samples, leaked, "copy of a test picture")


def _each_once(samples: Samples, same: Rows) -> Samples:
    """Keep one of identical pictures: that of the test part, else that of validation, else the first."""
    rank = np.array([SPLITS[::-1].index(split) for split in samples.split.tolist()])
    order = np.lexsort((np.arange(len(samples)), rank))
    _, first = np.unique(same[order], return_index=True)
    repeated = np.ones(len(samples), bool)
    repeated[order[first]] = False
    return _without(samples, repeated, "pixel-identical copy")


def _without(samples: Samples, rows: NDArray[np.bool_], reason: str) -> Samples:
    """Leave rows out and count them."""
    if not rows.any():
        return samples
    skipped = {**samples.skipped, reason: samples.skipped.get(reason, 0) + int(rows.sum())}
    return replace(samples.take(np.flatnonzero(~rows)), skipped=skipped)


def leaks(samples: Samples, *, pictures: bool) -> list[str]:
    """Say which people, or clips, lie in the test part and in another, a sentence each; none is best.

    Parameters
    ----------
    pictures : also look for pixel-identical ones, which :func:`divided` has left out unless it was told to keep them.
    """
    others = samples.split != "test"
    columns: dict[str, NDArray] = {"pictures": copies(samples)} if pictures else {}
    if samples.subject is not None:
        columns[SUBJECTS[samples.subject_is]] = samples.subject
    found = []
    for what, column in columns.items():
        both = np.intersect1d(column[others], column[~others])
        if len(both):
            name = samples.source[both[0]] if what == "pictures" else both[0]
            found.append(
                f"{len(both)} {what} lie in test and in another part too, such as {name}: what is measured there is "
                "too good. Correct the split, or use data.split=holdout"
            )
    return found


def takes_official(samples: Samples, way: str) -> bool:
    """Whether the data set's own test part is used, and none is drawn from its training rows.

    Raises
    ------
    ConfigError : an unknown way.
    """
    if way not in WAYS:
        raise ConfigError(f"unknown split {way!r}", where="data.split", cure="Use auto, official or holdout.")
    return way == "official" or (way == "auto" and len(samples.rows("test")) > 0)
