"""Epsilon: known answers, two accountants side by side, and what holds for any history."""

import math
import warnings
from statistics import NormalDist

import dp_accounting
import pytest
from dp_accounting.pld import PLDAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants import PRVAccountant, RDPAccountant
from opacus.accountants.utils import get_noise_multiplier

import client.accounting as accounting
from client.accounting import Epsilon, cross_check, epsilon_of, noise_for
from client.composition import rdp_epsilon
from client.mechanisms import Mechanism, gaussian, merged, shared_noise
from fer_models.errors import ConfigError, PrivacyError

DELTA = 1e-5
LAPLACE = Mechanism("laplace", 2.0)
COUNTS = Mechanism("pure", 2.0)


def _opacus(kind, steps, delta=DELTA):
    accountant = kind()
    for sigma, rate, count in steps:
        for _ in range(count):
            accountant.step(noise_multiplier=sigma, sample_rate=rate)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Optimal order")
        return accountant.get_epsilon(delta)


def _pld(*events):
    accountant = PLDAccountant()
    for event, count in events:
        accountant.compose(event, count)
    return accountant.get_epsilon(DELTA)


STEPS = (dp_accounting.PoissonSampledDpEvent(0.2, dp_accounting.GaussianDpEvent(2.0)), 60)


def test_an_empty_history_costs_nothing():
    assert epsilon_of((), DELTA) == (0.0, "prv", "record", "")


@pytest.mark.parametrize("steps", [((1.5, 0.02, 120),), ((1.0, 0.01, 50), (2.0, 0.05, 20))])
def test_steps_cost_what_opacus_says_when_it_is_told_them_one_by_one(steps):
    history = merged(each for step in steps for each in gaussian(*step))
    found = epsilon_of(history, DELTA)
    assert found.value == pytest.approx(_opacus(PRVAccountant, steps), rel=1e-12)
    assert (found.accountant, found.note) == ("prv", "")
    assert 0.5 < found.value / _opacus(RDPAccountant, steps) < 1, "prv is the tighter of two upper bounds"


def _delta_of_gaussian(sigma, epsilon):
    """Balle and Wang 2018, theorem 8, for sensitivity 1."""
    low, high = (NormalDist().cdf(side / (2 * sigma) - epsilon * sigma) for side in (1, -1))
    return low - math.exp(epsilon) * high


def test_one_step_over_all_rows_is_the_gaussian_mechanism():
    epsilon = epsilon_of(gaussian(4.0, 1.0, 1), 1e-2).value
    assert _delta_of_gaussian(4.0, epsilon) <= 1e-2 < _delta_of_gaussian(4.0, epsilon - 0.03), (
        "tight from above"
    )


def test_the_design_figures():
    """Noise 1.13, 2.23 and 5.70 are epsilon 8, 3 and 1 for 4,500 steps at rate .0223, by two accountants."""
    for sigma, expected in ((1.13, 8.03), (2.23, 2.99), (5.70, 1.00)):
        (check,) = cross_check(gaussian(sigma, 0.0223, 4500), DELTA)
        assert check.first.value == pytest.approx(expected, abs=0.005)
        assert check.first.value - check.second.value == pytest.approx(0.01, abs=0.003), "prv's own error"
        assert (check.first.accountant, check.second.accountant) == ("prv", "pld")


@pytest.mark.parametrize(
    ("beside", "event"),
    [
        (LAPLACE, dp_accounting.LaplaceDpEvent(2.0)),
        (COUNTS, dp_accounting.dp_event.DiscreteLaplaceDpEvent(0.5, 1)),
    ],
    ids=["laplace", "geometric counts"],
)
def test_counts_beside_training_compose_exactly(beside, event):
    found = epsilon_of(merged((*gaussian(2.0, 0.2, 60), beside)), DELTA)
    assert found.accountant == "pld"
    assert found.value == pytest.approx(_pld(STEPS, (event, 1)), abs=2e-3)
    training = epsilon_of(gaussian(2.0, 0.2, 60), DELTA).value
    assert training < found.value < training + 0.5, "less than adding up, by basic composition"


