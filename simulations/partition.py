"""Who holds what: every row of a table gets one site, and nobody's pictures are divided."""

from __future__ import annotations

import functools
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_models.errors import DataError, PartitionError, RunFolderError
from fer_models.samples import SPLITS, Samples
from simulations.dealing import Counts, Rows, Weights, deal, keep_minimum

KINDS = ("iid", "label", "quantity", "group", "column")
"""Kinds of partitions."""

STREAM = 101
"""Keeps the random numbers of a partition apart from others with the same seed."""


@dataclass(frozen=True)
class PartitionSpec:
    """How rows are divided into sites.

    Attributes
    ----------
    kind : ``iid``: equal sites, at random. ``label``: each class is divided in Dirichlet shares.
        ``quantity``: the sizes of the sites are Dirichlet shares. ``group``: sites have a home group.
        ``column``: a natural column decides.
    sites : how many.
    alpha : concentration of the Dirichlet distribution for ``label`` and ``quantity``; small is uneven.
    attribute : for ``group`` a group attribute; for ``column`` a group attribute, ``source`` (the folder or
        file that rows came from) or ``subject`` (clusters of people).
    purity : for ``group``, the share of each group that goes to sites of its own; the rest is spread over
        all sites. 1 means sites of one group only.
    mixed : for ``group``, how many sites have no home group and hold rows of all groups at random.
    minimum : training rows that every site gets at least.

    Raises
    ------
    PartitionError : a value out of range.
    """

    kind: str = "label"
    sites: int = 10
    alpha: float = 0.5
    attribute: str = ""
    purity: float = 1.0
    minimum: int = 10
    mixed: int = 0

    def __post_init__(self) -> None:
        _require(self.kind in KINDS, f"unknown kind {self.kind!r}", "kind", f"Use one of {', '.join(KINDS)}.")
        _require(self.sites >= 1, f"{self.sites} sites", "sites", "Ask for one site or more.")
        positive = math.isfinite(self.alpha) and self.alpha > 0
        _require(
            positive, f"alpha is {self.alpha}", "alpha", "Use a number above 0; 0.5 is uneven, 100 is even."
        )
        _require(0 <= self.purity <= 1, f"purity is {self.purity}", "purity", "Use a number from 0 to 1.")
        homes = 0 <= self.mixed < self.sites
        _require(
            homes, f"{self.mixed} mixed sites of {self.sites}", "mixed", "Use 0, or fewer than all sites."
        )
        _require(
            self.minimum >= 1, f"minimum is {self.minimum}", "minimum", "Give every site one row or more."
        )


