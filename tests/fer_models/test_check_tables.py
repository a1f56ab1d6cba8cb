"""What ``fedfer data check`` prints."""

import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from fer_models.check_tables import show
from fer_models.checks import check
from fer_models.samples import Samples


def table(n=60, crossing=True):
    rng = np.random.default_rng(1)
    pictures = rng.integers(0, 256, (n, 8, 8, 3), np.uint8)
    if crossing:
        pictures[-1] = pictures[0]
    return Samples(
        pictures=pictures,
        label=(np.arange(n) % 2).astype(np.int16),
        labels=("neutral", "happiness"),
        source=np.array([f"[{i}].png" for i in range(n)]),
        split=np.array(["train"] * (n // 2) + ["test"] * (n - n // 2)),
        subject=np.array([f"p{i}" for i in range(n)]),
        groups={"gender": np.array(["female", "male", "[bold]", "undisclosed"] * n)[:n]},
        skipped={"unreadable picture": 1234},
        name="drawn [faces]",
    )


def printed(samples, width=100):
    text = io.StringIO()
    show(check(samples), Console(file=text, width=width, force_terminal=False))
    return text.getvalue()


def rows(text, first):
    return [line.split() for line in text.splitlines() if line.startswith(first)]


def test_tables_hold_the_counts():
    text = printed(table())
    assert text.startswith("drawn [faces]: 60 pictures, 8 x 8, colour")
    assert rows(text, "neutral") == [["neutral", "15", "15", "30", "50.0%"]]
    assert rows(text, "female") == [["female", "8", "7", "15", "25.0%"], ["female", "1.000", "0.000"]]
    assert rows(text, "[bold]")[0] == ["[bold]", "7", "8", "15", "25.0%"], "names are no markup"
    assert rows(text, "undisclosed*") == [["undisclosed*", "0.000", "1.000"]]
    assert rows(text, "difference") == [["difference", "1.000", "1.000"]]
    assert rows(text, "ratio") == [["ratio", "0.000", "0.000"]]
    assert rows(text, "unreadable picture") == [["unreadable", "picture", "1,234"]]
    assert rows(text, "in both train and test") == [
        ["in", "both", "train", "and", "test", count] for count in "10"
    ]
    assert rows(text, "people") == [["people", "60"]]


def test_findings_are_sentences_with_a_severity():
    text = printed(table(), width=200)
    assert "error: pictures in both train and test: 1, such as [0].png and [59].png" in text
    assert "warning: labels differ between groups of gender" in text


@pytest.mark.parametrize("width", [40, 80, 160])
def test_no_line_is_wider_than_the_terminal(width):
    assert max(map(len, printed(table(), width).splitlines())) <= width


def test_a_set_without_findings_says_so():
    whole = table(200, crossing=False)
    text = printed(replace(whole, groups={}, skipped={}))
    assert "Nothing to report." in text
    assert "left out" not in text
