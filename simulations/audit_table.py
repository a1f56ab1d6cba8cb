"""Every figure of an audit as one row of a table, for those who go on in a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from fer_models.counts import Counts

COLUMNS = ("attribute", "group", "class", "metric", "value", "low", "high", "n")

PER_CLASS = ("recall", "precision", "f1")
PER_GROUP = ("recall", "selection_rate", "label_rate")
PER_SITE = ("accuracy", "balanced_accuracy")
BIAS = ("evenness", "imbalance_ratio", "cramers_v", "cramers_v_corrected")
SPREAD = ("minimum", "mean", "deviation", "gini")

Figures = Mapping[str, Any]


class Row(NamedTuple):
    """One figure.

    Attributes
    ----------
    attribute, group, label : whom it is about; empty for all.
    metric : its key in ``docs/metrics.md``; ``labels.KEY`` for parity of the labels themselves, ``bias.KEY`` for the
        balance of the judged data, ``below.GROUP`` for how much lower a finding's rate is than that of another group.
    value : None where it has no denominator, or too small a one.
    low, high : of the interval, None without one.
    n : the pictures that a share is taken of, such as those of the group with that label for a recall; None for
        figures between groups.
    """

    attribute: str
    group: str
    label: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    n: int | None


def figures_csv(record: Figures) -> str:
    """Return the figures of an audit as csv, with a header; a figure or limit that is missing is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    # Where intervals are known to be too narrow, a table without a place for that word has none.
    known = (
        rows(record) if "doubt" not in record else (row._replace(low=None, high=None) for row in rows(record))
    )
    writer.writerows(known)
    return text.getvalue()


def rows(record: Figures) -> Iterator[Row]:
    """Yield all figures: of all pictures, of the classes, and attribute by attribute."""
    figures = record["figures"]
    support = figures["support"]
    yield from _scalars(figures, n=sum(support.values()))
    yield from _of_sites(record)
    sizes = _sizes(record)
    for key in PER_CLASS:
        yield from (_row(figures, key, label, n=sizes[label][key]) for label in figures[key])
    errors = record["source"].get("calibration_error", {})
    for attribute, facts in figures["parity"].items():
        yield from _scalars(facts, attribute=attribute)
        yield from _between(facts["per_class"], attribute)
        yield from _scalars(facts["labels"], attribute=attribute, prefix="labels.")
        yield from _between(facts["labels"]["per_class"], attribute, "labels.")
        for group, each in facts["groups"].items():
            yield from _of_group(each, attribute, group, errors.get(attribute, {}))
    yield from _of_bias(record.get("bias") or {})
    for gap in record.get("findings", {}).get("gaps", ()):
        low, high = gap["difference_interval"]
        whom = gap["attribute"], gap["group"], gap["class"] or ""
        yield Row(*whom, f"below.{gap['against']}", gap["difference"], low, high, gap["n"])
    for name, facts in record.get("systems", {}).items():
        yield from _scalars(facts, attribute="system", group=name)


def _sizes(record: Figures) -> dict[str, dict[str, int]]:
    """Return label -> key of a figure of a class -> the pictures that it is a share of."""
    counts = Counts.from_json(record["counts"])
    true, said, right = counts.overall.sum(1), counts.overall.sum(0), np.diag(counts.overall)
    each = zip(counts.labels, true.tolist(), said.tolist(), (true + said - right).tolist(), strict=True)
    return {label: dict(zip(PER_CLASS, sizes, strict=True)) for label, *sizes in each}


def _of_bias(bias: Figures) -> Iterator[Row]:
    """Yield how even the judged data are, in all and by attribute."""
    for attribute, facts in {"": bias.get("classes", {}), **bias.get("attributes", {})}.items():
        for key in BIAS:
            if key in facts:
                low, high = facts.get(f"{key}_interval") or (None, None)
                yield Row(attribute, "", "", f"bias.{key}", facts[key], low, high, None)


def _of_sites(record: Figures) -> Iterator[Row]:
    """Yield what each site came to, under the attribute ``site``, and how that spreads."""
    for key in PER_SITE:
        for site in record.get("per_site") or ():
            if key in site:
                low, high = site.get(f"{key}_interval") or (None, None)
                yield Row("site", site["site"], "", key, site[key], low, high, site.get("test"))
        spread = (record.get("sites") or {}).get(key, {})
        yield from (
            Row("site", "", "", f"{key}.{each}", spread[each], None, None, None)
            for each in SPREAD
            if each in spread
        )


def _of_group(facts: Figures, attribute: str, group: str, errors: Figures) -> Iterator[Row]:
    yield from _scalars(facts, attribute=attribute, group=group, n=facts["n"])
    for key in PER_GROUP:
        for label in facts[key]:
            n = facts["support"][label] if key == "recall" else facts["n"]
            yield _row(facts, key, label, attribute=attribute, group=group, n=n)
    if group in errors:
        yield Row(attribute, group, "", "calibration_error", errors[group], None, None, facts["n"])


def _between(per_class: Figures, attribute: str, prefix: str = "") -> Iterator[Row]:
    for label, facts in per_class.items():
        yield from _scalars(facts, attribute=attribute, label=label, prefix=prefix)


def _scalars(
    facts: Figures,
    *,
    attribute: str = "",
    group: str = "",
    label: str = "",
    prefix: str = "",
    n: int | None = None,
) -> Iterator[Row]:
    """Yield the figures that stand beside their own interval; the worst over classes with their class."""
    for key in facts:
        if f"{key}_interval" in facts and not isinstance(facts[key], Mapping):
            low, high = facts[f"{key}_interval"] or (None, None)
            worst = facts.get("worst_class" if key == "worst_recall" else f"{key}_class")
            yield Row(attribute, group, label or worst or "", prefix + key, facts[key], low, high, n)


def _row(facts: Figures, key: str, label: str, *, attribute: str = "", group: str = "", n: int) -> Row:
    low, high = facts[f"{key}_interval"][label] or (None, None)
    return Row(attribute, group, label, key, facts[key][label], low, high, n)
