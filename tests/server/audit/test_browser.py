"""The page of an audit in a real browser: it fits a phone, draws its marks where they belong, and hinders nobody."""

import re

import numpy as np
import pytest
from PIL import Image

from server.report.audit import render

pytestmark = pytest.mark.browser

DARK = "--blink-settings=preferredColorScheme=0"

MEASURE = """
const all = (frame, query) => [...frame.contentDocument.querySelectorAll(query)];
const box = (frame, query) => all(frame, query).map(element => element.getBoundingClientRect());
const middle = b => (b.left + b.right) / 2;
const sizes = frame => {
  all(frame, "details").forEach(each => each.open = true);
  const lines = all(frame, ".forest .line").map(line => {
    const [track, mark, range] = [".track", "i", "u"].map(part => line.querySelector(part).getBoundingClientRect());
    return {at: (middle(mark) - track.left) / track.width, low: (range.left - track.left) / track.width,
            high: (range.right - track.left) / track.width, text: line.querySelector("b").textContent};
  });
  return {
    asked: frame.clientWidth,
    width: frame.contentDocument.documentElement.scrollWidth,
    right: Math.max(...box(frame, "section, li, h1, h2, h3, p, svg, dl, .forest, .scroll, .figure").map(b => b.right)),
    headline: box(frame, "h1")[0],
    answers: box(frame, ".answers > section"),
    bars: box(frame, ".bar i").map(b => b.width),
    cells: box(frame, "table.cells td").map(b => b.width),
    pictures: all(frame, "img").map(each => each.naturalWidth),
    charts: box(frame, "svg.chart").map(b => b.width),
    lines,
  };
};
"""


@pytest.fixture(scope="module")
def page(everything, tmp_path_factory):
    path = tmp_path_factory.mktemp("audit") / "audit.html"
    path.write_text(render(everything))
    return path


@pytest.fixture(scope="module")
def measured(in_frames, page, tmp_path_factory):
    return in_frames(tmp_path_factory.mktemp("measured"), page, MEASURE, "sizes(frame)", (360, 768, 1280))


def test_nothing_sticks_out_at_any_width(measured):
    assert [sizes["asked"] for sizes in measured] == [360, 768, 1280]
    for sizes in measured:
        assert sizes["width"] <= sizes["asked"]
        assert sizes["right"] <= sizes["asked"]


def test_everything_is_laid_out(measured):
    for sizes in measured:
        assert len(sizes["answers"]) == 3
        assert len(sizes["charts"]) == 3
        assert min(sizes["charts"]) > 200
        assert len(sizes["bars"]) > 8 + 3 * 8 + 7 + 3
        assert max(sizes["bars"]) > 40
        assert min(sizes["cells"]) > 30
        assert sizes["pictures"] == [24, 24]


def test_the_answers_are_on_the_first_screen(measured):
    desk, phone = measured[2], measured[0]
    assert desk["answers"][2]["top"] == desk["answers"][0]["top"] < 500
    assert max(box["bottom"] for box in desk["answers"]) < 1000
    assert phone["headline"]["bottom"] < 640
    assert phone["answers"][0]["bottom"] < phone["answers"][1]["top"]


def test_marks_stand_where_the_figures_say(measured, everything):
    told = {
        line["text"].replace("\N{NARROW NO-BREAK SPACE}", " ").replace("\N{MINUS SIGN}", "-"): line
        for line in measured[2]["lines"]
    }
    cell = everything["disparities"]["gender_presentation"]["groups"]["self-described masculine"]["accuracy"]
    line = told[f"{100 * cell['difference']:.1f} points"]
    scale = (line["high"] - line["low"]) / (cell["difference_interval"][1] - cell["difference_interval"][0])
    assert line["at"] - 0.5 == pytest.approx(scale * cell["difference"], abs=0.01)
    assert line["low"] - 0.5 == pytest.approx(scale * cell["difference_interval"][0], abs=0.01)
    assert line["high"] < 0.5


@pytest.mark.parametrize("flags", [[], [DARK]], ids=["light", "dark"])
def test_nothing_hinders_people_who_cannot_see(hindrances, page, tmp_path, flags):
    assert hindrances(tmp_path, page, *flags) == []


@pytest.mark.parametrize("flags", [(), (DARK,)], ids=["light", "dark"])
def test_axe_finds_nothing_serious(axe, page, tmp_path, flags):
    assert axe(tmp_path, page, *flags) == []


def test_axe_finds_what_is_wrong(axe, page, tmp_path):
    worse = tmp_path / "worse.html"
    worse.write_text(
        page.read_text().replace("<html lang=", "<html data-was=").replace("<img alt=", "<img data-was=")
    )
    found = axe(tmp_path, worse)
    assert any(each.startswith("html-has-lang") for each in found)


def test_a_page_with_little_hinders_nobody(hindrances, nothing_more, tmp_path):
    (tmp_path / "little.html").write_text(render(nothing_more))
    assert hindrances(tmp_path, tmp_path / "little.html") == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("--soft: #565e67", "--soft: #a0a6ad", "contrast of 2."),
        ('lang="en"', "", "no language"),
        ('id="data"', 'id="groups"', "id that occurs twice"),
        ('alt="Right answers."', "", "picture without a name"),
        ("<h2 ", "<h3 ", "heading that skips a level"),
        ('<div class="scroll" tabindex="0"', '<div class="scroll"', "out of reach of the keyboard"),
        ('<th scope="row">', "<th>", "head cell without a scope"),
        ('aria-labelledby="recall-h"', "", "region without a name"),
        ('aria-label="a group of eleven (gender', 'aria-label="undisclosed (gender', "regions of one name"),
    ],
)
def test_hindrances_are_found(hindrances, page, tmp_path, old, new, said):
    text = page.read_text()
    assert old in text
    (tmp_path / "worse.html").write_text(text.replace(old, new))
    assert any(said in each for each in hindrances(tmp_path, tmp_path / "worse.html"))


@pytest.mark.parametrize("flags", [[], [DARK]], ids=["light", "dark"])
def test_a_screenshot_shows_ink_on_paper(browse, page, tmp_path, flags):
    picture = tmp_path / "page.png"
    _, log = browse(tmp_path, page, f"--screenshot={picture}", "--window-size=1200,3000", *flags)
    assert "CONSOLE" not in log
    with Image.open(picture) as image:
        gray = np.asarray(image.convert("L"), np.int16)
    assert (np.median(gray) < 60) == bool(flags)
    ink = np.abs(gray - np.median(gray)) > 80
    assert 0.005 < ink.mean() < 0.4
    assert all(part.any() for part in np.array_split(ink, 20))


def test_it_prints_with_everything_open(browse, page, tmp_path):
    paper = tmp_path / "page.pdf"
    browse(tmp_path, page, f"--print-to-pdf={paper}", "--no-pdf-header-footer")
    content = paper.read_bytes()
    assert content.startswith(b"%PDF")
    assert 5 <= len(re.findall(rb"/Type\s*/Page\b", content)) <= 40
