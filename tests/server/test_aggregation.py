"""Means and exact sums of what sites send, and the runs that rest on them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import server.rounds as rounds
from client.app import make_app
from client.grid import LARGEST
from client.messages import pack, pack_parts
from client.plan import Privacy, Secure
from client.randomness import SeededEntropy
from fer_models.counts import Counts
from fer_models.errors import DataError, EngineError, PrivacyError
from fer_models.flat import FlatModel
from fer_models.zoo import build
from server.aggregation import MeanOfUpdates, SumOfShares, aggregate_of
from server.asking import answer_of
from server.rounds import Coordinator
from server.run_folder import RunFolder
from simulations.federated import run_local
from simulations.grid import LocalGrid

PARAMETERS = 10_659
"""Of cnn_tiny with three classes."""


@pytest.fixture
def shared_plan(plan_of):
    """A plan of distributed noise over three sites."""

    def make(sites=3, colluders=0, **server):
        base = plan_of(private=True, local={"amount": 1}, **server)
        own = {"noise": "distributed", "threshold": sites, "colluders": colluders}
        own |= {"resolution": 1 << 16, "parameters": PARAMETERS}
        return replace(base, privacy=replace(base.privacy, delta=1e-4, **own))

    return make


def test_weights_weigh():
    mean = MeanOfUpdates(2)
    mean.add(np.array([1, 2], np.float32), 1.0)
    mean.add(np.array([4, 8], np.float32), 2.0)
    assert mean.mean().tolist() == [3.0, 6.0]


def test_the_plan_decides(plan_of, shared_plan):
    assert isinstance(aggregate_of(plan_of(), 5), MeanOfUpdates)
    assert isinstance(aggregate_of(plan_of(private=True), 5), MeanOfUpdates)
    assert isinstance(aggregate_of(shared_plan(), 5), SumOfShares)


def test_single_updates_of_a_secure_plan_are_refused(plan_of):
    secure = Secure(sites=3, threshold=3, minimum=3, clip=8.0, largest_weight=64)
    with pytest.raises(PrivacyError, match="promises secure aggregation"):
        aggregate_of(replace(plan_of(), aggregation="secure", secure=secure), 5)


def test_shares_add_up_exactly_in_any_order(shared_plan):
    """Numbers at the very ends, where floats of 32 bits would round."""
    plan = shared_plan(200)
    rng = np.random.default_rng(0)
    shares = rng.integers(-LARGEST // 200, LARGEST // 200, (200, 50)).astype(np.int32)
    found = []
    for order in (np.arange(200), rng.permutation(200)):
        total = SumOfShares(plan, 50)
        for i in order:
            total.add(shares[i], 7.0)
        found.append(total.mean())
    assert torch.equal(found[0], found[1])
    # The sign of a step: against the gradient, times the sites' learning rate, over public constants alone.
    steps = shares.astype(object).sum(0) / 2**16 / (0.3 * 20 * 200) * -0.1
    assert np.allclose(found[0].numpy(), steps.astype(float), rtol=1e-12)


@pytest.mark.parametrize("sent", [2, 4])
def test_another_number_of_shares_is_refused(shared_plan, sent):
    total = SumOfShares(shared_plan(), 4)
    for _ in range(sent):
        total.add(np.ones(4, np.int32), 1.0)
    with pytest.raises(PrivacyError, match=f"{sent} shares of noise that was divided among 3"):
        total.mean()


@pytest.mark.parametrize(
    "vector",
    [np.zeros(4, np.float32), np.zeros(4, np.int64), np.zeros(5, np.int32), np.zeros((2, 2), np.int32)],
)
def test_what_is_no_share_is_refused(shared_plan, vector):
    plan = shared_plan()
    for judged in (False, True):
        with pytest.raises(EngineError):
            answer_of(pack(vector, {}), plan, SumOfShares(plan, 4).kind, 4, judged=judged)


def test_an_update_and_counts_come_apart_as_they_were_sent(shared_plan):
    plan, update = shared_plan(), np.arange(5, dtype=np.int32)
    counts = Counts.of([0, 1, 1], [0, 0, 2], plan.labels, {"age": ["old", "young", "old"]}, plan.attributes)
    content = pack_parts([update, counts.to_vector()], {})
    found = answer_of(content, plan, np.int32, 5, judged=True)
    assert np.array_equal(found[0], update)
    assert found[1] == counts
    for size, judged in ((4, True), (6, True), (5, False)):
        with pytest.raises(EngineError):
            answer_of(content, plan, np.int32, size, judged=judged)
    negative = pack_parts([update, -counts.to_vector()], {})
    with pytest.raises(DataError, match="a count lies outside"):
        answer_of(negative, plan, np.int32, 5, judged=True)


@pytest.mark.parametrize("value", [2**31 - 1, -(2**31)])
def test_a_sum_of_more_than_32_bits_is_refused(shared_plan, value):
    total = SumOfShares(shared_plan(), 2)
    for _ in range(3):
        total.add(np.array([0, value], np.int32), 1.0)
    with pytest.raises(EngineError, match="leaves 32 bits"):
        total.mean()


# Whole runs


def run(plan, sites, folder, observer=None, workers=1):
    return run_local(plan, sites, RunFolder(folder), "federated", workers, observer or (lambda _: None))


def test_a_round_is_one_step_against_the_noisy_mean_gradient(shared_plan, sites_of, tmp_path):
    plan, sites = shared_plan(rounds=1), sites_of((15, 15, 60))
    start = FlatModel(build(plan.model, plan.seed)).full_vector.numpy()
    shares = [sites.agent(i).train(plan, 1, start).delta for i in range(3)]
    assert all(share.dtype == np.int32 for share in shares)
    gradient = np.sum(shares, axis=0, dtype=np.int64) / 2**16 / (0.3 * 20 * 3)
    result = run(plan, sites, tmp_path)
    assert np.allclose(result.vector.numpy(), start - 0.1 * gradient, atol=1e-7)
    assert result.totals.bytes_up == 3 * 4 * len(start)


def test_the_noise_of_the_sum_is_that_of_one_site(shared_plan, sites_of, tmp_path):
    """With next to no pictures in a batch, all that moves the weights is noise of deviation sigma C."""
    plan = shared_plan(rounds=1)
    plan = replace(
        plan, local=replace(plan.local, rate=1e-6), privacy=replace(plan.privacy, noise_multiplier=2.0)
    )
    start = FlatModel(build(plan.model, plan.seed)).full_vector
    moved = run(plan, sites_of(), tmp_path / "a").vector - start
    noise = moved / -0.1 * (1e-6 * 20 * 3)
    assert float(noise.std()) == pytest.approx(2.0, rel=0.03)
    trusting = replace(plan, privacy=replace(plan.privacy, colluders=2))
    moved = run(trusting, sites_of(), tmp_path / "b").vector - start
    assert float((moved / -0.1 * (1e-6 * 20 * 3)).std()) == pytest.approx(2.0 * 3**0.5, rel=0.03)


class Killed(BaseException):
    pass


def test_workers_order_and_interruptions_change_no_bit(shared_plan, sites_of, tmp_path, monkeypatch):
    plan = shared_plan(rounds=4, optimizer="adam", learning_rate=0.01, momentum=0.9, ema=0.9)
    whole = run(plan, sites_of(ledgers=tmp_path / "ledger-1"), tmp_path / "whole")
    results = [run(plan, sites_of(ledgers=tmp_path / "ledger-2"), tmp_path / "two", workers=2)]
    results.append(run(plan, sites_of(), tmp_path / "unkept", workers=2))
    sites = sites_of()
    for name, order in (("a", [0, 1, 2]), ("b", [2, 0, 1])):
        grid = LocalGrid(make_app(sites), {90 - 7 * i: {"partition-id": i} for i in order})
        results.append(Coordinator(plan, RunFolder(tmp_path / name), "federated").run(grid))
    monkeypatch.setattr(rounds, "CHECKPOINT_SECONDS", -1.0)

    def stop(record):
        if record["round"] == 3:
            raise Killed

    with pytest.raises(Killed):
        run(plan, sites_of(ledgers=tmp_path / "ledger-3"), tmp_path / "parts", stop)
    results.append(run(plan, sites_of(ledgers=tmp_path / "ledger-3"), tmp_path / "parts"))
    for result in results:
        assert torch.equal(result.vector, whole.vector)
        assert result.counts == whole.counts
        assert result.epsilon == whole.epsilon
    assert len(set(whole.epsilon.values())) == 1, "each record pays for the whole sum, at every site the same"


def test_a_cohort_of_another_size_is_refused(shared_plan, sites_of, tmp_path):
    with pytest.raises(PrivacyError, match="3 shares of noise that was divided among 4 sites"):
        run(shared_plan(4, rounds=1), sites_of(), tmp_path)
    part = shared_plan(2, rounds=2, participation=0.5)
    assert run(part, sites_of(), tmp_path / "part").totals.bytes_up > 0


def test_two_sites_draw_other_noise(shared_plan, sites_of):
    plan, sites = shared_plan(), sites_of()
    start = FlatModel(build(plan.model, plan.seed)).full_vector.numpy()
    one, two = (sites.agent(i).train(plan, 1, start).delta for i in (0, 1))
    assert (one == two).mean() < 0.01
    assert SeededEntropy(7, "site-0").key(1, "share") != SeededEntropy(7, "site-1").key(1, "share")
    assert isinstance(plan.privacy, Privacy)
