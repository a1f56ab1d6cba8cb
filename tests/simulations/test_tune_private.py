"""Choosing levers on drawn faces: what is told, what is tried within a budget, and that no picture is read."""

import dataclasses
import json
import shlex
import typing
from dataclasses import replace

import numpy as np
import pytest

import simulations.prepare as preparing
import simulations.tuning.search as searching
from client.plan import LocalWork, ServerWork
from client.strict import parse
from fer_models import errors
from fer_models.labels import EXPRESSIONS
from server.run_folder import RunFolder
from simulations.compose import composed
from simulations.trials import Trial, run_trials
from simulations.tuning.facts import FIGURES, Facts, draw_proxy, facts_of
from simulations.tuning.levers import FIRST, Levers, adjusted, beside, first
from simulations.tuning.outcome import choices, interval, words_of
from simulations.tuning.search import Point, Search, frontier

TINY = ("target_epsilon=8", "sites=2", "pictures=120", "tested=60", "nets=hog_linear", "faces=0", "workers=1")
TINY += ("shares=6,6,1", "budget_minutes=0.3")


@pytest.fixture
def sealed(monkeypatch):
    """Let any attempt to read a data set fail."""

    def read(*_, **__):
        raise AssertionError("a data set was read")

    monkeypatch.setattr(preparing, "read", read)


# What is told


def test_facts_are_read_as_they_are_written():
    facts = facts_of(["target_epsilon=1,8", "shares=[2, 1,1]", "nets=fer_nano", "sites=3", "alpha=0.5"])
    assert (facts.target_epsilon, facts.shares, facts.nets) == ((1.0, 8.0), (2.0, 1.0, 1.0), ("fer_nano",))
    assert (facts.classes, facts.uneven, facts.trained, facts.judged) == (3, True, 3000, 2000)
    assert not facts_of(["shares=1,1"]).uneven
    assert facts_of([]) == Facts()


PRIVATE = [
    "data.root=/nowhere",
    "data=fer2013",
    "data.reader=fer2013",
    "experiment=fer2013",
    "pretrain.weights=a.safetensors",
]
REFUSED = [
    *((word, errors.PrivacyError, "by looking at pictures, which no ledger would count") for word in PRIVATE),
    ("rows=3", errors.ConfigError, "unknown fact 'rows=3'"),
    ("sitse=3", errors.ConfigError, "Did you mean sites"),
    ("privacy.clip=2", errors.ConfigError, "unknown fact"),
    ("sites", errors.ConfigError, "unknown fact 'sites'"),
    ("sites=0", errors.ConfigError, "no sites (sites)"),
    ("sites=[", errors.ConfigError, "cannot read '['"),
    ("target_epsilon=0", errors.ConfigError, "(target_epsilon)"),
    ("target_epsilon=x", errors.ConfigError, "target_epsilon"),
    ("shares=1,0", errors.ConfigError, "a class without a share"),
    ("nets=resnet", errors.ConfigError, "Use one of fer_nano"),
    ("noise=shared", errors.ConfigError, "(noise)"),
    ("unit=subject", errors.ConfigError, "Give people=N"),
    ("people=5000", errors.ConfigError, "more people than pictures"),
    ("budget_minutes=0", errors.ConfigError, "no time"),
    ("by=speed", errors.ConfigError, "(by). Use one of accuracy"),
    ("--json", errors.ConfigError, "--json without a file"),
    ("size=8", errors.ConfigError, "size is 8"),
]


@pytest.mark.parametrize(("word", "kind", "said"), REFUSED, ids=[each[0] for each in REFUSED])
def test_what_cannot_be_is_one_line_and_no_folder(fedfer, refused, sealed, tmp_path, word, kind, said):
    assert refused(fedfer("tune-private", "--run-dir", str(tmp_path / "run"), word), kind, said)
    assert not (tmp_path / "run").exists()


def test_no_fact_can_name_a_file():
    """Every fact is a number, a list of numbers, or one of a few words; nothing that is told leads to a file."""
    for name, kind in typing.get_type_hints(Facts).items():
        inner = set(typing.get_args(kind)) - {...} or {kind}
        assert inner <= {int, float, str}, name
        if str in inner:
            with pytest.raises(errors.ConfigError):
                facts_of([f"{name}=/nowhere/private"])


def test_the_proxy_is_drawn_after_the_facts_and_upside_down(sealed):
    facts = facts_of(["sites=3", "pictures=100", "people=20", "tested=60", "shares=6,3,1", "size=32"])
    proxy = draw_proxy(facts)
    samples = proxy.samples
    assert samples.labels == EXPRESSIONS[:3]
    assert samples.pictures.shape == (360, 32, 32)
    assert len(np.unique(samples.subject)) == 72, "five pictures of each"
    assert len(samples.rows("test")) == 60
    assert proxy.partition.sites == 3
    share = np.bincount(samples.label, minlength=3) / 360
    assert share == pytest.approx([0.6, 0.3, 0.1], abs=0.06)
    upright = preparing.load(composed([*facts.words(), "seed=0"])[0].data, 0)
    assert np.array_equal(samples.pictures, upright.pictures[:, ::-1])


