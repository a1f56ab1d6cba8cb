"""Fixtures in the official layouts: tiny drawn pictures under the owners' file names."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def draw(tmp_path):
    """draw("a/b.png", ...): a picture of its own shade and a bar under each name, and the folder they lie in."""
    shade = iter(range(20, 255, 3))

    def make(*names, size=(16, 16), mode="L"):
        for name in names:
            pixels = np.full(size[::-1], next(shade), np.uint8)
            pixels[: size[1] // 2, 1:4] = 255
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).convert(mode).save(tmp_path / name)
        return tmp_path

    return make


@pytest.fixture
def write(tmp_path):
    """write("a/b.csv", text): a text file, and its path."""

    def make(name, text):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return make


@pytest.fixture
def rows():
    """rows(samples, "gender"): (source, class, split, subject or None, the groups named) of every row, sorted."""

    def of(samples, *groups):
        names = [samples.labels[label] for label in samples.label]
        subjects = [None] * len(samples) if samples.subject is None else samples.subject.tolist()
        columns = [samples.groups[name].tolist() for name in groups]
        return sorted(
            zip(samples.source.tolist(), names, samples.split.tolist(), subjects, *columns, strict=True)
        )

    return of
