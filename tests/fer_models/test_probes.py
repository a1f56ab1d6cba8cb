"""Probes find what was planted, and nothing where nothing is; people count once and are on one side only."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fer_models.errors import DataError
from fer_models.intervals import mean_interval, wilson
from fer_models.probes import Shown, balanced_accuracy, probe

NAMES = np.array(["a", "b", "c", "undisclosed"])


def planted(seed, *, people=120, pictures=2, groups=2, first=0, kind="linear", features=12, sure=1.0):
    """People whose pictures' features tell the group: by a shift, by a sign of a product, or not at all."""
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(people), pictures) + first
    group = rng.integers(0, groups, people)[person - first]
    z = rng.normal(size=(len(person), features)).astype(np.float32)
    if kind == "linear":
        z[:, 0] += 4 * sure * group
    if kind == "product":
        sign = 2 * (group > 0) - 1
        z[:, 1] = np.abs(z[:, 1]) * np.sign(z[:, 0]) * sign
        z[:, :2] *= 3
    return Shown(z, NAMES[group], person)


def both(seed, **options):
    return planted(seed, **options), planted(seed + 1, first=1000, **options)


@pytest.mark.parametrize("groups", [2, 3])
def test_a_planted_direction_is_found_by_both(groups):
    found = probe(*both(0, groups=groups))
    assert found["chance"] == pytest.approx(1 / groups)
    assert found["groups"] == ["a", "b", "c"][:groups]
    for name in ("linear", "mlp"):
        low, high = found[f"{name}_interval"]
        assert found[name] > 0.9
        assert found["chance"] < low <= found[name] <= high <= 1


def test_only_the_mlp_finds_what_is_not_linear():
    found = probe(*both(5, kind="product", people=400))
    assert found["linear_interval"][0] < 0.5 < found["linear_interval"][1]
    assert found["mlp"] > 0.85


def test_nothing_is_found_where_nothing_is():
    for kind in ("linear", "mlp"):
        figures = [probe(*both(seed, kind="none", people=200)) for seed in range(0, 40, 2)]
        inside = sum(each[f"{kind}_interval"][0] <= 0.5 <= each[f"{kind}_interval"][1] for each in figures)
        assert inside >= 17
        assert abs(np.mean([each[kind] for each in figures]) - 0.5) < 0.02


def test_a_rare_group_counts_as_much_as_a_frequent_one():
    learn, judge = both(9, people=300, kind="none")
    for side in (learn, judge):
        rare = side.person % 10 == 0
        side.group[:] = np.where(rare, "a", "b")
    found = probe(learn, judge)
    assert found["linear_interval"][0] < 0.5 < found["linear_interval"][1], (
        "answering b scores .9 of pictures"
    )


def test_equal_seeds_give_equal_figures_and_leave_the_global_generator_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one, other = probe(*both(2, sure=0.3)), probe(*both(2, sure=0.3))
    assert one == other
    assert torch.equal(torch.get_rng_state(), before)


def test_the_undisclosed_and_small_groups_are_left_out():
    learn, judge = both(1, people=90, groups=3)
    few = learn.group == "c"
    keep = ~few | (learn.person < learn.person[few][0] + 1)
    learn = Shown(learn.features[keep], learn.group[keep], learn.person[keep])
    judge.group[judge.person % 7 == 0] = "undisclosed"
    found = probe(learn, judge)
    assert (found["groups"], found["left_out"]) == (["a", "b"], ["c"])
    kept = np.isin(judge.group, ["a", "b"])
    assert found["people"] == len(np.unique(judge.person[kept]))


def test_one_group_is_nothing_to_tell():
    learn, judge = both(1, groups=1)
    assert probe(learn, judge) == {"note": "fewer than two groups have 10 people or more", "left_out": []}


def test_a_person_on_both_sides_is_refused():
    learn, judge = planted(0), planted(1)
    with pytest.raises(DataError, match="120 people are on both sides"):
        probe(learn, judge)


def test_a_feature_that_never_changes_does_no_harm():
    learn, judge = both(0)
    learn.features[:, 3], judge.features[:, 3] = 7.0, 8.0  # a constant that differs between the sides
    found = probe(learn, judge)
    assert min(found["linear"], found["mlp"]) > 0.9


def test_balanced_accuracy_by_hand():
    """Group 0: person 0 told right in 1 of 2 pictures, person 1 in 1 of 1. Group 1: person 2 in 0 of 1."""
    told, truth, person = np.array([0, 1, 0, 0]), np.array([0, 0, 0, 1]), np.array([0, 0, 1, 2])
    figure, limits = balanced_accuracy(told, truth, person)
    assert figure == pytest.approx((0.75 + 0.0) / 2)
    assert limits == pytest.approx(mean_interval([0.75, 0.0], wilson([1.5, 0.0], [2, 1])))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5))
def test_copies_of_pictures_change_nothing(seed, copies):
    rng = np.random.default_rng(seed)
    told, truth, person = rng.integers(0, 2, 30), np.arange(30) % 2, rng.integers(0, 8, 30)
    one = balanced_accuracy(told, truth, person)
    other = balanced_accuracy(*(np.tile(each, copies) for each in (told, truth, person)))
    assert other[0] == pytest.approx(one[0])
    assert other[1] == pytest.approx(one[1])


def test_the_interval_covers_with_pictures_that_are_alike():
    """All three pictures of a person are told alike, half of the time right: .5 lies inside in 95 of 100 draws."""
    rng, inside = np.random.default_rng(0), 0
    person, group = np.repeat(np.arange(60), 3), np.repeat(np.arange(60) % 2, 3)
    for _ in range(400):
        told = np.where(np.repeat(rng.random(60) < 0.5, 3), group, 1 - group)
        low, high = balanced_accuracy(told, group, person)[1]
        inside += low <= 0.5 <= high
    assert inside / 400 > 0.93
