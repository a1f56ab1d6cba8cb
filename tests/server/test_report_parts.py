"""Numbers, sentences and curves of the report."""

from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.report import wording
from server.report.charts import MOST_POINTS, Line, line_chart, sample, ticks


def plain(text):
    return text.replace(wording.SPACE, " ")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (wording.percent(0.7412), "74.1 %"),
        (wording.span((0.72, 0.761)), "72.0 to 76.1 %"),
        (wording.between((0.72, 0.761)), "between 72.0 and 76.1 %"),
        (wording.points(-0.0412), "\N{MINUS SIGN}4.1 points"),
        (wording.epsilon(None), "none"),
        (wording.epsilon(8.0), "8.0"),
        (wording.epsilon(0.314), "0.31"),
        (wording.size(12), "12 B"),
        (wording.size(1_234_567), "1.2 MB"),
        (wording.size(2e9), "2.0 GB"),
        (wording.duration(4.25), "4.2 s"),
        (wording.duration(412), "7 min"),
        (wording.duration(5025), "1 h 24 min"),
        (wording.plural(1, "site"), "1 site"),
        (wording.plural(1200, "site"), "1,200 sites"),
        (wording.spaced("skin_tone"), "skin tone"),
    ],
)
def test_numbers_in_words(said, expected):
    assert plain(said) == expected


def test_the_share_that_is_kept_and_what_may_be_said_of_it():
    share, limits, verdict = wording.kept(0.6, (0.58, 0.62), 0.8, (0.78, 0.82))
    assert share == pytest.approx(0.75)
    assert limits[0] < 0.75 < limits[1] < 1
    assert "larger than the chance" in verdict
    assert "do not tell" in wording.kept(0.79, (0.77, 0.81), 0.8, (0.78, 0.82))[2]
    assert "better than the chance" in wording.kept(0.9, (0.89, 0.91), 0.8, (0.78, 0.82))[2]


def test_a_gain_is_claimed_only_outside_the_interval():
    assert plain(wording.gain(0.8, (0.77, 0.83), 0.5, (0.46, 0.54))) == (
        "joining adds 30.0 points (interval 25.0 to 35.0 points)"
    )
    assert plain(wording.gain(0.5, (0.46, 0.54), 0.8, (0.77, 0.83))) == (
        "joining costs 30.0 points (interval 25.0 to 35.0 points)"
    )
    assert wording.gain(0.8, (0.77, 0.83), 0.79, (0.75, 0.82)).startswith(
        "whether joining helps is not clear"
    )


def test_a_gap_is_claimed_only_above_zero():
    assert wording.gap(0.1, (0.02, 0.2)).endswith(": a gap.")
    assert "not enough data to say" in wording.gap(0.1, (0.0, 0.2))
    assert wording.gap(None, None).startswith("Not enough data to compare")
    assert plain(wording.gap(0.1, None)).endswith("differ by 10.0 points.")


@settings(deadline=None, max_examples=30)
@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_enclose_the_range_in_even_round_steps(low, width):
    high = low + width
    if high <= low:
        return
    made = ticks(low, high)
    slack = 1e-6 * (abs(low) + abs(high) + width)
    assert made[0] <= low + slack
    assert made[-1] >= high - slack
    steps = [b - a for a, b in pairwise(made)]
    assert steps == pytest.approx([steps[0]] * len(steps), rel=1e-3, abs=slack)
    assert 3 <= len(made) <= 8


def drawn(*lines, **options):
    svg = line_chart(
        "Accuracy <b>",
        lines,
        key="k",
        x_name="rounds",
        x_format=str,
        y_format=lambda y: f"{y:.2f}",
        **options,
    )
    return ElementTree.fromstring(svg)


def test_a_curve_runs_from_left_to_right_and_up():
    chart = drawn(Line("a & b", "--federated", "circle", (0, 10), (0.2, 0.8)), zero=True)
    assert chart.findtext("title") == "Accuracy <b>"
    assert chart.findtext("desc") == "Accuracy <b>. a & b: from 0.20 to 0.80 at 10 rounds."
    path = chart.find("g/path[@class='curve']")
    assert path is not None
    (x0, y0), (x1, y1) = (map(float, point.split(",")) for point in path.attrib["d"][1:].split("L"))
    assert (x0, x1) == (46, 312)
    assert y0 > y1 >= 10
    assert chart.findtext("text[@class='tick y']") == "0.00"


def test_a_long_curve_is_thinned_and_keeps_its_end_and_a_level_line_crosses():
    y = [0.5] * 9_999 + [0.9]
    chart = drawn(
        Line("long", "--federated", "circle", range(10_000), y),
        Line("pooled", "--pooled", "diamond", (), (0.7,)),
    )
    long, level = (each.attrib["d"].split("L") for each in chart.findall("g/path[1]"))
    assert len(long) <= MOST_POINTS + 1
    assert long[-1].split(",")[1] != long[-2].split(",")[1]
    assert (level[0][:6], level[1].split(",")[0]) == ("M46.0,", "312.0")
    assert "pooled: 0.70 at the end." in (chart.findtext("desc") or "")


def test_noise_does_not_fill_the_chart():
    chart = drawn(Line("flat", "--federated", "circle", (1, 2), (0.5, 0.501)))
    labels = [float(tick.text or "") for tick in chart.findall("text[@class='tick y']")]
    assert labels[-1] - labels[0] >= 0.1
    nothing = drawn(Line("none", "--open", "square", (1, 2), (0.0, 0.0)))
    assert nothing.findtext("text[@class='tick y']") == "0.00"


def test_every_marker_has_a_sample():
    assert len({str(sample(marker, "--c")) for marker in ("circle", "square", "diamond", "triangle")}) == 4
