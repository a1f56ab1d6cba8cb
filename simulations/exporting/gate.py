"""The audit of an exported model beside the net that it was made of, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from client.evaluation import count, predict
from client.plan import Attribute
from fer_models.changes import changes
from fer_models.counts import Counts
from fer_models.errors import EvidenceError, ToleranceError
from fer_models.metrics import summarise
from fer_models.paired import Rows
from fer_models.parity import SMALLEST
from fer_models.samples import Samples, people_by_group
from simulations.audit import VERSION, record
from simulations.audit_folder import write_folder
from simulations.display import shown
from simulations.export import COMPARISON
from simulations.exporting.asked import Export
from simulations.tolerance import facts, read_tolerance, require_kept, show_verdicts, verdicts_on
from simulations.versus.command import WRITERS
from simulations.versus.show import said

RATES = ("accuracy", "balanced_accuracy", "worst_recall", "minority_recall")
"""Figures that may not fall."""

GAPS = ("accuracy_gap", "demographic_parity_difference", "equalized_odds_difference")
"""Figures of each attribute that may not rise."""

AUDIT = "audit"
"""Folder of the audit of an exported model, beside it."""


@dataclass(frozen=True)
class Change:
    """A figure of the net and of the exported model.

    Attributes
    ----------
    name : what it is called.
    before, after : None where the data do not tell.
    worse : by how much the exported model is worse, below 0 where it is better; None where the data do not tell.
    """

    name: str
    before: float | None
    after: float | None
    worse: float | None


@dataclass(frozen=True, eq=False)
class Bench:
    """The pictures that both models are judged on.

    Attributes
    ----------
    samples : the data.
    rows : its test rows (n,).
    attributes : by which they are counted.
    """

    samples: Samples
    rows: NDArray[np.intp]
    attributes: tuple[Attribute, ...]

    @property
    def values(self) -> dict[str, tuple[str, ...]]:
        """Attribute -> its groups."""
        return {each.name: each.values for each in self.attributes}

    def judge(self, net: torch.nn.Module) -> NDArray[np.int64]:
        """Return the classes (n,) that a net says, as every audit asks for them."""
        return predict(net, self.samples, self.rows, device=torch.device("cpu"), prove=True)

    def counts(self, predicted: NDArray[np.int64]) -> Counts:
        """Count what was said."""
        return count(self.samples, self.rows, predicted, self.values)

    def pair(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> Rows:
        """Return what two models said, row by row."""
        samples, rows = self.samples, self.rows
        groups = {
            name: np.searchsorted(np.array(values), samples.groups[name][rows]).astype(np.int64)
            for name, values in self.values.items()
        }
        person = None
        if samples.subject is not None:
            person = np.unique(samples.subject[rows], return_inverse=True)[1].astype(np.int64)
        true = samples.label[rows].astype(np.int64)
        return Rows(true, first, second, samples.labels, groups, self.values, person)


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Return how the figures of two audits differ: rates first, then the gaps of each attribute."""
    found = [_change(key, before.get(key), after.get(key), -1) for key in RATES]
    for name, parity in before["parity"].items():
        other = after["parity"].get(name, {})
        found += [_change(f"{key} by {name}", parity.get(key), other.get(key), 1) for key in GAPS]
    return found


def _change(name: str, before: float | None, after: float | None, sign: int) -> Change:
    worse = None if before is None or after is None else sign * (after - before)
    return Change(name.replace("_", " "), before, after, worse)


