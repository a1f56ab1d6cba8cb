"""Distributed noise at a site: rounding moves no record's part too far, and sums never leave 32 bits."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from client.discrete import discrete_gaussian
from client.discrete_accounting import slack
from client.distributed import share_of
from client.grid import LARGEST, MARGIN, decode, encode, finest, grid_of, mechanism_of, plan_grid
from client.mechanisms import Mechanism
from client.plan import Privacy, Secure
from client.private_training import poisson_batch, private_trainer
from client.randomness import KeyedStream, SeededEntropy, SystemEntropy
from client.training import losses_of
from fer_models.errors import PrivacyError

SITE = SeededEntropy(5, "site-3")
WHERE = "site-3, round 1"
SHARED = {"noise": "distributed", "threshold": 4, "colluders": 1, "resolution": 1 << 12}
LEARNING = {"hog_linear": 5295, "cnn_tiny": 10_659, "fer_nano": 96 * 3 + 3}
"""How many numbers of a net learn; of fer_nano, the head."""


@pytest.fixture
def shared_plan(plan_of):
    def make(name="hog_linear", local=None, **privacy):
        facts = {**SHARED, "parameters": LEARNING[name], **privacy}
        return plan_of(name, local={"amount": 1, **(local or {})}, privacy=facts)

    return make


def privacy_of(**changed):
    facts = {"noise_multiplier": 1.0, "clip": 1.0, "delta": 1e-5, "nominal_units": 100}
    return Privacy(**{**facts, **SHARED, **changed})


def secured(plan, sites=7, fewest=5, colluders=1):
    """The same plan with secure aggregation, its noise for the fewest sites of a sum."""
    secure = Secure(sites=sites, threshold=fewest, minimum=3 + colluders, clip=8.0, colluders=colluders)
    privacy = replace(plan.privacy, threshold=fewest, colluders=colluders)
    return replace(plan, aggregation="secure", secure=secure, privacy=privacy)


def stream(number=0):
    return KeyedStream(number.to_bytes(32, "little"))


# Rounding


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 300), st.integers(1, 4096), st.floats(0.1, 8), st.floats(0, 1))
def test_a_record_moves_the_rounded_sum_by_no_more_than_the_sensitivity(seed, size, resolution, clip, share):
    """For any sum and any gradient up to the clip, also where the sum is cut at the bound."""
    rng = np.random.default_rng(seed)
    grid = grid_of(privacy_of(clip=clip, resolution=1 << 14, nominal_units=10, parameters=size), 0.1)
    grid = replace(grid, width=clip / resolution, sensitivity=resolution * (1 + MARGIN) + math.sqrt(size))
    sums = rng.normal(0, clip * rng.choice([0.01, 1, 100]), size)
    added = rng.normal(0, 1, size)
    added *= clip * share / max(np.linalg.norm(added), 1e-9)
    for bound in (grid.bound, int(np.abs(sums).max() / grid.width / 2) + 1):
        cut = replace(grid, bound=bound)
        before, after = (encode(each, cut, stream(seed)) for each in (sums, sums + added))
        moved = np.linalg.norm((after - before).astype(float))
        assert moved <= resolution * share + math.sqrt(size) + 1e-6
        assert moved < grid.sensitivity
        assert max(np.abs(before).max(), np.abs(after).max()) <= bound


def test_rounding_is_right_on_average_and_exact_on_the_grid():
    grid = grid_of(privacy_of(parameters=7), 0.2)
    values = np.array([0.3, -0.3, 1.75, -2.25, 0.0, 1e-9, 7.5]) * grid.width
    mean = np.mean([encode(values, grid, stream(i)) for i in range(4000)], axis=0)
    assert np.allclose(mean, values / grid.width, atol=5 * 0.5 / math.sqrt(4000))
    whole = np.array([3, -4, 0, 1000])
    assert encode(whole * grid.width, grid, stream()).tolist() == whole.tolist()


def test_rounding_keeps_what_a_gradient_is_worth(shared_plan):
    plan = shared_plan(clip=0.5)
    grid = grid_of(plan.privacy, 0.2)
    gradient = np.random.default_rng(0).normal(0, 1, 1000)
    found = decode(encode(gradient, grid, stream()), plan, 4)
    assert np.allclose(found * 0.2 * 50 * 4, gradient, atol=grid.width)


# The grid


def test_a_grid_by_hand():
    facts = {"noise_multiplier": 2.0, "clip": 0.5, "resolution": 1 << 16, "parameters": 10_000}
    grid = grid_of(privacy_of(**facts), 0.2)
    assert grid.width == 0.5 / 2**16
    assert grid.sensitivity == 2**16 + 2**6 + 100
    assert grid.share == pytest.approx(2 * (2**16 + 164) / math.sqrt(3))
    assert grid.bound == LARGEST // 4 - discrete_gaussian(grid.share).largest
    alone = grid_of(privacy_of(**facts, colluders=3), 0.2)
    assert alone.share == pytest.approx(grid.share * math.sqrt(3)), "one honest site adds the noise alone"


def test_a_stretched_grid_by_hand():
    """Two parts beside the net in steps three times as wide: sqrt(1 + 2 / 9) clips a record."""
    facts = {"noise_multiplier": 2.0, "clip": 0.5, "resolution": 1 << 16, "parameters": 10_000}
    plain, stretched = (grid_of(privacy_of(**facts), 0.2, 0, each) for each in (1.0, math.sqrt(11) / 3))
    assert stretched.sensitivity == pytest.approx((2**16 + 2**6) * math.sqrt(11) / 3 + 100, rel=1e-12)
    assert stretched.share == pytest.approx(2 * stretched.sensitivity / math.sqrt(3))
    assert stretched.width == plain.width
    assert stretched.bound == LARGEST // 4 - discrete_gaussian(stretched.share).largest < plain.bound


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.lists(st.integers(1, 40), min_size=1, max_size=3), st.floats(1, 9))
def test_a_record_that_fills_all_parts_moves_the_rounded_sum_by_no_more_than_the_sensitivity(
    seed, sizes, rho
):
    """A net and k parts in steps rho times as wide, each with a gradient as long as its clip."""
    rng, stretch = np.random.default_rng(seed), math.sqrt(1 + (len(sizes) - 1) / rho**2)
    privacy = privacy_of(clip=1.0, resolution=1 << 10, parameters=sum(sizes), noise_multiplier=50.0)
    grid = grid_of(privacy, 0.1, 0, stretch)
    each = [rng.normal(0, 1, size) for size in sizes]
    added = [part / np.linalg.norm(part) / (rho if at else 1) for at, part in enumerate(each)]
    sums = rng.normal(0, 3, sum(sizes))
    before, after = (encode(x, grid, stream(seed)) for x in (sums, sums + np.concatenate(added)))
    moved = np.linalg.norm((after - before).astype(float))
    assert moved < grid.sensitivity
    assert moved > privacy.resolution * stretch - math.sqrt(sum(sizes)), "nearly as far as it may"


@pytest.mark.parametrize("stretch", [0.99, math.inf, math.nan])
def test_a_stretch_that_is_none_is_refused(stretch):
    with pytest.raises(PrivacyError, match="adds"):
        grid_of(privacy_of(), 0.2, 0, stretch)


def test_the_finest_grid_leaves_room_for_stretched_noise():
    facts = {"nominal_units": 100, "noise_multiplier": 20.0, "threshold": 100, "colluders": 0}
    privacy = privacy_of(**facts, delta=1e-9, parameters=14_120)
    for stretch in (1.0, 4.0, 40.0):
        found = replace(privacy, resolution=finest(privacy, 0.2, 0, stretch))
        grid_of(found, 0.2, 0, stretch)
        with pytest.raises(PrivacyError):
            grid_of(replace(privacy, resolution=2 * found.resolution), 0.2, 0, stretch)


def test_no_sum_leaves_32_bits():
    """Every site at its bound, and the noise at its farthest."""
    for sites in (1, 7, 200):
        privacy = privacy_of(threshold=sites, colluders=0, resolution=1 << 12, parameters=10_000)
        grid = grid_of(privacy, 0.2)
        most = sites * (grid.bound + discrete_gaussian(grid.share).largest)
        assert LARGEST - sites < most <= LARGEST


@pytest.mark.parametrize(
    ("changed", "rate", "parameters", "where"),
    [
        ({"resolution": 1 << 30}, 0.2, 1000, "privacy.resolution"),
        ({"resolution": 1 << 24, "nominal_units": 10**6}, 0.2, 1000, "privacy.resolution"),
        (
            {"resolution": 1 << 28, "noise_multiplier": 9.0, "nominal_units": 1},
            0.2,
            1000,
            "privacy.resolution",
        ),
        ({"resolution": 1, "noise_multiplier": 0.3}, 0.2, 1, "privacy.resolution"),
        ({"resolution": 16}, 0.2, 10**6, "privacy.resolution"),
        ({"threshold": 5000, "resolution": 64, "nominal_units": 9}, 0.2, 10**6, "partition.sites"),
    ],
    ids=["overflow", "many records", "much noise", "too coarse", "many parameters", "many sites"],
)
def test_a_grid_that_does_not_hold_is_refused(changed, rate, parameters, where):
    with pytest.raises(PrivacyError) as error:
        grid_of(privacy_of(**changed, parameters=parameters), rate)
    assert error.value.where == where
    assert error.value.cure.endswith(".")


def test_noise_is_for_the_fewest_sites_of_a_sum_and_room_for_the_most(shared_plan):
    plan = secured(shared_plan(noise_multiplier=2.0))
    grid, plain = plan_grid(plan), plan_grid(shared_plan(noise_multiplier=2.0, threshold=5))
    assert grid.share == plain.share == pytest.approx(2.0 * grid.sensitivity / math.sqrt(5 - 1))
    assert grid.slack == plain.slack == slack(5295, grid.share, 4), "more survivors only add noise"
    reach = discrete_gaussian(grid.share).largest
    assert LARGEST - 7 < 7 * (grid.bound + reach) <= LARGEST
    assert LARGEST - 5 < 5 * (plain.bound + reach) <= LARGEST
    assert mechanism_of(plan) == mechanism_of(shared_plan(noise_multiplier=2.0, threshold=5))
    finer = replace(plan, privacy=replace(plan.privacy, resolution=1 << 20, nominal_units=1700))
    grid_of(finer.privacy, plan.local.rate)
    with pytest.raises(PrivacyError, match="sums of 7 sites"):
        plan_grid(finer)


@pytest.mark.parametrize("survivors", [5, 6, 7])
def test_any_survivors_from_the_threshold_on_carry_noise_enough(shared_plan, survivors):
    """Measured: the sum without the colluders' noise has the deviation of one trusted curator, or more."""
    plan = secured(shared_plan(noise_multiplier=1.5))
    grid = plan_grid(plan)
    shares = [discrete_gaussian(grid.share).draw(stream(i), 20_000) for i in range(survivors)]
    honest = np.sum(shares[1:], axis=0)
    target = 1.5 * grid.sensitivity
    assert honest.std() == pytest.approx(target * math.sqrt((survivors - 1) / 4), rel=0.03)
    assert honest.std() > 0.97 * target
    mean = decode(np.sum(shares, axis=0), plan, survivors)
    expected = 1.5 * grid.sensitivity * grid.width * math.sqrt(survivors / 4) / (0.2 * 50 * survivors)
    assert mean.std() == pytest.approx(expected, rel=0.03), "divided by those who survived"


