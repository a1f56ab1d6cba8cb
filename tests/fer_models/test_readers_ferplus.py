"""The target rules of FER+, against hand-checked votes and a plain loop over one row."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fer_models.errors import ConfigError, DataError
from fer_models.labels import EXPRESSIONS, FERPLUS_COLUMNS
from fer_models.readers import ferplus
from fer_models.readers.ferplus import (
    NO_AGREEMENT,
    NO_NAME,
    NOT_A_FACE,
    UNKNOWN,
    Ballot,
    read_ballot,
    targets,
)

HEADER = "Usage,Image name," + ",".join(FERPLUS_COLUMNS)


def ballot(*votes, named=None):
    rows = np.array(votes, np.int32)
    names = np.ones(len(rows), bool) if named is None else np.array(named)
    return Ballot(["Training"] * len(rows), list(range(2, len(rows) + 2)), names, rows)


# neutral happiness surprise sadness anger disgust fear contempt unknown NF
HAPPY = (1, 8, 1, 0, 0, 0, 0, 0, 0, 0)
MIXED = (0, 0, 5, 0, 0, 0, 4, 1, 0, 0)
TIE = (5, 0, 0, 5, 0, 0, 0, 0, 0, 0)
SINGLES = (1, 1, 1, 1, 1, 1, 1, 1, 1, 1)
NO_FACE = (0, 0, 0, 0, 0, 0, 0, 0, 0, 10)
UNSURE = (2, 0, 0, 0, 0, 0, 0, 0, 8, 0)
NEARLY = (6, 0, 0, 0, 0, 0, 0, 0, 4, 0)
FOUR = (3, 3, 2, 2, 0, 0, 0, 0, 0, 0)


def test_majority_needs_more_than_half_of_the_votes_that_are_left():
    made = targets(ballot(HAPPY, MIXED, TIE, SINGLES, NO_FACE, UNSURE, NEARLY), "majority")
    assert made.reason.tolist() == ["", "", NO_AGREEMENT, NO_AGREEMENT, NOT_A_FACE, UNKNOWN, ""]
    kept = made.reason == ""
    assert [EXPRESSIONS[i] for i in made.label[kept]] == ["happiness", "surprise", "neutral"]
    assert made.votes[0].tolist() == [0, 8, 0, 0, 0, 0, 0, 0], "single votes are no part of the target"
    assert made.votes[1].tolist() == [0, 0, 5, 0, 0, 0, 4, 0], "the minority's votes are"


@pytest.mark.parametrize("rule", ["crossentropy", "probability"])
def test_descending_classes_up_to_three_quarters(rule):
    made = targets(ballot(HAPPY, MIXED, TIE, UNSURE, NEARLY, FOUR, SINGLES), rule)
    # FOUR: 3 + 3 cover 6 of 10, both 2s enter together as the third and fourth class: too many.
    assert made.reason.tolist() == ["", "", "", UNKNOWN, "", NO_AGREEMENT, NO_AGREEMENT]
    assert made.votes[2].tolist() == [5, 0, 0, 5, 0, 0, 0, 0]
    assert made.votes[4].tolist() == [6, 0, 0, 0, 0, 0, 0, 0]


def test_multi_target_gives_equal_weights():
    made = targets(ballot(MIXED, FOUR, TIE, NO_FACE), "multi_target")
    assert made.reason.tolist() == ["", "", "", NOT_A_FACE]
    assert made.votes[0].tolist() == [0, 0, 1, 0, 0, 0, 1, 0]
    assert made.votes[1].tolist() == [1, 1, 0, 0, 0, 0, 0, 0]


def test_a_row_without_a_name_is_dropped_whatever_its_votes():
    made = targets(ballot(HAPPY, NO_FACE, named=[False, False]), "majority")
    assert made.reason.tolist() == [NO_NAME, NO_NAME]


def test_an_unknown_rule_names_the_rules():
    with pytest.raises(ConfigError, match="majority, probability"):
        targets(ballot(HAPPY), "median")


def by_loop(votes, rule):
    """One row the long way: (label, weights) or None where it is dropped."""
    left = [0 if v == 1 else v for v in votes]
    total, chosen = sum(left), [0] * 10
    if rule == "majority":
        best = left.index(max(left))
        if 2 * max(left) <= total or best > 7:
            return None
        return best, left[:8]
    if rule == "multi_target":
        chosen = [v if 10 * v >= 3 * total else 0 for v in left]
        best = chosen.index(max(chosen))
        return None if 2 * sum(chosen) <= total or best > 7 else (best, [int(v > 0) for v in chosen[:8]])
    ended = False
    while 4 * sum(chosen) < 3 * total and sum(v > 0 for v in chosen) < 3 and not ended:
        top = max(left)
        winners = [i for i, v in enumerate(left) if v == top]
        for i in [i for i in winners if i < 8]:
            chosen[i], left[i] = top, 0
        if winners[-1] > 7:
            ended = True
            if not any(chosen):
                return None
    if 2 * sum(chosen) <= total or sum(v > 0 for v in chosen) > 3:
        return None
    return chosen.index(max(chosen)), chosen[:8]


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.lists(st.integers(0, 6), min_size=10, max_size=10), min_size=1, max_size=40),
    st.sampled_from(ferplus.RULES),
)
def test_columns_at_once_equal_one_row_at_a_time(votes, rule):
    made = targets(ballot(*votes), rule)
    for row, label, weights, reason in zip(votes, made.label, made.votes, made.reason, strict=True):
        expected = by_loop(row, rule)
        assert (reason == "") == (expected is not None)
        if expected:
            assert (int(label), weights.astype(int).tolist()) == expected
            assert weights.sum() > 0


def test_reading_keeps_order_and_blank_names(tmp_path):
    path = tmp_path / "fer2013new.csv"
    path.write_text(
        f"{HEADER}\nTraining,fer0000000.png,{str(HAPPY)[1:-1]}\nPublicTest,,{str(NO_FACE)[1:-1]}\n"
    )
    read = read_ballot(path)
    assert read.usage == ["Training", "PublicTest"]
    assert read.line == [2, 3]
    assert read.named.tolist() == [True, False]
    assert read.votes.tolist() == [list(HAPPY), list(NO_FACE)]


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("Usage,neutral\n", ":1", "no column 'Image name'"),
        (f"{HEADER}\nTraining,a.png,1,2,3\n", ":2", "5 cells for 12 columns"),
        (f"{HEADER}\nTraining,a.png,-1,0,0,0,0,0,0,0,0,0\n", ":2", "'-1' is no number of votes"),
        (f"{HEADER}\nTraining,a.png,0,0,0,0,0,0,0,0,0,²\n", ":2", "'²' is no number of votes"),
        (f"{HEADER},NF\n", ":1", "'NF' occurs twice"),
    ],
)
def test_a_bad_table_names_file_and_line(tmp_path, text, place, message):
    path = tmp_path / "fer2013new.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_ballot(path)
    assert caught.value.where == f"{path}{place}"
    assert caught.value.cure