def gate(
    bench: Bench,
    before: NDArray[np.int64],
    after: NDArray[np.int64],
    how: Export,
    source: Mapping[str, Any],
    folder: Path,
    console: Console,
) -> dict[str, Any]:
    """Judge an exported model beside its net, write what was found, and refuse it where it has become worse.

    Parameters
    ----------
    before, after : classes (n,) that the net and the exported model say.
    source : what was judged, for the records.
    folder : gets ``audit`` and ``comparison``.

    Returns
    -------
    The figures of the exported model.

    Raises
    ------
    ToleranceError : a figure is worse by more than the tolerance, or a limit of the tolerance's file is broken.
    EvidenceError : there are too few pictures of the rarest class to tell.
    """
    counts = bench.counts(after)
    people = people_by_group(bench.samples, bench.rows, bench.values)
    figures = summarise(bench.counts(before)), summarise(counts)
    found = record(source, counts, people)
    compared = {"first": "net", "second": how.format, **changes(bench.pair(before, after))}
    limits = None if how.limits is None else read_tolerance(how.limits)
    verdicts = [] if limits is None else verdicts_on(limits, counts, people)
    if limits is not None:
        found |= {"tolerance": {"level": limits.level}, "verdicts": facts(verdicts)}
        show_verdicts(verdicts, console)
    write_folder(found, folder / AUDIT)
    versus = {"door": "compare", "kind": "models", "names": ["net", how.format], "rows": len(bench.rows)}
    versus |= {"people": people_of(bench), "judged": [], "paths": ["net", how.format]}
    whole = {"version": VERSION, "source": versus, "comparisons": [compared], "config": {"words": []}}
    write_folder(whole, folder / COMPARISON, WRITERS)
    found_changes = changed(*figures)
    show(found_changes, how, console)
    console.print(said("worse", f"the {how.format} model", compared["worse"]), soft_wrap=True, markup=False)
    require(found_changes, compared, how, figures[1], folder)
    if how.limits is not None:
        require_kept(verdicts, how.limits)
    return figures[1]


def people_of(bench: Bench) -> int | None:
    """Return how many persons are on the test pictures, None where nobody knows, as where subjects are clips."""
    people = bench.samples.people
    return None if people is None else len(np.unique(people[bench.rows]))


def show(found: list[Change], how: Export, console: Console) -> None:
    """Print how figures have changed."""
    table = Table("figure", "net", how.format, "worse by", title="Audited again", title_justify="left")
    for each in found:
        over = each.worse is not None and how.most is not None and each.worse > how.most
        worse = "–" if each.worse is None else f"{each.worse:+.3f}"
        table.add_row(
            each.name, shown(each.before), shown(each.after), f"[bold red]{worse}[/]" if over else worse
        )
    console.print(table)


def require(
    found: list[Change],
    compared: Mapping[str, Any],
    how: Export,
    figures: Mapping[str, Any],
    folder: Path,
) -> None:
    """Refuse a model whose figures, or those of any group or class for sure, are worse by more than the tolerance.

    Raises
    ------
    ToleranceError, EvidenceError : see :func:`gate`.
    """
    if how.most is None:
        return
    over = [f"{each.name} by {each.worse:.3f}" for each in found if (each.worse or 0) > how.most]
    sure = [cell for cell in compared["worse"] if -cell["change"] > how.most]
    over += [
        f"{', '.join(filter(None, (c['attribute'], c['group'], c['class']))) or 'all'} by {-c['change']:.3f}"
        for c in sure
    ]
    if over:
        raise ToleranceError(
            f"the {how.format} model is worse: {'; '.join(over[:4])}{' and more' if len(over) > 4 else ''}; "
            f"{how.most:g} is allowed",
            where=str(folder / COMPARISON),
            cure="Compress less, observe ranges on pictures like those it will see (pictures=DIR), or widen tolerance.",
        )
    rare = {name: figures["support"][name] for name in figures["minority_classes"]}
    few = {name: n for name, n in rare.items() if n < SMALLEST}
    if few or not figures["support"]:
        told = ", ".join(f"{name} {n}" for name, n in few.items()) or "none at all"
        raise EvidenceError(
            f"too few test pictures of the rarest class to tell whether it still is recognised: {told}",
            where="data",
            cure=f"Judge on more pictures, {SMALLEST} of each class or more.",
        )