@pytest.mark.parametrize("sites", [1, 8, 100])
@pytest.mark.parametrize("nominal", [10, 1000, 100_000])
@pytest.mark.parametrize("sigma", [0.5, 20.0])
def test_the_finest_grid_fits_and_twice_as_fine_does_not(sites, nominal, sigma):
    facts = {"nominal_units": nominal, "noise_multiplier": sigma, "delta": 1e-9, "parameters": 14_120}
    privacy = privacy_of(threshold=sites, colluders=0, **facts)
    found = replace(privacy, resolution=finest(privacy, 0.2))
    try:
        grid_of(found, 0.2)
    except PrivacyError as error:
        assert "too coarse" in error.what
        assert found.resolution <= 2048
    if found.resolution < 1 << 20:
        with pytest.raises(PrivacyError):
            grid_of(replace(privacy, resolution=2 * found.resolution), 0.2)


# The site's share


def test_a_share_is_the_clipped_sum_on_the_grid_plus_noise(shared_plan, bench_of, rows_of):
    plan = shared_plan()
    bench, data = bench_of(plan), rows_of(range(40))
    share = share_of(bench, data, plan, 2, SITE, WHERE)
    grid = grid_of(plan.privacy, plan.local.rate)
    chosen, _ = poisson_batch(data, plan.privacy, plan.local.rate, KeyedStream(SITE.key(2, "poisson")))
    assert 2 < len(chosen) < 20
    with private_trainer(bench, plan, 2, SITE) as trainer:
        sums = trainer.clipped_sum(chosen, lambda part: losses_of(bench, data, part, plan.local, None))
    noise = discrete_gaussian(grid.share).draw(KeyedStream(SITE.key(2, "share")), len(share))
    plain = encode(sums.numpy(), grid, KeyedStream(SITE.key(2, "dither")))
    assert share.dtype == np.int32
    assert np.array_equal(share, plain + noise)
    assert np.linalg.norm(plain) > 100
    assert np.array_equal(share, share_of(bench, data, plan, 2, SITE, WHERE)), "the same bits again"
    for number, entropy in ((3, SITE), (2, SeededEntropy(5, "site-4"))):
        other = share_of(bench, data, plan, number, entropy, WHERE)
        assert (other == share).mean() < 0.01


