"""Membership inference by loss, on tiny arrays and on a net that has learned its pictures by heart."""

import numpy as np
import pytest

from simulations.privacy_audit.inference import area, by_person, caught_at, infer


def test_the_area_counts_pairs_and_ties_by_half():
    assert area(np.array([3.0, 2.0]), np.array([1.0, 2.0])) == (3 + 0.5) / 4
    assert area(np.array([1.0]), np.array([1.0])) == 0.5
    assert area(np.array([0.0]), np.array([1.0, 2.0])) == 0.0


def test_few_false_alarms_leave_the_highest_scores():
    members, others = np.array([9.0, 8.0, 1.0, 0.0]), np.arange(100) / 20.0
    found = caught_at(0.01, members, others, 0.95)
    assert found.share == 0.5
    assert found.interval[0] < 0.5 < found.interval[1]
    assert (others > np.sort(others)[-2]).sum() == 1  # one of a hundred
    assert caught_at(0.01, others, others, 0.95).share == 0.01


def test_people_score_by_the_mean_of_their_pictures():
    found = by_person(np.array([1.0, 5.0, 3.0]), np.array(["b", "a", "b"]))
    assert found.tolist() == [5.0, 2.0]


def test_what_is_learned_by_heart_is_found_and_chance_is_not():
    chance = np.random.default_rng(0)
    sure = infer(np.ones(400), np.zeros(400), delta=1e-5, confidence=0.95, chance=chance)
    assert sure.auc == 1.0
    assert sure.epsilon > 3
    alike = infer(
        chance.normal(size=400), chance.normal(size=400), delta=1e-5, confidence=0.95, chance=chance
    )
    assert alike.auc_interval[0] < 0.5 < alike.auc_interval[1]
    assert alike.epsilon < 0.3
    assert infer(np.ones(1), np.ones(9), delta=1e-5, confidence=0.95, chance=chance) is None


def test_the_same_seed_gives_the_same_answer():
    scores = np.random.default_rng(1).normal(size=(2, 50))
    found = [
        infer(*scores, delta=1e-5, confidence=0.9, chance=np.random.default_rng(2)).to_json() for _ in "ab"
    ]
    assert found[0] == found[1]
    assert found[0]["epsilon"] == pytest.approx(found[1]["epsilon"])