def test_a_pure_mechanism_alone_costs_its_epsilon():
    assert epsilon_of((COUNTS,), DELTA).value == pytest.approx(0.5, abs=1e-3)
    assert epsilon_of((LAPLACE,), DELTA).value == pytest.approx(0.5, abs=1e-3)


def test_renyi_dp_at_integer_orders_is_what_the_papers_say():
    """Mironov et al. 2019, section 3.3, written out for one sampled step of every order."""
    sigma, rate, steps = 2.0, 0.2, 60
    best = math.inf
    for order in range(2, 65):
        moments = [
            math.comb(order, k) * (1 - rate) ** (order - k) * rate**k * math.exp((k * k - k) / (2 * sigma**2))
            for k in range(order + 1)
        ]
        renyi = steps * math.log(math.fsum(moments)) / (order - 1)
        # Canonne et al. 2020, proposition 12
        best = min(best, renyi + math.log1p(-1 / order) - math.log(DELTA * order) / (order - 1))
    for name in ("gaussian", "discrete_gaussian"):
        assert rdp_epsilon((Mechanism(name, sigma, rate, steps),), DELTA) == pytest.approx(best, rel=1e-9)


def test_two_sums_over_one_batch_are_one_release():
    """With no sampling the joint release is two Gaussian mechanisms; with sampling it is dearer than two of them."""
    joint = gaussian(shared_noise(2.0, 3.0), 1.0, 5)
    apart = merged((*gaussian(2.0, 1.0, 5), *gaussian(3.0, 1.0, 5)))
    assert epsilon_of(joint, DELTA).value == pytest.approx(epsilon_of(apart, DELTA).value, abs=0.02)
    event = dp_accounting.ComposedDpEvent(
        [dp_accounting.GaussianDpEvent(2.0), dp_accounting.GaussianDpEvent(3.0)]
    )
    accountant = dp_accounting.rdp.RdpAccountant()
    accountant.compose(dp_accounting.PoissonSampledDpEvent(0.1, event), 50)
    sampled = epsilon_of(gaussian(shared_noise(2.0, 3.0), 0.1, 50), DELTA).value
    assert 0.8 * accountant.get_epsilon(DELTA) < sampled < accountant.get_epsilon(DELTA)
    assert sampled > epsilon_of(merged((*gaussian(2.0, 0.1, 50), *gaussian(3.0, 0.1, 50))), DELTA).value


# Units


def test_releases_for_persons_are_not_added_to_those_for_pictures_as_if_alike():
    pictures, persons = gaussian(2.0, 0.2, 60), gaussian(4.0, 0.1, 60, "subject")
    assert epsilon_of(persons, DELTA).unit == "subject"
    found = epsilon_of(merged((*pictures, *persons)), DELTA)
    assert (found.unit, found.accountant) == ("record", "units")
    assert "no person is protected" in found.note
    alike = epsilon_of(merged((*pictures, *gaussian(4.0, 0.1, 60))), DELTA).value
    parts = [epsilon_of(each, DELTA / 2).value for each in (pictures, persons)]
    assert found.value > parts[0] + 2 * parts[1] > alike, "a picture of a person who stays is a replacement"
    assert found.value < parts[0] + 3 * parts[1]


def test_group_privacy_over_both_units_is_proven_on_the_gaussian_mechanism():
    """A person replaced moves an unsampled sum by 2 C: the exact answer, which the bound must not fall below."""
    exact = epsilon_of(merged((*gaussian(8.0, 1.0, 1), *gaussian(5.0, 1.0, 1))), DELTA).value
    bound = epsilon_of(merged((*gaussian(8.0, 1.0, 1), *gaussian(10.0, 1.0, 1, "subject"))), DELTA).value
    assert exact < bound < 1.6 * exact