@dataclass(frozen=True)
class Partition:
    """The site of every row.

    Attributes
    ----------
    site : int32 (N,), 0 to ``sites`` - 1; every row has one.
    sites : number of sites.
    """

    site: NDArray[np.int32]
    sites: int

    def __post_init__(self) -> None:
        if len(self.site) and not (int(self.site.min()) >= 0 and int(self.site.max()) < self.sites):
            raise PartitionError(
                "a row has no site",
                where="partition",
                cure=f"Give every row a site from 0 to {self.sites - 1}.",
            )

    @functools.cached_property
    def _by_site(self) -> list[Rows]:
        order = np.argsort(self.site, kind="stable")
        return np.split(order, np.cumsum(np.bincount(self.site, minlength=self.sites))[:-1])

    def rows(self, site: int, samples: Samples, split: str) -> Rows:
        """Return the rows that a site holds of one split, ascending."""
        rows = self._by_site[site]
        return rows[samples.split[rows] == split]

    def table(self, samples: Samples, by: str = "label", split: str | None = None) -> Counts:
        """Count rows by site and value, int64 (sites, values).

        Parameters
        ----------
        by : ``label``, with values in the order of ``samples.labels``; ``split``; or a group attribute, with
            values in alphabetical order (see :func:`values_of`).
        split : count the rows of this split only.
        """
        values, code = values_of(samples, by)
        kept = np.full(len(samples), True) if split is None else samples.split == split
        cells = np.bincount(
            self.site[kept].astype(np.int64) * len(values) + code[kept], minlength=self.sites * len(values)
        )
        return cells.reshape(self.sites, len(values))

    def save(self, folder: Path) -> None:
        """Write ``site.npy`` and ``partition.json`` to ``folder``; the JSON file last."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            np.save(folder / "site.npy", self.site, allow_pickle=False)
            part = folder / "partition.json.part"
            part.write_text(json.dumps({"sites": self.sites, "rows": len(self.site)}))
            part.replace(folder / "partition.json")
        except OSError as error:
            raise RunFolderError(
                f"cannot write the partition: {error.strerror}",
                where=str(folder),
                cure="Free disk space or choose another folder.",
            ) from error

    @classmethod
    def load(cls, folder: Path) -> Partition:
        """Read what :meth:`save` wrote.

        Raises
        ------
        DataError : the folder holds no whole partition.
        """
        try:
            facts = json.loads((folder / "partition.json").read_text())
            site = np.load(folder / "site.npy", allow_pickle=False)
            whole = len(site) == facts["rows"] and site.dtype == np.int32
            found = cls(site, int(facts["sites"])) if whole else None
        except (OSError, ValueError, KeyError, TypeError, PartitionError):
            found = None
        if found is None:
            raise DataError("this is no saved partition", where=str(folder), cure="Divide the samples again.")
        return found


def values_of(samples: Samples, by: str) -> tuple[tuple[str, ...], Rows]:
    """Return the values of a column and each row's index among them.

    Raises
    ------
    PartitionError : the column does not exist.
    """
    if by == "label":
        return samples.labels, samples.label.astype(np.intp)
    columns = {"split": samples.split, **samples.groups}
    if by not in columns:
        raise _unknown(by, "label", *columns)
    values, code = np.unique(columns[by], return_inverse=True)
    return tuple(values.tolist()), code


def partition(
    samples: Samples, spec: PartitionSpec, *, seed: int, units: NDArray[np.integer] | None = None
) -> Partition:
    """Divide rows into sites; the same samples, request and seed give the same sites.

    Training rows are divided first and the minimum is kept; validation and test rows then follow what each
    site holds of the training rows, so that a site is tested on what it trains on.

    Parameters
    ----------
    units : shape (N,), rows with equal numbers stay together, as from :func:`fer_models.splits.units`;
        by default the rows of one person, or single rows where persons are not known. A unit with rows in
        several splits goes where its training rows go.

    Raises
    ------
    PartitionError : the request cannot be met; with the cure.
    """
    _possible(samples, spec)
    rng = np.random.default_rng((seed, STREAM))
    unit = _people(samples) if units is None else np.unique(units, return_inverse=True)[1]
    leading, counted = _leading_split(samples, unit)
    stratum, weights, pools = _weights(samples, spec, rng)
    strata = _strata(unit, stratum, counted, weights.shape[0], whole=spec.kind != "label")
    site = np.full(len(leading), -1, np.intp)
    train = np.flatnonzero(leading == 0)
    dealt = deal(strata[train], weights, rng)
    site[train] = keep_minimum(dealt, strata[train], pools, spec.minimum, rng, _cure(spec))
    follow = np.zeros(weights.shape[::-1])
    np.add.at(follow, site[train], strata[train])
    follow = np.where(follow.T.any(1, keepdims=True), follow.T, weights)
    for later in (1, 2):
        others = np.flatnonzero(leading == later)
        site[others] = deal(strata[others], follow, rng)
    return Partition(site[unit].astype(np.int32), spec.sites)


def _people(samples: Samples) -> Rows:
    """Return the number of each row's person, or the row's own number where persons are not known."""
    if samples.subject is None:
        return np.arange(len(samples))
    return np.unique(samples.subject, return_inverse=True)[1]


def _leading_split(samples: Samples, unit: Rows) -> tuple[Rows, NDArray[np.bool_]]:
    """Return each unit's first split as an index into SPLITS, and which rows lie in it."""
    code = np.select([samples.split == name for name in SPLITS], range(len(SPLITS))).astype(np.intp)
    leading = np.full(int(unit.max()) + 1, len(SPLITS), np.intp)
    np.minimum.at(leading, unit, code)
    return leading, code == leading[unit]


def _strata(unit: Rows, stratum: Rows, counted: NDArray[np.bool_], strata: int, *, whole: bool) -> Counts:
    """Count the rows of every unit in every stratum, (U, K); ``whole`` gives all to the most frequent one."""
    cells = np.bincount(
        unit[counted] * strata + stratum[counted], minlength=(int(unit.max()) + 1) * strata
    ).reshape(-1, strata)
    if not whole:
        return cells
    out = np.zeros_like(cells)
    out[np.arange(len(cells)), cells.argmax(1)] = cells.sum(1)
    return out


