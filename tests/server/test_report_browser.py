"""The report in a real browser: it lays out, fits a phone, prints, and is not blank."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer_models import metrics
from fer_models.counts import Counts
from fer_models.labels import EXPRESSIONS
from server.report import write_report

pytestmark = pytest.mark.browser

MEASURE = """
const all = (frame, query) => [...frame.contentDocument.querySelectorAll(query)];
const box = (frame, query) => all(frame, query).map(element => element.getBoundingClientRect());
const sizes = frame => ({
  asked: frame.clientWidth,
  width: frame.contentDocument.documentElement.scrollWidth,
  right: Math.max(...box(frame, "section, li, h1, h2, h3, p, svg, .stacks, .figure").map(b => b.right)),
  height: frame.contentDocument.body.getBoundingClientRect().height,
  charts: box(frame, "svg.chart").map(b => b.width),
  bars: box(frame, "table .bar i").map(b => b.width),
  stacks: box(frame, ".stack").map(b => b.width),
  headings: box(frame, "h2").map(b => b.height),
  background: frame.contentWindow.getComputedStyle(frame.contentDocument.body).backgroundColor,
});
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The report of a run of two systems and three sites with long names."""
    folder = tmp_path_factory.mktemp("run")
    rng = np.random.default_rng(0)
    true = rng.choice(8, 600, p=[0.3, 0.25, 0.15, 0.1, 0.1, 0.02, 0.06, 0.02])
    group = rng.choice(["self-described feminine", "self-described masculine", "undisclosed"], 600)
    systems = {}
    for name, right in (("pooled", 0.8), ("federated", 0.7)):
        predicted = np.where(rng.random(600) < right, true, rng.choice(8, 600))
        counts = Counts.of(true, predicted, EXPRESSIONS, {"gender presentation": group})
        systems[name] = metrics.summarise(counts)
        systems[name] |= {"epsilon": None if name == "pooled" else 8.0, "delta": 1e-5, "bytes_up": 10**7}
    names = ["a-site-with-a-name-that-is-much-too-long-for-a-telephone", "site-1", "site-2"]
    systems["federated"]["per_site"] = [{"site": name, "accuracy": 0.7, "test": 200} for name in names]
    facts = {"name": "A run to look at", "data": {"train": 2400}, "plan_hash": "f" * 64, "systems": systems}
    (folder / "summary.json").write_text(json.dumps(facts))
    lines = [
        {"system": "federated", "round": n, "accuracy": 0.7 - 0.5 / n, "worst_recall": 0.1, "epsilon": n / 4}
        for n in range(1, 31)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    table = [[300, 200, 9, 40, 10, 3, 1, 7], [10, 90, 4, 0, 0, 0, 0, 0], [1] * 8]
    by = {"label": {"values": list(EXPRESSIONS), "table": table}}
    (folder / "partition.json").write_text(json.dumps({"sites": names, "by": by}))
    (folder / "config.yaml").write_text("a_long_line: " + "x" * 400)
    return write_report(folder)


@pytest.fixture(scope="module")
def measured(in_frames, page, tmp_path_factory):
    """Sizes of the page at the width of a telephone, a tablet and a desk, measured from outside it."""
    return in_frames(tmp_path_factory.mktemp("measured"), page, MEASURE, "sizes(frame)", (380, 768, 1280))


@pytest.mark.parametrize("index", [0, 1, 2])
def test_nothing_sticks_out_at_any_width(measured, index):
    sizes = measured[index]
    assert sizes["asked"] == (380, 768, 1280)[index]
    assert sizes["width"] <= sizes["asked"]
    assert sizes["right"] <= sizes["asked"]


def test_everything_is_laid_out(measured):
    for sizes in measured:
        assert sizes["height"] > 2000
        assert len(sizes["charts"]) == 3
        assert min(sizes["charts"]) > 200
        assert len(sizes["bars"]) >= 8 + 16 + 6
        assert max(sizes["bars"]) > 60
        assert sizes["stacks"][0] > 5 * sizes["stacks"][1] > 5 * sizes["stacks"][2] > 0
        assert len(sizes["headings"]) == 8
        assert min(sizes["headings"]) > 15
        assert sizes["background"].startswith("rgb(")
    assert measured[0]["height"] > measured[2]["height"]


def test_the_page_itself_loads_without_a_complaint(browse, page, tmp_path):
    out, log = browse(tmp_path, page, "--dump-dom")
    assert "A run to look at</h1>" in out
    assert 'id="limits"' in out
    assert "CONSOLE" not in log


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_screenshot_shows_ink_on_paper(browse, page, tmp_path, scheme):
    picture = tmp_path / "page.png"
    dark = ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
    browse(tmp_path, page, f"--screenshot={picture}", "--window-size=1200,3000", *dark)
    with Image.open(picture) as image:
        assert image.size == (1200, 3000)
        pixels = np.asarray(image.convert("RGB"), np.int16)
    gray = pixels.mean(2)
    assert (np.median(gray) < 60) == (scheme == "dark")
    ink = np.abs(gray - np.median(gray)) > 80
    assert 0.005 < ink.mean() < 0.4
    assert all(part.any() for part in np.array_split(ink, 20))
    blue = pixels[:, :, 2] - pixels[:, :, 0] > 80
    assert blue.mean() > 0.001


def test_it_prints(browse, page, tmp_path):
    paper = tmp_path / "page.pdf"
    browse(tmp_path, page, f"--print-to-pdf={paper}", "--no-pdf-header-footer")
    content = Path(paper).read_bytes()
    assert content.startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", content)) <= 20


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_hinders_people_who_cannot_see(hindrances, axe, page, tmp_path, dark):
    flags = ["--blink-settings=preferredColorScheme=0"] if dark else []
    assert hindrances(tmp_path, page, *flags) == []
    assert axe(tmp_path, page, *flags) == []
