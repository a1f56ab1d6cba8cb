"""The fits behind what is said of many sites: they give back what they are of, and a point is what a run took."""

from dataclasses import replace

import numpy as np
import pytest

from simulations.bench import scaling
from simulations.bench.rounds import Case
from simulations.bench.scaling import GRID, Point, figures_of, fitted, plan_of, point, terms_of


@pytest.mark.parametrize("way", list(GRID))
def test_a_fit_gives_back_what_made_its_points(way):
    true = {"plain": [2e-3, 3e-9, 0], "complete": [1e-3, 4e-5, 6e-10], "sparse": [0, 4e-5, 6e-10]}[way]
    sizes = [(10, 10_000), (100, 10_000), (10, 1_000_000), (100, 1_000_000)]
    terms = terms_of(way, *(np.array(each, float) for each in zip(*sizes, strict=True)))
    points = [Point(*size, float(own @ true), 0, 0) for size, own in zip(sizes, terms, strict=True)]
    assert fitted(way, points) == pytest.approx(true)
    base = np.array([2e-3, 3e-9, 0])
    more = terms_of("plain", *(np.array(each, float) for each in zip(*sizes, strict=True))) @ base
    both = [replace(each, seconds=each.seconds + own) for each, own in zip(points, more, strict=True)]
    if way != "plain":
        assert fitted(way, both, base) == pytest.approx(true)


def test_a_simulation_far_off_is_what_the_fits_say():
    points = {
        way: [
            Point(sites, 10_000 if net == "cnn_tiny" else 80_000, 1e-3 * sites, 4.0, 1e6)
            for net, sites in places
        ]
        for way, places in GRID.items()
    }
    found = figures_of(points)
    assert found["fit_site_ms.plain"] == pytest.approx(1.0) and found["fit_worst_error.plain"] < 1e-6
    assert found["far_cpu_hours.plain"] == pytest.approx(1e6 * 1e-3 / 3600)
    assert "far_cpu_hours.complete" not in found and found["fit_pair_us.sparse"] < 1e-3


def test_a_point_is_a_run_of_its_way(monkeypatch):
    monkeypatch.setattr(scaling, "DEGREE", 4)
    for way in GRID:
        plan = plan_of(way, Case("cnn_tiny", 6, 10))
        assert (plan.aggregation == "plain") == (way == "plain")
        assert plan.secure is None or (plan.secure.degree > 0) == (way == "sparse")
    found = point("sparse", "cnn_tiny", 6)
    assert (found.sites, found.parameters) == (6, 10_727)
    assert found.seconds > 0 and found.rss > 100_000
    assert 4 <= found.up / found.sites / found.parameters < 4.1