# What can be chosen


@pytest.mark.parametrize("noise", ["site", "distributed"])
def test_every_choice_is_a_run_that_can_be_asked_for(noise):
    facts = replace(Facts(), noise=noise, shares=(2.0, 1.0), classes=2)
    begin = first(noise, (), pretraining=True)
    assert {levers.kind for levers in begin} == {levers.kind for levers in FIRST}
    for levers in [*begin, *beside(begin[0]), *adjusted(begin[1])]:
        point = Point(levers, 3.0, {name: [0.5] for name in FIGURES})
        settings, _ = composed(words_of(point, facts))
        local = parse(LocalWork, dataclasses.asdict(settings.local), "local")
        server = parse(ServerWork, {**dataclasses.asdict(settings.server), "weighting": "uniform"}, "server")
        assert (settings.model.name, local.scope, local.rate) == (levers.net, levers.scope, levers.rate)
        assert (server.rounds, server.learning_rate) == (levers.rounds, levers.learning_rate)
        assert (settings.privacy.noise, settings.privacy.target_epsilon) == (noise, 3.0)
        assert settings.privacy.clip == levers.clip
        assert settings.pretrain.faces == (20_000 if levers.pretrained else 0)
        assert server.adjustment == levers.tau
        assert settings.privacy.counts_epsilon == (0.3 if levers.tau else None)


def test_without_drawn_faces_to_start_from_no_choice_needs_them():
    assert {levers.name for levers in first("site", ("fer_nano", "hog_linear"), pretraining=False)} == {
        "hog_linear",
        "fer_nano",
    }


def test_neighbours_differ_in_one_lever_or_in_rounds_and_step():
    base = Levers("hog_linear")
    for levers in beside(base):
        changed = {
            f.name for f in dataclasses.fields(Levers) if getattr(levers, f.name) != getattr(base, f.name)
        }
        assert len(changed) == 1 or changed == {"rounds", "learning_rate"}


# What is tried: the search alone, with results that a formula gives in place of runs


class Made:
    """Results by formula: hog_linear is best, larger epsilons are better, adjusting moves accuracy to recall."""

    def __init__(self, monkeypatch, refused=()):
        self.run, self.refused = [], refused
        monkeypatch.setattr(searching, "run_trials", self)

    def __call__(self, trials, workers, told):
        for trial in trials:
            if trial.result is None:
                self.run.append(trial)
                RunFolder(trial.folder).write_json(f"trials/{trial.key}.json", self.result(trial))
            told(trial, trial.result)

    def result(self, trial):
        told = dict(word.split("=", 1) for word in trial.words)
        if told["model"] in self.refused:
            return {"refused": "noise is all there would be"}
        good = 0.1 * (told["model"] == "hog_linear") + 0.02 * float(told["privacy.target_epsilon"])
        good += 0.01 * (told["server.rounds"] == "120") + 0.001 * int(told["seed"])
        tau = float(told.get("server.adjustment", 0))
        return {
            "accuracy": 0.5 + good - 0.02 * tau,
            "balanced_accuracy": 0.3 + good + 0.1 * tau,
            "worst_recall": 0.2 * tau,
        }


def searched(facts, folder):
    search = Search(facts, draw_proxy(replace(facts, pictures=20, tested=20)), folder, lambda _: None)
    search.run()
    return search


FACTS = Facts(target_epsilon=(8.0, 1.0, 3.0), shares=(3.0, 1.0), classes=2, budget_minutes=1000.0, workers=2)


def test_a_search_tries_every_kind_then_neighbours_then_every_epsilon(monkeypatch, tmp_path):
    made = Made(monkeypatch)
    search = searched(FACTS, tmp_path)
    tried = list(search.tried.values())
    assert {each.levers.kind for each in tried[: len(FIRST)]} == {levers.kind for levers in FIRST}
    assert {each.epsilon for each in tried[: len(FIRST) + 7]} == {3.0}
    points = frontier(search)
    assert [point.epsilon for point in points] == sorted(point.epsilon for point in points)
    for epsilon in (1.0, 3.0, 8.0):
        own = [point for point in points if point.epsilon == epsilon]
        assert {point.runs for point in own} == {3}
        assert len(own) == 5, "three kinds, and the best one adjusted halfway and in full"
        assert own[0].levers == Levers("hog_linear", rounds=120, learning_rate=0.03)
        assert own[0].mean("accuracy") == pytest.approx(0.5 + 0.1 + 0.02 * epsilon + 0.01 + 0.001)
    named = [(e, name, point.levers.tau) for e, name, point in choices(points, "accuracy")]
    assert named == [
        (e, n, t) for e in (1.0, 3.0, 8.0) for n, t in (("accuracy", 0.0), ("balanced_accuracy", 1.0))
    ]
    assert len(made.run) == len(search.tried)


