"""Predictions of other systems: exact counts, flat memory, and every mistake named with its place."""

import csv
import gzip
import re
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fer_models.counts import Counts
from fer_models.errors import DataError
from fer_models.labels import EXPRESSIONS
from fer_models.metrics import macro_f1
from fer_models.readers import predictions, tables
from fer_models.readers.predictions import Layout, read_predictions

HAND = """\
true,predicted,gender,age
happy,happy,f,20
sad,neutral,m,70
happy,sad,f,
sad,sad,m,17
"""


@pytest.fixture
def write(tmp_path):
    def to_file(text):
        path = tmp_path / "predictions.csv"
        path.write_text(text, encoding="utf-8")
        return path

    return to_file


def test_a_small_file_by_hand(write):
    found = read_predictions(write(HAND))
    counts = found.counts
    assert counts.labels == ("neutral", "happiness", "sadness")
    assert counts.overall.tolist() == [[0, 0, 0], [0, 1, 1], [1, 0, 1]]
    assert counts.groups == {"gender": ("f", "m"), "age": ("0-17", "18-29", "60+", "undisclosed")}
    assert counts.by_group["gender"].tolist() == [
        [[0, 0, 0], [0, 1, 1], [0, 0, 0]],
        [[0, 0, 0], [0, 0, 0], [1, 0, 1]],
    ]
    assert counts.by_group["age"].sum((1, 2)).tolist() == [1, 1, 1, 1]
    assert (found.probabilities, found.people) == (False, {})


def test_columns_and_words_can_be_named(write):
    text = "id,who,said,is,sex,note\n1,a,0,N,x,q\n2,a,1,P,y,q\n3,b,1,N,y,q\n"
    layout = Layout(
        "is", "said", ("sex",), subject="who", id="id", labels=("0", "1"), words={"N": "0", "P": "1"}
    )
    found = read_predictions(write(text), layout)
    assert found.counts.overall.tolist() == [[1, 1], [0, 1]]
    assert found.people == {"sex": {"x": 1, "y": 2}}
    assert list(found.counts.groups) == ["sex"]


ROWS = st.lists(
    st.tuples(st.sampled_from(EXPRESSIONS), st.sampled_from(EXPRESSIONS), st.sampled_from("abc")), min_size=2
).filter(lambda rows: len({group for *_, group in rows}) > 1)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ROWS, st.integers(1, 9))
def test_blocks_count_as_rows_do(tmp_path, monkeypatch, rows, size):
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("true", "predicted", "group"), *rows])
    monkeypatch.setattr(predictions, "blocks", lambda path: tables.blocks(path, size))
    true, guess, group = zip(*rows, strict=True)
    code = [[EXPRESSIONS.index(name) for name in column] for column in (true, guess)]
    expected = Counts.of(*code, EXPRESSIONS, {"group": group})
    found = read_predictions(path, Layout(labels=EXPRESSIONS)).counts
    assert found == expected