def test_nothing_is_left_in_the_net(shared_plan, bench_of, rows_of):
    bench = bench_of(shared_plan("cnn_tiny"))
    before = bench.flat.full_vector.clone()
    share_of(bench, rows_of(range(40)), bench.plan, 1, SITE, WHERE)
    assert torch.equal(bench.flat.full_vector, before), "a site takes no step of its own"
    assert not bench.flat.gradient.any()
    assert bench.flat.is_intact()


def test_an_empty_batch_sends_noise(shared_plan, bench_of, rows_of):
    plan = shared_plan(local={"rate": 1e-9})
    share = share_of(bench_of(plan), rows_of(range(40)), plan, 1, SITE, WHERE)
    deviation = grid_of(plan.privacy, 1e-9).share
    assert share.std() == pytest.approx(deviation, rel=0.05)


def test_what_does_not_learn_gets_no_noise_and_stays_here(shared_plan, bench_of, rows_of):
    plan = shared_plan("fer_nano", local={"scope": "head"})
    share = share_of(bench_of(plan), rows_of(range(40)), plan, 1, SITE, WHERE)
    assert len(share) == LEARNING["fer_nano"]
    assert (share != 0).mean() > 0.99


def test_noise_for_another_number_of_parameters_is_refused(shared_plan, bench_of, rows_of):
    plan = shared_plan(parameters=10_659)
    with pytest.raises(PrivacyError, match="accounted for 10659 numbers, where there are 5295"):
        share_of(bench_of(plan), rows_of(range(40)), plan, 1, SITE, WHERE)