def test_a_budget_limits_what_is_planned_and_the_best_is_tried_at_every_epsilon(monkeypatch, tmp_path):
    made = Made(monkeypatch)
    monkeypatch.setattr(searching.time, "monotonic", lambda: 0.0)
    for minutes, most in ((0.001, 3), (2, 25)):
        made.run.clear()
        search = searched(replace(FACTS, budget_minutes=minutes), tmp_path / str(minutes))
        assert 3 <= len(made.run) <= most
        assert {point.epsilon for point in frontier(search)} == {1.0, 3.0, 8.0}
        assert not any(each.levers.pretrained for each in search.tried.values()), "20,000 faces are too dear"


def test_a_search_that_takes_too_long_stops_and_goes_on(monkeypatch, tmp_path):
    made = Made(monkeypatch)
    with monkeypatch.context() as patched:
        ticks = iter(range(10**6))
        patched.setattr(searching.time, "monotonic", lambda: 20_000 * next(ticks))
        search = searched(FACTS, tmp_path)
    assert search.stopped
    assert 5 <= len(search.tried) < 20
    assert {point.epsilon for point in frontier(search)} == {1.0, 3.0, 8.0}, "cut short, and yet of use"
    again = searched(FACTS, tmp_path)
    assert not again.stopped
    assert len({trial.key for trial in made.run}) == len(made.run), "nothing is run twice"
    whole = searched(FACTS, tmp_path / "whole")
    assert list(again.tried.values()) == list(whole.tried.values())


def test_refused_trials_are_left_out(monkeypatch, tmp_path):
    Made(monkeypatch, refused=("hog_linear",))
    points = frontier(searched(FACTS, tmp_path / "some"))
    assert points
    assert all(point.levers.net != "hog_linear" for point in points)
    Made(monkeypatch, refused=("hog_linear", "fer_nano", "fer_small"))
    assert frontier(searched(FACTS, tmp_path / "all")) == []


def test_intervals_by_hand():
    assert interval([0.5]) is None
    low, high = interval([0.4, 0.6])
    assert (low, high) == pytest.approx((0.5 - 12.7062 * 0.1, 0.5 + 12.7062 * 0.1), abs=1e-4)


# Real trials


def test_weights_to_start_from_are_learned_once(sealed, tmp_path):
    facts = Facts(sites=2, pictures=40, tested=40, faces=60, workers=1)
    proxy = draw_proxy(facts)
    words = (*facts.words(), "model=fer_nano", "local=private", "server=fedadam_private", "local.scope=head")
    words += ("server.rounds=2", "privacy.target_epsilon=50", "pretrain=faces", "pretrain.faces=60")
    trials = [Trial((*words, f"seed={seed}"), proxy.samples, proxy.partition, tmp_path) for seed in (0, 1)]
    hopeless = replace(trials[0], words=(*words, "privacy.target_epsilon=0.1", "seed=2"))
    seen = []
    run_trials([*trials, hopeless], 1, lambda trial, result: seen.append(result))
    assert len(list((tmp_path / "starts").iterdir())) == 1
    assert [set(result) >= {*FIGURES, "epsilon", "cpu_seconds"} for result in seen] == [True, True, False]
    assert all(40 < result["epsilon"] <= 50 for result in seen[:2])
    assert "useful" in seen[2]["refused"]


def test_a_tiny_search_from_the_command_line(fedfer, sealed, tmp_path, monkeypatch):
    monkeypatch.setattr(searching.time, "monotonic", lambda: 0.0)  # a busy machine must not end it early
    target, folder = tmp_path / "found.json", tmp_path / "run"
    command = ("tune-private", *TINY, "--run-dir", str(folder), "--json", str(target))
    code, out, err = fedfer(*command)
    assert (code, err) == (0, "")
    found = json.loads(target.read_text())
    assert found == json.loads((folder / "tune.json").read_text())
    assert found["complete"]
    assert {point["tau"] for point in found["frontier"]} >= {0.0, 0.5}
    for point in found["frontier"]:
        assert point["target_epsilon"] == 8
        assert all(0 <= point[name] <= 1 for name in FIGURES)
    accuracy = [point["accuracy"] for point in found["frontier"]]
    assert accuracy == sorted(accuracy, reverse=True)
    best = found["chosen"][0]
    assert (best["by"], best["accuracy"]) == ("accuracy", accuracy[0])
    (line,) = (line for line in out.splitlines() if f"{' '.join(best['words'])}" in line)
    assert line.strip().startswith("fedfer simulate data=... data.root=DIR ")
    composed(shlex.split(line)[4:])
    for trial in found["trials"]:
        assert 7.9 < trial["epsilon"] <= 8

    times = {path: path.stat().st_mtime_ns for path in (folder / "trials").iterdir()}
    assert fedfer(*command)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in (folder / "trials").iterdir()} == times
    assert json.loads(target.read_text()) == found
