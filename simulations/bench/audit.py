"""How fast an audit is, from a million rows of predictions; and how often what it says holds."""

from __future__ import annotations

import csv
import io
import tempfile
import time
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


def bench(options: Options) -> Figures:
    """Return the figures of ``fedfer bench audit``; ``draws=N`` sets how many test sets of each kind are drawn.

    Raises
    ------
    ConfigError : another word, or no whole number above 0.
    """
    draws = _draws(options.overrides)
    return run() | study(draws) | study_people(draws) | study_noise(draws)


def _draws(words: list[str]) -> int:
    text = str(DRAWS)
    for word in words:
        key, _, text = word.partition("=")
        if key != "draws" or not text.isdecimal() or not int(text):
            cure = "Write draws=N, a whole number of test sets."
            raise ConfigError(f"bench audit takes no {word!r}", where="command line", cure=cure)
    return int(text)


def run(rows: int = ROWS) -> Figures:
    """Return seconds.

    Keys ``counts_audit_s`` (seconds by the clock for all figures and intervals of the counts of ``rows``: 8 classes,
    one attribute of 6 groups) and ``read_million_rows_s`` (CPU seconds of the whole process, which other work on
    the machine does not add to, for reading them with their probabilities; scaled to a million where ``rows`` is
    another number).
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "predictions.csv"
        header, block = _text()
        with path.open("w", encoding="utf-8", newline="") as file:
            file.write(header)
            for _ in range(rows // BLOCK):
                file.write(block)
        start = time.process_time()
        counts = read_predictions(path).counts
        seconds = time.process_time() - start
    summarise(counts)  # imports Fairlearn, once a process
    audit = min(_audit_seconds(counts) for _ in range(REPEATS))
    return {"counts_audit_s": audit, "read_million_rows_s": seconds * 1_000_000 / counts.rows}


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
