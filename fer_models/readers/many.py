"""Several data sets as one table, each a site if you divide by the column ``set``.

This is the federation that nobody had to make up: sets differ in people, cameras, classes and labels. Their groups
have common names already; here their classes get one list, their people names of their own, and a set that ships no
test part gets one of whole people.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_models.errors import ConfigError, DataError
from fer_models.labels import UNDISCLOSED, in_order
from fer_models.readers.listing import require_choice
from fer_models.readers.tables import Progress
from fer_models.samples import MAPPED_ABOVE, Samples, picture_store
from fer_models.splits import hold_out
from fer_models.stores import Cache

SET = "set"
"""The column that says which data set a row is of."""

NOT_COMMON = "class that not every set has"

_KEYS = ("reader", "root", "name", "options")


def read_many(
    root: Path | str,
    *,
    sets: Sequence[Mapping[str, Any]] = (),
    classes: str = "all",
    test: float = 0.2,
    seed: int = 0,
    size: int = 48,
    channels: int = 1,
    mapped_above: int = MAPPED_ABOVE,
    progress: Progress | None = None,
    cache: Cache | None = None,
) -> Samples:
    """Read several data sets and join their rows.

    Parameters
    ----------
    root : folder that the sets' own roots are relative to.
    sets : one mapping a set: ``reader``, its name; ``root``, its folder; ``options`` of the reader; and ``name``, which
        the column ``set`` shows, the reader's where none is given.
    classes : ``all``: those that some set has; for the rows of another set such a class is not known, and training
        leaves it out there. ``common``: those that every set has; pictures of others are left out and counted.
    test : share of whole people, or of pictures where people are not known, that is held out of a set without a test
        part; ``seed`` draws it.
    size, channels, mapped_above, progress : see :class:`fer_models.readers.pictures.PictureOptions`.
    cache : where the decoded pictures of each set are kept.

    Raises
    ------
    ConfigError : no sets, an unknown key, or a name twice.
    DataError : a set cannot be read, has pictures of another size, or no class is common.
    """
    require_choice("classes", classes, ("common", "all"))
    shared = {"size": size, "channels": channels, "mapped_above": mapped_above}
    given = {"progress": progress, "cache": cache}
    read = {name: _read(Path(root), facts, shared, given) for name, facts in _named(sets).items()}
    parts = {name: _with_test(part, test, seed) for name, part in read.items()}
    for name, part in parts.items():
        if (part.size, part.channels) != (size, channels):
            found = f"{part.size} x {part.size} pixels in {part.channels} channels"
            cure = "Set data.size and data.channels to what every set can give; FER2013 is 48 and gray."
            raise DataError(f"{name} has {found}", where=f"sets.{name}", cure=cure)
    labels = _classes(parts, classes)
    return _joined({name: _only(part, labels) for name, part in parts.items()}, labels, mapped_above)


def _named(sets: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    cure = "Write data.options.sets=[{reader: jaffe, root: jaffe}, {reader: kdef, root: KDEF}]."
    if len(sets) < 2:
        raise ConfigError(f"{len(sets)} data sets", where="sets", cure=cure)
    named: dict[str, Mapping[str, Any]] = {}
    for facts in sets:
        strange = [key for key in facts if key not in _KEYS]
        if strange or not facts.get("reader") or not facts.get("root"):
            what = f"unknown key {strange[0]!r}" if strange else "a set without a reader or a root"
            raise ConfigError(what, where="sets", cure=cure)
        name = str(facts.get("name") or facts["reader"])
        if name in named or facts["reader"] == "many":
            cure = "Give each a name of its own, such as {reader: imagefolder, root: ward, name: ward}."
            raise ConfigError(f"two sets are called {name!r}, or one is many", where="sets", cure=cure)
        named[name] = facts
    return named


def _read(
    root: Path, facts: Mapping[str, Any], shared: Mapping[str, Any], given: Mapping[str, Any]
) -> Samples:
    from fer_models.readers import options_of, read

    reader = str(facts["reader"])
    known = options_of(reader)
    options = {key: value for key, value in shared.items() if key in known}
    own = dict(facts.get("options") or {})
    return read(reader, root / Path(facts["root"]).expanduser(), **(options | own), **given)


def _with_test(part: Samples, share: float, seed: int) -> Samples:
    return part if len(part.rows("test")) else hold_out(part, share, seed=seed)


def _classes(parts: Mapping[str, Samples], classes: str) -> tuple[str, ...]:
    spaces = [{part.labels[label] for label in np.unique(part.label)} for part in parts.values()]
    found = in_order(list(set.intersection(*spaces) if classes == "common" else set.union(*spaces)))
    if not found:
        told = "; ".join(f"{name}: {', '.join(part.labels)}" for name, part in parts.items())
        raise DataError(f"no class is common to all sets ({told})", where="sets", cure="Set classes=all.")
    return found


def _only(part: Samples, labels: tuple[str, ...]) -> Samples:
    """The rows of the classes of the joined table; votes for other classes are dropped with them."""
    names = np.array(part.labels)[part.label]
    kept = np.flatnonzero(np.isin(names, labels))
    votes = None
    if part.votes is not None:
        votes = np.zeros((len(part), len(labels)), np.float32)
        for index, name in enumerate(labels):
            if name in part.labels:
                votes[:, index] = part.votes[:, part.labels.index(name)]
    skipped = dict(Counter(part.skipped) + Counter({NOT_COMMON: len(part) - len(kept)}))
    recoded = np.array([labels.index(name) if name in labels else 0 for name in names], np.int16)
    joined = replace(part, label=recoded, labels=labels, votes=votes, skipped=skipped).take(kept)
    told = np.isin(labels, part.labels)
    return joined if told.all() else replace(joined, known=np.tile(told, (len(kept), 1)))


def _joined(parts: Mapping[str, Samples], labels: tuple[str, ...], mapped_above: int) -> Samples:
    first = next(iter(parts.values()))
    total = sum(map(len, parts.values()))
    store = picture_store(total, first.size, first.channels, mapped_above=mapped_above)
    start = 0
    for part in parts.values():
        store[start : start + len(part)] = part.pictures
        start += len(part)
    columns = {column: None for part in parts.values() for column in part.groups}
    groups = {column: _all(parts, lambda part, c=column: _group(part, c)) for column in columns}
    groups[SET] = np.concatenate([np.full(len(part), name) for name, part in parts.items()])
    return Samples(
        pictures=store,
        label=np.concatenate([part.label for part in parts.values()]),
        labels=labels,
        source=np.concatenate([_prefixed(name, part.source) for name, part in parts.items()]),
        split=np.concatenate([part.split for part in parts.values()]),
        votes=_votes(parts),
        known=_known(parts),
        subject=np.concatenate([_people(name, part) for name, part in parts.items()]),
        groups=groups,
        skipped={f"{name}: {why}": n for name, part in parts.items() for why, n in part.skipped.items()},
        name=" and ".join(parts),
        subject_is=_kind(parts),
        notes=tuple(f"{name}: {note}" for name, part in parts.items() for note in part.notes),
    )


def _kind(parts: Mapping[str, Samples]) -> str:
    """What a subject is; a set that knows none makes each of its pictures one."""
    kinds = {part.subject_is if part.subject is not None else "" for part in parts.values()}
    return kinds.pop() if len(kinds) == 1 and kinds != {""} else "unit"


def _all(parts: Mapping[str, Samples], column: Any) -> NDArray[np.str_]:
    return np.concatenate([column(part) for part in parts.values()])


def _group(part: Samples, column: str) -> NDArray[np.str_]:
    return part.groups[column] if column in part.groups else np.full(len(part), UNDISCLOSED)


def _prefixed(name: str, column: NDArray[np.str_]) -> NDArray[np.str_]:
    return np.array([f"{name}/{value}" for value in column.tolist()], np.str_)


def _people(name: str, part: Samples) -> NDArray[np.str_]:
    """People of different sets are different people; a row of a set that knows none is a person of its own."""
    return _prefixed(name, part.source if part.subject is None else part.subject)


def _known(parts: Mapping[str, Samples]) -> NDArray[np.bool_] | None:
    """Which classes each row's set tells apart; None where every set knows all."""
    told = [
        np.ones((len(part), len(part.labels)), bool) if part.known is None else part.known
        for part in parts.values()
    ]
    return None if all(each.all() for each in told) else np.concatenate(told)


def _votes(parts: Mapping[str, Samples]) -> NDArray[np.float32] | None:
    if all(part.votes is None for part in parts.values()):
        return None
    everything = [replace(part, known=None) for part in parts.values()]
    return np.concatenate([part.targets(np.arange(len(part))) for part in everything])
