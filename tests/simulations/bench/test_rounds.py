import json
import math

import pytest

from fer_models.errors import ConfigError
from simulations.bench import rounds
from simulations.bench.child import bare, ours
from simulations.bench.rounds import Case, interleaved
from simulations.bench.run import machine, parsed, run


@pytest.mark.parametrize("case", [Case("cnn_tiny", 3, 20), Case("cnn_tiny", 4, 10, together=2)])
def test_our_rounds_end_with_the_weights_of_the_bare_loop(case):
    mine, theirs, difference = interleaved(case, repeats=2)
    assert difference < 1e-5
    assert len(mine.cpu) == 2
    assert len(theirs.wall) == 4
    assert all(math.isfinite(each) and each > 0 for each in mine.cpu + theirs.wall)


def test_two_workers_do_the_same_work():
    assert interleaved(Case("cnn_tiny", 3, 20, workers=2), repeats=1)[2] < 1e-5


def test_children_measure_memory(capsys):
    assert bare(2)["rss"] > 10_000
    assert ours(2)["rss"] > 10_000


def test_figures_are_written_with_the_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(
        rounds, "bench", lambda options: {"ratio": 0.5, "sites": float(len(options.overrides))}
    )
    assert run(["rounds", "--json", str(tmp_path / "found.json"), "seed=1"]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["name"] == "rounds"
    assert found["figures"] == {"ratio": 0.5, "sites": 1.0}
    assert found["machine"]["cores"] == machine()["cores"]


@pytest.mark.parametrize(
    "words",
    [[], ["nothing"], ["rounds", "--jsn", "x"], ["rounds", "--json"], ["fer2013"], ["rounds", "--data="]],
)
def test_wrong_words_are_refused(words):
    with pytest.raises(ConfigError):
        run(words)


def test_words_become_options(tmp_path):
    found = parsed(["--data", str(tmp_path), "hydra.run.dir='kept'", "server.rounds=2"])
    assert (found.data, str(found.run_dir), found.overrides) == (tmp_path, "kept", ["server.rounds=2"])
