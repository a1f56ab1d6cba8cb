"""``fedfer audit predictions=FILE.csv``: the same tables and figures as for a model."""

import json

import pytest

from fer_models.counts import Counts
from fer_models.errors import ConfigError, DataError, EvidenceError, ToleranceError
from fer_models.intervals import wilson
from fer_models.metrics import summarise

ROWS = "true,predicted,gender,who\n" + "".join(
    f"{true},{guess},{gender},{gender}{i}\n"
    for true, guess, gender, times in (
        ("happy", "happy", "f", 40),
        ("sad", "sad", "f", 30),
        ("sad", "happy", "f", 10),
        ("happy", "happy", "m", 35),
        ("sad", "sad", "m", 5),
        ("sad", "happy", "m", 25),
    )
    for i in range(times)
)


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "predictions.csv"
    path.write_text(ROWS)
    return path


def without_intervals(tree):
    pairs = tree.items() if isinstance(tree, dict) else ()
    return {key: without_intervals(each) for key, each in pairs if not key.endswith("_interval")} or tree


def test_the_figures_are_those_of_the_counts(fedfer, table, tmp_path):
    file = tmp_path / "audit.json"
    code, out, err = fedfer("audit", f"predictions={table}", "subject=who", "--json", str(file))
    assert (code, err) == (0, "")
    found = json.loads(file.read_text())
    counts = Counts.from_json(found["counts"])
    assert counts.by_group["gender"].tolist() == [[[40, 0], [10, 30]], [[35, 0], [25, 5]]]
    assert without_intervals(found["figures"]) == without_intervals(json.loads(json.dumps(summarise(counts))))
    assert found["people"] == {"gender": {"f": 40, "m": 35}}
    assert found["source"]["rows"] == 145
    assert f"{110 / 145:.3f}" in out
    assert any(line.split()[1:6:2] == ["m", "65", "35"] for line in out.splitlines()), out


def test_intervals_are_over_people_where_rows_name_them(fedfer, tmp_path):
    """Ten people of twenty rows each, who are always or never told right: the rows say hardly more than ten do."""
    path, file = tmp_path / "people.csv", tmp_path / "audit.json"
    rows = [f"fear,{'fear' if who % 2 else 'anger'},{who},{'ab'[who < 5]}" for who in range(10)] * 20
    path.write_text("\n".join(["true,predicted,who,group", *rows]))
    code, out, _ = fedfer("audit", f"predictions={path}", "subject=who", "--json", str(file))
    assert code == 0
    assert "Intervals are over people" in out
    found = json.loads(file.read_text())
    assert found["intervals"]["row_wise"]["accuracy_interval"] == wilson(100, 200).tolist()
    rows = 9 * (1.959964 / 2.262157) ** 2  # of 10 people, as t of 9 has it
    assert found["figures"]["accuracy_interval"] == pytest.approx(wilson(rows / 2, rows).tolist(), abs=1e-5)
    assert found["figures"]["parity"]["group"]["groups"]["a"]["accuracy_interval"][1] > 0.9
    plain = tmp_path / "rows.json"
    fedfer("audit", f"predictions={path}", "ignore=[who]", "--json", str(plain))
    assert "intervals" not in json.loads(plain.read_text())


def test_columns_are_chosen_by_words(fedfer, table):
    words = [f"predictions={table}", "true=predicted", "predicted=true", "groups=[gender]"]
    code, out, _ = fedfer("audit", *words, "words={happy: happiness, sad: sadness}")
    assert code == 0
    assert "who" not in out
    line = next(line for line in out.splitlines() if line.split()[1:2] == ["happiness"])
    assert line.split()[3] == "110"  # called happy, now taken for the truth


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        (["ture=x"], ConfigError, "Did you mean true"),
        (["ties=maybe"], ConfigError, "Use one of refuse, predicted, answer"),
        (["words=[a]"], ConfigError, "Write words={WORD: CLASS}"),
        (["words={cross:anger}"], ConfigError, "a space after each colon"),
        (["labels=[sad,happy,sad]"], ConfigError, "'sad' is named twice"),
        (["groups=[gender]", "labels=[happy]"], DataError, "'sad' is no class"),
        (["model=x"], ConfigError, "one model, one file"),
        (["labels=[sad,happy]", "groups=[gender]", "id=who"], DataError, "occurs twice"),
    ],
)
def test_mistakes_are_told_in_one_line(fedfer, refused, table, words, kind, said):
    assert refused(fedfer("audit", f"predictions={table}", *words), kind, said)


def test_a_file_that_is_not_there_is_refused(fedfer, refused, tmp_path):
    assert refused(fedfer("audit", f"predictions={tmp_path / 'none.csv'}"), DataError, "no such file")
    assert refused(fedfer("audit", "predictions="), ConfigError, "predictions=FILE.csv")


