"""Sweeps: rates that are chosen, cells that cannot run, and pictures and tables of what did."""

import contextlib
import csv
import io
import json
import xml.etree.ElementTree as tree

import pytest
from rich.console import Console

from fer_models.errors import ConfigError, RunFolderError
from simulations.sweeps import run as running
from simulations.sweeps.cells import FEDERATED, KINDS, LOCAL, Cell, Kind, asked, kind_of
from simulations.sweeps.facts import COLUMNS, figures_of, to_csv, to_markdown
from simulations.sweeps.picture import curves, moves

TINY = [
    *(
        "experiment=sweeps",
        "data.options.count=160",
        "data.size=48",
        "partition.sites=3",
        "server.rounds=4",
        "server.schedule=constant",
    ),
    *("server.evaluate_every=2", "server.ema=0", "aggregation=plain", "engine.workers=1", "seed=0,1"),
]
GROUP = "4 steps"
RATES = ("server.learning_rate=1e-9", "server.learning_rate=0.05", "server.learning_rate=1e18")
"""Too small, good, and one with which training diverges."""
SVG = "{http://www.w3.org/2000/svg}"


def small(curves=False):
    """Two lines, one with a rate to choose, and a cell whose sites ask for more pictures than there are."""
    cells = (
        Cell(GROUP, "chosen", "a", (), RATES),
        Cell(GROUP, "plain", "a", ()),
        Cell(GROUP, "plain", "b", ("partition.alpha=0.05",)),
        Cell(GROUP, "impossible", "b", ("partition.minimum=900",)),
    )
    return Kind("experiment=sweeps", cells, {GROUP: "an axis"}, ("0",), curves)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The folder of a sweep that was killed in the midst and gone on with, and what it printed."""
    folder = tmp_path_factory.mktemp("sweep") / "run"
    words, real, begun = [*TINY, f"hydra.run.dir={folder}"], running.Sweep.trained, []

    def train(self, method, seed, console):
        begun.append((method, seed))
        if len(begun) == 4:
            raise KeyboardInterrupt
        real(self, method, seed, console)

    with pytest.MonkeyPatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(running.Sweep, "trained", train)
        running.run(words, small())
    whole = {path: path.stat().st_mtime_ns for path in folder.glob("**/summary.json")}
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert running.run(words, small(curves=True)) == 0
    assert {path: path.stat().st_mtime_ns for path in whole} == whole
    assert len(whole) >= 4
    return folder, out.getvalue(), json.loads((folder / "summary.json").read_text())


def test_the_better_rate_is_chosen_with_pictures_of_its_own(swept):
    folder, _, facts = swept
    tried = [
        json.loads((folder / "tuning" / f"4_steps-chosen-a-{i}" / "summary.json").read_text())["systems"][
            "federated"
        ]
        for i in (0, 1)
    ]
    assert tried[0]["balanced_accuracy"] < tried[1]["balanced_accuracy"]
    assert facts["systems"]["4_steps-chosen-a"]["chosen"] == "server.learning_rate=0.05"
    assert facts["systems"]["4_steps-plain-a"]["chosen"] == ""
    assert not (folder / "tuning" / "4_steps-chosen-a-2" / "summary.json").exists()  # it diverged
    assert "seed: 100" in (folder / "tuning" / "4_steps-chosen-a-1" / "config.yaml").read_text()
    assert "learning_rate: 0.05" in (folder / "4_steps-chosen-a-seed-1" / "config.yaml").read_text()


def test_a_cell_that_cannot_run_is_left_out_with_the_reason(swept):
    _, out, facts = swept
    assert list(facts["refused"]) == ["4_steps-impossible-b"]
    assert "900" in facts["refused"]["4_steps-impossible-b"]
    assert "left out: 4_steps-impossible-b" in out
    assert len(facts["systems"]) == 3


def test_figures_are_means_over_the_seeds_with_their_intervals(swept):
    folder, _, facts = swept
    for key, found in facts["systems"].items():
        seeds = [
            json.loads((folder / f"{key}-seed-{seed}" / "summary.json").read_text())["systems"]["federated"]
            for seed in (0, 1)
        ]
        for name in ("accuracy", "worst_recall", "bytes_up", "cpu_seconds"):
            assert found[name] == pytest.approx(sum(each[name] for each in seeds) / 2)
        low, high = found["accuracy_interval"]
        assert low <= found["accuracy"] <= high
        assert found["curve"]["round"] == [2, 4]
        assert found["curve"]["accuracy"][-1] == pytest.approx(found["accuracy"])
    lines = list(csv.DictReader(io.StringIO((folder / "table.csv").read_text())))
    assert len(lines) == 3 * len(COLUMNS)
    assert {line["seeds"] for line in lines} == {"2"}


def test_pictures_stand_alone_and_tables_read(swept):
    folder, _, facts = swept
    for svg in ((folder / "picture.svg").read_text(), curves(facts), moves({**facts, "curves": False})):
        root = tree.fromstring(svg)
        assert root.tag == f"{SVG}svg"
        said = "".join(root.itertext())
        assert all(word in said for word in ("accuracy", "worst recall", "chosen", "plain"))
        assert "impossible" not in said
        assert "http" not in svg.replace("http://www.w3.org/2000/svg", "")
    told = to_markdown(facts)
    assert "`server.learning_rate=0.05`" in told
    widths = {line.count("|") for line in told.splitlines() if line.startswith("|")}
    assert len(widths) == 1
    page = (folder / "report.html").read_text()
    assert "<svg" in page and "<script" not in page


def test_the_words_choose_cells_and_are_refused_where_cells_choose():
    methods, sweeps = KINDS
    assert kind_of(["experiment=methods"]) is methods and kind_of(["experiment=study"]) is None
    assert len(methods.cells) == len(LOCAL) * len(FEDERATED)
    for kind in KINDS:
        assert len({cell.key for cell in kind.cells}) == len(kind.cells)
        assert {cell.group for cell in kind.cells} == set(kind.groups)
    found = asked(["experiment=methods", "only=1 epoch", "server.rounds=3", "seed=4,5"], methods)
    assert found.seeds == (4, 5) and len(found.methods) == len(FEDERATED)
    assert {(each.server.rounds, each.local.amount) for each in found.methods.values()} == {(3, 16)}
    assert {each.seed for choices in found.choices.values() for each in choices} == {100}
    assert {each.local.amount for choices in found.choices.values() for each in choices} == {16}
    assert set(found.choices) == set(found.methods)
    assert found.choices["1_epoch-fedadam"][2].server.learning_rate == 0.05
    assert found.options["1_epoch-scaffold"][2].local.learning_rate == 0.3
    assert found.methods["1_epoch-scaffold"].local.scaffold
    assert {each.pretrain.seed for each in found.methods.values() if each.pretrain.faces} == {101}
    assert asked([sweeps.word, "only=skew", "partition.sites=4"], sweeps).seeds == (0, 1, 2)
    for kind, words, match in (
        (sweeps, ["only=rates"], "unknown group 'rates'"),
        (sweeps, ["server=fedadam"], "takes no server"),
        (sweeps, ["seed=one"], "no whole number"),
        (sweeps, ["only=skew", "partition.alpha=2"], "takes no partition.alpha"),
        (sweeps, ["only=sites", "partition.sites=4"], "takes no partition.sites"),
        (methods, ["local=prox"], "takes no local"),
        (methods, ["local.proximal=0.5"], "takes no local.proximal"),
        (methods, ["local.learning_rate=0.05"], "takes no local.learning_rate"),
        (methods, ["only=1 epoch", "local.amount=8"], "takes no local.amount"),
    ):
        with pytest.raises(ConfigError, match=match):
            asked([kind.word, *words], kind)


def test_no_rate_and_no_start_comes_from_people_of_the_test_part():
    methods = KINDS[0]
    for words, match in (
        (["seed=0,100"], "seed 100 is kept"),
        (["seed=101"], "seed 101 is kept"),
        (["only=1 step", "data=fer2013", "data.root=anywhere"], "fer2013 has no others"),
    ):
        with pytest.raises(ConfigError, match=match):
            asked([methods.word, *words], methods)


def test_methods_do_not_overwrite_the_tables_of_sweeps(swept):
    folder, _, _ = swept
    methods = asked([KINDS[0].word, "only=1 step", "seed=0", f"hydra.run.dir={folder}"], KINDS[0])
    with pytest.raises(RunFolderError, match="another configuration"):
        running.Sweep(methods).run(Console(file=io.StringIO()))


def test_epsilon_is_the_largest_over_the_seeds(swept):
    folder, _, _ = swept
    summary = json.loads((folder / "4_steps-plain-a-seed-0" / "summary.json").read_text())
    runs = [{**summary["systems"]["federated"], "epsilon": epsilon} for epsilon in (7.9, 8.0)]
    found = figures_of(small().cells[1], runs)
    assert found["epsilon"] == 8.0
    line = next(line for line in to_csv({"a": found}).splitlines() if ",epsilon," in line)
    assert line == "4 steps,plain,a,epsilon,8.0,,,2"


def test_a_rate_that_was_chosen_with_other_settings_is_not_taken(swept):
    folder, _, _ = swept
    other = asked([*TINY, "local.gradient_clip=1", f"hydra.run.dir={folder}"], small())
    sweep = running.Sweep(other)
    with pytest.raises(RunFolderError, match="another configuration"):
        sweep._tried("4_steps-chosen-a", 0, other.choices["4_steps-chosen-a"][0], Console(file=io.StringIO()))
