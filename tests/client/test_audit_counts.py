"""Counts of test pictures with noise: how much, for how much, written down first, and refused where they would leak."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import chisquare

from client.audit_counts import (
    audit_round,
    audit_size,
    cost_of_audit,
    counted_places,
    epsilon_of_count,
    is_noisy,
    shares_of,
    variance_of_count,
    with_noise,
)
from client.label_counts import discrete_laplace, laplace_share, variance_of
from client.limits import cost_beside
from client.mechanisms import Mechanism
from client.plan import Attribute, read_plan
from client.randomness import KeyedStream
from fer_models.counts import Counts
from fer_models.errors import PrivacyError


@pytest.fixture
def noisy(plan_of):
    """A private plan with two attributes whose counts of test pictures carry noise of an epsilon."""

    def make(epsilon=1.0, **more):
        plan = plan_of(privacy={}, local={"amount": 1}, server={"rounds": 2, "evaluate_every": 2})
        privacy = dataclasses.replace(plan.privacy, audit_epsilon=epsilon, **more)
        groups = (*plan.groups, Attribute("gender", ("f", "m", "undisclosed")))
        return dataclasses.replace(plan, privacy=privacy, groups=groups)

    return make


def counted(plan, rows=60):
    rng = np.random.default_rng(0)
    columns = {name: rng.choice(values, rows) for name, values in plan.attributes.items()}
    true, said = rng.integers(0, 3, rows), rng.integers(0, 3, rows)
    return Counts.of(true, said, plan.labels, columns, plan.attributes)


def test_every_table_shares_the_epsilon(noisy):
    plan = noisy(1.0)
    assert epsilon_of_count(plan) == Fraction(1, 2)
    assert audit_size(plan) == 9 * (3 + 3)
    assert cost_of_audit(plan) == (Mechanism("pure", 1.0),)
    assert Mechanism("pure", 1.0) in cost_beside(plan)
    assert audit_round(plan) == plan.server.rounds + 1


def test_the_noise_has_the_variance_that_is_told(noisy):
    plan = noisy(1.0)
    counts = counted(plan)
    true = np.concatenate([counts.by_group[name].ravel() for name in plan.attributes])
    drawn = np.concatenate([with_noise(counts, plan, bytes([n]) * 32) - true for n in range(60)])
    assert drawn.mean() == pytest.approx(0, abs=0.25)
    assert drawn.var() == pytest.approx(variance_of(0.5), rel=0.15)


def test_one_picture_more_moves_the_release_by_no_more_than_its_noise_hides(noisy):
    """The sum over tables of |change| times the epsilon of a count is the epsilon of the whole."""
    plan = noisy(0.8)
    labels, values = plan.labels, plan.attributes
    one = Counts.of([1], [2], labels, {name: [values[name][0]] for name in values}, values)
    moved = np.abs(np.concatenate([one.by_group[name].ravel() for name in values])).sum()
    assert moved * epsilon_of_count(plan) <= Fraction(0.8)


def chances_of_laplace(epsilon, most):
    x = np.arange(-most, most + 1)
    return (1 - np.exp(-epsilon)) / (1 + np.exp(-epsilon)) * np.exp(-epsilon * np.abs(x))


@pytest.mark.parametrize(
    ("epsilon", "shares"), [(Fraction(1, 2), 3), (Fraction(5, 4), 5), (Fraction(1, 3), 1)]
)
def test_shares_of_noise_are_together_discrete_laplace_noise(epsilon, shares):
    """Held against the distribution's own chances, by chi squared, and each share against its variance."""
    stream = KeyedStream(bytes([shares]) * 32)
    drawn = np.array([laplace_share(epsilon, shares, stream) for _ in range(4000 * shares)]).reshape(
        -1, shares
    )
    most = int(4 / epsilon)
    seen = np.bincount(np.clip(drawn.sum(1), -most, most) + most, minlength=2 * most + 1)
    expected = 4000 * chances_of_laplace(float(epsilon), most)
    expected[[0, -1]] += (4000 - expected.sum()) / 2
    assert chisquare(seen, expected).pvalue > 1e-3
    assert drawn.var(0) == pytest.approx(variance_of(float(epsilon)) / shares, rel=0.2)
    assert np.corrcoef(drawn.T) == pytest.approx(np.eye(shares), abs=0.06)