def test_memory_does_not_grow_with_the_rows(tmp_path):
    peaks = []
    for rows in (40_000, 160_000):
        path = tmp_path / f"{rows}.csv.gz"
        with gzip.open(path, "wt") as file:
            file.write("true,predicted,group\n" + "fear,anger,a\nanger,fear,b\n" * (rows // 2))
        tracemalloc.start()
        assert read_predictions(path).counts.rows == rows
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]


CHANCES = "true,predicted,p_fear,p_anger,group\nfear,fear,.6,.4,a\nfear,anger,{},{},b\n"


def test_probabilities_name_the_classes_and_are_checked(write):
    found = read_predictions(write(CHANCES.format(".2", ".8")))
    assert found.probabilities
    assert found.counts.labels == ("anger", "fear")
    assert found.counts.overall.tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize(
    ("pair", "where", "what"),
    [
        ((".2", ".7"), ":3, columns p_anger to p_fear", "probabilities sum to 0.9"),
        ((".7", ".3"), ":3, column predicted", "anger is predicted, and p_fear is higher"),
        ((".5", ".5"), ":3", "p_anger and p_fear tie"),
        (("x", ".8"), ":3, column p_fear", "'x' is no probability"),
        (("nan", ".8"), ":3, column p_fear", "'nan' is no probability"),
        (("-.2", "1.2"), ":3, column p_anger", "'1.2' is no probability"),
    ],
)
def test_wrong_probabilities_are_refused(write, pair, where, what):
    path = write(CHANCES.format(*pair))
    with pytest.raises(DataError) as caught:
        read_predictions(path)
    assert (caught.value.what, caught.value.where) == (what, f"{path}{where}")
    assert caught.value.cure


def test_a_tie_can_be_left_to_the_predicted_class(write):
    found = read_predictions(write(CHANCES.format(".5", ".5")), Layout(ties="predicted"))
    assert found.counts.overall.tolist() == [[0, 0], [1, 1]]


VOTES = "true,predicted,group\nA,A,x\nA,A:D,x\nD,D:A,y\nD,D,y\n"
WORDS = {"A": "anger", "D": "disgust"}


def test_a_tied_vote_can_be_an_answer_of_its_own(write):
    found = read_predictions(write(VOTES), Layout(words=WORDS, ties="answer")).counts
    assert found.labels == ("anger", "disgust", "tie")
    assert found.overall.tolist() == [[1, 0, 1], [0, 1, 1], [0, 0, 0]]
    named = read_predictions(write(VOTES), Layout(labels=("D", "A"), ties="answer")).counts
    assert named.labels == ("D", "A", "tie")
    assert macro_f1(found) == macro_f1(named) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("text", "options", "where", "what"),
    [
        (VOTES, {}, ":3, column predicted", "'A:D' names several classes"),
        (VOTES.replace("D,D,", "D,A:A,"), {"ties": "answer"}, ":5, column predicted", "'A:A' names several"),
        (VOTES.replace("A:D", "A:Q"), {"ties": "answer"}, ":3, column predicted", "'Q' is no class"),
        (VOTES.replace("D,D,", "A:D,D,"), {"ties": "answer"}, ":5, column true", "'A:D' is no class"),
        (VOTES.replace("D,D,", "tie,D,"), {"ties": "answer"}, ":5, column true", "'tie' is no class"),
        (VOTES, {"labels": ("A", "D", "tie"), "ties": "answer"}, "", "ties cannot be an answer"),
        (CHANCES.format(".2", ".8"), {"words": {}, "ties": "answer"}, "", "beside a column of probabilities"),
    ],
)
def test_ties_that_nobody_allowed_are_refused(write, text, options, where, what):
    path = write(text)
    with pytest.raises(DataError) as caught:
        read_predictions(path, Layout(**({"words": WORDS} | options)))
    assert what in caught.value.what
    assert caught.value.where == f"{path}{where}"


CROSSED = "true,predicted,gender,age,who\n" + "".join(
    f"fear,{guess},{gender},{age},{gender}{age}\n"
    for guess, gender, age in (
        ("fear", "f", "20"),
        ("anger", "f", "29"),
        ("fear", "m", "70"),
        ("fear", "", "20"),
    )
)


def test_groups_within_groups_are_counted(write):
    layout = Layout(groups=("gender*age", "gender"), subject="who")
    found = read_predictions(write(CROSSED), layout)
    assert found.counts.groups["gender*age"] == ("f*18-29", "m*60+", "undisclosed")
    assert found.counts.by_group["gender*age"].sum(1).tolist() == [[1, 1], [0, 1], [0, 1]]
    assert found.people["gender*age"] == {"f*18-29": 2, "m*60+": 1, "undisclosed": 1}


