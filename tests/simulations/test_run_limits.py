"""Limits of a run: refused before training when they do not fit, held against the counts when it has ended."""

import json
import shutil

import pytest

from fer_models.errors import ConfigError, EvidenceError, ToleranceError
from simulations.cli import main

KEPT = "- {metric: accuracy, limit: 0.0}\n"
BROKEN = "- {metric: accuracy_gap, attribute: gender, limit: 1.0}\n- {metric: accuracy, limit: 0.99}\n"
OPEN = "- {metric: balanced_accuracy, limit: LIMIT}\n"


@pytest.fixture
def limits(tmp_path):
    """Write a tolerance file whose name means something to Hydra."""

    def write(text):
        file = tmp_path / "limits (a)=1.yaml"
        file.write_text(text)
        return file

    return write


@pytest.fixture
def finished(compared, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(compared, folder)
    return folder


@pytest.fixture
def held(words, capsys):
    """Ask for a finished run again, with limits: exit code and last line of errors."""

    def run(folder, file):
        with pytest.raises(SystemExit) as ended:
            main(["compare", *words, f"tolerance={file}", "--run-dir", str(folder)])
        return ended.value.code, capsys.readouterr()

    return run


def test_a_finished_run_is_held_against_limits_without_training_again(finished, held, limits):
    before = json.loads((finished / "summary.json").read_text())
    code, told = held(finished, limits(KEPT))
    assert (code, told.err) == (0, "")
    assert "Verdicts" in told.out
    summary = json.loads((finished / "summary.json").read_text())
    found = summary.pop("tolerance")
    assert summary == before
    assert (found["level"], [each["verdict"] for each in found["verdicts"]]) == (0.95, ["pass"])
    assert "The limit is kept." in (finished / "report.html").read_text()


def test_a_broken_limit_ends_with_its_code_when_all_is_written(finished, held, limits):
    code, told = held(finished, limits(BROKEN))
    assert code == ToleranceError.exit_code
    assert "error: 1 of 2 limits is broken" in told.err
    verdicts = json.loads((finished / "summary.json").read_text())["tolerance"]["verdicts"]
    assert [each["verdict"] for each in verdicts][1] == "fail"
    assert "1 of 2 limits is broken" in (finished / "report.html").read_text()


def test_an_undecided_limit_has_a_code_of_its_own(finished, held, limits):
    figure = json.loads((finished / "summary.json").read_text())["systems"]["federated"]["balanced_accuracy"]
    code, _ = held(finished, limits(OPEN.replace("LIMIT", str(figure))))
    assert code == EvidenceError.exit_code
    assert "not enough data to decide" in (finished / "report.html").read_text()


def test_the_run_door_comes_to_the_same_verdicts(finished, held, limits, fedfer, tmp_path):
    file, record = limits(BROKEN), tmp_path / "audit.json"
    held(finished, file)
    code, _, _ = fedfer("audit", f"run={finished}", f"tolerance={file}", f"--json={record}")
    assert code == ToleranceError.exit_code
    verdicts = json.loads((finished / "summary.json").read_text())["tolerance"]["verdicts"]
    assert json.loads(record.read_text())["verdicts"] == verdicts


def test_people_of_the_groups_are_known_where_pictures_name_them(finished):
    summary = json.loads((finished / "summary.json").read_text())
    assert set(summary["people"]) == {"gender", "age", "skin_tone"}
    totals = {sum(groups.values()) for groups in summary["people"].values()}
    pictures = sum(summary["systems"]["federated"]["support"].values())
    assert len(totals) == 1, "each person has one group of each attribute"
    assert 0 < totals.pop() < pictures


@pytest.mark.parametrize(
    ("command", "text", "said"),
    [
        ("simulate", "- {metric: recall, class: joy, limit: 0.5}\n", "unknown 'joy'"),
        ("simulate", "- {metric: accuracy_gap, attribute: accent, limit: 0.5}\n", "unknown 'accent'"),
        ("simulate", "rules: 3\n", "no list of rules"),
        ("baseline", KEPT, "Use fedfer simulate or fedfer compare"),
    ],
)
def test_limits_that_do_not_fit_are_refused_before_anything_runs(
    fedfer, refused, words, limits, tmp_path, command, text, said
):
    folder = tmp_path / "run"
    found = fedfer(command, *words, f"tolerance={limits(text)}", "--run-dir", str(folder))
    assert refused(found, ConfigError, said)
    assert not folder.exists()


def test_a_table_of_methods_holds_no_limits(fedfer, refused, words, limits, tmp_path):
    asked = [*words, "fairness=none,focal", f"tolerance={limits(KEPT)}", "--run-dir", str(tmp_path / "run")]
    assert refused(fedfer("compare", *asked), ConfigError, "fedfer audit run=FOLDER")
