"""The steps after the last round: what one picture adds, what noise hides it, what it costs, what is refused."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from client.accounting import epsilon_of
from client.finish import (
    BINS,
    STEPS,
    Finish,
    cost_after,
    cost_of_step,
    deviation,
    sensitivity,
    size_of,
    step_of,
)
from client.ledger import Ledger
from client.limits import Limit, cost_beside
from client.moments import (
    Looked,
    cut,
    encode,
    features,
    group_index,
    look,
    moments_of,
    norm_bins,
    radius_of,
    sums_of,
)
from client.plan import Attribute, Secure, ServerWork, read_plan
from fer_models.erasure import Moments
from fer_models.errors import ConfigError, EvaluationError, PrivacyError

SECURE = Secure(sites=3, threshold=3, minimum=3, clip=16.0)
FEATURES = 16
"""Of cnn_tiny."""


@pytest.fixture
def finish_of(plan_of):
    """A plan with a finish; sigma makes it private."""

    def make(sigma=None, **given):
        private = {} if sigma is None else {"privacy": {"noise_multiplier": 2.0}}
        plan = plan_of(aggregation="secure", secure=SECURE, server={"rounds": 2}, **private)
        return replace(plan, finish=Finish("age", FEATURES, sigma), **given)

    return make


def seen(z, group, label=None, given_=None, cell=None):
    """What a step adds up over, of class 0 and cluster 0 unless it is said."""
    zeros = np.zeros(len(z), np.int64)
    own = np.full((len(z), 3), 1 / 3) if given_ is None else given_
    return Looked(z, group, zeros if label is None else label, own, zeros if cell is None else cell)


def distributed(plan, colluders=0):
    own = {"noise": "distributed", "threshold": 3 + colluders, "colluders": colluders}
    terms = Secure(sites=5, threshold=4, minimum=4, clip=16.0, colluders=1) if colluders else plan.secure
    return replace(
        plan, privacy=replace(plan.privacy, **own), local=replace(plan.local, amount=1), secure=terms
    )


# Sums


def test_norms_are_counted_by_powers_of_two():
    z = np.array([[0.0, 0], [3, 4], [0, 4], [1, 0], [1e9, 0]])
    counts = norm_bins(z)
    middle = BINS // 2
    assert counts.sum() == 5
    assert (counts[0], counts[middle], counts[middle + 2], counts[middle + 3], counts[-1]) == (1, 1, 1, 1, 1)
    assert radius_of(np.eye(BINS)[middle + 2] * 9 + np.eye(BINS)[-1]) == 4.0, "nine of ten lie below"
    assert radius_of(np.eye(BINS)[middle + 2] * 8 + np.eye(BINS)[-1] * 2) == 2.0**16
    assert radius_of(np.full(BINS, -5.0)) == 2.0**-16, "noise alone is some radius"


def test_features_are_cut_to_the_radius():
    assert cut(np.array([[3.0, 4], [0.3, 0.4], [0, 0]]), 2.0).tolist() == [[0.6, 0.8], [0.15, 0.2], [0, 0]]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(-12, 12), st.integers(-1, 1))
def test_one_picture_moves_the_sums_by_no_more_than_is_accounted_for(finish_of_static, seed, size, group):
    plan, rng = finish_of_static, np.random.default_rng(seed)
    z = (2.0**size * rng.normal(size=(4, FEATURES))).astype(np.float32)
    groups, label, cell = (
        np.append(rng.integers(-1, 2, 3), group),
        rng.integers(0, 3, 4),
        rng.integers(0, 5, 4),
    )
    sure = rng.dirichlet(np.full(3, 0.05), 4)
    for step in set(plan.finish.steps):
        whole, without = (
            encode(
                replace_noise(plan),
                step,
                sums_of(plan, step, seen(z[r], groups[r], label[r], sure[r], cell[r]), 1.5),
                bytes(32),
            )
            for r in (slice(None), slice(3))
        )
        assert len(whole) == size_of(plan, step)
        assert np.linalg.norm(whole - without) <= sensitivity(plan, step)
        if step != "norms" and group >= 0 and size > 4:  # a long one that is sure of its class comes close
            assert np.linalg.norm(whole - without) > 0.6 * sensitivity(plan, step)


@pytest.fixture(scope="module")
def finish_of_static(plan_of):
    plan = plan_of(aggregation="secure", secure=SECURE, privacy={})
    model = replace(plan.model, clusters=5)
    return replace(plan, model=model, finish=Finish("age", FEATURES, 3.0, 5))


def replace_noise(plan):
    """The same plan without noise, for the sums alone."""
    return replace(
        plan, privacy=None, finish=replace(plan.finish, noise_multiplier=None), server=ServerWork()
    )


def test_sums_without_privacy_are_the_moments_of_everybody(finish_of):
    plan, rng = finish_of(), np.random.default_rng(1)
    z, group = rng.normal(size=(20, FEATURES)), rng.integers(-1, 2, 20)
    sums = encode(plan, "moments", sums_of(plan, "moments", seen(z, group), 8.0), bytes(32)) / STEPS
    found, expected = moments_of(plan, sums), Moments.of(cut(z, 8.0), group, 2)
    assert np.allclose(found.to_vector(), expected.to_vector(), atol=1 / STEPS)
    assert len(sums) == size_of(plan, "moments")


def test_private_sums_hold_groups_alone(finish_of):
    plan, rng = finish_of(5.0), np.random.default_rng(1)
    z, group = rng.normal(size=(20, FEATURES)), rng.integers(-1, 2, 20)
    sums = sums_of(plan, "moments", seen(z, group), 8.0)
    assert len(sums) == size_of(plan, "moments") == 2 * (1 + FEATURES)
    found = moments_of(plan, sums)
    assert found.group_count.tolist() == [(group == g).sum() for g in (0, 1)]
    assert np.allclose(found.group_total[1], cut(z, 8.0)[group == 1].sum(0))


def test_groups_are_told_as_the_site_tells_them(finish_of, samples):
    plan, rows = finish_of(), np.arange(40)
    column = samples.groups["age"][:40]
    expected = np.select([column == "old", column == "young"], [0, 1], -1)
    assert group_index(plan, samples, rows).tolist() == expected.tolist()
    assert set(group_index(plan, samples, rows, opted_out=True)) == {-1}
    assert set(group_index(plan, replace(samples, groups={}), rows)) == {-1}


def test_spread_cells_and_scores_by_hand(finish_of_static):
    plan, z = finish_of_static, np.zeros((3, FEATURES))
    z[:, 0] = 2.0, 4, 4
    given_ = np.array([[0.5, 0.5, 0], [1, 0, 0], [0, 0, 1]])
    looked = seen(z, np.zeros(3, int), np.array([1, 0, 2]), given_, np.array([4, 1, 1]))
    spread = sums_of(plan, "spread", looked, 4.0)
    assert (spread[0], spread[1], spread[-1]) == (3 / 4, 2.5, 2.25 / 4)
    cells = sums_of(plan, "cells", looked, 4.0)
    assert cells[:5].tolist() == [0, 0.5, 0, 0, 0.25]
    assert cells[5:].reshape(5, FEATURES)[:, 0].tolist() == [0, 2, 0, 0, 0.5]
    labelled, scores = sums_of(plan, "scores", looked, 4.0).reshape(2, 5, 3)
    assert labelled[4].tolist() == [0, 1, 0]
    assert scores[4].tolist() == [0.5, 0.5, 0]
    assert labelled[1].tolist() == scores[1].tolist() == [1, 0, 1]


def test_a_site_sees_what_the_net_sees(plan_of, bench_of, samples, agent_of):
    plan = replace(plan_of(aggregation="secure", secure=SECURE), model=replace(plan_of().model, clusters=4))
    plan = replace(plan, finish=Finish("", FEATURES, clusters=4))
    bench, rows = bench_of(plan), np.arange(30)
    found = look(bench, plan, agent_of()._benches.inputs(samples), rows)
    assert set(found.group) == {-1}, "no attribute is asked for"
    assert found.label.tolist() == samples.label[:30].tolist()
    assert np.allclose(found.given.sum(1), 1)
    assert set(found.cell) == {0}, "all centres are the same at first"
    module = bench.flat.module
    with torch.no_grad():
        module.centres.copy_(torch.from_numpy(found.z[:4]))
    again = look(bench, plan, agent_of()._benches.inputs(samples), rows)
    assert again.cell[:4].tolist() == [0, 1, 2, 3]


# Noise and cost


@pytest.mark.parametrize("colluders", [None, 0, 1])
def test_the_noise_is_as_large_as_the_plan_says(finish_of, colluders):
    plan = finish_of(4.0)
    plan = plan if colluders is None else distributed(plan, colluders)
    shares = 1 if colluders is None else plan.privacy.threshold - plan.privacy.colluders
    for step, sigma in (("norms", 12.0), ("moments", 4.0)):
        expected = sigma * sensitivity(plan, step) / math.sqrt(shares)
        zeros = np.zeros(size_of(plan, step))
        drawn = [encode(plan, step, zeros, number.to_bytes(32, "little")) for number in range(60)]
        assert np.std(drawn) == pytest.approx(expected, rel=0.08)
        assert deviation(plan, step) == pytest.approx(expected)


def test_a_private_finish_is_paid_for_once(finish_of, agent_of, bench_of):
    plan, agent = finish_of(5.0), agent_of()
    vector = bench_of(plan).flat.full_vector.numpy()
    first = agent.moments(plan, 3, vector, 1.0)
    again = agent.moments(plan, 3, vector, 1.0)
    second = agent.moments(plan, 4, vector, 2.0)
    other = agent.moments(plan, 4, vector, 4.0)
    assert np.array_equal(first.counts, again.counts)
    kinds = [(event.kind, event.round, event.mechanism.noise) for event in agent._ledger.events]
    assert kinds == [("moments", 3, 15.0), ("moments", 4, 5.0), ("moments", 4, 5.0)], "another radius is news"
    assert not np.array_equal(second.counts, other.counts)
    assert second.history[-1].name == "discrete_gaussian"
    assert cost_after(plan) == (cost_of_step(plan, "norms"), cost_of_step(plan, "moments"))
    assert cost_after(plan, frozenset({3})) == (cost_of_step(plan, "moments"),)


def test_the_steps_count_towards_a_site_s_limit(finish_of, agent_of, bench_of):
    plan = finish_of(5.0)
    rounds = epsilon_of(cost_beside(replace(plan, finish=None)), 1e-5).value
    assert rounds == 0 < epsilon_of(cost_beside(plan), 1e-5).value
    limit = Limit(epsilon_of(cost_beside(plan), 1e-5).value * 1.01, 1e-5)
    agent = agent_of(limit=limit)
    with pytest.raises(PrivacyError, match="would pass the site's limit"):
        agent.train(plan, 1, bench_of(plan).flat.full_vector.numpy())
    assert not Ledger(None, "site-0").history()


# What is refused


def test_a_plan_without_a_finish_is_what_it_was(plan_of, finish_of):
    plan = plan_of()
    assert "finish" not in plan.text
    assert read_plan(plan.text) == plan
    assert read_plan(finish_of(3.0).text) == finish_of(3.0)


def test_plans_that_cannot_work_are_refused(finish_of):
    plan = finish_of()
    with pytest.raises(PrivacyError, match="would tell which faces it holds"):
        replace(plan, aggregation="plain", secure=None)
    with pytest.raises(ConfigError, match=r"no site tells 'sex' \(fairness\.attribute\)"):
        replace(plan, finish=Finish("sex", FEATURES))
    with pytest.raises(ConfigError, match="age has one group that is disclosed"):
        replace(plan, groups=(Attribute("age", ("old", "undisclosed")),))
    with pytest.raises(PrivacyError, match="noise that no privacy asks for"):
        replace(plan, finish=Finish("age", FEATURES, 1.0))
    with pytest.raises(PrivacyError, match="cost epsilon in a private plan"):
        replace(finish_of(1.0), finish=Finish("age", FEATURES))
    with pytest.raises(ConfigError, match=r"noise of deviation .* fairness\.moments_epsilon"):
        finish_of(1e6)
    with pytest.raises(ConfigError, match="biases for 3 clusters in a net with 0"):
        replace(plan, finish=Finish("age", FEATURES, clusters=3))
    with pytest.raises(ConfigError, match="sums of features that nothing needs"):
        Finish()
    for bad in ({"features": 0}, {"features": 5000}, {"noise_multiplier": 0.0}):
        with pytest.raises(ConfigError):
            Finish("age", **{"features": 3, **bad})


def test_rounds_that_are_no_step_are_refused(finish_of, plan_of, agent_of, bench_of):
    plan, agent = finish_of(), agent_of()
    vector = bench_of(plan).flat.full_vector.numpy()
    assert [step_of(plan, number) for number in (3, 4)] == ["norms", "moments"]
    for number in (2, 5):
        with pytest.raises(ConfigError, match="steps after them"):
            agent.moments(plan, number, vector, 1.0)
    with pytest.raises(ConfigError):
        agent.moments(plan_of(), 3, vector, 1.0)
    for radius in (0.0, 2.0**40):
        with pytest.raises(PrivacyError, match="features cut to"):
            agent.moments(plan, 4, vector, radius)


def test_another_net_than_is_accounted_for_is_refused(finish_of, samples, agent_of, bench_of):
    plan = replace(finish_of(), finish=Finish("age", 17))
    bench = bench_of(plan)
    with pytest.raises(PrivacyError, match="sums for 17 features where the net has 16"):
        agent_of().moments(plan, 3, bench.flat.full_vector.numpy(), 1.0)
    plan = finish_of()
    bench = bench_of(plan)
    bench.flat.full_vector.fill_(float("nan"))
    agent = agent_of()
    with pytest.raises(EvaluationError, match="not finite"):
        features(bench, plan, agent._benches.inputs(samples), np.arange(3))
