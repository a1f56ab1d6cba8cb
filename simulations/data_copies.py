"""``fedfer data check ... --copies FILE.csv``: every pixel-identical picture, where it lies and what it is called."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from fer_models.samples import Samples
from fer_models.splits import copies
from server.run_folder import write_text

COLUMNS = ("picture", "source", "split", "label")
"""Rows with the same number of a picture show the same pixels."""


def write_copies(samples: Samples, path: Path) -> int:
    """Write the rows that show the same pixels as another, and return how many different pictures they show."""
    same = copies(samples)
    first, many = np.unique(same, return_counts=True)
    shown = first[many > 1]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    order = np.argsort(same, kind="stable")
    for row in order[np.isin(same[order], shown)].tolist():
        number = int(np.searchsorted(shown, same[row])) + 1
        label = samples.labels[samples.label[row]]
        writer.writerow([number, str(samples.source[row]), str(samples.split[row]), label])
    write_text(path, text.getvalue())
    return len(shown)
