"""The first screen: what it says of hand-made records."""

import numpy as np
import pytest

from fer_models.counts import Counts
from fer_models.intervals import wilson
from server.report.audit.first import first, people_of
from server.report.audit.forest import forest
from server.report.audit.groups import bands
from server.report.audit.heat import confusion, heat_map, mistakes, shade
from server.report.folder import Facts
from simulations.audit import record


def audited(cells, people=None, labels=("joy", "fear")):
    """The record of group -> (true, predicted) -> rows, of one attribute."""
    tables = np.zeros((len(cells), len(labels), len(labels)), np.int64)
    for table, rows in zip(tables, cells.values(), strict=True):
        for (true, guess), n in rows.items():
            table[labels.index(true), labels.index(guess)] = n
    counts = Counts(labels, {"sex": tuple(cells)}, tables.sum(0), {"sex": tables})
    return Facts(record({"door": "model"}, counts, people), "audit.json"), counts


UNEQUAL = {
    "f": {("joy", "joy"): 400, ("fear", "fear"): 80, ("fear", "joy"): 20},
    "m": {("joy", "joy"): 300, ("joy", "fear"): 100, ("fear", "fear"): 70, ("fear", "joy"): 30},
}
ALIKE = {name: {("joy", "joy"): 30, ("joy", "fear"): 10, ("fear", "fear"): 12} for name in ("f", "m")}


def plain(text):
    return text.replace("\N{NARROW NO-BREAK SPACE}", " ").replace("\N{MINUS SIGN}", "-")


def test_the_headline_is_the_surest_difference():
    found = first(audited(UNEQUAL)[0])
    assert plain(found["headline"]) == (
        "It is right less often for “m” (sex) than for “f”: 74.0 % of pictures against 96.0 %"
    )
    assert [pair["title"] for pair in found["pairs"]] == ["All expressions, by sex", "Joy, by sex"]
    (worse, figure), (better, _) = found["pairs"][0]["bars"]
    assert (worse, plain(figure.text), better) == ("m", "74.0 %", "f")
    assert plain(found["pairs"][0]["said"]).startswith("22.0 points less (")
    assert found["fails"].startswith("2 of 3 differences")
    assert plain(found["lowest"]).startswith("Lowest of all: fear of “m” (sex), 70.0 % (100 pictures")
    assert any("All 3 comparisons" in sentence for sentence in found["sure"])


def test_a_difference_in_one_class_is_told_where_none_is_sure_overall():
    shifted = {
        "f": {("joy", "joy"): 90, ("joy", "fear"): 10, ("fear", "fear"): 60, ("fear", "joy"): 40},
        "m": {("joy", "joy"): 60, ("joy", "fear"): 40, ("fear", "fear"): 90, ("fear", "joy"): 10},
    }
    found = first(audited(shifted)[0])
    assert plain(found["headline"]).startswith("It recognises ")
    assert all(pair["title"] in ("Joy, by sex", "Fear, by sex") for pair in found["pairs"])


def test_no_sure_difference_is_no_proof_of_fairness():
    facts, _ = audited(ALIKE)
    found = first(facts)
    most = max(gap.number("at_most") for gap in facts.child("findings").rows("gaps") if not gap.text("class"))
    assert plain(found["headline"]) == (
        f"No group is shown to be served worse; differences up to {100 * most:.1f} points cannot be ruled out"
    )
    assert found["fails"] == (
        "No difference between groups is beyond chance, all taken together. That is no proof that there is none."
    )
    assert found["pairs"][0]["said"].endswith("may be chance")


def test_a_person_in_several_groups_is_one_person():
    """Three persons from two angles each, one of them a child: no attribute tells of fewer than three."""
    told = {"angle": {"left": 3, "right": 3}, "age": {"adult": 2, "child": 1}, "gaze": {}}
    assert people_of(Facts({"people": told}, "")) == 3
    assert people_of(Facts({"people": {}}, "")) == 0


def test_few_people_are_never_sure_and_named():
    facts, _ = audited(UNEQUAL, {"sex": {"f": 50, "m": 7}})
    found = first(facts)
    assert found["headline"].startswith("No group is shown to be served worse")
    assert found["scarce"] == ["m (7 people)"]
    assert plain(found["lowest"]).endswith("too few people to be sure.")
    assert any("57 people have 17.5 pictures each" in sentence for sentence in found["sure"])
    assert not any("Intervals are over people" in sentence for sentence in found["sure"])
    over = Facts({**{key: facts.get(key) for key in facts}, "intervals": {"over": "people"}}, "audit.json")
    assert any("Intervals are over people" in sentence for sentence in first(over)["sure"])
    assert plain(found["found"][0]).startswith("Of 1,000 pictures of 57 people, 85.0 % (")


def test_those_who_did_not_disclose_are_in_no_statement():
    cells = UNEQUAL | {"undisclosed": {("fear", "joy"): 200}}
    found = first(audited(cells)[0])
    assert "undisclosed" not in found["headline"] + found["lowest"]


@pytest.mark.parametrize(("share", "step"), [(0.0, 0), (0.142, 0), (0.143, 1), (0.5, 3), (0.99, 6), (1.0, 6)])
def test_shades_are_equal_parts(share, step):
    assert shade(share) == step


def test_a_class_without_pictures_is_named():
    cells = {"f": {("joy", "joy"): 40}, "m": {("joy", "joy"): 30}}
    said = first(audited(cells, labels=("joy", "fear", "tie"))[0])["found"]
    assert said[-1] == "No picture is labelled fear: nothing is known of that."
    assert "nothing is known" not in str(first(audited({**cells, "x": {("fear", "joy"): 1}})[0])["found"])


