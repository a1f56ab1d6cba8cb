"""What a plan says of fairness: refusals, sizes, and how far one picture moves all that a step releases."""

import dataclasses
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.fairness import Fairness
from client.plan import Attribute, Secure, read_plan
from fer_models.errors import ConfigError, PrivacyError

SECURE = Secure(sites=3, threshold=3, minimum=3, clip=16.0)
AGES = (Attribute("age", ("old", "undisclosed", "young")),)


@pytest.fixture
def fair_of(plan_of):
    """Return plans with a fairness; ``fair`` changes it."""

    def make(fair=None, **given):
        fairness = Fairness(**{"attribute": "age", "adversary": "critic", **(fair or {})})
        return plan_of(**{"aggregation": "secure", "secure": SECURE, "fairness": fairness, **given})

    return make


def test_a_plan_without_it_reads_as_it_always_did(plan_of, fair_of):
    assert "fairness" not in json.loads(plan_of().text)
    plan = fair_of()
    again = read_plan(plan.text)
    assert again == plan
    assert again.digest == plan.digest != plan_of(aggregation="secure", secure=SECURE).digest


CHANGES = {
    "attribute": "skin", "adversary": "gradient_reversal", "critic_loss": "square", "conditional": True, "hidden": 8,
    "strength": 2.0, "ramp": 0.0, "noise_ratio": 2.0, "weighting": "errors", "by": "class", "step": 0.1,
    "tolerance": 0.1, "tolerance_on": "parity",
}  # fmt: skip


def test_the_digest_depends_on_every_field(fair_of):
    assert set(CHANGES) == {field.name for field in dataclasses.fields(Fairness)}
    groups = (*AGES, Attribute("skin", ("dark", "light")))
    plans = [fair_of({name: value}, groups=groups) for name, value in CHANGES.items()]
    assert len({plan.digest for plan in plans} | {fair_of(groups=groups).digest}) == len(CHANGES) + 1


def test_sizes(fair_of, plan_of):
    plan = fair_of()
    assert plan.disclosed == ("old", "young")
    assert plan.counted == (3, 3)
    assert plan.tally_size == 0
    assert fair_of({"weighting": "errors"}).tally_size == 3 * 3 * 2
    assert fair_of({"tolerance": 0.1, "tolerance_on": "parity"}).tally_size == 3 * 3 * 3
    bare = plan_of()
    assert (bare.disclosed, bare.counted, bare.tally_size, bare.stretch) == ((), (1, 3), 0, 1.0)
    assert plan.counts_labels
    assert not bare.counts_labels


@pytest.mark.parametrize(
    ("fair", "parts"),
    [
        ({}, 1),
        ({"weighting": "errors"}, 2),
        ({"tolerance": 0.1}, 2),
        ({"adversary": "none", "weighting": "errors"}, 1),
        ({"adversary": "none", "weighting": "counts"}, 0),
    ],
)
def test_stretch(fair_of, fair, parts):
    assert fair_of(fair).stretch == math.sqrt(1 + parts / 9)
    assert fair_of({**fair, "noise_ratio": 1.0}).stretch == math.sqrt(1 + parts)


@given(
    st.floats(0.1, 10),
    st.floats(0.5, 10),
    st.lists(st.floats(-1e3, 1e3), min_size=6, max_size=6),
    st.integers(0, 5),
)
def test_one_picture_moves_the_joint_vector_by_no_more_than_the_stretch(clip, ratio, gradient, cell):
    """The claim of client/fairness.py, for any gradients of net and critic and any cell of the tally."""

    def clipped(rows, limit):
        return rows * min(1.0, limit / max(float(np.linalg.norm(rows)), 1e-12))

    rows = np.array(gradient)
    tally = np.zeros(6)
    tally[cell] = clip / ratio
    moved = np.concatenate([clipped(rows[:3], clip), clipped(rows[3:], clip / ratio), tally])
    fairness = Fairness("age", adversary="critic", weighting="errors", noise_ratio=ratio)
    assert np.linalg.norm(moved) <= fairness.stretch * clip * (1 + 1e-9)


def test_the_ramp_goes_from_nothing_to_all():
    fairness = Fairness("age", adversary="critic")
    ramp = [fairness.ramped(r, 50) for r in range(1, 51)]
    assert ramp[0] == 0
    assert ramp[-1] == pytest.approx(2 / (1 + math.exp(-10)) - 1)
    assert ramp == sorted(ramp)
    assert replace(fairness, ramp=0.0).ramped(1, 50) == 1.0
    assert fairness.ramped(1, 1) == 0.0


REFUSED = [
    ({"attribute": "shoes"}, {}, ConfigError, "no site tells 'shoes'"),
    (
        {},
        {"groups": (Attribute("age", ("old", "undisclosed")),)},
        ConfigError,
        "age has one group that is disclosed",
    ),
    (
        {},
        {"groups": (Attribute("age", ("undisclosed",)),)},
        ConfigError,
        "age has no group that is disclosed",
    ),
    ({}, {"groups": ()}, ConfigError, "no site tells 'age'"),
    ({}, {"aggregation": "plain", "secure": None}, PrivacyError, "would reach the coordinator by itself"),
    ({}, {"server": {"participation": 0.5}}, PrivacyError, "sums over changing sites"),
    ({"adversary": "none"}, {}, ConfigError, "does nothing"),
    ({"adversary": "none", "weighting": "errors", "tolerance": 0.1}, {}, ConfigError, "there is none"),
    ({"tolerance": 1.0}, {}, ConfigError, "a tolerance of 1.0"),
    ({"hidden": -1}, {}, ConfigError, "-1 hidden units"),
    ({"strength": -1.0}, {}, ConfigError, "strength -1"),
    ({"ramp": -1.0}, {}, ConfigError, "ramp -1"),
    ({"noise_ratio": 0.0}, {}, ConfigError, "noise_ratio 0"),
    ({"step": 0.0}, {}, ConfigError, "step 0"),
    ({}, {"privacy": {}}, PrivacyError, "exact label counts would release those counts"),
]


@pytest.mark.parametrize(("fair", "given_", "kind", "what"), REFUSED, ids=[row[3] for row in REFUSED])
def test_what_is_refused(fair_of, fair, given_, kind, what):
    with pytest.raises(kind, match=what):
        fair_of(fair, **given_)


def test_under_privacy_sites_may_change(fair_of):
    plan = fair_of(server={"participation": 0.5}, privacy={"counts_epsilon": 0.5})
    assert plan.server.participation == 0.5