def test_loud_releases_for_persons_bound_nothing_for_pictures():
    found = epsilon_of(merged((*gaussian(4.0, 1.0, 1), *gaussian(0.03, 1.0, 1, "subject"))), DELTA)
    assert (found.value, found.accountant) == (math.inf, "none")


# Where no tight answer is to be had


def test_rdp_answers_where_prv_has_none():
    for step in ((0.05, 1.0, 1000), (1.0, 0.01, 400_000)):  # prv would ask for 30 and for 3 GB
        found = epsilon_of(gaussian(*step), DELTA)
        accountant = RDPAccountant()
        accountant.history = [step]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Optimal order")
            assert (found.value, found.accountant) == (accountant.get_epsilon(DELTA), "rdp")
        assert found.note == (
            f"PRV has no answer at a noise multiplier of {step[0]:g}: this is RDP's bound, which is larger."
        )
    assert epsilon_of(gaussian(0.1, 0.1, 10), DELTA).accountant == "prv", "a large epsilon alone is no reason"
    nothing = epsilon_of(gaussian(1e-200, 1.0, 10), DELTA)
    assert nothing[:2] == (math.inf, "none"), "no answer is no privacy"
    assert nothing.note.endswith("gives no guarantee at all.")


@pytest.mark.parametrize("delta", [0.0, 1.0, -1.0, math.nan])
def test_delta_has_to_be_one(delta):
    with pytest.raises(ConfigError, match="delta"):
        epsilon_of(gaussian(1.0, 0.1, 1), delta)


# What holds for any history

HISTORIES = st.lists(
    st.builds(
        Mechanism,
        name=st.sampled_from(["gaussian", "gaussian", "laplace", "pure", "discrete_gaussian"]),
        noise=st.floats(4.0, 40.0),
        rate=st.sampled_from([0.02, 0.3, 1.0]),
        count=st.integers(1, 30),
    ),
    min_size=1,
    max_size=2,
)
SLACK = 0.03
"""Accountants differ by their errors: a history that changes its accountant may cost that much less."""


@settings(deadline=None, max_examples=10)
@given(HISTORIES, HISTORIES, st.randoms(use_true_random=False))
def test_more_releases_cost_more_in_any_order(one, two, random):
    both = [*one, *two]
    random.shuffle(both)
    together, alone = epsilon_of(merged(both), DELTA), epsilon_of(merged(one), DELTA)
    assert together == epsilon_of(merged([*two, *one]), DELTA)
    if together.accountant == alone.accountant:
        assert together.value >= alone.value - SLACK
    halves = epsilon_of(merged(one), DELTA / 2).value + epsilon_of(merged(two), DELTA / 2).value
    if together.accountant != "rdp":
        assert together.value <= halves + SLACK, "no more than basic composition"


@settings(deadline=None, max_examples=15)
@given(HISTORIES)
def test_two_accountants_agree_about_any_history(mechanisms):
    (check,) = cross_check(merged(mechanisms), DELTA)
    assert check.first == epsilon_of(merged(mechanisms), DELTA)
    assert {check.first.accountant, check.second.accountant} in ({"prv", "pld"}, {"rdp", "pld"})


@settings(deadline=None, max_examples=8)
@given(st.floats(2.0, 10.0), st.floats(0.005, 0.5), st.integers(1, 200), st.floats(1.01, 2.0))
def test_less_noise_costs_more(sigma, rate, steps, factor):
    quiet, loud = (epsilon_of(gaussian(noise, rate, steps), DELTA).value for noise in (sigma * factor, sigma))
    assert quiet <= loud + 1e-3


