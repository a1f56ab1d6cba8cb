"""The benchmark of secure aggregation: its sums are checked as it runs, and Flower's functions do the same work."""

import numpy as np
import pytest

from client.secagg.encoding import Layout, Segment
from fer_models.errors import ConfigError
from simulations.bench import secagg, secagg_flower, secagg_rounds
from simulations.bench.rounds import Case as RoundsCase
from simulations.bench.run import Options
from simulations.bench.secagg import CASES, Case, Measured, Reference, bench, chosen


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setitem(secagg.SIZES, "300k", 300)
    monkeypatch.setitem(secagg.SIZES, "1M", 1000)


@pytest.mark.parametrize("case", [Case(10, "300k"), Case(30, "300k", 12)])
def test_a_session_gives_its_figures_and_the_right_sum(case):
    figures = Measured(case).figures()
    names = ("site_s", "server_s", "bytes_per_parameter", "error")
    assert set(figures) == {f"{name}_{case.key}" for name in names}
    assert all(value > 0 for value in figures.values())
    assert figures[f"bytes_per_parameter_{case.key}"] > 4


def test_a_sum_that_differs_in_one_bit_ends_the_benchmark():
    layout = Layout((Segment("update", "fixed", 5, clip=1.0),), 3)
    reference, update = Reference(layout, 5), np.linspace(-1, 1, 5, dtype=np.float32)
    body = layout.encode({"update": update}, 1, bytes(32))
    reference.add(body, update, 1)
    assert reference.error(bytes(body), 1) < 1e-8
    for at in (0, len(body) - 24):
        wrong = bytearray(body)
        wrong[at] ^= 1
        with pytest.raises(AssertionError, match="not the sum"):
            reference.error(bytes(wrong), 1)


def test_a_mean_that_is_off_ends_the_benchmark():
    layout = Layout((Segment("update", "fixed", 5, clip=1.0),), 3)
    reference, update = Reference(layout, 5), np.linspace(-1, 1, 5, dtype=np.float32)
    body = layout.encode({"update": update}, 1, bytes(32))
    reference.add(body, update + np.float32(1e-6), 1)
    with pytest.raises(AssertionError, match="off by"):
        reference.error(bytes(body), 1)


def test_flowers_functions_give_the_mean_of_those_that_stay():
    sites, threshold, gone = [secagg_flower.Site(number) for number in range(5)], 3, {2}
    coordinator = secagg_flower.Coordinator(sites, gone)
    rng = np.random.default_rng(0)
    updates = rng.normal(0, 1, (5, 40))
    for site in coordinator.alive:
        peers = [peer for peer in sites if peer is not site]
        boxes = site.parcels(sites, threshold)
        coordinator.add(site.masked(peers, boxes, updates[site.number], 100 + site.number))
    shares = {
        site.number: secagg_flower.shares_of(site, alive=site in coordinator.alive, among=5, threshold=3)[:4]
        for site in sites
    }
    weights = np.array([100, 101, 0, 103, 104])
    expected = weights @ updates / weights.sum()
    assert np.abs(coordinator.unmasked(shares) - expected).max() < 1e-4
    assert all(seconds > 0 for seconds in secagg_flower.seconds(5, 40, 0.2, repeats=1))


def test_rounds_with_and_without_are_compared():
    assert 0.1 < secagg_rounds.overhead(RoundsCase("cnn_tiny", 3, 20), repeats=1) < 100
    plan = secagg_rounds.secured(RoundsCase("cnn_tiny", 20, 20).plan(2), 20)
    assert (plan.aggregation, plan.secure.threshold) == ("secure", 14)


def test_sessions_can_be_chosen():
    assert chosen(Options()) == (list(CASES), True, True)
    words = ["sessions=10_300k,1000_1M", "flower=false"]
    cases, flower, rounds = chosen(Options(overrides=words))
    assert ([case.key for case in cases], flower, rounds) == (["10_300k", "1000_1M"], False, True)
    figures = bench(Options(overrides=["sessions=10_300k", "flower=false", "rounds=false"]))
    parts = {"mask_ms_1M", "split_ms_50", "combine_ms_50"}
    names = ("site_s", "server_s", "bytes_per_parameter", "error")
    assert set(figures) == parts | {f"{name}_10_300k" for name in names}
    assert all(figures[name] > 0 for name in parts)
    for word in ("sessions=10_2M", "flower=maybe", "size=3"):
        with pytest.raises(ConfigError, match=f"unknown setting '{word}'"):
            chosen(Options(overrides=[word]))