def test_the_heat_map_shades_by_how_often_it_is_wrong():
    cells = {
        "f": {("joy", "joy"): 40, ("fear", "fear"): 9},
        "m": {("joy", "joy"): 5, ("joy", "fear"): 15, ("fear", "joy"): 20},
        "x": {("joy", "fear"): 9},
    }
    facts, _ = audited(cells)
    found = heat_map(facts.child("figures").child("parity").child("sex"), Facts({"f": 33, "m": 1}, ""))
    assert found["groups"] == [("f", "33 people"), ("m", "1 person, too few people")]
    low, high = wilson(5, 20).tolist()
    assert [cell.span for cell in dict(found["rows"])["joy"]] == [
        "91 to 100",
        f"{100 * low:.0f} to {100 * high:.0f}",
    ]
    rows = {
        name: [(plain(cell.text), cell.step, cell.mind) for cell in cells] for name, cells in found["rows"]
    }
    assert rows["joy"] == [("100 %", 0, ""), ("25 %", 5, "20 pictures")]
    assert rows["fear"] == [("–", None, "under 10"), ("0 %", 6, "20 pictures")]


def test_confusions_are_shares_of_a_row():
    _, counts = audited({"f": {("joy", "joy"): 30, ("joy", "fear"): 10, ("fear", "fear"): 9}})
    found = confusion(counts, counts.overall)
    assert found["heads"] == ["joy", "fear"]
    (joy, n, cells), (_, few, hidden) = found["rows"]
    assert (joy, n, [cell.text for cell in cells]) == ("joy", "40", ["75", "25"])
    assert [cell.mind for cell in cells] == ["right", ""]
    assert (few, [cell.text for cell in hidden]) == ("under 10", ["–", "–"])
    assert {name: plain(text) for name, text in mistakes(counts).items()} == {"joy": "fear, 25 %"}


def test_disparities_stand_on_an_axis_around_the_reference():
    facts, _ = audited(UNEQUAL)
    disparity = facts.child("disparities").child("sex")
    found = forest(disparity, {"": 0.1}, {"m": "few"})
    assert found["reference"] == "f"
    overall = found["blocks"][0]
    mark = overall["rows"][0]
    assert (mark.name, mark.note, mark.verdict, plain(mark.text)) == ("m", "few", "lower", "-22.0 points")
    assert mark.low < mark.at < mark.high < 50
    band = overall["band"]
    assert band["low"] + band["width"] / 2 == pytest.approx(50)
    assert found["blocks"][1]["band"] is None
    places = {tick["text"]: tick["at"] for tick in found["axis"]}
    assert places["0"] == 50
    reach = disparity.child("groups").child("m").child("accuracy").interval("difference")
    assert mark.low == pytest.approx(50 + (places["+20"] - 50) / 0.2 * reach[0], abs=0.02)


def test_nothing_is_clear_of_a_scarce_group():
    facts, _ = audited(UNEQUAL)
    found = forest(facts.child("disparities").child("sex"), {}, {}, ["m"])
    assert {row.verdict for block in found["blocks"] for row in block["rows"]} == {"not clear"}


def test_bands_are_the_strictest_limits_of_the_rules():
    def verdict(metric, limit, label="", attribute="sex"):
        rule = {"metric": metric, "limit": limit, "class": label, "attribute": attribute}
        return Facts({"rule": rule}, "verdicts")

    rules = [
        verdict("accuracy_gap", 0.2),
        verdict("accuracy_gap", 0.1),
        verdict("equal_opportunity_difference", 0.3, "fear"),
        verdict("equal_opportunity_difference", 0.05),
        verdict("accuracy", 0.5),
        verdict("accuracy_gap", 0.01, attribute="age"),
    ]
    assert bands(rules, "sex") == {"": 0.1, "fear": 0.3}


def test_many_rows_are_folded_away():
    facts, _ = audited(UNEQUAL)
    assert not forest(facts.child("disparities").child("sex"), {}, {})["long"]
    many = {f"group {i}": UNEQUAL["m"] for i in range(12)} | {"f": UNEQUAL["f"]}
    facts, _ = audited(many)
    assert forest(facts.child("disparities").child("sex"), {}, {})["long"]


@pytest.mark.parametrize("order", [("sex", "sex × age"), ("sex × age", "sex")])
def test_an_intersection_and_its_attributes_are_told_once(order):
    _, counts = audited(UNEQUAL)
    names = {"sex": ("f", "m"), "sex × age": ("f × 18", "m × 18")}
    table = counts.by_group["sex"]
    both = Counts(
        counts.labels, {each: names[each] for each in order}, counts.overall, dict.fromkeys(order, table)
    )
    found = first(Facts(record({"door": "model"}, both), "audit.json"))
    assert [pair["title"] for pair in found["pairs"]] == [
        f"All expressions, by {order[0]}",
        f"Joy, by {order[0]}",
    ]


def test_where_few_are_sure_the_widest_others_are_told_as_what_they_are():
    _, counts = audited(ALIKE)
    names = {"sex": ("f", "m"), "age": ("old", "young")}
    both = Counts(counts.labels, names, counts.overall, dict.fromkeys(names, counts.by_group["sex"]))
    pairs = first(Facts(record({"door": "model"}, both), "audit.json"))["pairs"]
    assert [pair["title"] for pair in pairs] == ["All expressions, by sex", "All expressions, by age"]
    assert all(pair["said"].endswith("may be chance") for pair in pairs)


def test_many_scarce_groups_are_counted():
    cells = {f"g{i}": {("joy", "joy"): 20 - i} for i in range(9)} | {"small": {("joy", "joy"): 4}}
    told = [f"g{i} ({20 - i} pictures)" for i in (8, 7, 6, 5)]
    assert first(audited(cells)[0])["scarce"] == ["small (under 10 pictures)", *told, "5 more groups"]
