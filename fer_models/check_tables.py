"""What ``fedfer data check`` prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fer_models.checks import Check, LabelParity, Overlap
from fer_models.samples import SUBJECTS

_STYLE = {"error": "bold red", "warning": "yellow"}


def show(check: Check, console: Console) -> None:
    """Print a check as tables: classes, groups, label parity, copies and people, skipped, findings."""
    colour = "gray" if check.channels == 1 else "colour"
    console.print(
        f"[bold]{escape(check.name)}[/]: {check.rows:,} pictures, {check.size} x {check.size}, {colour}"
    )
    for table in _tables(check):
        console.print()
        console.print(table)
    console.print()
    for note in check.notes:
        console.print(f"note: {escape(note)}")
    for finding in check.findings:
        console.print(f"[{_STYLE[finding.severity]}]{finding.severity}[/]: {escape(finding.text)}")
    if not check.findings:
        console.print("Nothing to report.")


def _tables(check: Check) -> Iterator[Table]:
    yield _by_split("class", check.classes, check.splits)
    for attribute, table in check.groups.items():
        yield _by_split(attribute, table, check.splits)
    for attribute, figures in check.label_parity.items():
        yield _parity(attribute, figures)
    yield _copies(check)
    if check.skipped:
        yield _pairs("left out", check.skipped)


def _table(*columns: str, padding: int = 2) -> Table:
    """A table whose first column is words and whose others are numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, padding, 0, 0))
    for index, column in enumerate(columns):
        table.add_column(escape(column), justify="right" if index else "left", overflow="fold")
    return table


def _by_split(title: str, rows: Mapping[str, Mapping[str, int]], splits: tuple[str, ...]) -> Table:
    table = _table(title, *splits, "all", "share")
    total = sum(sum(row.values()) for row in rows.values())
    for name, row in rows.items():
        here = sum(row.values())
        counts = [f"{row[split]:,}" for split in splits]
        table.add_row(escape(name), *counts, f"{here:,}", f"{here / max(total, 1):.1%}")
    return table


def _parity(attribute: str, figures: LabelParity) -> Table:
    """One column a class: its label rate in every group, and the gap between those that are compared."""
    table = _table(attribute, *figures.difference, padding=1)
    table.title, table.title_justify, table.title_style = f"label rates by {attribute}", "left", "bold"
    for value, rates in figures.rates.items():
        mark = "*" if value in figures.not_compared else ""
        table.add_row(escape(value) + mark, *(_number(rates[name]) for name in figures.difference))
    table.add_row("difference", *map(_number, figures.difference.values()))
    for end, title in enumerate(("from", "to")):
        limits = [None if pair is None else pair[end] for pair in figures.difference_interval.values()]
        table.add_row(f"  95 % {title}", *map(_number, limits))
    table.add_row("ratio", *map(_number, figures.ratio.values()))
    if figures.not_compared:
        table.caption, table.caption_justify = "* not compared", "left"
    return table


def _copies(check: Check) -> Table:
    rows: dict[str, int] = {f"within {split}": check.copies_within[split].count for split in check.splits}
    rows |= _both("in both", check, check.copies_across)
    rows["with several labels"] = check.copies_differing.count
    table = _pairs("pixel-identical pictures", rows)
    if check.people is not None:
        table.add_row(f"[bold]{SUBJECTS[check.subject_is]}[/]", f"{check.people:,}")
        for name, count in _both("in both", check, check.people_across).items():
            table.add_row(name, f"{count:,}")
    return table


def _both(words: str, check: Check, overlaps: Mapping[str, Overlap]) -> dict[str, int]:
    """Overlaps of the splits that have rows."""
    present = {pair: o.count for pair, o in overlaps.items() if set(pair.split(" and ")) <= set(check.splits)}
    return {f"{words} {pair}": count for pair, count in present.items()}


def _pairs(title: str, rows: Mapping[str, int]) -> Table:
    table = _table(title, "rows")
    for name, count in rows.items():
        table.add_row(escape(name), f"{count:,}")
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