def _weights(samples: Samples, spec: PartitionSpec, rng: np.random.Generator) -> tuple[Rows, Weights, Rows]:
    """Return each row's stratum, the shares (K, S) of the strata, and the pools of sites that may swap."""
    everything, one_pool = np.zeros(len(samples), np.intp), np.zeros(spec.sites, np.intp)
    if spec.kind == "label":
        shares = _dirichlet(spec, len(samples.labels), rng)
        return samples.label.astype(np.intp), shares, one_pool
    if spec.kind == "quantity":
        return everything, _dirichlet(spec, 1, rng), one_pool
    if spec.kind == "iid" or (spec.kind == "column" and spec.attribute == "subject"):
        return everything, np.ones((1, spec.sites)), one_pool
    values, code = _column(samples, spec)
    present, code = np.unique(code, return_inverse=True)
    names = [values[i] for i in present]
    rows = np.bincount(code[samples.split == "train"], minlength=len(names))
    if spec.kind == "column":
        return code, _packed(rows, spec), np.arange(spec.sites)
    home = _homes(rows, names, spec)
    own = (home == np.arange(len(names))[:, None]).astype(np.float64)
    weights = spec.purity * own / own.sum(1, keepdims=True) + (1 - spec.purity) / own.shape[1]
    weights = np.hstack(
        [weights * own.shape[1] / spec.sites, np.full((len(names), spec.mixed), 1 / spec.sites)]
    )
    pools = np.append(home, np.full(spec.mixed, len(names)))
    return code, weights, pools if spec.purity == 1 else one_pool


def _dirichlet(spec: PartitionSpec, strata: int, rng: np.random.Generator) -> Weights:
    return rng.dirichlet(np.full(spec.sites, spec.alpha), strata)


def _column(samples: Samples, spec: PartitionSpec) -> tuple[tuple[str, ...], Rows]:
    """Return the values of the column that a request names, and each row's index among them."""
    if spec.kind == "column" and spec.attribute == "source":
        places = [
            source[: max(source.rfind("/"), source.rfind(":"), 0)] for source in samples.source.tolist()
        ]
        values, code = np.unique(np.array(places, np.str_), return_inverse=True)
        return tuple(values.tolist()), code
    if spec.attribute not in samples.groups:
        raise _unknown(
            spec.attribute, *samples.groups, *(("source", "subject") if spec.kind == "column" else ())
        )
    return values_of(samples, spec.attribute)


def _packed(rows: Counts, spec: PartitionSpec) -> Weights:
    """Give every value of a column one site, large values first, each to the site with the fewest rows."""
    _require(
        len(rows) >= spec.sites,
        f"{spec.attribute} has {len(rows)} values for {spec.sites} sites",
        "sites",
        f"Ask for at most {len(rows)} sites, or divide by another column.",
    )
    weights, load = np.zeros((len(rows), spec.sites)), np.zeros(spec.sites, np.int64)
    for value in np.argsort(-rows, kind="stable"):
        site = int(np.lexsort((weights.sum(0), load))[0])
        weights[value, site] = 1
        load[site] += rows[value]
    return weights


def _homes(rows: Counts, names: list[str], spec: PartitionSpec) -> Rows:
    """Return the home group of every site that is not mixed: one site a group at least, the others by training rows."""
    sites = spec.sites - spec.mixed
    _require(
        sites >= len(rows),
        f"{sites} sites cannot each be at home in one of {len(rows)} groups: {', '.join(names)}",
        "sites",
        f"Ask for {len(rows) + spec.mixed} sites or more, or use another kind of partition.",
    )
    count = np.ones(len(rows), np.int64)
    for _ in range(sites - len(rows)):
        count[np.argmax(rows / count)] += 1
    return np.repeat(np.arange(len(rows)), count)


def _possible(samples: Samples, spec: PartitionSpec) -> None:
    """Refuse what no deal can meet."""
    train = np.bincount(samples.label[samples.split == "train"], minlength=len(samples.labels))
    missing = [name for name, count in zip(samples.labels, train, strict=True) if not count]
    _require(
        not missing,
        f"no training row of class {', '.join(missing)}",
        samples.name,
        "Leave the class out of the labels, or hold out fewer rows.",
    )
    total = int(train.sum())
    _require(
        total >= spec.sites * spec.minimum,
        f"{total} training rows cannot give {spec.sites} sites {spec.minimum} each",
        "sites",
        f"Ask for at most {max(1, total // spec.minimum)} sites or a smaller minimum.",
    )
    by_people = spec.kind == "column" and spec.attribute == "subject"
    _require(
        not by_people or samples.subject is not None,
        "the samples do not say who is on a picture",
        "attribute",
        "Divide by another column, or use kind=iid.",
    )


def _cure(spec: PartitionSpec) -> str:
    if spec.kind in ("label", "quantity"):
        return "Ask for fewer sites, a larger alpha or a smaller minimum."
    if spec.kind == "group":
        return "Ask for fewer sites, a lower purity or a smaller minimum."
    return "Ask for fewer sites or a smaller minimum."


def _require(met: bool, what: str, key: str, cure: str) -> None:
    if not met:
        raise PartitionError(what, where=key if key not in _KEYS else f"partition.{key}", cure=cure)


_KEYS = frozenset(PartitionSpec.__dataclass_fields__)


def _unknown(name: str, *known: str) -> PartitionError:
    return PartitionError(
        f"unknown column {name!r}",
        where="partition.attribute",
        cure=f"Use one of {', '.join(known)}."
        if known
        else "These samples have no groups; use another kind.",
    )