@pytest.mark.parametrize(
    ("group", "what"),
    [("gender*gender", "no cross"), ("gender*race", "no column 'race'"), ("gender*", "no cross")],
)
def test_groups_within_groups_need_two_columns(write, group, what):
    with pytest.raises(DataError, match=re.escape(what)):
        read_predictions(write(CROSSED), Layout(groups=(group,), ignore=("who",)))


def test_a_column_with_a_cross_in_its_name_is_that_column(write):
    path = write("true,predicted,a*b\nfear,fear,x\nfear,fear,y\n")
    assert read_predictions(path, Layout(groups=("a*b",))).counts.groups == {"a*b": ("x", "y")}


def test_too_many_groups_within_groups_are_refused(write):
    rows = [f"fear,fear,{i},{i}" for i in range(99)] + ["fear,fear,1,2", "fear,fear,2,3"]
    path = write("\n".join(["true,predicted,a,b", *rows]))
    assert len(read_predictions(path, Layout(groups=("a", "b"))).counts.groups["a"]) == 99
    with pytest.raises(DataError, match=r"more than 100 .*a\*b"):
        read_predictions(path, Layout(groups=("a*b",)))


@pytest.mark.parametrize(
    ("old", "new", "layout", "where", "what"),
    [
        ("sad,sad", "sad,cross", Layout(), ":5, column predicted", "'cross' is no class"),
        ("sad,sad", ",sad", Layout(), ":5, column true", "an empty cell where a class should be"),
        ("predicted", "guess", Layout(), ":1", "no column 'predicted' in the header"),
        ("gender,age", "gender,gender", Layout(), ":1", "column 'gender' occurs twice"),
        ("", "", Layout(groups=("race",)), ":1", "no column 'race' in the header"),
        ("", "", Layout(ignore=("race",)), ":1", "no column 'race' in the header"),
        ("m,", "f,", Layout(), ", column gender", "one group only, 'f'"),
        ("m,17", "m", Layout(), ":5", "3 cells for 4 columns"),
        ("", "", Layout(subject="age"), ":4, column age", "a row without a person"),
        ("", "", Layout(id="gender"), ":4, column gender", "'f' occurs twice"),
        ("gender,age", "gender,p_sad", Layout(labels=("happy", "sad")), ":1", "no column 'p_happy'"),
        ("gender,age", "p_happy,p_joy", Layout(), ":1", "two columns for one class"),
        ("gender,age", "gender,p_cross", Layout(), ":1, column p_cross", "'cross' is no class"),
        (HAND.partition("\n")[2], "", Layout(), "", "no rows"),
        (HAND, "", Layout(), ":1", "no column 'true' in the header"),
    ],
)
def test_bad_input_is_named_with_its_place(write, old, new, layout, where, what):
    path = write(HAND.replace(old, new) if old else HAND)
    with pytest.raises(DataError) as caught:
        read_predictions(path, layout)
    assert what in caught.value.what
    assert caught.value.where == f"{path}{where}"
    assert caught.value.cure


def test_a_column_of_names_is_no_group_attribute(write):
    path = write("true,predicted,file\n" + "".join(f"fear,fear,{i}.png\n" for i in range(2000)))
    with pytest.raises(DataError, match=r"ignore=\[file\].*id=file"):
        read_predictions(path)
    assert read_predictions(path, Layout(id="file", ignore=())).counts.rows == 2000


def test_lines_are_told_right_after_blank_lines_and_breaks_in_cells(write):
    path = write('true,predicted,group\n\nfear,fear,"a\nb"\n\nfear,cross,c\n')
    with pytest.raises(DataError) as caught:
        read_predictions(path)
    assert caught.value.where == f"{path}:6, column predicted"


def test_groups_of_one_person_are_counted_once(write):
    text = "true,predicted,who,group\n" + "fear,fear,ann,a\n" * 5 + "fear,anger,bob,b\n" * 3
    assert read_predictions(write(text), Layout(subject="who")).people == {"group": {"a": 1, "b": 1}}
