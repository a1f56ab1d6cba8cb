"""A whole ladder from the command line: every rung over two seeds, killed and gone on with, its table and page."""

import contextlib
import csv
import io
import json
import re
import xml.etree.ElementTree as tree

import pytest

from server.run_folder import RunFolder
from simulations.cli import main
from simulations.ladder import run as running
from simulations.ladder.page import render
from simulations.ladder.rungs import RUNGS, TRAININGS

TINY = [
    *("experiment=study", "seed=0,1", "data.options.count=360", "data.options.pictures_per_person=1"),
    *("partition=iid", "partition.sites=3", "partition.mixed=0", "server.rounds=2"),
    *("privacy.target_epsilon=8", "privacy.allow_useless=true", "baseline.evaluations=1", "engine.workers=1"),
]


class Killed(BaseException):
    """Stands for a signal: nothing of ours catches it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ladder") / "run"


@pytest.fixture(scope="module")
def ladder(folder):
    """What a ladder printed and found that was killed before its fourth training and gone on with."""
    words = ["compare", *TINY, "--run-dir", str(folder)]
    begun, real = [], running.Ladder.trained

    def train(*arguments):
        begun.append(1)
        if len(begun) == 4:
            raise Killed
        real(*arguments)

    with pytest.MonkeyPatch.context() as patched, pytest.raises(Killed):
        patched.setattr(running.Ladder, "trained", train)
        main(words)
    whole = {path: path.stat().st_mtime_ns for path in folder.glob("*-seed-0/**/*.safetensors")}
    assert len(whole) >= 3
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0
    assert {path: path.stat().st_mtime_ns for path in whole} == whole
    return words, out.getvalue(), json.loads((folder / "summary.json").read_text())


def test_all_rungs_of_all_seeds_are_in_one_table(ladder, folder):
    _, out, facts = ladder
    assert facts["order"] == [rung.key for rung in RUNGS]
    assert (facts["study"], facts["seeds"], facts["refused"]) == ("ladder", [0, 1], {})
    for rung in RUNGS:
        row = facts["systems"][rung.key]
        for seed in (0, 1):
            place = folder / f"{rung.training}-seed-{seed}" / "summary.json"
            system = json.loads(place.read_text())["systems"][rung.system]
            assert row["accuracy_seeds"][seed] == system["accuracy"]
            assert row["cpu_seconds_seeds"][seed] == system["cpu_seconds"]
        assert rung.name in out
    for words in ("Means over seeds 0, 1", "lost most", "the change from the rung before"):
        assert words in out


def test_one_split_of_a_seed_is_shared_by_all_rungs(ladder, folder):
    for seed in (0, 1):
        assert (
            len({(folder / f"{name}-seed-{seed}" / "partition.json").read_bytes() for name in TRAININGS}) == 1
        )


def test_epsilon_is_claimed_by_private_rungs_and_their_nets_audited(ladder):
    systems = ladder[2]["systems"]
    claimed = {name for name, found in systems.items() if found["epsilon"] is not None}
    assert claimed == {"site_noise", "distributed_noise", "debiased", "int8"}
    assert {name for name, found in systems.items() if found["audited"]} == claimed - {"int8"}
    for name in claimed - {"int8"}:
        assert 7 < systems[name]["epsilon"] <= 8
        assert systems[name]["audited"]["verdict"] == "consistent"


def test_the_edge_net_is_small_and_costs_more_than_its_training(ladder):
    facts = ladder[2]
    before, small = (facts["systems"][name] for name in ("debiased", "int8"))
    assert small["bytes_up"] == before["bytes_up"] > 0
    assert small["cpu_seconds"] > before["cpu_seconds"]
    assert small["bytes_up_change_interval"] == [0, 0]
    assert facts["edge_of"] == "debiased"


def test_the_page_holds_every_rung_and_loads_nothing(ladder, folder):
    page = (folder / "report.html").read_text()
    for words in (*(rung.what for rung in RUNGS[1:3]), "Who paid", "Pareto", "gender man", "at least 0.00"):
        assert words in page.replace("&#39;", "'")
    assert not re.search(r"<script|https?://|src=", page)
    table = list(csv.DictReader((folder / "ladder.csv").read_text().splitlines()))
    assert {line["rung"] for line in table} == {rung.key for rung in RUNGS}
    cells = {line["figure"]: line["value"] for line in table if line["rung"] == "debiased"}
    parity = ladder[2]["systems"]["debiased"]["parity"]["gender"]
    assert float(cells["demographic_parity_difference"]) == parity["demographic_parity_difference"]
    assert "equalized_odds_difference" in cells
    told = (folder / "ladder.md").read_text()
    assert all(told.count(f"| {rung.name} |") == 2 for rung in RUNGS)
    said = "".join(tree.fromstring((folder / "ladder.svg").read_text()).itertext())
    assert all(rung.name in said for rung in RUNGS) and "worst recall" in said
    assert RunFolder(folder).complete
    assert "<h1>&lt;b&gt;&amp;</h1>" in render({**ladder[2], "name": "<b>&"})
