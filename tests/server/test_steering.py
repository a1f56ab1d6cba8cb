"""Steering: weights, lambda and gaps from sums, on small numbers that can be checked by hand."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from client.fairness import Fairness
from client.plan import Attribute, LocalWork, Plan, Privacy, Secure, ServerWork
from fer_models.zoo import ModelSpec
from server.debiasing.steering import BESIDE, LEAST, MOST_STRENGTH, Steering

PRIVACY = Privacy(noise_multiplier=1.0, clip=1.0, delta=1e-5, nominal_units=100, counts_epsilon=0.5)


def plan_of(privacy=None, rounds=20, **fair):
    work = LocalWork(rate=0.5) if privacy else LocalWork()
    return Plan(
        labels=("sad", "glad"),
        model=ModelSpec("cnn_tiny", classes=2),
        local=work,
        server=ServerWork(rounds=rounds, weighting="uniform"),
        privacy=privacy,
        groups=(Attribute("age", ("old", "undisclosed", "young")),),
        aggregation="secure",
        secure=Secure(sites=3, threshold=3, minimum=3, clip=16.0),
        fairness=Fairness(
            "age", **{"adversary": "critic", "weighting": "errors", "step": 0.5, "ramp": 0.0, **fair}
        ),
    )


def tally_of(right, seen):
    """Return a tally: right answers and pictures by group (old, young, undisclosed) and class."""
    right, seen = np.array(right, float), np.array(seen, float)
    return (np.stack([seen - right, right], 2) / seen.sum()).ravel()


EVEN = [[25, 25], [25, 25], [0, 0]]


def test_equal_errors_leave_weights_alone():
    steering = Steering(plan_of())
    for number in range(1, 21):
        steering.take(tally_of([[20, 20], [20, 20], [0, 0]], EVEN), number)
    assert np.allclose(steering.weights(), 1.0)
    assert steering.gap() == pytest.approx(0)


def test_a_step_by_hand():
    steering = Steering(plan_of(by="group", rounds=2))
    steering.take(tally_of([[15, 15], [20, 20], [0, 0]], EVEN), 1)  # errors .4 and .2, mean .3
    error, groups, classes = steering.errors()
    assert error == pytest.approx(0.3)
    assert groups.tolist() == pytest.approx([0.4, 0.2], abs=1e-3)
    assert classes.tolist() == pytest.approx([0.3, 0.3], abs=1e-3)
    weights = steering.weights()
    assert weights[0].tolist() == [1.0, 1.0]
    assert weights[1].tolist() == pytest.approx([math.exp(-0.1)] * 2, rel=1e-3)
    assert weights[2].tolist() == pytest.approx([math.exp(-0.05)] * 2, rel=1e-3), (
        "what the groups have on average"
    )
    assert steering.gap() == pytest.approx(0.2, abs=1e-3)


def test_by_class_and_by_both():
    right = [[25, 10], [20, 5], [0, 0]]
    by_class, both = (Steering(plan_of(by=by, rounds=2)) for by in ("class", "cell"))
    for steering in (by_class, both):
        steering.take(tally_of(right, EVEN), 1)
    assert np.allclose(by_class.weights()[:, 1], 1.0)
    assert (by_class.weights()[:, 0] < 1).all()
    weights = both.weights()
    assert weights.argmax() == 3, "the worst group's worst class"
    assert np.allclose(np.log(weights[0, 0] / weights[1, 0]), np.log(weights[0, 1] / weights[1, 1]))


def test_classes_beside_groups_weigh_a_little_and_alone_as_much_as_groups_do():
    never = [[0, 25], [0, 25], [0, 0]]
    found = {}
    for by in ("group", "class", "cell"):
        steering = Steering(plan_of(step=10.0, by=by))
        for number in range(1, 40):
            steering.take(tally_of(never, EVEN), number)
        found[by] = steering.weights()[0]
    assert found["group"].tolist() == [1.0, 1.0]
    assert found["class"].tolist() == pytest.approx([1.0, LEAST])
    assert found["cell"].tolist() == pytest.approx([1.0, BESIDE])


def test_pictures_count_alike_in_the_first_rounds():
    steering = Steering(plan_of(by="cell", rounds=20))
    for number in range(1, 10):
        assert (steering.weights() == 1).all()
        steering.take(tally_of([[15, 5], [20, 20], [0, 0]], EVEN), number)
    assert steering.weights().min() < 1, "what round 9 of 20 told counts in round 10"


def test_where_few_disclose_their_group_weights_begin_earlier():
    steering = Steering(plan_of(by="group", rounds=20))
    steering.begin(np.array([10, 10, 10, 10, 20, 20], np.int64))
    begun = []
    for number in range(1, 10):
        begun.append(bool(steering.weights().min() < 1))
        steering.take(tally_of([[15, 5], [20, 20], [5, 5]], EVEN), number)
    assert begun.index(True) == 5, "after 0.45 of 20 rounds, times the half that disclose: in round 6"


def test_weights_never_leave_their_range():
    steering = Steering(plan_of(step=10.0))
    for number in range(1, 40):
        steering.take(tally_of([[25, 0], [25, 25], [0, 0]], EVEN), number)
        weights = steering.weights()
        assert weights.max() == 1.0
        assert weights.min() >= LEAST
        told = steering.told(number)
        assert 0 < told.means[0] <= 1


@pytest.mark.parametrize(("undisclosed", "share"), [(0, 1.0), (100, 0.5), (900, 0.25)])
def test_the_fewer_disclose_the_more_their_weights_may_differ(undisclosed, share):
    steering = Steering(plan_of(step=10.0, by="group"))
    steering.begin(np.array([25, 25, 25, 25, undisclosed / 2, undisclosed / 2], np.int64))
    for number in range(1, 40):
        steering.take(tally_of([[0, 0], [25, 25], [0, 0]], EVEN), number)
    assert steering.least == LEAST * share
    assert steering.weights().min() == pytest.approx(LEAST * share)


def test_weights_from_counts_make_group_and_class_independent():
    steering = Steering(plan_of(weighting="counts"))
    counts = np.array([[300, 100], [100, 300], [50, 50]])
    steering.begin(counts.ravel())
    weights = steering.weights()
    weighted = weights[:2] * counts[:2]
    assert weighted[0, 0] / weighted[0].sum() == pytest.approx(weighted[1, 0] / weighted[1].sum(), rel=0.01)
    assert weighted.sum(1)[0] == pytest.approx(weighted.sum(1)[1], rel=0.01)
    assert weights.max() == 1.0
    # P(g) P(c) / P(g, c) is 2/3 and 2, so the undisclosed, who count 1, have half of the largest.
    assert weights[2].tolist() == pytest.approx([0.5, 0.5], rel=0.02)
    told = steering.told(1)
    shares = (counts + 1) / (counts + 1).sum()
    assert told.means[0] == pytest.approx(float((shares * weights).sum()))


def test_the_critic_hears_rare_groups_as_loudly():
    steering = Steering(plan_of())
    steering.begin(np.array([150, 150, 50, 50, 0, 0]))
    assert steering.told(1).balance == pytest.approx((1 / 3, 1.0), rel=0.03)
    assert steering.told(1).means[1] == pytest.approx(0.5, rel=0.03)
    steering.begin(np.array([500, 500, 0, 0, 0, 0]))
    assert steering.told(1).balance[0] == pytest.approx(0.125, rel=0.05), "but not at any price"


def test_noisy_counts_below_nothing_are_nothing():
    steering = Steering(plan_of(weighting="counts"))
    steering.begin(np.array([-40, 100, 100, 100, -3, 0]))
    assert np.isfinite(steering.weights()).all()


def test_lambda_rises_until_the_gap_is_closed_and_then_stays():
    steering = Steering(plan_of(tolerance=0.1, weighting="none"))
    assert steering.strength == 1.0
    for number in range(1, 4):
        steering.take(tally_of([[10, 10], [20, 20], [0, 0]], EVEN), number)
    assert steering.strength == pytest.approx(1.5**3)
    for number in range(4, 21):
        steering.take(tally_of([[20, 20], [20, 20], [0, 0]], EVEN), number)
    held = steering.strength
    for number in range(4, 21):
        steering.take(tally_of([[20, 20], [20, 20], [0, 0]], EVEN), number)
    assert steering.strength == held
    report = steering.report()
    assert report["met"]
    assert [point["strength"] for point in report["record"]][:2] == [1.5, 2.25]


def test_lambda_has_an_end():
    steering = Steering(plan_of(tolerance=0.0, rounds=20))
    for number in range(1, 60):
        steering.take(tally_of([[0, 0], [25, 25], [0, 0]], EVEN), number)
    assert steering.strength == MOST_STRENGTH
    assert not steering.report()["met"]


def test_the_gap_of_parity_by_hand():
    steering = Steering(plan_of(tolerance=0.3, tolerance_on="parity", weighting="none"))
    tally = np.zeros((3, 2, 2))  # group, class, predicted
    tally[0] = [[20, 5], [20, 5]]  # old: 80 % called sad
    tally[1] = [[20, 5], [5, 20]]  # young: 50 %
    steering.take((tally / tally.sum()).ravel(), 1)
    assert steering.gap() == pytest.approx(0.3, abs=2e-3)
    assert steering.errors()[0] == pytest.approx(0.35)


def test_noise_draws_errors_to_everybodys():
    right, seen = [[15, 15], [20, 20], [0, 0]], EVEN
    gaps = []
    for nominal in (20, 1000, 100_000):
        privacy = replace(PRIVACY, nominal_units=nominal, delta=1e-7)
        steering = Steering(plan_of(privacy))
        steering.take(tally_of(right, seen), 1)
        gaps.append(steering.gap())
    assert gaps[0] < 0.1 < gaps[1] < gaps[2]
    assert gaps[2] == pytest.approx(0.2, rel=0.02)


def test_noise_alone_claims_little():
    """Pure noise of the size that is accounted for, over many rounds: weights stay near 1."""
    plan = plan_of(replace(PRIVACY, nominal_units=1000))
    steering, rng = Steering(plan), np.random.default_rng(0)
    deviation = plan.stretch * 3 / (500 * math.sqrt(4 * 3))
    for number in range(1, 101):
        steering.take(tally_of([[20, 20], [20, 20], [0, 0]], EVEN) + deviation * rng.normal(size=12), number)
    assert steering.weights().min() > 0.8


@pytest.mark.parametrize("privacy", [None, PRIVACY])
def test_state_and_back(privacy):
    plan = plan_of(privacy, tolerance=0.1)
    one = Steering(plan)
    one.begin(np.array([10, 20, 30, 40, 5, 5]))
    one.take(tally_of([[10, 10], [20, 20], [0, 0]], EVEN), 1)
    two = Steering(plan)
    two.take_up(json.loads(json.dumps(one.facts())))
    for steering in (one, two):
        steering.take(tally_of([[12, 10], [20, 20], [0, 0]], EVEN), 2)
    assert one.told(3) == two.told(3)
    assert one.report() == two.report()


def test_the_ramp_reaches_what_is_told():
    steering = Steering(plan_of(ramp=10.0, strength=2.0))
    assert steering.told(1).strength == 0.0
    assert steering.told(20).strength == pytest.approx(2.0, rel=1e-3)
    nobody = Steering(plan_of(adversary="none"))
    assert (nobody.told(20).strength, nobody.told(20).balance) == (0.0, ())
