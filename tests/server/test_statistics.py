"""Statistics at the coordinator: sums alone, once a run, nothing small shown; the same as tables of all pictures."""

import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from client.plan import Statistics
from server.run_folder import RunFolder
from server.statistics import FILE, lines, published, show
from simulations.federated import run_local


@pytest.fixture
def asking(plan_of):
    def make(**facts):
        plan = plan_of(rounds=1)
        return replace(plan, statistics=Statistics((plan.groups[0].name,), **facts))

    return make


def taken(plan, sites, folder):
    run_local(plan, sites, RunFolder(folder), "federated", 1, lambda _: None)
    return json.loads((folder / FILE).read_text())


def test_the_sum_is_that_of_all_pictures_and_is_asked_for_once(asking, sites_of, tmp_path, monkeypatch):
    plan, sites = asking(smallest=1), sites_of()
    found = taken(plan, sites, tmp_path / "run")
    name, rows = plan.groups[0].name, sites.samples.split == "train"
    for group, row in found["tables"][name].items():
        own = sites.samples.label[rows & (sites.samples.groups[name] == group)]
        assert [count or 0 for count in row] == np.bincount(own, minlength=len(plan.labels)).tolist(), group
    assert (found["sites"], found["epsilon"], found["deviation"]) == (3, None, 0.0)
    console = Console(width=140, record=True)
    show(RunFolder(tmp_path / "run"), console)
    told = console.export_text()
    assert f"training pictures by {name} and class" in told
    assert "Sums over 3 sites." in told


def test_counts_below_the_smallest_are_not_kept(asking):
    plan = asking(smallest=10)
    name = plan.groups[0].name
    size = len(plan.labels) * (len([v for v in plan.groups[0].values if v != "undisclosed"]) + 1)
    total = np.arange(size) + 5
    found = published(plan, total, 4)
    flat = [count for row in found["tables"][name].values() for count in row]
    assert flat[:7] == [None] * 5 + [10, 11]
    table, sentence = lines(found)
    assert "<10" in next(iter(table.columns[1].cells))
    assert "fewer than 10 pictures" in sentence
    noisy = {**found, "epsilon": 0.5, "deviation": 4.77}
    assert "epsilon 0.5: a count is off by 4.8 or so" in list(lines(noisy))[-1]
