"""The page of an audit: every part of the record has its place, what is missing is left out, and all is escaped."""

import copy
import json
import re

import pytest

from fer_models.errors import DataError, RunFolderError
from server.report.audit import render

PARTS = {
    "verdicts": "verdicts",
    "recall": "figures",
    "groups": "figures",
    "sites": "per_site",
    "pareto": "systems",
    "explanations": "explanations",
    "privacy": "privacy",
    "data": "data",
    "limits": None,
    "methods": None,
}
"""Section of the page -> the part of the record that it is made of."""


def sections(page):
    return re.findall(r'<section id="(\w+)"', page)


def test_every_part_has_its_section(everything):
    page = render(everything)
    assert sections(page) == [*PARTS, "origin"]
    for text in (
        "Seven",
        "Federated, epsilon 4.0",
        "a-site-with-a-name",
        "drawn faces",
        "CC0 1.0",
        "Cramér’s V",
        "120 pictures of 60 people",
    ):
        assert text in page
    assert "epsilon is at least 1.25" in page
    assert "cnn_tiny, 10,727 parameters" in page
    assert "somewhere" not in page


@pytest.mark.parametrize("gone", ["verdicts", "per_site", "systems", "explanations", "privacy"])
def test_what_is_missing_is_left_out(everything, gone):
    page = render({key: value for key, value in everything.items() if key != gone})
    left = [name for name, part in PARTS.items() if part != gone]
    assert [name for name in sections(page) if name != "origin"] == left
    assert all(f'href="#{name}"' not in page for name, part in PARTS.items() if part == gone)


def test_little_makes_a_page_too(nothing_more):
    page = render(nothing_more)
    assert sections(page) == ["recall", "data", "limits", "methods"]
    assert (
        "It is right for 66.7\N{NARROW NO-BREAK SPACE}% of pictures; there are no groups to compare" in page
    )
    assert "votes.csv" in page


def test_an_audit_of_nothing_says_so(nothing_more):
    from fer_models.counts import Counts
    from simulations.audit import record

    page = render(json.loads(json.dumps(record({"door": "model"}, Counts.zero(("a", "b"))))))
    assert "There were no pictures to judge" in page


def test_the_page_loads_nothing_and_runs_nothing(everything):
    page = render(everything)
    assert not re.search(r"<(script|link|iframe|object|form)\b|@import|\bon\w+=|url\(|https?://", page)
    assert "default-src 'none'" in page
    assert re.findall(r'src="(.{22})', page) == ["data:image/png;base64,"] * 2


@pytest.mark.parametrize(
    "evil", ["<script>alert(1)</script>", '"><img src=x onerror=y>', "{{ 7 * 7 }}", "a & b"]
)
def test_names_are_text_and_nothing_else(everything, evil):
    def named(value):
        if isinstance(value, dict):
            return {evil if key in ("60+", "fear") else key: named(each) for key, each in value.items()}
        if isinstance(value, list):
            return [named(each) for each in value]
        return evil if value in ("60+", "fear", "Seven", "site-1", "drawn faces", "Right answers.") else value

    page = render(named(copy.deepcopy(everything)))
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "49" not in re.findall(r"<td>([^<]*)</td>", page)
    assert page.count("<img") == 2


@pytest.mark.parametrize(
    ("path", "value", "kind"),
    [
        (["figures", "accuracy"], "high", RunFolderError),
        (["figures", "recall_interval"], [0, 1], RunFolderError),
        (["explanations", 0, "png"], 'x" onload="y', RunFolderError),
        (["explanations", 0, "png"], "R0lGODlh", RunFolderError),
        (["counts", "counts"], [1, 2], DataError),
        (["disparities", "age", "groups"], [], RunFolderError),
    ],
)
def test_damaged_records_are_refused(everything, path, value, kind):
    found = copy.deepcopy(everything)
    place = found
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(kind):
        render(found)


def test_noise_on_the_counts_is_told(everything):
    noisy = everything | {"noise": {"epsilon": 0.5}, "per_site": [{"site": "site-1", "epsilon": 4.0}]}
    page = render(noisy)
    assert "with discrete Laplace noise of epsilon 0.5" in page
    assert "The counts carry the noise of privacy" in page
    assert "reported as they are" not in page
    assert "sites" not in sections(page)
    assert "reported as they are" in render(everything)


def test_small_cells_tell_no_numbers(everything):
    """Below ten pictures a page says so and not how many."""
    page = render(everything)
    counted = re.findall(r'<td class="none">–<span class="mind">([^<]*)</span>', page)
    assert set(counted) <= {"under 10", "none"}
    assert "under 10" in counted


def test_intersections_have_names_that_can_be_read(everything):
    from server.report.audit.naming import spelled

    record = {
        "counts": {"groups": {"sex": ["a*b"], "sex*age": ["m*60+", "undisclosed"]}},
        "people": {"sex*age": {"m*60+": 3}, "sex": {"a*b": 1}},
        "verdicts": [{"group": "m*60+, undisclosed", "reason": "m*60+ is few"}],
    }
    assert spelled(record) == {
        "counts": {"groups": {"sex": ["a*b"], "sex × age": ["m × 60+", "undisclosed"]}},
        "people": {"sex × age": {"m × 60+": 3}, "sex": {"a*b": 1}},
        "verdicts": [{"group": "m × 60+, undisclosed", "reason": "m*60+ is few"}],
    }