@pytest.fixture
def judged(fedfer, table, tmp_path):
    """Audit the table against the rules of a file: (exit code and prints, what was written)."""

    def run(text):
        rules, file = tmp_path / "tolerance.yaml", tmp_path / "audit.json"
        rules.write_text(text)
        words = [f"predictions={table}", "ignore=[who]", f"tolerance={rules}", f"--json={file}"]
        return fedfer("audit", *words), json.loads(file.read_text()) if file.exists() else None

    return run


GAP = "- {metric: equal_opportunity_difference, class: sadness, attribute: gender, limit: LIMIT}\n"


@pytest.mark.parametrize(
    ("limit", "kind", "verdict"),
    [("0.9", None, "pass"), ("0.5", EvidenceError, "not enough data"), ("0.1", ToleranceError, "fail")],
)
def test_verdicts_end_with_their_exit_code(judged, refused, limit, kind, verdict):
    found, written = judged("rules:\n" + GAP.replace("LIMIT", limit) + "- {metric: accuracy, limit: 0.1}\n")
    assert found[0] == 0 if kind is None else refused(found, kind, "tolerance.yaml", "of 2 limits")
    line = next(line for line in found[1].splitlines() if "equal_opportunity_difference" in line)
    assert verdict in line
    assert [each["verdict"] for each in written["verdicts"]] == [verdict, "pass"]
    assert written["verdicts"][0]["rule"]["class"] == "sadness"
    assert written["verdicts"][0]["figure"] == pytest.approx(30 / 40 - 5 / 30)
    assert written["figures"]["accuracy"] == pytest.approx(110 / 145)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rules: {", "cannot be read"),
        ("level: 0.9", "no list of rules"),
        ("[]", "no rules"),
        ("- {metric: accuracy}", "a value is missing"),
        ("- {metric: accuracy, limit: 0.5, klass: fear}", "unknown key 'klass'"),
        ("- {metric: accuracy, limit: high}", "expected float"),
        ("level: 0.2\nrules:\n- {metric: accuracy, limit: 0.5}", "a level of 0.2"),
        (GAP.replace("LIMIT", "0.1").replace("sadness", "fear"), "unknown 'fear'"),
    ],
)
def test_tolerance_files_are_read_strictly(judged, refused, text, said):
    assert refused(judged(text)[0], ConfigError, said)


def test_calibration_is_told_by_group(fedfer, tmp_path):
    path, file = tmp_path / "chances.csv", tmp_path / "audit.json"
    rows = ["fear,fear,.9,.1,a"] * 10 + ["anger,fear,.8,.2,b"] * 10 + ["fear,anger,.4,.6,c"] * 9
    path.write_text("\n".join(["true,predicted,p_fear,p_anger,group", *rows]))
    code, out, _ = fedfer("audit", f"predictions={path}", "--json", str(file))
    assert code == 0
    errors = json.loads(file.read_text())["source"]["calibration_error"]
    assert errors == {"group": {"a": pytest.approx(0.1), "b": pytest.approx(0.8), "c": None}}
    assert "expected calibration error" in out


def test_votes_of_people_are_judged_with_their_ties(fedfer, refused, tmp_path):
    """In the form of CREMA-D's table of votes, with two kinds of words and ties."""
    path, file = tmp_path / "votes.csv", tmp_path / "audit.json"
    votes = [("SAD", "S", "Male", 1)] * 6 + [("SAD", "N:S", "Male", 2)] * 4 + [("NEU", "N", "Female", 3)] * 12
    rows = [f"{i},{true},{vote},{sex},{actor}" for i, (true, vote, sex, actor) in enumerate(votes)]
    path.write_text("\n".join(["clip,played,face,gender,actor", *rows]))
    words = [f"predictions={path}", "true=played", "predicted=face", "id=clip", "subject=actor"]
    words += ["words={NEU: neutral, SAD: sad, N: neutral, S: sad}"]
    assert refused(fedfer("audit", *words), DataError, ":8, column face", "ties=answer")
    code, _, err = fedfer("audit", *words, "ties=answer", "--json", str(file))
    assert (code, err) == (0, "")
    found = json.loads(file.read_text())
    assert found["counts"]["labels"] == ["neutral", "sadness", "tie"]
    assert found["figures"]["recall"] == {"neutral": 1.0, "sadness": 0.6, "tie": None}
    assert found["figures"]["parity"]["gender"]["groups"]["Male"]["selection_rate"]["tie"] == 0.4
    assert found["figures"]["macro_f1"] == pytest.approx((1 + 2 * 6 / 16) / 2)
    assert found["people"] == {"gender": {"Female": 1, "Male": 2}}
