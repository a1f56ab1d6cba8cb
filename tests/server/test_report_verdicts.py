"""The report's section on limits: a sentence that counts verdicts, and a row for each in words and a sign."""

import pytest

from server.report.folder import Facts
from server.report.verdicts import verdicts


def verdict(kind, interval=(0.25, 0.5), **more):
    rule = {"metric": "worst_recall", "limit": 0.3, "bound": "at least", "class": "", "attribute": ""}
    rule |= more
    pair = None if interval is None else list(interval)
    figure = None if interval is None else 0.375
    found = {"rule": rule, "group": "", "figure": figure, "interval": pair, "verdict": kind, "reason": "why"}
    return Facts(found, "verdict")


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        (["pass"], "The limit is kept."),
        (["pass", "pass"], "All 2 limits are kept."),
        (["pass", "fail"], "1 of 2 limits is broken."),
        (["fail", "fail"], "2 of 2 limits are broken."),
        (["fail", "not enough data"], "1 of 2 limits is broken, and for 1 there is not enough data."),
        (
            ["pass", "not enough data"],
            "No limit is broken, but for 1 of 2 there is not enough data to decide.",
        ),
    ],
)
def test_the_sentence_counts(kinds, said):
    found = verdicts([verdict(kind) for kind in kinds])
    assert found is not None
    assert found["sentence"] == said


def test_a_row_says_whom_it_is_about():
    row = verdicts([verdict("fail", **{"class": "fear", "attribute": "skin_tone"})], 0.95)["rows"][0]
    assert row["metric"] == "worst recall"
    assert row["of"] == "fear; skin tone"
    assert (row["limit"], row["value"], row["interval"]) == ("at least 0.3", "0.375", "0.250 to 0.500")
    assert (row["mark"], row["verdict"]) == ("✗", "fail")


def test_a_group_is_told_with_its_reference():
    found = verdict("pass", reference="f")
    held = Facts({**{key: found.get(key) for key in found}, "group": "m, f"}, "verdict")
    assert verdicts([held])["rows"][0]["of"] == "m against f"


def test_kinds_are_counted():
    found = verdicts([verdict(kind) for kind in ("fail", "pass", "fail")])
    assert [(kind, number) for kind, _, _, number in found["numbers"]] == [("pass", 1), ("fail", 2)]


def test_a_figure_that_is_not_known_is_a_dash():
    row = verdicts([verdict("not enough data", None)])["rows"][0]
    assert (row["value"], row["interval"], row["of"]) == ("–", "", "all pictures")


def test_without_limits_there_is_no_section():
    assert verdicts([]) is None
