"""What is shown of a study: rounds, sites that come, go and refuse, and how a run is doing."""

import io
import json

import pytest
from rich.console import Console

import server.studying as studying
from client.alone import alone
from fer_models.errors import ConfigError
from server.run_folder import RunFolder
from server.run_state import LOCK, OUTCOME, PROGRESS, SITES, run_said
from server.watching import changes, said, watching
from simulations.planning import planned

ROUND = {"round": 2, "rounds": 9, "seconds": 3.14, "bytes_up": 1_500_000}
WHY = {"kind": "PolicyError", "what": "the run would cost too much", "where": "site-1, privacy.epsilon_a_run"}
ALL = {"present": ["site-0", "site-1", "site-2"], "away": [], "refused": {}}
FEW = {"present": ["site-0"], "away": ["site-2"], "refused": {"site-1": WHY}}


def test_a_round_is_told_in_a_line():
    assert said(ROUND) == "round 2/9  3.1 s"
    assert said({**ROUND, "lost": "too few"}) == "round 2/9  lost: too few  3.1 s"
    told = {**ROUND, "accuracy": 0.5, "worst_recall": 0.25, "epsilon": 1.234}
    assert said(told) == "round 2/9  accuracy 0.500  worst recall 0.250  epsilon 1.23  3.1 s"


def test_sites_that_come_go_and_refuse_are_told_once():
    assert list(changes({}, ALL)) == []
    assert list(changes(ALL, FEW)) == [
        "site-1 refuses by privacy.epsilon_a_run: the run would cost too much",
        "site-2 is away; the rounds go on without it",
    ]
    assert list(changes(FEW, FEW)) == []
    assert list(changes(FEW, ALL)) == ["site-1 takes part again", "site-2 takes part again"]


@pytest.mark.parametrize("terminal", [False, True])
def test_a_study_is_shown_on_a_terminal_and_in_a_file(terminal):
    out = io.StringIO()
    with watching(Console(file=out, force_terminal=terminal, width=120)) as show:
        for event in (
            {"sites": ALL},
            ROUND,
            {"sites": FEW},
            {"note": "it goes on"},
            {**ROUND, "lost": "few"},
        ):
            show(event)
    text = out.getvalue()
    for words in ("2/9", "site-1 refuses by privacy.epsilon_a_run", "it goes on", "lost: few"):
        assert words in text
    assert ("1 of 3 sites take part" in text) is terminal


def test_the_status_of_a_run_is_that_of_its_folder(tmp_path):
    assert list(run_said(tmp_path)) == [f"run {tmp_path}: does not run"]
    (tmp_path / PROGRESS).write_text(json.dumps(ROUND) + "\n")
    (tmp_path / SITES).write_text(json.dumps(FEW))
    with alone(tmp_path / LOCK, "held"):
        assert list(run_said(tmp_path)) == [
            f"run {tmp_path}: runs, round 2 of 9",
            "  site-1 refuses by privacy.epsilon_a_run: the run would cost too much",
            "  site-2 is away",
        ]
    (tmp_path / OUTCOME).write_text(json.dumps({"done": True}))
    assert next(iter(run_said(tmp_path))) == f"run {tmp_path}: is done, round 2 of 9"


def test_settings_make_the_plan_that_data_deal_makes(tmp_path, fedfer):
    words = ["data.options.count=120", "model=hog_linear", "aggregation=secure", "server.rounds=2"]
    assert fedfer("data", "deal", "partition.sites=3", *words, "--run-dir", str(tmp_path / "dealt"))[0] == 0
    assert planned(words, 3).text == (tmp_path / "dealt" / "plan.json").read_text()
    assert planned(words, 4).secure.sites == 4
    with pytest.raises(ConfigError):
        planned(["no.such.key=1"], 3)


@pytest.mark.parametrize(
    ("word", "where"), [("pretrain=faces", "pretrain"), ("distill.teacher=runs/large", "distill.teacher")]
)
def test_settings_that_no_plan_holds_are_refused_and_not_passed_over(word, where, fedfer, tmp_path):
    with pytest.raises(ConfigError, match="a plan begins from the weights of its seed") as error:
        planned([word, "data.options.count=120", "model=hog_linear", "server.rounds=2"], 3)
    assert error.value.where == where
    words = [word, "data.options.count=120", "model=hog_linear", "partition.sites=3"]
    code, _, said = fedfer("data", "deal", *words, "--run-dir", str(tmp_path / "dealt"))
    assert code == ConfigError.exit_code
    assert f"({where})" in said
    assert not (tmp_path / "dealt").exists()


def test_a_run_goes_on_where_the_process_that_it_looks_on_took_the_statistics_alone(
    tmp_path, monkeypatch, capsys
):
    begun, folder = [], RunFolder(tmp_path)

    def followed(*_):
        if len(begun) == 2:
            folder.write_json("state.json", {"status": "complete"})
        return iter(())

    monkeypatch.setattr(studying, "asked", lambda *_: (None, None))
    monkeypatch.setattr(studying, "run_folder", lambda *_: tmp_path)
    monkeypatch.setattr(studying, "prepared", lambda *_: folder)
    monkeypatch.setattr(studying, "start", lambda *_: begun.append(1))
    monkeypatch.setattr(studying, "followed", followed)
    assert studying.run(["DIR", "PLAN.json"], planned) == 0
    assert len(begun) == 2
    assert "done:" in capsys.readouterr().out