def test_accountants_that_disagree_are_an_error(monkeypatch):
    history = gaussian(1.7, 0.1, 33)
    right = epsilon_of(history, DELTA)
    for wrong in (right.value + 0.1, right.value - 0.1):
        monkeypatch.setattr(accounting, "epsilon_of", lambda *_, wrong=wrong: Epsilon(wrong, "prv"))
        accounting._checked.cache_clear()
        with pytest.raises(PrivacyError, match=r"prv says epsilon .* pld says"):
            cross_check(history, DELTA)
    monkeypatch.setattr(accounting, "epsilon_of", lambda *_: Epsilon(right.value - 0.1, "rdp"))
    with pytest.raises(PrivacyError, match="rdp says"):
        cross_check(history, DELTA)
    monkeypatch.setattr(accounting, "epsilon_of", lambda *_: Epsilon(right.value * 1.3, "rdp"))
    cross_check(history, DELTA)  # a loose bound is allowed to be loose


def test_each_unit_is_checked_by_itself():
    checks = cross_check(merged((*gaussian(2.0, 0.2, 60), *gaussian(4.0, 0.1, 60, "subject"))), DELTA)
    assert [check.first.unit for check in checks] == ["record", "subject"]
    assert [check.second.unit for check in checks] == ["record", "subject"]


def test_no_answer_is_no_second_opinion():
    (check,) = cross_check((Mechanism("pure", 1e-3),), DELTA)
    assert (check.first.accountant, check.second.accountant) == ("rdp", "none")


# The noise for an epsilon


@pytest.mark.parametrize(("epsilon", "rate", "steps"), [(3.0, 0.0223, 4500), (20.0, 1.0, 2)])
def test_noise_for_meets_the_target_and_no_smaller_one_does(epsilon, rate, steps):
    sigma = noise_for(epsilon, DELTA, rate, steps)
    assert epsilon_of(gaussian(sigma, rate, steps), DELTA).value <= epsilon
    assert epsilon_of(gaussian(sigma * (1 - 1e-3), rate, steps), DELTA).value > epsilon


def test_noise_leaves_room_for_what_is_released_beside():
    alone, beside = noise_for(8.0, DELTA, 0.2, 60), noise_for(8.0, DELTA, 0.2, 60, beside=(COUNTS,))
    assert alone < beside < 1.1 * alone
    assert epsilon_of(merged((*gaussian(beside, 0.2, 60), COUNTS)), DELTA).value <= 8.0
    with pytest.raises(PrivacyError, match="beside the other releases"):
        noise_for(0.4, DELTA, 0.2, 60, beside=(COUNTS,))


@pytest.mark.filterwarnings("ignore:Optimal order")
def test_noise_for_agrees_with_opacuss_own_search():
    steps = {"sample_rate": 0.02, "steps": 30}
    theirs = get_noise_multiplier(target_epsilon=1.0, target_delta=DELTA, accountant="prv", **steps)
    assert noise_for(1.0, DELTA, 0.02, 30) == pytest.approx(theirs, rel=0.01)


def test_an_epsilon_out_of_reach_is_refused():
    with pytest.raises(
        PrivacyError, match=r"epsilon 0\.001 is out of reach with 100 steps at rate 1 \(privacy\.target"
    ):
        noise_for(0.001, DELTA, 1.0, 100)


@pytest.mark.parametrize("epsilon", [0.0, -1.0, math.nan, math.inf])
def test_an_epsilon_that_is_none_is_refused(epsilon):
    with pytest.raises(ConfigError, match=r"is not positive and finite \(privacy\.target_epsilon\)"):
        noise_for(epsilon, DELTA, 0.1, 10)


def test_the_search_goes_up_to_1000():
    """At noise 512 this costs more than 0.0154, at 1000 less: the last doubling is cut, not left out."""
    sigma = noise_for(0.0154, DELTA, 1.0, 2)
    assert 512 < sigma <= 1000


@pytest.mark.parametrize("noise", [0.05, 0.03, 0.02, 0.01])
def test_no_answer_is_below_the_truth_where_numbers_overflow(noise):
    """Opacus's PRV says 708 for any epsilon above that."""
    (check,) = cross_check(gaussian(noise, 0.2, 1), 1e-5)
    assert check.second.accountant == "pld"
    assert check.first.value >= check.second.value - check.tolerance
    assert check.first.accountant == ("prv" if noise == 0.05 else "rdp")