def test_divided_noise_is_whole_where_all_but_the_colluders_add_it(noisy):
    plan = noisy(1.0, noise="distributed", threshold=4, colluders=1)
    counts = counted(plan, 300)
    true = np.concatenate([counts.by_group[name].ravel() for name in plan.attributes])
    keys = (bytes([n, site]) + bytes(30) for n in range(25) for site in range(3))
    drawn = np.array([with_noise(counts, plan, key) - true for key in keys]).reshape(25, 3, -1)
    assert shares_of(plan) == 3
    assert drawn.sum(1).var() == pytest.approx(variance_of(0.5), rel=0.15)
    assert variance_of_count(plan, 4) == pytest.approx(4 / 3 * variance_of(0.5))
    assert cost_of_audit(plan) == (Mechanism("pure", 1.0),), "the ledger holds the epsilon of the sum"


def test_where_people_are_protected_one_picture_of_each_counts(noisy, samples):
    plan = noisy(1.0, unit="subject")
    people = dataclasses.replace(samples, subject=np.array([f"p{i % 7}" for i in range(len(samples))]))
    rows = np.arange(20, 60)
    drawn = [counted_places(plan, people, rows, bytes([n]) * 32) for n in range(40)]
    for places in drawn:
        assert sorted(people.subject[rows[places]].tolist()) == [f"p{i}" for i in range(7)]
    assert {place for places in drawn for place in places.tolist()} == set(range(40)), (
        "any picture may be the one"
    )
    assert cost_of_audit(plan) == (Mechanism("pure", 1.0, unit="subject"),)
    assert counted_places(noisy(1.0), samples, rows, bytes(32)).tolist() == list(range(40))
    with pytest.raises(PrivacyError, match="do not say who is on them"):
        counted_places(plan, dataclasses.replace(samples, subject=None), rows, bytes(32))


def test_equal_keys_give_equal_noise_and_others_do_not(noisy):
    plan = noisy()
    counts = counted(plan)
    assert with_noise(counts, plan, b"a" * 32).tolist() == with_noise(counts, plan, b"a" * 32).tolist()
    assert with_noise(counts, plan, b"a" * 32).tolist() != with_noise(counts, plan, b"b" * 32).tolist()


def test_without_attributes_there_is_one_table(noisy):
    plan = dataclasses.replace(noisy(2.0), groups=())
    counts = Counts.of([0, 1], [0, 1], plan.labels)
    stream = KeyedStream(b"k" * 32)
    noise = [discrete_laplace(Fraction(2), stream) for _ in range(9)]
    assert (with_noise(counts, plan, b"k" * 32) - counts.overall.ravel()).tolist() == noise


def test_a_plan_without_it_is_what_it_was(noisy, plan_of):
    plain = plan_of(privacy={})
    assert "audit_epsilon" not in plain.text
    assert not is_noisy(plain)
    assert cost_of_audit(plain) == ()
    plan = noisy(0.5)
    assert read_plan(plan.text) == plan
    assert is_noisy(plan)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"epsilon": 0.0}, "not in"),
        ({"epsilon": 200.0}, "not in"),
    ],
)
def test_plans_that_cannot_keep_their_word_are_refused(noisy, more, said):
    with pytest.raises(Exception, match=said):
        noisy(**more)


def test_every_evaluation_would_cost_so_only_the_last_is_asked_for(noisy):
    plan = noisy()
    with pytest.raises(PrivacyError, match=r"server\.evaluate_every"):
        dataclasses.replace(plan, server=dataclasses.replace(plan.server, evaluate_every=1))
    with pytest.raises(PrivacyError, match="n has no bound"):
        dataclasses.replace(plan, server=dataclasses.replace(plan.server, people=True))
    assert not any(plan.judges_in(number) for number in range(1, plan.server.rounds + 1))
