"""What sites send and what a sum says: the same figures as if everything had been sent in plain."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from client.agent import Update
from client.grid import decode, plan_grid
from client.plan import Secure
from client.secagg.layout import (
    LOSS_STEPS,
    MOST,
    OFFSET,
    evaluated,
    labelled,
    layout_of,
    read_sum,
    trained,
)
from fer_models.counts import Counts
from fer_models.errors import ConfigError, PrivacyError, SecureAggregationError
from server.aggregation import MeanOfUpdates, SumOfShares, mean_of_sum

SECURE = Secure(sites=6, threshold=5, minimum=3, clip=4.0, largest_weight=128)
NUMBERS = 50


@pytest.fixture
def secure_of(plan_of):
    def make(private=False, **privacy):
        if not private:
            return plan_of(aggregation="secure", secure=SECURE)
        plan = plan_of(aggregation="plain", local={"amount": 1}, privacy={**privacy})
        secure = replace(SECURE, largest_weight=1)
        return replace(plan, aggregation="secure", secure=secure)

    return make


def shared(plan_of, sites=6):
    privacy = {"noise": "distributed", "threshold": 5, "parameters": NUMBERS, "resolution": 1 << 12}
    secure = replace(SECURE, sites=sites, largest_weight=1)
    return plan_of(aggregation="secure", secure=secure, local={"amount": 1}, privacy=privacy)


def added(bodies, layout):
    """The sum of vectors, without masks: what unmasking gives."""
    wide, narrow = np.zeros(layout.words64, np.uint64), np.zeros(layout.words32, np.uint32)
    for body in bodies:
        wide += np.frombuffer(body, "<u8", layout.words64)
        narrow += np.frombuffer(body, "<u4", offset=8 * layout.words64)
    return wide.tobytes() + narrow.tobytes()


def counts_of(plan, rng, rows=40):
    groups = {name: rng.choice(values, rows) for name, values in plan.attributes.items()}
    classes = len(plan.labels)
    true, guess = rng.integers(0, classes, (2, rows))
    return Counts.of(true, guess, plan.labels, groups, plan.attributes)


def dither(number):
    return number.to_bytes(32, "little")


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32), st.integers(5, 6), st.booleans())
def test_a_round_says_what_plain_answers_say(plan_of, seed, survivors, evaluates):
    plan, rng = plan_of(aggregation="secure", secure=SECURE), np.random.default_rng(seed)
    layout = layout_of(plan, "train", NUMBERS, evaluates=evaluates)
    bodies, mean, counted, loss, visits, seconds = [], MeanOfUpdates(NUMBERS), [], 0.0, 0, 0.0
    for site in range(survivors):
        weight, seen = int(rng.integers(1, 129)), int(rng.integers(1, 5000))
        update = Update(
            rng.normal(0, 0.3, NUMBERS).astype(np.float32), float(weight), seen, float(rng.gamma(1)), ()
        )
        counts = counts_of(plan, rng) if evaluates else None
        took = float(rng.random())
        bodies.append(layout.encode(trained(plan, update, took, counts), weight, dither(seed + site)))
        mean.add(update.delta, weight)
        counted += [counts] if evaluates else []
        loss, visits, seconds = loss + update.loss * seen, visits + seen, seconds + took
    found = read_sum(plan, layout, added(bodies, layout), survivors)
    assert (found.sites, found.visits) == (survivors, visits)
    assert found.loss == pytest.approx(loss / visits, abs=survivors / LOSS_STEPS / visits)
    assert found.cpu_seconds == pytest.approx(seconds, abs=1e-5)
    assert found.counts == (sum(counted[1:], counted[0]) if evaluates else None)
    assert found.label_counts is None
    weights = np.frombuffer(added(bodies, layout), "<u8", 2)[1]
    assert (
        float((mean_of_sum(plan, found) - mean.mean()).abs().max())
        < survivors * 4.0 / 2**31 * 128 / weights * 6
    )


def test_under_privacy_a_site_sends_no_loss_and_no_visits(secure_of):
    plan = secure_of(private=True, nominal_units=50)
    layout = layout_of(plan, "train", NUMBERS)
    assert [segment.name for segment in layout.segments] == ["update", "cpu"]
    update = Update(np.zeros(NUMBERS, np.float32), 1.0, plan.expected_visits, 0.0, ())
    body = layout.encode(trained(plan, update, 0.0, None), 1, dither(0))
    found = read_sum(plan, layout, added([body] * 5, layout), 5)
    assert (found.loss, found.visits, found.weight) == (0.0, 5 * plan.expected_visits, 5)
    assert plan.expected_visits == 10


@pytest.mark.parametrize("survivors", [5, 6])
def test_shares_add_up_exactly_and_are_divided_by_the_survivors(plan_of, survivors):
    plan = shared(plan_of)
    layout, rng = layout_of(plan, "train", NUMBERS), np.random.default_rng(survivors)
    most = plan_grid(plan).bound
    shares = rng.integers(-most, most, (survivors, NUMBERS)).astype(np.int32)
    bodies = [
        layout.encode(trained(plan, Update(row, 1.0, 10, 0.0, ()), 0.0, None), 1, dither(0)) for row in shares
    ]
    found = read_sum(plan, layout, added(bodies, layout), survivors)
    assert np.array_equal(found.update, shares.astype(np.int64).sum(0))
    step = decode(shares.astype(np.int64).sum(0), plan, survivors) * -plan.local.learning_rate
    assert torch.equal(mean_of_sum(plan, found), torch.from_numpy(step))
    privacy = replace(plan.privacy, threshold=survivors)
    plain = SumOfShares(replace(plan, aggregation="plain", secure=None, privacy=privacy), NUMBERS)
    for row in shares:
        plain.add(row, 1.0)
    assert torch.equal(plain.mean(), mean_of_sum(plan, found))


def test_noise_of_too_few_sites_is_no_step(plan_of):
    plan = shared(plan_of)
    layout = layout_of(plan, "train", NUMBERS)
    body = layout.encode(
        trained(plan, Update(np.ones(NUMBERS, np.int32), 1.0, 10, 0.0, ()), 0.0, None), 1, dither(0)
    )
    found = read_sum(plan, layout, added([body] * 4, layout), 4)
    with pytest.raises(PrivacyError, match="a sum over 4 sites of noise that was divided among 5"):
        mean_of_sum(plan, found)


def test_an_evaluation_by_itself(secure_of):
    plan, rng = secure_of(), np.random.default_rng(0)
    layout = layout_of(plan, "evaluate")
    assert layout.words32 == 0
    counted = [counts_of(plan, rng) for _ in range(5)]
    bodies = [layout.encode(evaluated(counts, 0.5), 1, dither(0)) for counts in counted]
    found = read_sum(plan, layout, added(bodies, layout), 5)
    assert found.counts == sum(counted[1:], counted[0])
    assert (found.cpu_seconds, found.visits, found.update) == (2.5, 0, None)


@pytest.mark.parametrize("counts", [[3, 0, 5], [-4, 7, 0], [-(2**62), 2**62, 1]])
def test_label_counts_may_be_negative(secure_of, counts):
    plan = secure_of()
    layout = layout_of(plan, "label_counts")
    sent = [np.array(counts), np.array([1, 2, 3]), np.array([0, -9, 4])]
    bodies = [layout.encode(labelled(each), 1, dither(0)) for each in sent]
    found = read_sum(plan, layout, added(bodies, layout), 3)
    cut = [np.clip(each, -OFFSET, MOST) for each in sent]
    assert found.label_counts.tolist() == np.sum(cut, axis=0).tolist()


def test_what_one_site_has_no_business_with_is_cut_or_refused(secure_of):
    plan = secure_of()
    layout = layout_of(plan, "train", NUMBERS)
    wild = Update(np.full(NUMBERS, 9.0, np.float32), 128.0, 7, 1e30, ())
    body = layout.encode(trained(plan, wild, 1e30, None), 128, dither(0))
    found = read_sum(plan, layout, added([body] * 6, layout), 6)
    assert np.allclose(mean_of_sum(plan, found).numpy(), 4.0, atol=1e-6), "cut to the clip"
    for update, weight in ((replace(wild, delta=wild.delta * np.nan), 1), (wild, 129)):
        with pytest.raises(SecureAggregationError):
            layout.encode(trained(plan, update, 0.0, None), weight, dither(0))


def test_layouts_differ_where_anything_does(secure_of, plan_of):
    plan, private = secure_of(), secure_of(private=True)
    layouts = [
        layout_of(plan, "train", NUMBERS),
        layout_of(plan, "train", NUMBERS + 1),
        layout_of(plan, "train", NUMBERS, evaluates=True),
        layout_of(plan, "evaluate"),
        layout_of(plan, "label_counts"),
        layout_of(private, "train", NUMBERS),
        layout_of(shared(plan_of), "train", NUMBERS),
        layout_of(replace(plan, secure=replace(SECURE, clip=5.0)), "train", NUMBERS),
        layout_of(replace(plan, groups=()), "evaluate"),
    ]
    assert len({layout.digest for layout in layouts}) == len(layouts)
    wide = layout_of(plan, "train", 1_000_000, evaluates=True)
    assert wide.nbytes < 1.001 * 4e6


def test_sums_that_could_overflow_are_refused(secure_of):
    plan = secure_of()
    many = replace(
        plan, secure=Secure(sites=4000, threshold=25, minimum=3, clip=4.0, degree=48, profile="semi-honest")
    )
    layout_of(many, "train", NUMBERS)
    with pytest.raises(ConfigError):
        replace(layout_of(many, "train", NUMBERS), sites=1 << 31)


def test_a_security_officer_reads_it_without_nets():
    code = "import sys, client.secagg.layout, client.secagg.terms; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
