"""How fast an audit is, from a million rows of predictions; and how often what it says holds."""

from __future__ import annotations

import csv
import io
import resource
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from fer_models.counts import Counts
from fer_models.errors import ConfigError
from fer_models.labels import EXPRESSIONS
from fer_models.metrics import summarise
from fer_models.readers.predictions import PREFIX, read_predictions
from simulations.bench.audit_coverage import study
from simulations.bench.audit_noise import study_noise
from simulations.bench.audit_people import study_people
from simulations.bench.run import Figures, Options

ROWS, BLOCK = 1_000_000, 10_000
"""Rows of the file, and how many of them are drawn; the file repeats them, which reading does not make use of."""

GROUPS = 6
REPEATS = 10
"""Repeats of the figures; the best one counts, since other work on the machine can only slow a repeat down."""


DRAWS = 1000
"""Test sets of each kind in the study of coverage; a coverage of .95 is then known to about .004."""


PARTS: Mapping[str, Callable[[int], Figures]] = {
    "speed": lambda _: run(),
    "rows": study,
    "people": study_people,
    "noise": study_noise,
}
"""What is measured: how fast an audit is, and what of it holds over rows, over people and on noisy counts."""


def bench(options: Options) -> Figures:
    """Return the figures of ``fedfer bench audit``; ``draws=N`` sets how many test sets of each kind are drawn, and
    ``part=NAME`` measures one part alone.

    Raises
    ------
    ConfigError : another word, no whole number above 0, or no part.
    """
    given = {"draws": str(DRAWS), "part": ""}
    for word in options.overrides:
        key, _, value = word.partition("=")
        good = key in given and (value in PARTS if key == "part" else value.isdecimal() and int(value) > 0)
        if not good:
            cure = f"Write draws=N, a whole number of test sets, or part= with one of {', '.join(PARTS)}."
            raise ConfigError(f"bench audit takes no {word!r}", where="command line", cure=cure)
        given[key] = value
    parts = [given["part"]] if given["part"] else list(PARTS)
    return {key: figure for part in parts for key, figure in PARTS[part](int(given["draws"])).items()}


def run(rows: int = ROWS) -> Figures:
    """Return seconds.

    Keys ``counts_audit_s`` (seconds by the clock for all figures and intervals of the counts of ``rows``: 8 classes,
    one attribute of 6 groups) and ``read_million_rows_s`` (CPU seconds of the whole process, which other work on
    the machine does not add to, for reading them with their probabilities; scaled to a million where ``rows`` is
    another number), and ``read_growth_mb``: by how many MB the process's largest memory grew beyond that of reading a
    tenth of the rows.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "predictions.csv"
        _write(path, rows // 10)
        read_predictions(path)
        before = _peak_mb()
        _write(path, rows)
        start = time.process_time()
        counts = read_predictions(path).counts
        seconds, grown = time.process_time() - start, _peak_mb() - before
    summarise(counts)  # imports Fairlearn, once a process
    audit = min(_audit_seconds(counts) for _ in range(REPEATS))
    return {
        "counts_audit_s": audit,
        "read_million_rows_s": seconds * 1_000_000 / counts.rows,
        "read_growth_mb": grown,
    }


def _write(path: Path, rows: int) -> None:
    header, block = _text()
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(header)
        for _ in range(max(1, rows // BLOCK)):
            file.write(block)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _audit_seconds(counts: Counts) -> float:
    start = time.perf_counter()
    summarise(counts)
    return time.perf_counter() - start


def _text() -> tuple[str, str]:
    """Return the header and one block of rows: the true class is likelier to be predicted than another."""
    rng = np.random.default_rng(0)
    true, group = rng.integers(len(EXPRESSIONS), size=BLOCK), rng.integers(GROUPS, size=BLOCK)
    chance = rng.dirichlet(np.ones(len(EXPRESSIONS)), BLOCK) + np.eye(len(EXPRESSIONS))[true] / 2
    chance /= chance.sum(1, keepdims=True)
    names = np.array(EXPRESSIONS)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["true", "predicted", "group", *(PREFIX + name for name in EXPRESSIONS)])
    header = text.getvalue()
    columns = (names[true], names[chance.argmax(1)], group, *chance.T.round(6))
    writer.writerows(zip(*(column.tolist() for column in columns), strict=True))
    return header, text.getvalue()[len(header) :]