def test_what_a_round_costs(shared_plan, plan_of):
    plan = shared_plan()
    lost = slack(5295, grid_of(plan.privacy, 0.2).share, 3)
    assert mechanism_of(plan) == Mechanism("discrete_gaussian", 1.0, 0.2, 1, "record", lost)
    assert 0 < lost < 1e-4
    alone = plan_of("hog_linear", local={"amount": 3}, privacy={"noise_multiplier": 2.0})
    assert mechanism_of(alone) == Mechanism("gaussian", 2.0, 0.2, 3, "record")


@pytest.mark.parametrize("name", ["hog_linear", "cnn_tiny"])
def test_rounding_errors_of_float_sums_are_far_below_the_margin(shared_plan, bench_of, rows_of, name):
    """A record that joins shifts all the parts of a batch; the sums still differ by its gradient alone."""
    plan = shared_plan(name)
    bench, data = bench_of(plan), rows_of(range(150))
    everybody = np.tile(np.arange(150), 4)
    worst = 0.0

    def summed(rows):
        with private_trainer(bench, plan, 1, SITE) as trainer:
            found = trainer.clipped_sum(rows, lambda part: losses_of(bench, data, part, plan.local, None))
        return found.double()

    for start in (1, 77):
        moved = summed(everybody) - summed(np.delete(everybody, start))
        own = summed(everybody[start : start + 1])
        worst = max(worst, float((moved - own).norm()), float(moved.norm()) - plan.privacy.clip)
    assert 0 < worst < MARGIN / 20


# Trust


def test_a_site_with_real_randomness_refuses_and_writes_nothing(agent_of, shared_plan, tmp_path):
    plan = shared_plan()
    agent = agent_of(entropy=SystemEntropy(), path=tmp_path / "ledger")
    vector = agent._benches.of(plan).flat.full_vector.numpy().copy()
    with pytest.raises(PrivacyError, match="aggregation=secure") as error:
        agent.train(plan, 1, vector)
    assert error.value.where == "site-0, round 1"
    assert not (tmp_path / "ledger").exists()
    private = replace(plan, privacy=replace(plan.privacy, noise="site", threshold=1, colluders=0))
    assert agent.train(private, 1, vector).delta.dtype == np.float32


def test_a_site_with_real_randomness_takes_part_where_shares_are_masked(agent_of, shared_plan, tmp_path):
    plan = secured(shared_plan())
    agent = agent_of(entropy=SystemEntropy(), path=tmp_path / "ledger")
    vector = agent._benches.of(plan).flat.full_vector.numpy().copy()
    update = agent.train(plan, 1, vector)
    assert update.delta.dtype == np.int32
    assert update.head.number == 1
    assert update.delta.std() == pytest.approx(plan_grid(plan).share, rel=0.1)


def test_an_update_tells_nothing_but_public_constants(agent_of, shared_plan):
    plan = shared_plan()
    vector = np.zeros(len(agent_of()._benches.of(plan).flat.full_vector), np.float32)
    few, many = (agent_of(train=range(rows)).train(plan, 1, vector) for rows in (3, 90))
    for update in (few, many):
        assert (update.weight, update.visits, update.loss) == (1.0, 10, 0.0)
    assert few.history == many.history
