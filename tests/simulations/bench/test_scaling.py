"""The fits behind what is said of many sites: they give back what they are of, and a point is what a run took."""

import numpy as np
import pytest

from simulations.bench import scaling
from simulations.bench.rounds import Case
from simulations.bench.scaling import DEGREE, GRID, Point, fitted, plan_of, point, terms_of


@pytest.mark.parametrize("way", list(GRID))
def test_a_fit_gives_back_what_made_its_points(way):
    true = np.array([2e-3, 3e-9, 0.0 if way == "plain" else 6e-10])
    sizes = [(10, 10_000), (100, 10_000), (10, 1_000_000), (100, 1_000_000)]
    terms = terms_of(way, *(np.array(each, float) for each in zip(*sizes, strict=True)))
    points = [Point(*size, float(own @ true), 0, 0) for size, own in zip(sizes, terms, strict=True)]
    found = fitted(way, points)
    assert terms @ found == pytest.approx(terms @ true)
    pairs = {"plain": 0, "complete": 100 * 100, "sparse": 100 * DEGREE}[way]
    assert terms[1].tolist() == [100, 100 * 10_000, pairs * 10_000]


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
