"""How fast data sets are read: a csv file of FER2013's form, and a large set for the second time."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from fer_models.readers import read
from fer_models.samples import Samples
from fer_models.stores import Cache
from simulations.bench.run import Figures, Options
from simulations.reading import Shown

ROWS, PICTURES, DIFFERENT = 28_000, 300_000, 500
"""Rows of the csv file; pictures of the large set, and how many of them differ."""

REPEATS = 3
"""Second reads; the best one counts, since other work on the machine can only slow one down."""


def bench(options: Options) -> Figures:
    """Return the figures of ``fedfer bench readers``; ``--data DIR`` names a folder of FER2013 for the csv file."""
    with tempfile.TemporaryDirectory(prefix="fedfer-bench-") as name:
        folder = Path(name)
        if options.data is None:
            _write_csv(folder / "csv")
        seconds, cpu, rows = _timed(lambda: _fer2013(options.data or folder / "csv", options.data is None))
        share = ROWS / (len(rows) + sum(rows.skipped.values()))
        read = {"fer2013_csv_s": seconds * share, "fer2013_csv_cpu_s": cpu * share}
        return {**read, "fer2013_rows": float(len(rows)), **_large(folder)}


def _fer2013(root: Path, made_up: bool) -> Samples:
    return read("fer2013", root, rule="original" if made_up else "majority")


def _timed(work: Callable[[], Samples]) -> tuple[float, float, Samples]:
    """Return seconds, CPU seconds of this process, and what was read."""
    start, begun = time.perf_counter(), time.process_time()
    found = work()
    return time.perf_counter() - start, time.process_time() - begun, found


def _large(folder: Path) -> Figures:
    """Read 300,000 files of 48 x 48 pixels with subjects and groups, then read them again through the store."""
    root, cache = folder / "large", Cache(folder / "cache")
    _write_large(root)
    with Shown("pictures") as shown:
        first, _, made = _timed(lambda: read("imagefolder", root, cache=cache, progress=shown))
    again = [_timed(lambda: read("imagefolder", root, cache=cache)) for _ in range(REPEATS)]
    return {
        "first_read_300k_s": first,
        "second_read_300k_s": min(seconds for seconds, _, _ in again),
        "second_read_300k_cpu_s": min(cpu for _, cpu, _ in again),
        "second_read_rows": float(min(len(found) for _, _, found in (*again, (0, 0, made)))),
    }


def _write_csv(folder: Path) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    cells = [" ".join(map(str, rng.integers(0, 256, 48 * 48).tolist())) for _ in range(DIFFERENT)]
    with (folder / "fer2013.csv").open("w") as file:
        file.write("emotion,pixels,Usage\n")
        file.writelines(f"{row % 7},{cells[row % DIFFERENT]},Training\n" for row in range(ROWS))


def _write_large(root: Path) -> None:
    """Write the files of a large set: links to some pictures, since what is timed is many files, not many bytes."""
    rng = np.random.default_rng(0)
    words = ("neutral", "happiness", "anger")
    lines = ["file_name,label,subject,gender,age,split"]
    for row in range(PICTURES):
        path = root / f"images/{row // 1000:03}/{row:06}.png"
        if row % 1000 == 0:
            path.parent.mkdir(parents=True)
        original = root / f"images/{row % DIFFERENT // 1000:03}/{row % DIFFERENT:06}.png"
        if row < DIFFERENT:
            Image.fromarray(rng.integers(0, 256, (48, 48), np.uint8)).save(path)
        else:
            path.hardlink_to(original)
        person, sex = row // 10, ("female", "male")[row // 10 % 2]
        name = path.relative_to(root).as_posix()
        lines.append(
            f"{name},{words[row % 3]},p{person},{sex},{20 + person % 60},{('train', 'test')[row % 50 == 0]}"
        )
    (root / "metadata.csv").write_text("\n".join(lines) + "\n")
