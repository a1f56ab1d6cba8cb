"""The figures of ``fedfer bench zoo`` as a page: tables of all systems and budgets, and pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from server.report import wording
from server.report.charts import BOTTOM, HEIGHT, LEFT, MARKERS, RIGHT, TOP, WIDTH, sample, ticks
from server.run_folder import write_text
from simulations.bench.zoo_rows import Row
from simulations.bench.zoo_training import Recipe, changed
from simulations.sweeps.picture import look, standalone

TARGETS = {"original": "the original seven labels", "votes": "FER+'s votes"}

HEADS = (
    "system",
    "CPU minutes",
    "parameters",
    "pictures seen",
    "CPU seconds",
    "accuracy",
    "balanced accuracy",
    "worst recall",
)

HEAD = """# Results: the zoo

Every system was trained on FER2013's training part alone, and judged on a fifth of it whose pictures have no copy among
the others; [benchmarks.md](../benchmarks.md#zoo) says how, and what it says. Intervals are at 95 %.

```sh
fedfer bench zoo minutes=10 rows={path} --data DIR --run-dir DIR
fedfer bench zoo minutes=30 rows={path} --data DIR --run-dir DIR
```

write this page anew after every training. `{name}` holds each row with its command, processor and versions; rows
that are in it are not trained again. Classical systems take the time that they take.
"""


Point = tuple[float, float, str, int, str]
"""Both coordinates, what a point says of itself, the number of its mark, and what it is joined with."""


def write_page(file: Path, rows: Sequence[Row]) -> None:
    """Write the page ``NAME.md`` beside ``NAME.json``, and its pictures ``NAME-TARGETS.svg``."""
    kinds = [kind for kind in TARGETS if any(row["targets"] == kind for row in rows)]
    pictures = {}
    for kind in kinds:
        if drawn := _picture(kind, [row for row in rows if _is(row, kind, "test")]):
            pictures[kind] = file.with_name(f"{file.stem}-{kind}.svg")
            write_text(pictures[kind], drawn)
    write_text(file.with_suffix(".md"), _markdown(file, rows, {k: p.name for k, p in pictures.items()}))


def _is(row: Row, kind: str, part: str) -> bool:
    return row["targets"] == kind and row["part"] == part


def _markdown(file: Path, rows: Sequence[Row], pictures: dict[str, str]) -> str:
    parts = [HEAD.format(name=file.name, path=file.name if file.is_absolute() else file.as_posix())]
    for kind, said in TARGETS.items():
        for part, title in (("test", ""), ("validation", ", judged on validation pictures")):
            own = [row for row in rows if _is(row, kind, part)]
            if own:
                parts.append(f"\n## With {said}{title}\n\n{_table(own)}")
            if own and part == "test" and kind in pictures:
                alt = f"Accuracy with {said} against parameters and processor seconds, a mark a system"
                parts.append(f"\n![{alt}]({pictures[kind]})\n")
    return "".join([*parts, _machines(rows)])


def _table(rows: Sequence[Row]) -> str:
    """Return a table, the best accuracy first."""
    ordered = sorted(rows, key=lambda row: -row["figures"]["accuracy"])
    lines = [[*HEADS, "recipe"], ["---"] * (len(HEADS) + 1)]
    for row in ordered:
        found = row["figures"]
        minutes, parameters = row["minutes"], found.get("parameters")
        lines.append(
            [
                f"`{row['system']}`",
                "–" if minutes is None else f"{minutes:g}",
                "–" if parameters is None else f"{parameters:,.0f}",
                f"{found['pictures']:,.0f}",
                f"{found['cpu_seconds']:,.0f}",
                *(_figure(found, key) for key in ("accuracy", "balanced_accuracy", "worst_recall")),
                "–" if row["recipe"] is None else f"`{' '.join(changed(Recipe(**row['recipe'])))}`",
            ]
        )
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _figure(found: dict[str, Any], key: str) -> str:
    value, low, high = (f"{found[f'{key}{end}']:.3f}".removeprefix("0") for end in ("", "_low", "_high"))
    return f"{value} ({low} to {high})"


def _machines(rows: Sequence[Row]) -> str:
    """Say on which processors and with which versions, and how many rows each."""
    counts: dict[str, int] = {}
    for row in rows:
        versions = ", ".join(f"{name} {said}" for name, said in row["versions"].items())
        text = f"{row['processor']}; {versions}"
        counts[text] = counts.get(text, 0) + 1
    lines = "".join(f"- {many} of {len(rows)} rows: {text}\n" for text, many in counts.items())
    return f"\n## Measured on\n\n{lines}"


def _picture(kind: str, rows: Sequence[Row]) -> str:
    """Return accuracy against parameters and against processor seconds as an SVG file; nothing without rows."""
    names = list(dict.fromkeys(_line(row) for row in rows))
    panels = []
    for key, title, said in (
        ("parameters", "parameters", _short),
        ("cpu_seconds", "CPU seconds", _short),
    ):
        points = [
            (
                row["figures"][key],
                row["figures"]["accuracy"],
                _told(row),
                names.index(_line(row)),
                _series(row),
            )
            for row in rows
            if row["figures"].get(key)
        ]
        if points:
            head = f"accuracy against {title}"
            panels.append((head, scatter(head, points, f"{kind}-{key}", title, said)))
    legend = [(name, sample(look(i)[1], look(i)[0])) for i, name in enumerate(names)]
    return standalone(f"Accuracy of the zoo with {TARGETS[kind]}", [panels], legend) if panels else ""


def _line(row: Row) -> str:
    """Return what shares a mark: a net, or the classical systems of one feature."""
    return row["system"] if row["minutes"] is not None else f"{row['system'].partition('_')[0]} features"


def _series(row: Row) -> str:
    """Return what is joined: a net by one recipe at several budgets; a classical system is a point by itself."""
    return f"{row['system']} {row['recipe']}"


def _told(row: Row) -> str:
    spent = "" if row["minutes"] is None else f", {row['minutes']:g} minutes"
    return f"{row['system']}{spent}: {wording.percent(row['figures']['accuracy'])}"


def _short(number: float) -> str:
    """Write 1000000 as "1M" and 30000 as "30k"."""
    for scale, unit in ((1e6, "M"), (1e3, "k")):
        if number >= scale:
            return f"{number / scale:g}{unit}"
    return f"{number:g}"


def scatter(
    title: str,
    points: Sequence[Point],
    key: str,
    axis: str,
    said: Callable[[float], str],
) -> Markup:
    """Draw shares against a logarithmic axis; points of one series are joined in order.

    Parameters
    ----------
    points : see :data:`Point`; x > 0, y from 0 to 1.
    key : a word that is unique in the file.
    """
    xs, ys = [x for x, *_ in points], [y for _, y, *_ in points]
    left, right = math.log10(min(xs)) - 0.05, math.log10(max(xs)) + 0.05
    levels = ticks(min(ys), max(max(ys), min(ys) + 0.1), most=5)

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (RIGHT - LEFT) * (math.log10(x) - left) / (right - left)
        return across, BOTTOM - (BOTTOM - TOP) * (y - levels[0]) / (levels[-1] - levels[0])

    marks = [m * 10.0**e for e in range(math.floor(left), math.ceil(right) + 1) for m in (1, 3)]
    parts = [
        Markup('<title id="{}-title">{}</title>').format(key, title),
        *(
            Markup(
                '<path class="grid" d="M{},{:.1f}H{}"/><text class="tick y" x="{}" y="{:.1f}">{}</text>'
            ).format(
                LEFT, place(10**left, y)[1], RIGHT, LEFT - 7, place(10**left, y)[1] + 3.5, f"{100 * y:g} %"
            )
            for y in levels
        ),
        *(
            Markup('<text class="tick x" x="{:.1f}" y="{}">{}</text>').format(
                place(x, levels[0])[0], BOTTOM + 16, said(x)
            )
            for x in marks
            if left <= math.log10(x) <= right
        ),
        Markup('<text class="axis-name" x="{}" y="{}">{}</text>').format(RIGHT, HEIGHT - 4, axis),
        *(_joined([p for p in points if p[3] == line], place) for line in sorted({p[3] for p in points})),
    ]
    return Markup(
        '<svg viewBox="0 0 {} {}" role="img" aria-labelledby="{}-title" class="chart">{}</svg>'
    ).format(WIDTH, HEIGHT, key, Markup("").join(parts))


def _joined(own: Sequence[Point], place: Callable[[float, float], tuple[float, float]]) -> Markup:
    colour, marker = look(own[0][3])
    paths = []
    for series in dict.fromkeys(each[4] for each in own):
        at = [place(x, y) for x, y, _, _, joined in sorted(own) if joined == series]
        if len({x for x, _ in at}) > 1:
            paths.append("M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in at))
    curve = Markup('<path class="curve" d="{}"/>').format("".join(paths)) if paths else Markup("")
    marks = [
        Markup(
            '<path class="mark" d="{}" transform="translate({:.1f},{:.1f})"><title>{}</title></path>'
        ).format(MARKERS[marker], *place(x, y), text)
        for x, y, text, *_ in own
    ]
    return Markup('<g style="--c:var({})">{}{}</g>').format(colour, curve, Markup("").join(marks))
